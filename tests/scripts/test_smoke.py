"""What the smoke command installs: the core set, and versions that fit every supported Python."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from scripts.smoke import core_requirements
from tests.helpers.commands import ROOT


def read(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_package_has_one_tested_version_that_is_allowed(python: str) -> None:
    def holds(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"python_version": python})

    pins = [pin for pin in read("constraints.txt") if holds(pin)]
    for wanted in filter(holds, read("requirements.txt") + read("requirements-dev.txt")):
        (pin,) = (pin for pin in pins if pin.name.replace("_", "-") == wanted.name.replace("_", "-"))
        (version,) = pin.specifier
        assert version.operator == "==" and wanted.specifier.contains(version.version), wanted.name


def test_the_core_is_what_the_road_cannot_do_without() -> None:
    names = {Requirement(line).name for line in core_requirements()}
    assert {"torch", "transformers", "lz4", "pybase64", "sacrebleu", "scikit-learn", "tree-sitter-java"} <= names
    assert not names & {"sentence-transformers", "sentencepiece", "tensorboard", "matplotlib"}
