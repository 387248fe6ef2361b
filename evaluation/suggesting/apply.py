"""Put chosen assertions into a file: the new bytes, a diff, and writing it back."""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from evaluation.running.splice import as_utf8, find_imports, move_to_disk
from evaluation.suggesting.open_tests import OpenTest
from evaluation.suggesting.repair import LABEL
from evaluation.suggesting.verdicts import RUN, Candidate
from utils.atomic_io import atomic_writer
from utils.errors import UserError

COMMENT = re.compile(rb"[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/[ \t]*(?=[\r\n]))")


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What the file's encoding lacks, as Java reads it in any."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


codecs.register_error("java_escape", _escape)


def insert_suggestions(raw: bytes, chosen: Sequence[tuple[OpenTest, Candidate]]) -> bytes:
    """The file's bytes with the chosen assertions and the imports that they need; encoding and line ends stay."""
    newline = b"\r\n" if b"\r\n" in raw else b"\n"
    try:
        raw.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"
    edits: list[tuple[int, bytes]] = []
    for test, item in chosen:
        body = f"{newline.decode()}{test.indent}".join(item.assertion.split("\n"))
        if item.origin == RUN:
            body += f" // {LABEL}"
        edits.append((test.position, f"{test.before}{body}{test.after}".encode(encoding, "java_escape")))
    imports = dict.fromkeys(line for _, item in chosen for line in item.imports)
    if imports:
        source, _ = as_utf8(raw)
        place = move_to_disk(find_imports(source).end, source, raw)
        if comment := COMMENT.match(raw, place):  # it stays with its import
            place = comment.end()
        lines = newline.join(f"import {line};".encode() for line in imports)
        top = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
        edits.append((place, newline + lines) if place else (top, lines + newline))
    for position, text in sorted(edits, key=lambda edit: edit[0], reverse=True):
        raw = raw[:position] + text + raw[position:]
    return raw


def make_diff(before: bytes, after: bytes, name: str) -> str:
    """A unified diff that ``git apply`` understands; bytes that are not UTF-8 are replaced."""

    def lines(content: bytes) -> list[str]:
        text = content.decode("utf-8", "surrogateescape")
        return re.findall(r"[^\n]*\n|[^\n]+", text)  # splitlines would also split at form feeds

    pieces = difflib.unified_diff(lines(before), lines(after), f"a/{name}", f"b/{name}")
    text = "".join(piece if piece.endswith("\n") else f"{piece}\n\\ No newline at end of file\n" for piece in pieces)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_back(file: Path, before: bytes, after: bytes) -> None:
    """Replace the file in one step. Raises UserError where somebody has changed it in the meantime."""
    if file.read_bytes() != before:
        raise UserError(f"{file}: changed while the candidates ran; nothing was written, run again")
    mode = file.stat().st_mode
    with atomic_writer(file, "wb") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(after)
