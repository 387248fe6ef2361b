"""Top-k log-probabilities in Parquet, as DistillKit keeps them and its sampler for vLLM writes them.

A folder of ``*.parquet`` with one row a sequence: ``input_ids``, and at position p what the teacher expects at p + 1.
Either plain, in ``token_ids`` and ``top_values``; or packed, in ``bytepacked_indices`` and ``compressed_logprobs``,
whose layout compression_config.yaml tells. A sequence ends with the ids of the assertion; how it begins is the
teacher's own matter. Rows belong to tasks by the column ``id``, else by their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data.rows.readers import Json, RowError
from utils.compress import TAIL_GRID, TopKRows
from utils.errors import UserError

CONFIG_FILE = "compression_config.yaml"
PLAIN, PACKED = ("token_ids", "top_values"), ("bytepacked_indices", "compressed_logprobs")
ROWS_AT_ONCE = 256
TYPES = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}


def import_parquet() -> Any:
    """pyarrow.parquet. Raises UserError where it is not installed."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError("Parquet files need pyarrow; pip install pyarrow") from None
    return parquet


# -- packed numbers ----------------------------------------------------------------------------------------------------


def pack_bits(numbers: np.ndarray, bits: int) -> np.ndarray:
    """[..., n] integers to [..., bytes] uint8: ``bits`` each, the highest first, filled up with zeros at the end."""
    places = np.arange(bits - 1, -1, -1)
    stream = (numbers.astype(np.uint64)[..., None] >> places.astype(np.uint64)) & np.uint64(1)
    return np.packbits(stream.astype(np.uint8).reshape(*numbers.shape[:-1], -1), axis=-1)


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The reverse: [..., count] int64."""
    stream = np.unpackbits(packed, axis=-1)[..., : bits * count].reshape(*packed.shape[:-1], count, bits)
    return (stream.astype(np.int64) << np.arange(bits - 1, -1, -1)).sum(-1)


@dataclass(frozen=True)
class Packing:
    """What compression_config.yaml says: d ids, k of them a position; the first ``exact_k`` values as they are, the
    others as a polynomial with quantised residuals; ``delta``: each value is kept as its difference to the one before.
    """

    d: int
    k: int
    exact_k: int
    exact_type: str
    terms: tuple[int | str, ...]
    term_type: str
    bins: tuple[tuple[str, int, int], ...]  # type of the scale, bits, values
    delta: bool
    to_one: bool  # the polynomial runs over [0, 1] instead of 0, 1, 2, ...

    @classmethod
    def read(cls, file: Path) -> Packing:
        """Raises UserError for a file that is missing or says something else."""
        import yaml

        try:
            said = yaml.safe_load(file.read_text(encoding="utf-8"))
            bins = [(one["scale_dtype"], one["element_bits"], one["num_elements"]) for one in said["residual_bins"]]
            found = cls(
                d=int(said["d"]),
                k=int(said["k"]),
                exact_k=int(said["exact_k"]),
                exact_type=said.get("exact_dtype", "float32"),
                terms=tuple(said.get("polynomial_terms") or ()),
                term_type=said.get("term_dtype", "float32"),
                bins=tuple((kind, int(bits), int(count)) for kind, bits, count in bins),
                delta=said.get("delta_encoding", True),
                to_one=said.get("normalize_t", False),
            )
        except OSError:
            raise UserError(f"{file}: missing; it tells how the values are packed, copy it too") from None
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{file}: not a compression configuration of DistillKit ({error!r})") from None
        if unknown := {found.exact_type, found.term_type, *(kind for kind, _, _ in found.bins)} - TYPES.keys():
            raise UserError(f"{file}: values of type {min(unknown)} cannot be read; allowed: {', '.join(TYPES)}")
        return found

    @property
    def index_bits(self) -> int:
        return int(np.ceil(np.log2(np.float32(self.d))))

    def values(self, packed: np.ndarray) -> np.ndarray:
        """[T, bytes] uint8 to [T, k] float32."""
        at = 0

        def take(kind: str, count: int) -> np.ndarray:
            nonlocal at
            size = count * np.dtype(TYPES[kind]).itemsize
            at += size
            return np.ascontiguousarray(packed[:, at - size : at]).view(TYPES[kind]).astype(np.float32)

        exact = take(self.exact_type, self.exact_k)
        rest = np.zeros((len(packed), self.k - self.exact_k), np.float32)
        if self.terms:
            factors = take(self.term_type, len(self.terms))
            steps = np.arange(rest.shape[1], dtype=np.float32)
            if self.to_one:
                steps /= max(1, rest.shape[1] - 1)
            curves = [steps**term if isinstance(term, int) else getattr(np, term)(steps) for term in self.terms]
            rest += factors @ np.stack(curves)
        done = 0
        for kind, bits, count in self.bins:
            scale = take(kind, 1)
            size = (bits * count + 7) // 8
            numbers = unpack_bits(packed[:, at : at + size], bits, count)
            at += size
            centred = numbers * 2 - 1 if bits == 1 else numbers - 2 ** (bits - 1)
            rest[:, done : done + count] += centred * scale
            done += count
        values = np.concatenate([exact, rest], axis=1)
        return values.cumsum(axis=1) if self.delta else values


# -- rows --------------------------------------------------------------------------------------------------------------


def find_files(path: Path) -> list[Path]:
    """The files of a folder, or the one file; DistillKit numbers them."""
    files = sorted(path.glob("*.parquet"), key=lambda file: (len(file.name), file.name)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no .parquet file in it")
    return files


def read_parquet(path: Path) -> Iterator[tuple[Json, np.ndarray, np.ndarray]]:
    """Of each sequence its row, and of its positions the ids [T, k] int64 and the log-probabilities [T, k] float32.

    Raises UserError for a file that is damaged or has other columns.
    """
    parquet = import_parquet()
    packing: Packing | None = None
    for file in find_files(path):
        try:
            opened = parquet.ParquetFile(file)
        except Exception as error:  # what is no Parquet ends in several classes
            raise UserError(f"{file}: not a Parquet file that can be read ({error})") from None
        names = set(opened.schema_arrow.names)
        packed = names.issuperset(PACKED)
        if "input_ids" not in names or not (packed or names.issuperset(PLAIN)):
            raise UserError(
                f"{file}: has the columns {', '.join(sorted(names))}; wanted are input_ids and"
                f" {' and '.join(PLAIN)}, or {' and '.join(PACKED)}"
            )
        if packed and packing is None:
            packing = Packing.read(file.parent / CONFIG_FILE)
        for batch in opened.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                if packed:
                    assert packing is not None
                    ids, values = (np.asarray(row.pop(name), dtype=np.uint8) for name in PACKED)
                    yield row, unpack_bits(ids, packing.index_bits, packing.k), packing.values(values)
                else:
                    ids, values = (np.asarray(row.pop(name)) for name in PLAIN)
                    yield row, ids.astype(np.int64), values.astype(np.float32)


def read_width(path: Path) -> int | None:
    """The width of the teacher's vocabulary, where the files tell it."""
    file = find_files(path)[0].parent / CONFIG_FILE
    return Packing.read(file).d if file.is_file() else None


