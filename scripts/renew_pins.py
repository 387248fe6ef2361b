#!/usr/bin/env python
"""Renew constraints.txt: of each package that the requirements name, the newest version that all of them allow.

    make upgrade    # this, then the tests with the new versions

Where Pythons differ in what they can have, a package gets a line for each. A package stays as it is with --keep.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.arguments import ArgumentParser
from utils.atomic_io import atomic_writer
from utils.errors import UserError, run_main

PINS = ROOT / "constraints.txt"
REQUIREMENTS = ("requirements.txt", "requirements-optional.txt", "requirements-dev.txt")
OLDEST_PYTHON = "3.10"
NAME = re.compile(r"^[A-Za-z0-9][\w.-]*")


def plain(name: str) -> str:
    """A package's name in the spelling that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(lines: Iterable[str]) -> set[str]:
    """The packages that requirement or constraint lines name."""
    return {plain(found[0]) for line in lines if (found := NAME.match(line))}


def choose_pins(resolved: Iterable[str], wanted: set[str], kept: Iterable[str]) -> list[str]:
    """Of all that was resolved, the lines of the packages that are wanted, and the old lines of those kept."""
    old = [line for line in kept if NAME.match(line)]
    fresh = [line.strip() for line in resolved if NAME.match(line) and names_of([line]) <= wanted - names_of(old)]
    return sorted([*fresh, *old], key=lambda line: (plain(NAME.match(line)[0]), line))  # type: ignore[index]


def resolve(files: Sequence[Path], kept: Sequence[str]) -> list[str]:
    """Every package, those that others need included, at the newest version for all Pythons from the oldest on."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(kept) + "\n")
        constraints.flush()
        words = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--upgrade", "--no-header", "--quiet"]
        words += ["--no-annotate", "--python-version", OLDEST_PYTHON, "--constraints", constraints.name]
        done = subprocess.run([*words, *map(str, files)], capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-400:]
        raise UserError(f"the versions cannot be resolved ({reason}); constraints.txt is as it was")
    return done.stdout.splitlines()


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--keep", nargs="+", default=[], metavar="PACKAGE", help="packages whose pins stay")
    args = parser.parse_args()
    before = PINS.read_text(encoding="utf-8").splitlines()
    wanted = {
        name for file in REQUIREMENTS for name in names_of((ROOT / file).read_text(encoding="utf-8").splitlines())
    }
    if unknown := {plain(name) for name in args.keep} - names_of(before):
        raise UserError(f"--keep {min(unknown)}: constraints.txt has no such package")
    kept = [line for line in before if names_of([line]) & {plain(name) for name in args.keep}]
    after = choose_pins(resolve([ROOT / file for file in REQUIREMENTS], kept), wanted, kept)
    with atomic_writer(PINS) as handle:
        handle.write("\n".join(after) + "\n")
    for line in sorted(set(before) ^ set(after), key=lambda line: (line.lower(), line in after)):
        print("+" if line in after else "-", line)
    print(f"{len(after)} pins" + ("" if before != after else ", none has changed"))
    return 0


if __name__ == "__main__":
    run_main(main)
