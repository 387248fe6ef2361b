#!/usr/bin/env python
"""Convert distillation data to another encoding, row by row; the new file appears only when it is complete.

    python scripts/convert_distillation_data.py IN.jsonl OUT.jsonl --encoding topk --topk 64
    python scripts/convert_distillation_data.py OLD.jsonl OUT.jsonl --encoding topk --tokenizer NAME_OR_FOLDER
    python scripts/convert_distillation_data.py RAW.jsonl OUT.jsonl --predictions TEXTS.jsonl
    python scripts/convert_distillation_data.py RAW.jsonl OUT.jsonl --pool
    python scripts/convert_distillation_data.py IN.jsonl FOLDER --encoding parquet
    python scripts/convert_distillation_data.py FOLDER OUT.jsonl --encoding topk --rows RAW.jsonl --tokenizer NAME

Possible are dense -> topk, dense; hidden -> hidden, topk, dense; topk -> topk with fewer entries (the mass of those
dropped is added to the tail, exactly). Old files (without a header) need --tokenizer, for their labels: which row of
logits belongs to which label, and whether the logits lack T5's factor d_model ** -0.5, is found out, corrected and
told; --teacher FOLDER compares them with the teacher's own. Bad rows are omitted and counted.
"""

from __future__ import annotations

import argparse
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
    from utils.compress import Rows


EXPRESSIBLE = {"dense": ("topk", "dense"), "hidden": ("hidden", "topk", "dense"), "topk": ("topk",)}


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

    def rows(self, count: bool = False) -> Iterator[tuple[int, Json, Rows]]:
        """The usable rows with their numbers and decoded logits; ``count``: also count the others by reason."""
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
            yield number, row, teacher

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
        from data.distillation.exchange import cut_topk
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
        for _, _, teacher in self.rows():
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
        from data.distillation.exchange import check_rejected
        from data.distillation.file import publishing
        from utils.atomic_io import atomic_writer
        from utils.compress import try_pack

        topk = min(self.topk, self.header.vocab_size) if self.encoding == "topk" else None
        written = 0
        with publishing(self.compute_shared(), output) as digest, atomic_writer(output, "wb") as target:
            header = replace(self.header, encoding=self.encoding, topk=topk, bits=self.bits, shared_sha256=digest)
            target.write(header.line().encode())
            for _, row, teacher in self.rows(count=True):
                text, problem = try_pack(self.encode(teacher), self.bits)
                if problem:
                    self.rejected[problem] += 1
                    continue
                kept = {key: value for key, value in row.items() if key != "compressed_logits"}
                kept["teacher_logits_compressed"] = text
                target.write((json.dumps(kept, ensure_ascii=False) + "\n").encode())
                written += 1
            check_rejected(self.path, written, self.rejected, max_reject_rate)
        self.copy_tokenizer(output)
        return written

    def write_parquet(self, output: Path, max_reject_rate: float) -> int:
        """Write a folder of Parquet with top-k log-probabilities; return the number of rows."""
        from data.distillation.exchange import check_rejected, make_parquet_rows
        from data.distillation.file import name_tokenizer
        from data.distillation.parquet import write_parquet
        from data.rows.tokenization import TaskEncoder
        from models.seq2seq.loading import load_tokenizer
        from utils.atomic_io import atomic_directory

        encoder, first = self.encoder, 0
        if encoder is None:
            tokenizer = load_tokenizer(str(name_tokenizer(self.path)), "--tokenizer")
            encoder, first = TaskEncoder(tokenizer, self.header.text_format), 1  # behind the header
        rows = ((number - first, row, self.encode(teacher)) for number, row, teacher in self.rows(count=True))
        made = make_parquet_rows(rows, encoder, self.header.max_output_len, self.rejected)
        with atomic_directory(output) as folder:
            written = write_parquet(made, folder, self.header.vocab_size)
            check_rejected(self.path, written, self.rejected, max_reject_rate)
        return written


def read_from_parquet(args: argparse.Namespace, rejected: Counter[str]) -> int:
    """Make distillation data of Parquet and the rows that it belongs to; returns the number of rows."""
    from data.distillation.exchange import ParquetSettings, read_parquet_rows
    from data.distillation.parquet import import_parquet
    from data.rows.files import require_rows
    from models.seq2seq.loading import load_tokenizer

    import_parquet()
    if not args.rows or not args.tokenizer:
        raise UserError(f"{args.input}: Parquet holds ids alone; name the tasks with --rows and the --tokenizer")
    if args.encoding != "topk":
        raise UserError(f"--encoding {args.encoding}: Parquet holds the top of each distribution; allowed: topk")
    rows = require_rows(args.rows, "--rows", "the tasks that the teacher was given")
    settings = ParquetSettings(
        args.teacher or str(args.input), args.topk, args.compression_bits, args.max_output_len, args.max_reject_rate
    )
    tokenizer = load_tokenizer(args.tokenizer, "--tokenizer")
    return read_parquet_rows(args.input, rows, tokenizer, args.output, settings, rejected)


