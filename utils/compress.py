"""Teacher logits in few bytes: the dense formats that people have, and the top-k, hidden-state and dense rows written here.

Everything declared inside a row (shapes, frame sizes) is checked against what is really there, and against fixed bounds,
before memory is allocated for it. Damage of any kind raises CompressionError with a short reason.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import lz4.frame
import numpy as np

MAX_POSITIONS = 4096
MAX_VOCABULARY = 1_000_000
MAX_BYTES = 1 << 30
LZ4_MAX_RATIO = 255  # of the LZ4 block format: a frame cannot hold more than this times its own size
BITS = (4, 8, 16, 32)
# A logit this far below the row's maximum is a mask: it is stored as -inf, so that the tail's mass stays smooth in 1/T.
MASKED_BELOW = -1000.0


class CompressionError(ValueError):
    """Logits that cannot be stored, or stored bytes that cannot be read; the message is a short reason."""


def _inflate(frame: bytes, size: int | None = None) -> bytes:
    """Decompress one LZ4 frame of exactly ``size`` bytes (None: of the size that the frame states, which it must)."""
    try:
        stated = lz4.frame.get_frame_info(frame)["content_size"]
        size = stated if size is None else size
        if stated not in (0, size):
            raise CompressionError("LZ4 frame and shape disagree about the size")
        if not 0 < size <= min(MAX_BYTES, LZ4_MAX_RATIO * len(frame)):
            raise CompressionError("LZ4 frame declares an impossible size")
        decompressor = lz4.frame.LZ4FrameDecompressor()
        data = decompressor.decompress(frame, max_length=size)
        if len(data) == size and not decompressor.eof:
            # The end mark and the checksum may still wait to be read; a byte more would be too much data.
            data += decompressor.decompress(b"", max_length=1)
    except RuntimeError:
        raise CompressionError("damaged LZ4 frame") from None
    if not decompressor.eof or len(data) != size:
        raise CompressionError("LZ4 frame is cut short or too long")
    return data


def _refuse_unusable(logits: np.ndarray) -> None:
    if np.isnan(logits).any():
        raise CompressionError("NaN in the logits")
    if np.isposinf(logits).any():
        raise CompressionError("+inf in the logits")
    if logits.size and np.isneginf(logits.max(axis=-1)).any():
        raise CompressionError("a position whose logits are all -inf")


def _pack_nibbles(codes: np.ndarray) -> np.ndarray:
    """Two values a byte, low nibble first, an odd count padded with one zero."""
    codes = codes.reshape(-1)
    if len(codes) % 2:
        codes = np.append(codes, np.uint8(0))
    return codes[0::2] | (codes[1::2] << 4)


def _unpack_nibbles(packed: np.ndarray, count: int) -> np.ndarray:
    codes = np.empty(2 * len(packed), np.uint8)
    codes[0::2] = packed & 15
    codes[1::2] = packed >> 4
    return codes[:count]


# ---------------------------------------------------------------------------------------------------------------------
# The dense format that people already have
# ---------------------------------------------------------------------------------------------------------------------


def compress_logits(logits: Any, bits: int = 4, *, packed: bool = True, encoding: str = "lz4") -> dict[str, Any]:
    """Logits [T, V] or [1, T, V] (numpy array or CPU tensor) as the JSON object of the existing dense format.

    4 and 8 bits use one affine scale for the whole array, as that format does; -inf becomes the lowest finite level
    there and stays -inf at 16 and 32 bits. NaN and +inf are refused.
    """
    values = np.asarray(logits, dtype=np.float32)
    if bits not in BITS:
        raise CompressionError(f"bits must be one of {BITS}, not {bits}")
    if encoding not in ("lz4", "none"):
        raise CompressionError(f"encoding must be lz4 or none, not {encoding}")
    positions, vocabulary = _dense_shape(list(values.shape))
    _refuse_unusable(values)
    scale, zero_point = 1.0, 0.0
    if bits >= 16:
        stored = values.astype("<f2" if bits == 16 else "<f4")
        if np.isposinf(stored).any():
            raise CompressionError("a logit above the float16 range")
        raw = stored.tobytes()
    else:
        finite = values[np.isfinite(values)]
        low, high = float(finite.min()), float(finite.max())
        levels = 2**bits - 1
        scale = (high - low) / levels or 1.0
        zero_point = -low / scale
        codes = np.clip(np.rint((values - low) / scale), 0, levels).astype(np.uint8)
        raw = (_pack_nibbles(codes) if bits == 4 and packed else codes).tobytes()
    data = lz4.frame.compress(raw, store_size=True) if encoding == "lz4" else raw
    return {
        "format": "lz4",
        "bits": bits,
        "shape": list(values.shape),
        "scale": scale,
        "zero_point": zero_point,
        "packed": packed,
        "data_encoded": {"encoding": encoding, "data": data.hex(), "positions": positions, "vocab_size": vocabulary},
    }


def _dense_shape(shape: Any) -> tuple[int, int]:
    """T and V of a declared [T, V] or [1, T, V], within bounds."""
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise CompressionError("shape is not a list of integers")
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2:
        raise CompressionError("shape is neither [T, V] nor [1, T, V]")
    positions, vocabulary = shape
    if not 0 < positions <= MAX_POSITIONS:
        raise CompressionError("number of positions out of bounds")
    if not 0 < vocabulary <= MAX_VOCABULARY:
        raise CompressionError("vocabulary size out of bounds")
    return positions, vocabulary


def decompress_logits(compressed: Mapping[str, Any]) -> np.ndarray:
    """Float32 logits of the declared shape from an object of the existing dense format: (q - zero_point) * scale."""
    try:
        bits, shape, inner = compressed["bits"], compressed["shape"], compressed["data_encoded"]
        encoding, text = inner["encoding"], inner["data"]
        scale = compressed.get("scale")
        zero_point = compressed.get("zero_point")
        scale, zero_point = float(1 if scale is None else scale), float(0 if zero_point is None else zero_point)
    except (KeyError, TypeError, ValueError):
        raise CompressionError("incomplete compressed_logits") from None
    positions, vocabulary = _dense_shape(shape)
    if bits not in BITS or encoding not in ("lz4", "none") or not isinstance(text, str):
        raise CompressionError("unknown compressed_logits format")
    if not (np.isfinite(scale) and np.isfinite(zero_point)):
        raise CompressionError("scale or zero point is not finite")
    count = positions * vocabulary
    nibbles = bits == 4 and compressed.get("packed", True)
    size = (count + 1) // 2 if nibbles else count * max(bits, 8) // 8
    if size > MAX_BYTES:
        raise CompressionError("declared shape is too large")
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise CompressionError("damaged hex") from None
    if encoding == "lz4":
        data = _inflate(data, size)
    elif len(data) != size:
        raise CompressionError("data and shape disagree about the size")
    if bits >= 16:
        values = np.frombuffer(data, "<f2" if bits == 16 else "<f4").astype(np.float32)
    else:
        codes = np.frombuffer(data, np.uint8)
        values = (_unpack_nibbles(codes, count) if nibbles else codes).astype(np.float32)
    if (scale, zero_point) != (1.0, 0.0):
        values = (values - np.float32(zero_point)) * np.float32(scale)
    values = values.reshape(shape)
    _refuse_unusable(values)
    return values


# ---------------------------------------------------------------------------------------------------------------------
# The rows written here: a self-describing binary payload in an LZ4 frame with a checksum, in base64
# ---------------------------------------------------------------------------------------------------------------------

_MAGIC = b"TKR1"
# magic, kind, bits, grid size of the tail, positions T, width (k, d or V), vocabulary V (0: not known to the encoding)
_PAYLOAD = struct.Struct("<4sBBHIII")


@dataclass(frozen=True)
class TopKRows:
    """ids [T, k]; logits [T, k] float16, falling, relative to the row's maximum; tail_log_mass [T, G] float32 on that scale."""

    KIND: ClassVar[int] = 1
    ids: np.ndarray
    logits: np.ndarray
    tail_log_mass: np.ndarray
    vocab_size: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class HiddenRows:
    """values [T, d]: float16 states, or int8 codes that ``scales`` [T] float32 turn into states (None for float16)."""

    KIND: ClassVar[int] = 2
    values: np.ndarray
    scales: np.ndarray | None

    def __len__(self) -> int:
        return len(self.values)

    def states(self) -> np.ndarray:
        """[T, d] float32."""
        states = self.values.astype(np.float32)
        return states if self.scales is None else states * self.scales[:, None]


