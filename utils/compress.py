"""Teacher logits as bytes: the published dense formats, which are read, and the three encodings that are written.

A payload is an LZ4 frame, as base64 in its row: magic, kind, counts, then arrays (little-endian). The sizes that a
frame or a header declares are checked before any memory is allocated.
"""

from __future__ import annotations

import binascii
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import lz4.frame
import numpy as np
import pybase64

MAX_POSITIONS = 16384
MAX_VOCABULARY = 1 << 21
MAX_BYTES = 1 << 31
MAGIC = b"TLG1"
_HEAD = struct.Struct("<4sBBIIII")  # magic, kind, bits, positions T, width (k, d or V), vocabulary V, grid G
TOPK = 1
HIDDEN = 2
DENSE = 3
# Inverse temperatures 1/T in (0, 2) at which the mass of the tail is stored. They are Chebyshev nodes, so that the
# polynomial through them is almost exact in between.
TAIL_NODES = 12
TAIL_GRID = (1.0 - np.cos((2 * np.arange(TAIL_NODES) + 1) * np.pi / (2 * TAIL_NODES))).astype(np.float32)


class CompressionError(ValueError):
    """Data that cannot be decoded, or logits that cannot be stored; the message is a short reason."""


@dataclass
class TopKRows:
    """The k most probable tokens of each of T positions, and the mass of all others (the tail).

    ids [T, k]: any integers. logits [T, k] float32: in descending order, relative to the first, which is 0.
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


class _Frame:
    """One LZ4 frame, read in pieces of known size: it never decompresses more than was asked for."""

    def __init__(self, data: bytes) -> None:
        try:
            self.declared = lz4.frame.get_frame_info(data)["content_size"]  # 0: the frame does not say
        except RuntimeError:
            raise CompressionError("damaged LZ4 frame") from None
        if self.declared > MAX_BYTES:
            raise CompressionError("LZ4 frame declares more bytes than its shape needs")
        self._compressed, self._decompressor = len(data), lz4.frame.LZ4FrameDecompressor()
        self._waiting = data

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, or fewer where the frame ends earlier."""
        try:
            out = self._decompressor.decompress(self._waiting, max_length=size)
        except (RuntimeError, EOFError):
            raise CompressionError("damaged LZ4 frame") from None
        self._waiting = b""
        if len(out) < size and not self._decompressor.eof:
            raise CompressionError("truncated LZ4 frame")
        return out

    def rest(self, size: int, taken: int = 0) -> bytes:
        """The rest of the frame, of which ``taken`` bytes were read; it must be ``size`` bytes long."""
        # LZ4 compresses by a factor of at most 255, so a short frame cannot ask for much memory.
        if self.declared > taken + size or size > 256 * self._compressed:
            raise CompressionError("LZ4 frame declares more bytes than its shape needs")
        out = self.take(size + 1)
        if len(out) > size:
            raise CompressionError("LZ4 frame holds more bytes than its shape needs")
        if len(out) < size:
            raise CompressionError("data does not fit the declared shape")
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
    """In 16 bits a value below their range becomes -inf, whose probability is 0 as well; one above raises an error."""
    if bits == 16 and values.max() > np.finfo(np.float16).max:
        raise CompressionError("logits are too large for 16 bits")
    with np.errstate(over="ignore"):
        stored = values.astype("<f2" if bits == 16 else "<f4")
    return stored.tobytes()


def _quantise(logits: np.ndarray, bits: int, axis: int | None, lowest: int | np.ndarray = 0) -> tuple[np.ndarray, ...]:
    """q, scale and zero_point with value = (q - zero_point) * scale over the finite range; q begins at ``lowest``."""
    finite = np.isfinite(logits)
    low = np.where(finite, logits, np.inf).min(axis=axis, keepdims=axis is not None)
    high = np.where(finite, logits, -np.inf).max(axis=axis, keepdims=axis is not None)
    levels = 2**bits - 1
    scale = np.maximum((high - low) / (levels - lowest), 1e-8)
    zero_point = lowest - low / scale
    q = np.rint(np.where(finite, logits, low) / scale + zero_point).clip(lowest, levels)
    return q.astype(np.uint8), scale, zero_point


def _refuse_nan(logits: np.ndarray) -> None:
    """Raise an error for NaN, +inf and a position without a finite logit. -inf is allowed: an impossible token."""
    top = logits.max(axis=-1)  # NaN where a row holds one
    if np.isfinite(top).all():
        return
    if (np.isnan(top) | np.isposinf(top)).any():
        raise CompressionError("logits hold NaN or +inf")
    raise CompressionError("a position has no finite logit")