def take_predictions(args: argparse.Namespace, left_out: Counter[str]) -> int:
    """Make sequence-level distillation data of a model's texts, or of --pool's; returns the number of rows."""
    from data.distillation.predictions import join_predictions, read_by_id
    from data.rows.files import require_rows
    from utils.atomic_io import atomic_writer

    rows = require_rows(str(args.input), "input", "the tasks that the model was given")
    if args.pool:
        from evaluation.suggesting.pool import write_around

        flag, nothing = "--pool", "no context to write from"
        none = "no row has a context to write from; mine the rows with scripts/mine_assertions.py"
        lines = join_predictions(rows, lambda _, sample: next(iter(write_around(sample)), None), nothing, left_out)
    else:
        flag, nothing = f"--predictions {args.predictions}", "no prediction"
        none = f"none of its ids is a row of {rows}; is it for other data?"
        texts = read_by_id(args.predictions)
        lines = join_predictions(rows, lambda key, _: texts.get(key), nothing, left_out)
    with atomic_writer(args.output, "wb") as target:
        written = 0
        for written, line in enumerate(lines, 1):  # noqa: B007
            target.write(line.encode())
        if not written:
            lacking = "not an assertion in Java" not in left_out
            raise UserError(f"{flag}: {none if lacking else 'none of its texts is an assertion; nothing was written'}")
    return written


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("input", type=Path, help="distillation data, JSONL")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--encoding", choices=("topk", "hidden", "dense", "parquet"), help="of the new file")
    parser.add_argument("--predictions", help="texts of any model, {id, prediction} a line, to learn instead of logits")
    parser.add_argument(
        "--pool", action="store_true", help="the same with what ranks first among copies of other tests and templates"
    )
    parser.add_argument("--rows", help="the tasks that Parquet belongs to, by its column id, else by order")
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
    if not args.input.exists():
        raise UserError(f"{args.input} does not exist")
    texts = args.predictions or args.pool
    if not (args.encoding or texts):
        raise UserError("give --encoding, --predictions or --pool")
    flag = "--pool" if args.pool else "--predictions"
    idle = [name for name in ("encoding", "rows", "tokenizer", "teacher") if texts and getattr(args, name)]
    if args.pool and args.predictions:
        idle.append("predictions")
    if idle:
        raise UserError(f"{flag} and --{idle[0]} exclude each other: texts need neither logits nor a tokenizer")
    if args.output.exists() and (args.output.samefile(args.input) or not args.overwrite):
        raise UserError(f"{args.output} exists; choose another name, or --overwrite (never the input itself)")
    if args.topk < 1:
        raise UserError(f"--topk {args.topk}: must be 1 or more")
    if not 0 <= args.max_reject_rate <= 1:
        raise UserError(f"--max_reject_rate {args.max_reject_rate}: must be from 0 to 1")
    if args.encoding == "hidden" and args.compression_bits not in (8, 16):
        raise UserError(f"--compression_bits {args.compression_bits}: hidden states take 8 or 16")
    if texts or args.input.is_dir() or args.input.suffix == ".parquet":
        counts: Counter[str] = Counter()
        rows = (take_predictions if texts else read_from_parquet)(args, counts)
        return report(args.output, rows, counts)
    from data.distillation.legacy import LegacyOptions

    converter = Converter(
        args.input,
        "topk" if args.encoding == "parquet" else args.encoding,
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
        write = converter.write_parquet if args.encoding == "parquet" else converter.write
        rows = write(args.output, args.max_reject_rate)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise UserError(f"{args.output}: {error.strerror}; nothing was written, the input is untouched") from None
    return report(args.output, rows, converter.rejected, args.input.stat().st_size)


def report(output: Path, rows: int, rejected: Counter[str], before: int | None = None) -> int:
    """Say what was written, and what not."""
    files = output.iterdir() if output.is_dir() else [output]
    size = sum(file.stat().st_size for file in files)
    print(f"{output}: {rows} rows, {size:,} bytes" + (f" (was {before:,})" if before else ""))
    for reason, count in rejected.most_common():
        print(f"omitted: {count} x {reason}")
    return 0


if __name__ == "__main__":
    run_main(main)