def place_labels(row: Json, labels: Sequence[int], positions: int, pad_id: int) -> slice:
    """Where among a sequence's positions the labels are expected. Raises RowError where it does not end with them."""
    given = list(row["input_ids"])
    while given and given[-1] == pad_id and labels[-1] != pad_id:
        given.pop()
    start = len(given) - len(labels)
    if start < 1 or given[start:] != list(labels):
        raise RowError("the sequence does not end with the ids of the assertion")
    if positions < len(given) - 1:
        raise RowError("fewer positions than tokens")
    return slice(start - 1, len(given) - 1)


def from_log_probabilities(ids: np.ndarray, values: np.ndarray, vocab_size: int) -> TopKRows:
    """Rows of a distillation file. What the top leaves over is spread evenly over all other tokens.

    Raises RowError where an id is not of the vocabulary, or the values are no falling log-probabilities.
    """
    if ids.size == 0 or ids.min() < 0 or ids.max() >= vocab_size:
        raise RowError("token ids beyond the vocabulary")
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or (np.diff(values, axis=1) > 1e-3).any() or values.max() > 1e-3:
        raise RowError("values that are not falling log-probabilities")
    others = vocab_size - ids.shape[1]
    left = np.clip(1 - np.exp(values).sum(axis=1), 0, 1)
    with np.errstate(divide="ignore"):
        each = np.log(left) - np.log(others) - values[:, 0] if others else np.full(len(left), -np.inf)
        mass = np.log(others) + TAIL_GRID.astype(np.float64)[None] * each[:, None]
    return TopKRows(ids, (values - values[:, :1]).astype(np.float32), mass.astype(np.float32), vocab_size)


def write_parquet(rows: Iterator[tuple[int, list[int], np.ndarray, np.ndarray]], folder: Path, vocab_size: int) -> int:
    """Write ``data_0.parquet`` and compression_config.yaml into ``folder``; returns the number of rows.

    rows: of each task its number, the decoder's ids (start token first), and ids and log-probabilities [T, k].
    """
    import pyarrow
    import yaml

    parquet = import_parquet()
    bits = int(np.ceil(np.log2(np.float32(vocab_size))))
    nested = pyarrow.list_(pyarrow.list_(pyarrow.uint8()))
    fields = [("id", pyarrow.int64()), ("input_ids", pyarrow.list_(pyarrow.uint64()))]
    schema = pyarrow.schema([*fields, (PACKED[0], nested), (PACKED[1], nested)])
    written, k = 0, 0
    with parquet.ParquetWriter(folder / "data_0.parquet", schema) as writer:
        while group := list(islice(rows, ROWS_AT_ONCE)):
            k = group[0][2].shape[1]
            columns: dict[str, list] = {"id": [], "input_ids": [], PACKED[0]: [], PACKED[1]: []}
            for number, input_ids, ids, values in group:
                raw = np.ascontiguousarray(values.astype("<f4")).view(np.uint8).reshape(len(values), -1)
                packed = (pack_bits(ids, bits).tolist(), raw.tolist())
                for column, value in zip(columns.values(), (number, input_ids, *packed), strict=True):
                    column.append(value)
            writer.write_table(pyarrow.table(columns, schema=schema))
            written += len(group)
    said = {"d": vocab_size, "k": k, "exact_k": k, "exact_dtype": "float32", "polynomial_terms": None}
    said |= {"term_dtype": "float32", "residual_bins": [], "delta_encoding": False, "error_diffusion": False}
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(said | {"normalize_t": False}), encoding="utf-8")
    return written
