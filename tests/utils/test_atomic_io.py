"""Files that are written whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

from utils.atomic_io import write_json


def test_a_path_that_is_no_text_in_the_locale_is_written_and_read_back(tmp_path: Path) -> None:
    """A POSIX locale, or a file name of another encoding, gives half surrogates, which UTF-8 cannot hold."""
    name = os.fsdecode(b"train \xfc.jsonl")
    write_json(tmp_path / "config.json", {"train_data_path": name, "text": "→"})
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"train_data_path": name, "text": "→"}
    assert "→" in text  # what is text stays readable