class EncodedData(TypedDict):
    encoding: str  # "lz4" or "none"
    data: str  # hexadecimal


class StoredLogits(TypedDict, total=False):
    """The published dense format; ``scale``, ``zero_point`` and ``packed`` only with 4 and 8 bits."""

    format: str
    bits: int
    shape: list[int]
    scale: float
    zero_point: float
    packed: bool
    data_encoded: EncodedData


def compress_logits(logits: np.ndarray, bits: int = 8, encoding: str = "lz4", packed: bool = True) -> StoredLogits:
    """The published dense format: logits [T, V] or [1, T, V] as a dict that is ready for JSON, with hex data.

    bits 16 and 32: little-endian floats; 8 and 4: ``value = (q - zero_point) * scale`` with one scale per sample, 4-bit
    values two in a byte (low nibble first) when ``packed``. Raises CompressionError for NaN and +inf, in 8 and 4 bits
    also for -inf, which they cannot express; ValueError for other bits.
    """
    logits = np.asarray(logits, dtype=np.float32)
    _refuse_nan(logits)
    result: StoredLogits = {"format": "lz4", "bits": bits, "shape": list(logits.shape)}
    if bits in (16, 32):
        raw = _float_bytes(logits, bits)
    elif bits in (4, 8):
        if np.isneginf(logits).any():
            raise CompressionError("-inf logits need 16 or 32 bits in the published format")
        q, scale, zero_point = _quantise(logits, bits, None)
        raw = (_pack_nibbles(q) if bits == 4 and packed else q).tobytes()
        result["scale"], result["zero_point"] = float(scale), float(zero_point)
        result["packed"] = bits == 4 and packed
    else:
        raise ValueError(f"bits {bits}: allowed are 4, 8, 16, 32")
    data = lz4.frame.compress(raw) if encoding == "lz4" else raw
    result["data_encoded"] = {"encoding": encoding, "data": data.hex()}
    return result


