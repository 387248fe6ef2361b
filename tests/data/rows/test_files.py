"""Files that are no data are refused for what they are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from data.rows.files import require_rows
from tests.helpers.commands import make_rows
from utils.errors import UserError

ROW = json.dumps(make_rows(1, 1)[0])
FOREIGN = json.dumps({"source_code": "int f()", "test": "void t()", "target": "assertTrue(x);"})
OTHER_FILES: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(ROW.encode()), "is compressed: unpack it first"),
    "parquet": (b"PAR1\x15\x04", "is a Parquet file"),
    "PowerShell": (f"{ROW}\n".encode("utf-16"), "is text in UTF-16: save it as UTF-8"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
    "HTML": (b"<!DOCTYPE html><html></html>", "is an HTML page"),
    "array": (f"[{ROW}]".encode(), "is a JSON array: write each of its objects on a line of its own"),
    "array over lines": (f"[\n  {ROW},\n  {ROW}\n]\n".encode(), "is a JSON array"),
    "indented": (json.dumps(json.loads(ROW), indent=2).encode(), "is JSON over several lines"),
    "CSV": (b'focal_method,test_method,assertions\n"int f()","void t()","fail();"\n', "is a table (CSV or TSV)"),
    "TSV": (b"focal_method\ttest_method\tassertions\nint f()\tvoid t()\tfail();\n", "is a table (CSV or TSV)"),
    "foreign": (
        f"{FOREIGN}\n".encode(),
        "has other fields (source_code, test, target); wanted: one JSON object",
    ),
    "without targets": (b'{"focal_method": "a", "test_method": "b"}\n' * 2, "(2 x missing assertion)"),
    "header alone": (b'{"distillation_header": {}}\n', "holds no rows; mine it"),
    "cut off": (ROW[:-3].encode(), "none of the first 1 rows can be used (1 x not valid JSON)"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_what_a_file_is_instead_of_data(kind: str, tmp_path: Path) -> None:
    content, words = OTHER_FILES[kind]
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        require_rows(path, "--data", "mine it")
    message = str(refused.value)
    assert message.startswith(f"--data: {path}") and words in message and "\n" not in message


@pytest.mark.parametrize("start", ["[1, 2]\n", "a,b\n", "\ufeff", "\n\n", '{"distillation_header": {}}\n'])
def test_one_usable_row_is_enough(start: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(start.encode() + ROW.encode() + b"\r\n")
    assert require_rows(path, "--data", "mine it") == path
