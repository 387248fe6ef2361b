#!/usr/bin/env python
"""Show what a distillation file holds, and how close it is to exact logits of the same teacher.

    python scripts/inspect_distillation_data.py FILE [--reference DENSE_FILE] [--tokenizer NAME] [--max_rows N] [--json]

Prints the header, the number of rows, bad and odd rows by reason, bytes per token, the entropy and the probability
outside the most likely tokens; and, with the teacher's tokenizer, how often the first choice is the label, where the
first row of logits predicts the first label (offset 0) or the second row does (1; a file without a header may be so).
With --reference (the same rows with dense or hidden logits) it also prints, at T = 1, 1.5, 2 and 4:
KL(reference || file), JSD, top-1 agreement, and cosine and norm ratio of the gradients on a student half-way between
the mean logits and the teacher's.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.rows.readers import Json
from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

if TYPE_CHECKING:
    from torch import Tensor

    from data.distillation.file import Header
    from data.distillation.signal import TeacherSignal
    from data.rows.readers import Sample
    from data.rows.tokenization import TaskEncoder
    from utils.compress import Rows

SAME_KEYS = ("test_method_masked", "test_method", "assertions")  # what a row and its reference have in common


@dataclass
class StoredRow:
    """A usable row with its decoded logits, and the bytes that these take as JSON."""

    row: Json
    sample: Sample
    teacher: Rows
    logit_bytes: int


def read_rows(path: Path) -> Iterator[StoredRow | str]:
    """Each line that is not a header, one at a time; a text says why a row cannot be used."""
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
            sample = parse_sample(row)
            text, old = row.get("teacher_logits_compressed"), row.get("compressed_logits")
            if text is not None:
                yield StoredRow(row, sample, unpack(text), len(json.dumps(text)))
            elif isinstance(old, dict):
                yield StoredRow(row, sample, DenseRows(decompress_logits(old)), len(json.dumps(old)))
            else:
                raise RowError("missing teacher logits")
        except (RowError, CompressionError) as error:
            yield str(error)


class Reference:
    """The same rows with exact logits: sums up how close a signal is to them, at each of TEMPERATURES."""

    def __init__(self, path: Path) -> None:
        from data.distillation.file import load_shared, read_header
        from models.teacher.fidelity import TEMPERATURES

        header = read_header(path)
        self.path = path
        self.rows = read_rows(path)
        self.shared = load_shared(path, header) if header else {}
        self.sums: dict[float, Counter[str]] = {t: Counter() for t in TEMPERATURES}
        self.tokens = 0

    def compare(self, exact: Tensor, signal: TeacherSignal, mean: Tensor | None, tail: str) -> None:
        """Add a row with the logits ``exact`` [N, V]; ``mean`` [V]: mean logits, by default those of the row."""
        from models.teacher.fidelity import fidelity

        mean = exact.mean(0) if mean is None else mean
        for temperature, sums in self.sums.items():
            sums.update(fidelity(exact, signal, mean + 0.5 * (exact - mean), temperature, tail))
        self.tokens += signal.num_positions

    def summarise(self, rows: int, tail: str) -> Json:
        """The means per token; raises UserError where none of the ``rows`` rows could be compared."""
        if not self.tokens:
            raise UserError(f"--reference {self.path}: none of its first {rows} rows has readable teacher logits")
        means = {f"T={t:g}": {key: value / self.tokens for key, value in sums.items()} for t, sums in self.sums.items()}
        return {"reference": str(self.path), "tokens": self.tokens, "top_k_tail": tail, **means}

    def compute_logits(self, twin: StoredRow) -> Tensor:
        """[N, V] logits of dense or hidden rows; raises UserError for top-k rows."""
        from data.distillation.file import build_signal
        from data.distillation.signal import TopKSignal
        from models.losses.teacher_rows import TeacherRows

        signal = build_signal([twin.teacher], self.shared)
        if isinstance(signal, TopKSignal):
            raise UserError(f"--reference {self.path}: holds top-k logits; give dense or hidden ones, which are exact")
        return TeacherRows(signal, 1.0)(0, signal.num_positions).float()


def sum_tail_mass(signal: TeacherSignal, temperature: float, k: int) -> float:
    """Probability outside the stored tokens (top-k), or outside the k most probable ones, summed over the positions."""
    import torch

    from data.distillation.signal import TopKSignal
    from models.losses.teacher_rows import TeacherRows

    if isinstance(signal, TopKSignal):
        kept, tail = torch.logsumexp(signal.logits / temperature, 1), signal.tail_log_mass_at(temperature)
        return float(torch.sigmoid(tail - kept).sum())
    logits = TeacherRows(signal, temperature)(0, signal.num_positions).float() / temperature
    return float((1 - torch.softmax(logits, 1).topk(min(k, logits.shape[1]), 1).values.sum(1)).sum())


def sum_entropy(signal: TeacherSignal) -> float:
    """Entropy at T = 1 in nats, summed over the positions; the tail of a top-k signal counts as one token."""
    import torch

    from data.distillation.signal import TopKSignal
    from models.losses.teacher_rows import TeacherRows

    if isinstance(signal, TopKSignal):
        rows = torch.cat([signal.logits, signal.tail_log_mass_at(1.0)[:, None]], 1)
    else:
        rows = TeacherRows(signal, 1.0)(0, signal.num_positions)
    return float(torch.special.entr(torch.softmax(rows.double(), 1)).sum())


class Alignment:
    """Counts how often the teacher's first choice is the label, for both offsets."""

    def __init__(self, path: Path, header: Header | None, name: str | None) -> None:
        from data.distillation.file import name_tokenizer
        from data.rows.tokenization import TaskEncoder, TextFormat, tokenizer_fingerprint
        from models.seq2seq.loading import load_tokenizer

        self.header = header
        self.encoder: TaskEncoder | None = None
        self.reason = "name the teacher's tokenizer with --tokenizer"
        self.right = [0, 0]
        self.positions = 0
        name = name or name_tokenizer(path)
        if name is None:
            return
        try:
            tokenizer = load_tokenizer(name, "--tokenizer")
        except UserError as error:
            self.reason = str(error)
            return
        if header and tokenizer_fingerprint(tokenizer) != header.tokenizer_fingerprint:
            self.reason = f"the tokenizer of {name} is not the one that the file was made with"
            return
        self.encoder = TaskEncoder(tokenizer, header.text_format if header else TextFormat())

    def add(self, sample: Sample, signal: TeacherSignal) -> None:
        from models.seq2seq.teacher_forced import top_choice

        if self.encoder is None:
            return
        top = top_choice(signal).tolist()
        labels = self.encoder.target(sample.target, self.header.max_output_len if self.header else len(top))
        self.positions += len(labels)
        for offset in (0, 1):
            self.right[offset] += sum(a == b for a, b in zip(top[offset:], labels, strict=False))

    def summarise(self) -> Json:
        if not self.positions:
            return {"reason": self.reason}
        shares = {str(offset): right / self.positions for offset, right in enumerate(self.right)}
        return {"offset": int(self.right[1] > self.right[0]), "agreement": shares, "positions": self.positions}