def decompress_logits(stored: Mapping[str, Any], positions: int | None = None) -> np.ndarray:
    """[T, V] float32 from the published dense format, as read from JSON. Raises CompressionError with the reason.

    ``positions``: decode at most so many rows; what follows the labels is padding.
    """
    try:
        bits = int(stored["bits"])
        shape = [int(n) for n in stored["shape"]]
        encoded = stored["data_encoded"]
        encoding, text = encoded["encoding"], encoded["data"]
        if bits in (4, 8):  # null, which NaN becomes when it is read, is no scale
            scale, zero_point = float(stored.get("scale", 1.0)), float(stored.get("zero_point", 0.0))
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
    raw = _Frame(data).rest(size) if encoding == "lz4" else data
    if len(raw) != size:
        raise CompressionError("data does not fit the declared shape")
    if positions is not None and positions < shape[0]:
        shape[0] = positions
        count = shape[0] * shape[1]
    if bits in (16, 32):
        values = np.frombuffer(raw, dtype="<f2" if bits == 16 else "<f4", count=count).astype(np.float32)
    else:
        q = np.frombuffer(raw, dtype=np.uint8)[: (count + 1) // 2 if bits == 4 and packed else count]
        q = _unpack_nibbles(q, count) if bits == 4 and packed else q
        values = (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    values = values.reshape(shape)
    _refuse_nan(values)
    return values


# -- the payload of a row ----------------------------------------------------------------------------------------------


def _layout(
    kind: int, bits: int, positions: int, width: int, vocab_size: int, grid: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of the arrays that follow the head, in order."""
    rows, one = (positions, width), (positions, 1)
    if kind == TOPK and bits == 16:
        return [("<u2" if vocab_size <= 65536 else "<u4", rows), ("<f2", rows), ("<f4", (positions, grid))]
    if kind == HIDDEN and bits in (8, 16):
        return [("<f4", one), ("<f2" if bits == 16 else "i1", rows)]
    if kind == DENSE and bits in (16, 32):
        return [("<f2" if bits == 16 else "<f4", rows)]
    if kind == DENSE and bits in (4, 8):
        return [("<f4", one), ("<f4", one), ("u1", rows if bits == 8 else ((positions * width + 1) // 2,))]
    raise CompressionError("unknown kind of payload")


def pack(rows: Rows, bits: int = 16) -> str:
    """Base64 of an LZ4 frame. ``bits``: 4, 8, 16 or 32 for dense rows, 8 or 16 for hidden ones, ignored for top-k.

    Quantised values have one scale per token. Every encoding returns a logit of -inf unchanged. NaN, +inf, a position
    without a finite logit and hidden states that are not finite raise CompressionError.
    """
    if isinstance(rows, TopKRows):
        _refuse_nan(rows.logits)
        if not rows.tail_log_mass.max() < np.inf:
            raise CompressionError("logits hold NaN or +inf")
        positions, k = rows.ids.shape
        index = "<u2" if rows.vocab_size <= 65536 else "<u4"
        tail = rows.tail_log_mass.astype("<f4")
        head = _HEAD.pack(MAGIC, TOPK, 16, positions, k, rows.vocab_size, tail.shape[1])
        body = [rows.ids.astype(index).tobytes(), _float_bytes(rows.logits, 16), tail.tobytes()]
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
            # Where a token has logits of -inf, code 0 stands for them, and a negative scale marks it.
            masked = np.isneginf(rows.logits)
            some = np.any(masked, axis=1, keepdims=True)
            q, scale, zero_point = _quantise(rows.logits, bits, 1, some.astype(np.uint8))
            q[masked] = 0
            body = [np.where(some, -scale, scale).astype("<f4").tobytes(), zero_point.astype("<f4").tobytes()]
            body.append((_pack_nibbles(q) if bits == 4 else q).tobytes())
    raw = b"".join([head, *body])
    return pybase64.b64encode(lz4.frame.compress(raw, store_size=True, content_checksum=True)).decode("ascii")


def try_pack(rows: Rows, bits: int) -> tuple[str, str]:
    """``pack`` for worker processes: its text and "", or "" and the reason why the rows cannot be stored."""
    try:
        return pack(rows, bits), ""
    except CompressionError as error:
        return "", str(error)


def unpack(text: str, positions: int | None = None) -> Rows:
    """The rows that ``pack`` stored; ``positions``: how many target tokens there must be, where that is known.

    Raises CompressionError with the reason. What the head declares is checked against ``positions``, fixed limits and
    the length of the frame before memory is allocated for it.
    """
    if not isinstance(text, str):
        raise CompressionError("teacher_logits_compressed is not a string")
    try:
        data = pybase64.b64decode(text, validate=True)  # 20 times as fast as the standard library's
    except (binascii.Error, ValueError):
        raise CompressionError("not valid base64") from None
    frame = _Frame(data)
    start = frame.take(_HEAD.size)
    if len(start) < _HEAD.size or start[:4] != MAGIC:
        raise CompressionError("not a teacher payload")
    _, kind, bits, count, width, vocab_size, grid = _HEAD.unpack(start)
    _check_shape(count, width)
    if positions is not None and count != positions:
        raise CompressionError("teacher logits do not cover the labels")
    if kind == TOPK and (grid != len(TAIL_GRID) or not 0 < vocab_size <= MAX_VOCABULARY):
        raise CompressionError("unknown tail grid or vocabulary size")
    layout = _layout(kind, bits, count, width, vocab_size, grid)
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in layout]
    raw = frame.rest(sum(sizes), _HEAD.size)
    at = 0
    parts = []
    for (dtype, shape), size in zip(layout, sizes, strict=True):
        parts.append(np.frombuffer(raw, dtype, math.prod(shape), at).reshape(shape))
        at += size
    if kind == TOPK:
        ids = parts[0]
        logits = parts[1].astype(np.float32)
        tail = parts[2]
        if ids.max() >= vocab_size:
            raise CompressionError("token id outside the vocabulary")
        _refuse_nan(logits)
        if not tail.max() < np.inf:
            raise CompressionError("logits hold NaN or +inf")
        return TopKRows(ids, logits, tail, vocab_size)
    if kind == HIDDEN:
        scale, stored = parts
        hidden = stored.astype(np.float32) * (scale if bits == 16 else scale / 127)
        if not np.isfinite(hidden).all():
            raise CompressionError("hidden states are not finite")
        return HiddenRows(hidden)
    if bits in (16, 32):
        dense = parts[0].astype(np.float32)
    else:
        scale, zero_point, q = parts
        q = _unpack_nibbles(q, count * width).reshape(count, width) if bits == 4 else q
        dense = (q.astype(np.float32) - zero_point) * np.abs(scale)
        dense[(q == 0) & (scale < 0)] = -np.inf
    _refuse_nan(dense)
    return DenseRows(dense)
