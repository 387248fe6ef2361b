#!/usr/bin/env python
"""Convert distillation data to another encoding, row by row; the new file appears only when it is complete.

    python scripts/convert_distillation_data.py IN.jsonl OUT.jsonl --encoding topk --topk 64
    python scripts/convert_distillation_data.py OLD.jsonl OUT.jsonl --encoding topk --tokenizer NAME_OR_FOLDER

Possible are dense -> topk, dense; hidden -> hidden, topk, dense; topk -> topk with fewer entries (the mass of those
dropped is added to the tail, exactly). Old files (without a header) need --tokenizer, for their labels: which row of
logits belongs to which label, and whether the logits lack T5's factor d_model ** -0.5, is found out, corrected and
told; --teacher FOLDER compares them with the teacher's own. Bad rows are omitted and counted.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.defaults import DistillationConfig, help_of
from data.rows.readers import Json
from utils.arguments import ArgumentParser
from utils.errors import DISK_ERRORS, UserError, run_main

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from data.distillation.legacy import LegacyOptions, LogitLayout
    from data.rows.tokenization import TaskEncoder
    from utils.compress import Rows, TopKRows


EXPRESSIBLE = {"dense": ("topk", "dense"), "hidden": ("hidden", "topk", "dense"), "topk": ("topk",)}


def cut_topk(rows: TopKRows, k: int) -> TopKRows:
    """Only the first k entries of top-k rows; the mass of the others is added to the tail at each node of its grid."""
    import numpy as np

    from utils.compress import TAIL_GRID, TopKRows

    if k > rows.ids.shape[1]:
        raise UserError(f"--topk {k}: the file holds only {rows.ids.shape[1]} entries a token")
    mass = rows.tail_log_mass.astype(np.float64)
    for entry in range(k, rows.ids.shape[1]):
        mass = np.logaddexp(mass, rows.logits[:, entry : entry + 1].astype(np.float64) * TAIL_GRID)
    return TopKRows(rows.ids[:, :k], rows.logits[:, :k], mass.astype(np.float32), rows.vocab_size)


class Converter:
    """Reads ``path`` row by row, and writes its rows in another encoding."""

    def __init__(
        self,
        path: Path,
        encoding: str,
        topk: int,
        bits: int,
        tokenizer: str | None,
        max_output_len: int,
        legacy: LegacyOptions,
        teacher: str | None,
    ):
        from data.distillation.file import Header, load_shared, read_header
        from data.rows.index import RowReader, open_index
        from models.seq2seq.loading import load_tokenizer

        self.path = path
        self.encoding = encoding
        self.topk = topk
        self.bits = bits
        header = read_header(path)
        self.index = open_index(path)
        self.read = RowReader(self.index)
        self.shared = load_shared(path, header) if header else {}
        self.encoder: TaskEncoder | None = None  # of an old file: makes its labels
        self.layout: LogitLayout | None = None
        self.note: str | None = None
        if header is None:
            tokenizer = tokenizer or teacher
            if tokenizer is None:
                raise UserError(f"{path}: no header (an old file); name the teacher's tokenizer with --tokenizer")
            loaded = load_tokenizer(tokenizer, "--tokenizer")
            from data.rows.tokenization import TaskEncoder, TextFormat, tokenizer_fingerprint

            width = self.find_layout(TaskEncoder(loaded, TextFormat()), legacy, teacher)
            header = Header(
                teacher=teacher or "unknown",
                tokenizer_fingerprint=tokenizer_fingerprint(loaded),
                vocab_size=width,
                encoding="dense",
                topk=None,
                bits=16,
                max_output_len=max_output_len,
                shared_sha256="",
                teacher_parameters=0,
                text_format=self.layout.text_format if self.layout else TextFormat(),
            )
            self.encoder = TaskEncoder(loaded, header.text_format)
        if encoding not in EXPRESSIBLE[header.encoding]:
            raise UserError(
                f"--encoding {encoding}: {header.encoding} data cannot express it; allowed: "
                + ", ".join(EXPRESSIBLE[header.encoding])
            )
        self.header = header
        self.rejected: Counter[str] = Counter()

    def find_layout(self, encoder: TaskEncoder, legacy: LegacyOptions, teacher: str | None) -> int:
        """Find out how the logits of an old file are to be read; returns their width, V."""
        from data.distillation.legacy import examine, sample_rows, settle_layout
        from models.teacher.legacy import teacher_factor

        rows = sample_rows(self.sampled(), encoder)
        if not rows:
            raise UserError(f"{self.path}: no row with readable teacher logits")
        evidence = examine(rows, encoder, legacy)
        factor, said = None, ""
        if teacher is not None and evidence.offset is not None and legacy.logit_scale == "auto":
            factor, said = teacher_factor(teacher, encoder, evidence)
            if said:  # measured, so not to be guessed
                legacy = replace(legacy, logit_scale=str(factor))
        self.layout, self.note = settle_layout(self.path, evidence, encoder, legacy, factor)
        self.note += f"; {said}" if said else ""
        return rows[0].logits.shape[1]

    def sampled(self) -> Iterator[Json]:
        """Rows from all over the file."""
        import numpy as np

        from data.distillation.legacy import SAMPLED_ROWS
        from data.rows.readers import RowError, parse_json_line

        for number in np.unique(np.linspace(0, len(self.index) - 1, 2 * SAMPLED_ROWS).astype(int)):
            try:
                yield parse_json_line(self.read(int(number)))
            except RowError:
                continue

    def rows(self, count: bool = False) -> Iterator[tuple[Json, Rows]]:
        """The usable rows with their decoded logits; ``count``: also count the others by reason."""
        from data.distillation.file import decode_teacher
        from data.rows.readers import RowError, is_header, parse_json_line, parse_sample
        from data.rows.tokenization import labels_hash
        from utils.compress import CompressionError, unpack

        for number in range(len(self.index)):
            try:
                row = parse_json_line(self.read(number))
                if is_header(row):
                    continue
                sample = parse_sample(row)
                if self.encoder is not None and self.layout is not None:
                    if self.encoder.spells_control(sample.target):
                        raise RowError("the target spells a control token, which the old writer took for one")
                    labels = self.encoder.target(sample.target, self.header.max_output_len)
                    row["labels_hash"] = labels_hash(labels)
                    align = partial(self.layout.align, encoder=self.encoder)
                    teacher = decode_teacher(row, labels, self.header.vocab_size, align=align)
                    if teacher is None:
                        raise RowError("missing teacher logits")
                else:
                    teacher = unpack(row.get("teacher_logits_compressed"))  # type: ignore[arg-type]
            except (RowError, CompressionError) as error:
                self.rejected[str(error)] += count
                continue
            yield row, teacher

    def compute_logits(self, teacher: Rows) -> Tensor:
        """[T, V] float32 of dense or hidden rows."""
        import torch

        from utils.compress import DenseRows, HiddenRows

        if isinstance(teacher, DenseRows):
            return torch.from_numpy(teacher.logits.copy())
        assert isinstance(teacher, HiddenRows)  # nothing dense can be made of top-k rows
        return torch.from_numpy(teacher.hidden) @ self.shared["head"].float().T

    def encode(self, teacher: Rows) -> Rows:
        """The logits of a row in the new encoding."""
        from models.teacher.forward import encode_topk
        from utils.compress import DenseRows, HiddenRows, TopKRows

        if isinstance(teacher, TopKRows):
            return cut_topk(teacher, self.topk)
        if self.encoding == "hidden":
            assert isinstance(teacher, HiddenRows)
            return teacher
        logits = self.compute_logits(teacher)
        if self.encoding == "dense":
            return DenseRows(logits.numpy())
        ids, values, mass = (part.numpy() for part in encode_topk(logits, self.topk))
        return TopKRows(ids, values, mass, logits.shape[1])

    def compute_shared(self) -> dict[str, Tensor]:
        """The shared tensors of the new file; for their mean logits, dense and hidden data are read once more."""
        from models.teacher.forward import finite_sums, mean_logits

        if self.encoding == "dense":
            return {}
        if self.encoding == self.header.encoding:
            return self.shared
        sums: np.ndarray | float = 0.0
        for _, teacher in self.rows():
            sums = sums + finite_sums(self.compute_logits(teacher)).numpy()
        if isinstance(sums, float):
            raise UserError(f"{self.path}: no row with readable teacher logits")
        return {"mean_logits": mean_logits(sums)}

    def copy_tokenizer(self, output: Path) -> None:
        """Put the tokenizer beside the new file, where it is known."""
        from data.distillation.file import tokenizer_path
        from utils.atomic_io import atomic_directory

        source = tokenizer_path(self.path)
        if self.encoder is None and not source.is_dir():
            return
        with atomic_directory(tokenizer_path(output)) as folder:
            if self.encoder is not None:
                self.encoder.tokenizer.save_pretrained(folder)
            else:
                shutil.copytree(source, folder, dirs_exist_ok=True)

    def write(self, output: Path, max_reject_rate: float) -> int:
        """Write the new file and its shared tensors; return the number of rows."""
        from data.distillation.file import publishing
        from utils.atomic_io import atomic_writer
        from utils.compress import try_pack

        topk = min(self.topk, self.header.vocab_size) if self.encoding == "topk" else None
        written = 0
        with publishing(self.compute_shared(), output) as digest, atomic_writer(output, "wb") as target:
            header = replace(self.header, encoding=self.encoding, topk=topk, bits=self.bits, shared_sha256=digest)
            target.write(header.line().encode())
            for row, teacher in self.rows(count=True):
                text, problem = try_pack(self.encode(teacher), self.bits)
                if problem:
                    self.rejected[problem] += 1
                    continue
                kept = {key: value for key, value in row.items() if key != "compressed_logits"}
                kept["teacher_logits_compressed"] = text
                target.write((json.dumps(kept, ensure_ascii=False) + "\n").encode())
                written += 1
            bad = sum(self.rejected.values())
            if not written or bad > max_reject_rate * (written + bad):
                reasons = ", ".join(f"{n} x {reason}" for reason, n in self.rejected.most_common(3))
                raise UserError(f"{self.path}: {bad} of {written + bad} rows are bad ({reasons}); nothing was written")
        self.copy_tokenizer(output)
        return written


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("input", type=Path, help="distillation data, JSONL")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--encoding", choices=("topk", "hidden", "dense"), required=True, help="of the new file")
    parser.add_argument("--topk", type=int, default=64, help="entries per token (default: %(default)s)")
    parser.add_argument(
        "--compression_bits", type=int, choices=(4, 8, 16, 32), default=16, help="of a value (default: %(default)s)"
    )
    parser.add_argument("--tokenizer", help="name or folder of the teacher's tokenizer; for old files")
    parser.add_argument("--teacher", help="its folder or hub name; for old files: tells the scale of their logits")
    parser.add_argument("--legacy_offset", default="auto", help=help_of(DistillationConfig, "legacy_offset"))
    parser.add_argument("--legacy_logit_scale", default="auto", help=help_of(DistillationConfig, "legacy_logit_scale"))
    parser.add_argument("--max_output_len", type=int, default=128, help="for old files (default: %(default)s)")
    parser.add_argument(
        "--max_reject_rate", type=float, default=0.1, help="fail above this share of bad rows (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    args = parser.parse_args()
    if not args.input.is_file():
        raise UserError(f"{args.input} does not exist")
    if args.output.exists() and (args.output.samefile(args.input) or not args.overwrite):
        raise UserError(f"{args.output} exists; choose another name, or --overwrite (never the input itself)")
    if args.topk < 1:
        raise UserError(f"--topk {args.topk}: must be 1 or more")
    if not 0 <= args.max_reject_rate <= 1:
        raise UserError(f"--max_reject_rate {args.max_reject_rate}: must be from 0 to 1")
    if args.encoding == "hidden" and args.compression_bits not in (8, 16):
        raise UserError(f"--compression_bits {args.compression_bits}: hidden states take 8 or 16")
    from data.distillation.legacy import LegacyOptions

    converter = Converter(
        args.input,
        args.encoding,
        args.topk,
        args.compression_bits,
        args.tokenizer,
        args.max_output_len,
        LegacyOptions(args.legacy_offset, args.legacy_logit_scale),
        args.teacher,
    )
    if converter.note:
        print(converter.note)
    try:
        rows = converter.write(args.output, args.max_reject_rate)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(f"{args.output}: {error.strerror}; nothing was written, the input is untouched") from None
    before, after = args.input.stat().st_size, args.output.stat().st_size
    print(f"{args.output}: {rows} rows, {after:,} bytes (was {before:,})")
    for reason, count in converter.rejected.most_common():
        print(f"omitted: {count} x {reason}")
    return 0


if __name__ == "__main__":
    run_main(main)