def inspect(path: Path, reference_path: Path | None, max_rows: int | None, tokenizer: str | None = None) -> Json:
    """The report as plain values. Memory does not grow with the file."""
    from data.distillation.file import build_signal, load_shared, read_header
    from data.rows.oddities import find_oddities
    from models.teacher.fidelity import TEMPERATURES

    header = read_header(path)
    shared = load_shared(path, header) if header else {}
    tail = "shaped" if "mean_logits" in shared else "bucket"
    reference = Reference(reference_path) if reference_path else None
    alignment = Alignment(path, header, tokenizer)
    bad: Counter[str] = Counter()
    odd: Counter[str] = Counter()
    entropy = 0.0
    masses = dict.fromkeys(TEMPERATURES, 0.0)
    rows = tokens = logit_bytes = 0
    vocabulary = header.vocab_size if header else 0
    for stored in read_rows(path):
        twin = next(reference.rows, None) if reference else None
        if max_rows is not None and rows >= max_rows:
            break
        if isinstance(stored, str):
            bad[stored] += 1
            continue
        rows += 1
        signal = build_signal([stored.teacher], shared)
        tokens += signal.num_positions
        logit_bytes += stored.logit_bytes
        vocabulary = signal.vocab_size
        entropy += sum_entropy(signal)
        alignment.add(stored.sample, signal)
        odd.update(find_oddities(stored.sample))
        for t in TEMPERATURES:
            masses[t] += sum_tail_mass(signal, t, 64)
        if reference is None:
            continue
        if not isinstance(twin, StoredRow):
            bad["no reference row"] += 1
            continue
        exact = reference.compute_logits(twin)[: signal.num_positions]
        same = all(twin.row.get(key) == stored.row.get(key) for key in SAME_KEYS)
        if not same or len(exact) != signal.num_positions or exact.shape[1] != signal.vocab_size:
            raise UserError(f"--reference {reference.path}: row {rows} differs from that of {path}; give the same rows")
        reference.compare(exact, signal, shared.get("mean_logits"), tail)
    if not rows:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in bad.most_common(3)) or "it holds none"
        raise UserError(f"{path}: no row with readable teacher logits ({reasons})")
    report: Json = {
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "header": header.to_json() if header else None,
        "rows": rows,
        "bad_rows": dict(bad.most_common()),
        "odd_rows": dict(odd.most_common()),
        "tokens": tokens,
        "vocab_size": vocabulary,
        "logit_bytes_per_token": logit_bytes / tokens,
        "entropy": entropy / tokens,
        "labels": alignment.summarise(),
        "mass_outside": {f"T={t:g}": masses[t] / tokens for t in TEMPERATURES},
    }
    if reference is not None:
        report["fidelity"] = reference.summarise(rows, tail)
    return report


