"""One walk for mining, suggestions and execution."""

from __future__ import annotations

from pathlib import Path

from data.java.source_tree import find_files
from data.mining.sources import find_projects


def test_hidden_folders_and_build_output_hold_no_sources(tmp_path: Path) -> None:
    root = tmp_path / "shop"
    kept = ["src/main/java/shop/Till.java", "src/main/java/shop/build/Maker.java", "tests/TillTest.java"]
    others = [
        ".pc/01-fix.patch/src/main/java/shop/Till.java",
        ".git/Till.java",
        "target/generated-sources/shop/Made.java",
        "build/Made.java",
        "src/main/java/shop/.#Till.java",
        "src/main/java/shop/Till.kt",
    ]
    for name in (*kept, *others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("class Till { }")
    (root / "src/main/java/shop/Lock.java").symlink_to("nowhere")
    assert [path.relative_to(root).as_posix() for path in find_files(root, ".java")] == kept
    (project,) = find_projects([root], tmp_path / "scratch")
    assert list(project.files) == kept
