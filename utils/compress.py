"""Teacher logits as bytes: the dense formats that people have, and the three encodings that are written.

A payload is an LZ4 frame, base64 in the row: magic, kind, counts, then arrays (little-endian). Sizes that a frame or
a header declares are checked before anything is allocated.
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Any

import lz4.frame
import numpy as np

MAX_POSITIONS = 16384
MAX_VOCABULARY = 1 << 21
MAX_BYTES = 1 << 31
MAGIC = b"TLG1"
_HEAD = struct.Struct("<4sBBIIII")  # magic, kind, bits, positions T, width (k, d or V), vocabulary V, grid G
TOPK, HIDDEN, DENSE = 1, 2, 3
# Inverse temperatures 1/T in (0, 2) at which the tail's mass is stored: Chebyshev nodes, between which the polynomial
# through them is near-exact.
TAIL_NODES = 12
TAIL_GRID = (1.0 - np.cos((2 * np.arange(TAIL_NODES) + 1) * np.pi / (2 * TAIL_NODES))).astype(np.float32)


class CompressionError(ValueError):
    """Data that cannot be decoded, or logits that cannot be stored; the message is a short reason."""


@dataclass
class TopKRows:
    """ids [T, k] int64; logits [T, k] float32, falling, relative to the row's maximum (the first is 0);
    tail_log_mass [T, G] float32: log of the sum over the tail of exp(b * logit) for each b of TAIL_GRID, -inf if empty.
    """

    ids: np.ndarray
    logits: np.ndarray
    tail_log_mass: np.ndarray
    vocab_size: int


@dataclass
class HiddenRows:
    """hidden [T, d] float32: the decoder's last state as the head sees it."""

    hidden: np.ndarray


@dataclass
class DenseRows:
    """logits [T, V] float32."""

    logits: np.ndarray


Rows = TopKRows | HiddenRows | DenseRows


def _decompress(data: bytes, limit: int) -> bytes:
    """One LZ4 frame of at most ``limit`` bytes."""
    try:
        declared = lz4.frame.get_frame_info(data)["content_size"]
        if declared > limit:
            raise CompressionError("LZ4 frame declares more bytes than its shape needs")
        decompressor = lz4.frame.LZ4FrameDecompressor()
        out = decompressor.decompress(data, max_length=limit + 1)
    except RuntimeError:
        raise CompressionError("damaged LZ4 frame") from None
    if len(out) > limit:
        raise CompressionError("LZ4 frame holds more bytes than its shape needs")
    if not decompressor.eof:
        raise CompressionError("truncated LZ4 frame")
    return out


def _check_shape(positions: int, width: int) -> None:
    if not (0 < positions <= MAX_POSITIONS and 0 < width <= MAX_VOCABULARY and positions * width * 4 <= MAX_BYTES):
        raise CompressionError("declared shape is out of bounds")


# -- dense values in 4, 8, 16 or 32 bits -------------------------------------------------------------------------------


def _pack_nibbles(q: np.ndarray) -> np.ndarray:
    flat = q.reshape(-1).astype(np.uint8)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return flat[0::2] | (flat[1::2] << 4)


def _unpack_nibbles(packed: np.ndarray, count: int) -> np.ndarray:
    out = np.empty(packed.size * 2, dtype=np.uint8)
    out[0::2] = packed & 0x0F
    out[1::2] = packed >> 4
    return out[:count]


def _float_bytes(values: np.ndarray, bits: int) -> bytes:
    with np.errstate(over="ignore"):
        stored = values.astype("<f2" if bits == 16 else "<f4")
    return stored.tobytes()


