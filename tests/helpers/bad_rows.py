"""Every way in which a row of distillation data can be bad: kind -> (how to spoil it, the reason that is told)."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import lz4.frame

Row = dict[str, Any]
LOGITS = "teacher_logits_compressed"


def damaged(text: str) -> dict[str, str]:
    """The same stored logits, spoilt in several ways."""
    raw = bytearray(base64.b64decode(text))
    flipped = raw.copy()
    flipped[len(raw) // 2] ^= 0xFF
    huge = raw.copy()
    huge[6:14] = (100 * 2**30).to_bytes(8, "little")  # the frame's own content size
    return {
        "truncated": base64.b64encode(raw[: len(raw) // 2]).decode(),
        "flipped": base64.b64encode(flipped).decode(),
        "claims 100 GB": base64.b64encode(huge).decode(),
        "not base64": text[:-4] + "\x00!!!",
        "another payload": base64.b64encode(lz4.frame.compress(b"hello" * 10)).decode(),
    }


def _in_the_payload(change: Callable[[bytearray], None]) -> Callable[[Row], str]:
    """A frame that is whole, around a payload that is not."""

    def spoil(row: Row) -> str:
        raw = bytearray(lz4.frame.decompress(base64.b64decode(row[LOGITS])))
        change(raw)
        return json.dumps(row | {LOGITS: base64.b64encode(lz4.frame.compress(bytes(raw))).decode()})

    return spoil


def _set(**values: Any) -> Callable[[Row], str]:
    return lambda row: json.dumps(row | values)


def _without(name: str) -> Callable[[Row], str]:
    return lambda row: json.dumps({key: value for key, value in row.items() if key != name})


def _logits(kind: str) -> Callable[[Row], str]:
    return lambda row: json.dumps(row | {LOGITS: damaged(row[LOGITS])[kind]})


def _last_tail_mass(value: float) -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into("<f", raw, len(raw) - 4, value)


BAD_ROWS: dict[str, tuple[Callable[[Row], str], str]] = {
    "line cut off": (lambda row: json.dumps(row)[:-9], "not valid JSON"),
    "no JSON object": (lambda row: "[1, 2]", "not a JSON object"),
    "no focal method": (_without("focal_method"), "missing focal method"),
    "test that is no text": (_set(test_method_masked=7), "masked test is not a string"),
    "target of no length": (_set(assertions=[" "]), "missing assertion"),
    "labels changed since": (_set(assertions=["assertTrue(true);"]), "labels differ from those the teacher saw"),
    "no logits": (_without(LOGITS), "missing teacher logits"),
    "base64 flipped": (_logits("not base64"), "not valid base64"),
    "LZ4 bytes flipped": (_logits("flipped"), "LZ4 frame"),
    "LZ4 frame cut off": (_logits("truncated"), "LZ4 frame"),
    "frame that claims 100 GB": (_logits("claims 100 GB"), "LZ4 frame"),
    "other bytes in the frame": (_logits("another payload"), "not a teacher payload"),
    "NaN in the logits": (_in_the_payload(_last_tail_mass(float("nan"))), "logits hold NaN or +inf"),
    "infinity in the logits": (_in_the_payload(_last_tail_mass(float("inf"))), "logits hold NaN or +inf"),
    "another vocabulary": (
        _in_the_payload(lambda raw: struct.pack_into("<I", raw, 14, struct.unpack_from("<I", raw, 14)[0] + 1)),
        "teacher logits are of another vocabulary",
    ),
    "a shape of 10^9 positions": (
        _in_the_payload(lambda raw: struct.pack_into("<I", raw, 6, 10**9)),
        "declared shape is out of bounds",
    ),
}