@dataclass(frozen=True)
class DenseRows:
    """values [T, V]: float32; float16 relative to the row's maximum; or uint8 codes of 4 or 8 bits with, for each
    position, ``scales`` and ``offsets`` [T] float32 (value = offset + code * scale) and ``masked`` [T] bool: code 0 is -inf."""

    KIND: ClassVar[int] = 3
    bits: int
    values: np.ndarray
    scales: np.ndarray | None = None
    offsets: np.ndarray | None = None
    masked: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def logits(self) -> np.ndarray:
        """[T, V] float32."""
        logits = self.values.astype(np.float32)
        if self.scales is not None and self.offsets is not None and self.masked is not None:
            logits = logits * self.scales[:, None] + self.offsets[:, None]
            logits[(self.values == 0) & self.masked[:, None]] = -np.inf
        return logits


EncodedRows = TopKRows | HiddenRows | DenseRows


def pack_rows(rows: EncodedRows) -> str:
    """The base64 text of ``teacher_logits_compressed``. Bytes of each number are grouped by significance: LZ4 finds more."""
    bits, grid, vocabulary = 0, 0, 0
    arrays: list[np.ndarray]
    if isinstance(rows, TopKRows):
        grid, vocabulary, width = rows.tail_log_mass.shape[1], rows.vocab_size, rows.ids.shape[1]
        arrays = [
            rows.ids.astype(_id_type(vocabulary)),
            rows.logits.astype("<f2"),
            rows.tail_log_mass.astype("<f4"),
        ]
    elif isinstance(rows, HiddenRows):
        width, bits = rows.values.shape[1], 16 if rows.scales is None else 8
        arrays = [rows.values.astype("<f2")] if rows.scales is None else [rows.values, rows.scales.astype("<f4")]
    else:
        vocabulary, width, bits = rows.values.shape[1], rows.values.shape[1], rows.bits
        if bits >= 16:
            arrays = [rows.values.astype("<f2" if bits == 16 else "<f4")]
        else:
            assert rows.scales is not None and rows.offsets is not None and rows.masked is not None
            codes = _pack_nibbles(rows.values) if bits == 4 else rows.values
            arrays = [codes, rows.scales.astype("<f4"), rows.offsets.astype("<f4"), rows.masked.astype(np.uint8)]
    header = _PAYLOAD.pack(_MAGIC, rows.KIND, bits, grid, len(rows), width, vocabulary)
    payload = header + b"".join(_split_bytes(array) for array in arrays)
    frame = lz4.frame.compress(payload, compression_level=0, content_checksum=True, store_size=True)
    return base64.b64encode(frame).decode("ascii")


