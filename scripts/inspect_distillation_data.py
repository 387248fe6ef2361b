#!/usr/bin/env python
"""What a distillation file holds, and how close it is to dense logits of the same teacher.

    python scripts/inspect_distillation_data.py FILE [--reference DENSE_FILE] [--max_rows N] [--json]

Prints header, rows, bad rows by reason, bytes a token and the mass outside the most probable tokens. With --reference
(the same rows with dense or hidden logits): KL(reference || file), JSD, top-1 agreement, and cosine and norm ratio of
the gradients on a student half-way between the mean and the teacher, at T = 1, 1.5, 2, 4.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main


def stored_rows(path: Path) -> Iterator[tuple[dict[str, Any] | None, Any, int, str]]:
    """(row, teacher rows, bytes of the logits, reason) of each line that is not a header, one at a time."""
    from data.rows.index import RowReader, open_index
    from data.rows.readers import RowError, is_header, parse_json_line, parse_sample
    from utils.compress import CompressionError, DenseRows, decompress_logits, unpack

    index = open_index(path)
    read = RowReader(index)
    for number in range(len(index)):
        try:
            row = parse_json_line(read(number))
            if is_header(row):
                continue
            parse_sample(row)
            text, old = row.get("teacher_logits_compressed"), row.get("compressed_logits")
            if text is not None:
                yield row, unpack(text), len(json.dumps(text)), ""
            elif isinstance(old, dict):
                logits = DenseRows(decompress_logits(old))
                yield row, logits, len(json.dumps(old)), ""
            else:
                raise RowError("missing teacher logits")
        except (RowError, CompressionError) as error:
            yield None, None, 0, str(error)


def dense(signal: Any, path: Path) -> Any:
    """[N, V] logits of an exact signal; top-k has none."""
    from data.distillation.signal import TopKSignal
    from models.losses.teacher_rows import TeacherRows

    if isinstance(signal, TopKSignal):
        raise UserError(f"--reference {path}: holds top-k logits, which are no reference; give dense or hidden ones")
    return TeacherRows(signal, 1.0)(0, signal.num_positions).float()


def tail_mass(signal: Any, temperature: float, k: int) -> Any:
    """[N] probability outside the k stored tokens (top-k), or outside the k most probable ones."""
    import torch

    from data.distillation.signal import TopKSignal
    from models.losses.teacher_rows import TeacherRows

    if isinstance(signal, TopKSignal):
        kept, tail = torch.logsumexp(signal.logits / temperature, 1), signal.tail_log_mass_at(temperature)
        return torch.sigmoid(tail - kept)
    logits = TeacherRows(signal, temperature)(0, signal.num_positions).float() / temperature
    return 1 - torch.softmax(logits, 1).topk(min(k, logits.shape[1]), 1).values.sum(1)


def inspect(path: Path, reference: Path | None, max_rows: int | None) -> dict[str, Any]:
    """The report as plain values. Memory does not grow with the file."""
    from data.distillation.file import build_signal, load_shared, read_header
    from models.teacher.fidelity import TEMPERATURES, fidelity

    header = read_header(path)
    shared = load_shared(path, header) if header else {}
    tail = "shaped" if "mean_logits" in shared else "bucket"
    other = stored_rows(reference) if reference else None
    reference_header = read_header(reference) if reference else None
    reference_shared = load_shared(reference, reference_header) if reference and reference_header else {}
    counts: Counter[str] = Counter()
    masses: Counter[float] = Counter()
    sums: dict[float, Counter[str]] = {t: Counter() for t in TEMPERATURES}
    rows = tokens = logit_bytes = judged = 0
    vocabulary = header.vocab_size if header else 0
    for row, stored, size, reason in stored_rows(path):
        twin = next(other, None) if other is not None else None
        if max_rows is not None and rows >= max_rows:
            break
        if reason:
            counts[reason] += 1
            continue
        rows += 1
        signal = build_signal([stored], shared)
        tokens, logit_bytes, vocabulary = tokens + signal.num_positions, logit_bytes + size, signal.vocab_size
        for t in TEMPERATURES:
            masses[t] += float(tail_mass(signal, t, 64).sum())
        if other is None:
            continue
        if twin is None or twin[0] is None:
            counts["no reference row"] += 1
            continue
        assert reference is not None and row is not None
        same = all(row.get(key) == twin[0].get(key) for key in ("test_method_masked", "test_method", "assertions"))
        exact = dense(build_signal([twin[1]], reference_shared), reference)[: signal.num_positions]
        if not same or len(exact) != signal.num_positions or exact.shape[1] != signal.vocab_size:
            raise UserError(f"--reference {reference}: row {rows} is not that of {path}; both need the same rows")
        mean = shared.get("mean_logits", exact.mean(0))
        for t in TEMPERATURES:
            sums[t].update(fidelity(exact, signal, mean + 0.5 * (exact - mean), t, tail))
        judged += signal.num_positions
    if not rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in counts.most_common(3)) or "it holds none"
        raise UserError(f"{path}: no row with readable teacher logits ({reasons})")
    if reference is not None and not judged:
        raise UserError(f"--reference {reference}: none of its first {rows} rows has readable teacher logits")
    report: dict[str, Any] = {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "header": vars(header) if header else None,
        "rows": rows,
        "bad_rows": dict(counts.most_common()),
        "tokens": tokens,
        "vocab_size": vocabulary,
        "logit_bytes_per_token": logit_bytes / tokens,
        "mass_outside": {f"T={t:g}": masses[t] / tokens for t in TEMPERATURES},
    }
    if reference is not None:
        values = {f"T={t:g}": {key: value / judged for key, value in sums[t].items()} for t in TEMPERATURES}
        report["fidelity"] = {"reference": str(reference), "tokens": judged, "top_k_tail": tail, **values}
    return report


def as_text(report: dict[str, Any]) -> str:
    header = report["header"]
    lines = [f"{report['file']}: {report['rows']} rows, {report['tokens']} tokens, {report['file_bytes']:,} bytes"]
    lines.append("header: " + (", ".join(f"{k} {v}" for k, v in header.items()) if header else "none (old format)"))
    lines += [f"bad rows: {count} x {reason}" for reason, count in report["bad_rows"].items()]
    lines.append(f"logits: {report['logit_bytes_per_token']:.0f} bytes a token of JSON, V = {report['vocab_size']}")
    outside = ", ".join(f"{t}: {mass:.3f}" for t, mass in report["mass_outside"].items())
    lines.append(f"mass outside the {header['topk'] if header and header['topk'] else 64} most probable: {outside}")
    for t, f in report.get("fidelity", {}).items():
        if t.startswith("T="):
            lines.append(
                f"{t}: KL {f['kl']:.2e}, JSD {f['jsd']:.2e}, top-1 {f['top1']:.3f}, KL gradient cosine"
                f" {f['kl_gradient_cosine']:.4f} ratio {f['kl_gradient_ratio']:.3f}, JSD gradient cosine"
                f" {f['jsd_gradient_cosine']:.4f} ratio {f['jsd_gradient_ratio']:.3f}"
            )
    return "\n".join(lines)


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--reference", type=Path, help="the same rows with dense or hidden logits")
    parser.add_argument("--max_rows", type=int, help="look at the first N rows only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args()
    for path in (args.file, args.reference):
        if path is not None and not path.is_file():
            raise UserError(f"{path} does not exist; make it with train_codet5_assertions.py")
    report = inspect(args.file, args.reference, args.max_rows)
    print(json.dumps(report, indent=2) if args.json else as_text(report))
    return 0


if __name__ == "__main__":
    run_main(main)