def format_report(report: Json) -> str:
    from data.rows.oddities import tell_oddities

    header = report["header"]
    lines = [f"{report['file']}: {report['rows']} rows, {report['tokens']} tokens, {report['file_bytes']:,} bytes"]
    lines.append("header: " + (", ".join(f"{k} {v}" for k, v in header.items()) if header else "none (old format)"))
    lines += [f"bad rows: {count} x {reason}" for reason, count in report["bad_rows"].items()]
    lines += tell_oddities("odd rows", report["odd_rows"], str(report["rows"]))
    lines.append(f"logits: {report['logit_bytes_per_token']:.0f} bytes of JSON per token, V = {report['vocab_size']}")
    lines.append(f"entropy at T=1: {report['entropy']:.3f} nats per token")
    labels = report["labels"]
    if "reason" in labels:
        lines.append(f"labels: not compared; {labels['reason']}")
    else:
        shares = ", ".join(f"offset {offset}: {share:.3f}" for offset, share in labels["agreement"].items())
        lines.append(f"first choice is the label: {shares}; so offset {labels['offset']}")
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
    parser.add_argument("file", type=Path, help="distillation data, JSONL")
    parser.add_argument("--reference", type=Path, help="the same rows with dense or hidden logits")
    parser.add_argument(
        "--tokenizer", help="name or folder of the teacher's tokenizer; default: the one beside the file"
    )
    parser.add_argument("--max_rows", type=int, help="read the first N rows only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    args = parser.parse_args()
    for path in (args.file, args.reference):
        if path is not None and not path.is_file():
            raise UserError(f"{path} does not exist; make it with train_codet5_assertions.py")
    report = inspect(args.file, args.reference, args.max_rows, args.tokenizer)
    print(json.dumps(report, indent=2) if args.json else format_report(report))
    return 0


if __name__ == "__main__":
    run_main(main)