def _id_type(vocabulary: int) -> str:
    return "<u2" if vocabulary <= 1 << 16 else "<u4"


def _split_bytes(array: np.ndarray) -> bytes:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(-1, flat.itemsize).T.tobytes()


def _join_bytes(data: memoryview, kind: str) -> np.ndarray:
    size = np.dtype(kind).itemsize
    if size == 1:
        return np.frombuffer(data, kind)
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(size, -1).T).view(kind).reshape(-1)


def unpack_rows(text: Any) -> EncodedRows:
    """Read ``teacher_logits_compressed``; raise CompressionError where the text, the frame or the payload is damaged."""
    if not isinstance(text, str):
        raise CompressionError("teacher logits are not a string")
    try:
        frame = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CompressionError("damaged base64") from None
    data = _inflate(frame)
    if len(data) < _PAYLOAD.size:
        raise CompressionError("teacher logits are cut short")
    magic, kind, bits, grid, positions, width, vocabulary = _PAYLOAD.unpack_from(data)
    if magic != _MAGIC:
        raise CompressionError("teacher logits of an unknown format")
    if not 0 < positions <= MAX_POSITIONS:
        raise CompressionError("number of positions out of bounds")
    if not (0 < width <= MAX_VOCABULARY and vocabulary <= MAX_VOCABULARY):
        raise CompressionError("vocabulary size out of bounds")
    count = positions * width
    if kind == TopKRows.KIND:
        layout = [(_id_type(vocabulary), count), ("<f2", count), ("<f4", positions * grid)]
    elif kind == HiddenRows.KIND and bits in (8, 16):
        layout = [("<f2", count)] if bits == 16 else [("i1", count), ("<f4", positions)]
    elif kind == DenseRows.KIND and bits in BITS:
        if bits >= 16:
            layout = [("<f2" if bits == 16 else "<f4", count)]
        else:
            layout = [("u1", (count + 1) // 2 if bits == 4 else count)]
            layout += [("<f4", positions), ("<f4", positions), ("u1", positions)]
    else:
        raise CompressionError("teacher logits of an unknown format")
    arrays, position = [], _PAYLOAD.size
    if position + sum(np.dtype(kind).itemsize * n for kind, n in layout) != len(data):
        raise CompressionError("teacher logits do not have the declared size")
    view = memoryview(data)
    for number_type, n in layout:
        end = position + np.dtype(number_type).itemsize * n
        arrays.append(_join_bytes(view[position:end], number_type))
        position = end
    if kind == TopKRows.KIND:
        ids = arrays[0].reshape(positions, width)
        if ids.max() >= vocabulary:
            raise CompressionError("token id beyond the vocabulary")
        rows = TopKRows(ids, arrays[1].reshape(positions, width), arrays[2].reshape(positions, grid), vocabulary)
        if np.isnan(rows.logits).any() or np.isnan(rows.tail_log_mass).any():
            raise CompressionError("NaN in the logits")
        return rows
    if kind == HiddenRows.KIND:
        hidden = HiddenRows(arrays[0].reshape(positions, width), arrays[1] if bits == 8 else None)
        if not all(np.isfinite(array).all() for array in arrays):
            raise CompressionError("NaN or infinity in the hidden states")
        return hidden
    if bits >= 16:
        dense = DenseRows(bits, arrays[0].reshape(positions, width))
    else:
        codes = _unpack_nibbles(arrays[0], count) if bits == 4 else arrays[0]
        dense = DenseRows(bits, codes.reshape(positions, width), arrays[1], arrays[2], arrays[3].astype(bool))
        if not (np.isfinite(arrays[1]).all() and np.isfinite(arrays[2]).all()):
            raise CompressionError("NaN or infinity in the scales")
    _refuse_unusable(dense.logits() if bits < 16 else dense.values)
    return dense