def _quantise(logits: np.ndarray, bits: int, axis: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q, scale, zero_point with value = (q - zero_point) * scale over the finite range; -inf becomes the minimum."""
    finite = np.isfinite(logits)
    low = np.where(finite, logits, np.inf).min(axis=axis, keepdims=axis is not None)
    high = np.where(finite, logits, -np.inf).max(axis=axis, keepdims=axis is not None)
    levels = 2**bits - 1
    scale = np.maximum((high - low) / levels, 1e-8)
    zero_point = -low / scale
    q = np.rint(np.where(finite, logits, low) / scale + zero_point).clip(0, levels)
    return q.astype(np.uint8), scale, zero_point


def _refuse_nan(logits: np.ndarray) -> None:
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise CompressionError("logits hold NaN or +inf")
    if not np.isfinite(logits).any(axis=-1).all():
        raise CompressionError("a position has no finite logit")


def compress_logits(logits: np.ndarray, bits: int = 8, encoding: str = "lz4", packed: bool = True) -> dict[str, Any]:
    """The published dense format: logits [T, V] or [1, T, V] as a JSON-ready dict with hex data.

    bits 16 and 32: little-endian floats; 8 and 4: ``value = (q - zero_point) * scale`` with one scale a sample, 4-bit
    values two a byte (low nibble first) when ``packed``. Raises CompressionError for NaN, ValueError for other bits.
    """
    logits = np.asarray(logits, dtype=np.float32)
    _refuse_nan(logits)
    result: dict[str, Any] = {"format": "lz4", "bits": bits, "shape": list(logits.shape)}
    if bits in (16, 32):
        raw = _float_bytes(logits, bits)
    elif bits in (4, 8):
        q, scale, zero_point = _quantise(logits, bits, None)
        raw = (_pack_nibbles(q) if bits == 4 and packed else q).tobytes()
        result |= {"scale": float(scale), "zero_point": float(zero_point), "packed": bits == 4 and packed}
    else:
        raise ValueError(f"bits {bits}: allowed are 4, 8, 16, 32")
    data = lz4.frame.compress(raw) if encoding == "lz4" else raw
    return result | {"data_encoded": {"encoding": encoding, "data": data.hex()}}


def decompress_logits(stored: dict[str, Any]) -> np.ndarray:
    """[T, V] float32 from the published dense format. Raises CompressionError with the reason."""
    try:
        bits, shape, encoded = int(stored["bits"]), [int(n) for n in stored["shape"]], stored["data_encoded"]
        encoding, text = encoded["encoding"], encoded["data"]
        scale, zero_point = float(stored.get("scale") or 1.0), float(stored.get("zero_point") or 0.0)
        packed = bool(stored.get("packed", bits == 4))
        if not isinstance(text, str):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise CompressionError("compressed_logits lacks a field or has a wrong one") from None
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2 or bits not in (4, 8, 16, 32) or encoding not in ("lz4", "none"):
        raise CompressionError("compressed_logits has an unknown shape, bits or encoding")
    _check_shape(*shape)
    count = shape[0] * shape[1]
    size = (count + 1) // 2 if bits == 4 and packed else count * max(bits, 8) // 8
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise CompressionError("data is not hexadecimal") from None
    raw = _decompress(data, size) if encoding == "lz4" else data
    if len(raw) != size:
        raise CompressionError("data does not fit the declared shape")
    if bits in (16, 32):
        values = np.frombuffer(raw, dtype="<f2" if bits == 16 else "<f4").astype(np.float32)
    else:
        q = np.frombuffer(raw, dtype=np.uint8)
        q = _unpack_nibbles(q, count) if bits == 4 and packed else q
        values = (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    if np.isnan(values).any() or np.isposinf(values).any():
        raise CompressionError("logits hold NaN or +inf")
    return values.reshape(shape)


# -- the payload of a row ----------------------------------------------------------------------------------------------


def pack(rows: Rows, bits: int = 16) -> str:
    """Base64 of an LZ4 frame. ``bits``: dense 4, 8, 16, 32 (one scale a token), hidden 8 or 16; top-k ignores it."""
    if isinstance(rows, TopKRows):
        _refuse_nan(rows.logits)
        if np.isnan(rows.tail_log_mass).any():
            raise CompressionError("logits hold NaN or +inf")
        positions, k = rows.ids.shape
        index = "<u2" if rows.vocab_size <= 65536 else "<u4"
        below = np.maximum(rows.logits, -60000.0).astype("<f2")
        tail = rows.tail_log_mass.astype("<f4")
        head = _HEAD.pack(MAGIC, TOPK, 16, positions, k, rows.vocab_size, tail.shape[1])
        body = [rows.ids.astype(index).tobytes(), below.tobytes(), tail.tobytes()]
    elif isinstance(rows, HiddenRows):
        if not np.isfinite(rows.hidden).all():
            raise CompressionError("hidden states are not finite")
        positions, width = rows.hidden.shape
        head = _HEAD.pack(MAGIC, HIDDEN, bits, positions, width, 0, 0)
        scale = np.maximum(np.abs(rows.hidden).max(axis=1, keepdims=True), 1e-12).astype("<f4")
        if bits == 16:
            body = [scale.tobytes(), (rows.hidden / scale).astype("<f2").tobytes()]
        else:
            body = [scale.tobytes(), np.rint(rows.hidden / scale * 127).astype(np.int8).tobytes()]
    else:
        _refuse_nan(rows.logits)
        positions, width = rows.logits.shape
        head = _HEAD.pack(MAGIC, DENSE, bits, positions, width, width, 0)
        if bits in (16, 32):
            body = [_float_bytes(rows.logits, bits)]
        else:
            q, scale, zero_point = _quantise(rows.logits, bits, 1)
            body = [scale.astype("<f4").tobytes(), zero_point.astype("<f4").tobytes()]
            body.append((_pack_nibbles(q) if bits == 4 else q).tobytes())
    raw = b"".join([head, *body])
    return base64.b64encode(lz4.frame.compress(raw, store_size=True, content_checksum=True)).decode("ascii")


def try_pack(rows: Rows, bits: int) -> tuple[str, str]:
    """``pack``'s text and an empty string, or an empty string and why the rows cannot be stored; for workers."""
    try:
        return pack(rows, bits), ""
    except CompressionError as error:
        return "", str(error)


class _Reader:
    """Arrays one after the other from a buffer whose size was checked."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, _HEAD.size

    def take(self, dtype: str, *shape: int) -> np.ndarray:
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        if self.at + size > len(self.raw):
            raise CompressionError("payload is shorter than it declares")
        values = np.frombuffer(self.raw, dtype=dtype, count=count, offset=self.at).reshape(shape)
        self.at += size
        return values


def unpack(text: str) -> Rows:
    """What ``pack`` stored. Raises CompressionError with the reason; declared sizes are bounded."""
    if not isinstance(text, str):
        raise CompressionError("teacher_logits_compressed is not a string")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CompressionError("not valid base64") from None
    raw = _decompress(data, min(MAX_BYTES, max(1 << 20, 300 * len(data))))
    if len(raw) < _HEAD.size or raw[:4] != MAGIC:
        raise CompressionError("not a teacher payload")
    _, kind, bits, positions, width, vocab_size, grid = _HEAD.unpack_from(raw)
    _check_shape(positions, width)
    reader = _Reader(raw)
    rows: Rows
    if kind == TOPK:
        if grid != len(TAIL_GRID) or not 0 < vocab_size <= MAX_VOCABULARY:
            raise CompressionError("unknown tail grid or vocabulary size")
        ids = reader.take("<u2" if vocab_size <= 65536 else "<u4", positions, width).astype(np.int64)
        if ids.size and ids.max() >= vocab_size:
            raise CompressionError("token id outside the vocabulary")
        logits = reader.take("<f2", positions, width).astype(np.float32)
        tail = reader.take("<f4", positions, grid)
        rows = TopKRows(ids, logits, tail, vocab_size)
        values = [logits, tail]
    elif kind == HIDDEN and bits in (8, 16):
        scale = reader.take("<f4", positions, 1)
        stored = reader.take("<f2" if bits == 16 else "i1", positions, width).astype(np.float32)
        rows = HiddenRows(stored * (scale if bits == 16 else scale / 127))
        values = [rows.hidden]
    elif kind == DENSE and bits in (4, 8, 16, 32):
        if bits in (16, 32):
            dense = reader.take("<f2" if bits == 16 else "<f4", positions, width).astype(np.float32)
        else:
            scale, zero_point = reader.take("<f4", positions, 1), reader.take("<f4", positions, 1)
            count = positions * width
            q = reader.take("u1", (count + 1) // 2 if bits == 4 else count)
            q = _unpack_nibbles(q, count) if bits == 4 else q
            dense = (q.reshape(positions, width).astype(np.float32) - zero_point) * scale
        rows = DenseRows(dense)
        values = [dense]
    else:
        raise CompressionError("unknown kind of payload")
    if reader.at != len(raw):
        raise CompressionError("payload is longer than it declares")
    if any(np.isnan(part).any() or np.isposinf(part).any() for part in values):
        raise CompressionError("logits hold NaN or +inf")
    return rows
