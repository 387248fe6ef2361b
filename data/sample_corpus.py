"""Writes a Java project from a seed: small classes with JUnit tests that compile and pass.

The real miner reads it, so a first run needs neither a network nor other people's code. Each class belongs to one of
the families in ``data/sample/templates.py``: names, verbs and values differ from class to class. What a test asserts
follows from the method under test and the other lines of the test. So a small model can learn it, and can be judged on
new classes.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from string import Template

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.sample.templates import CURRENCIES, DOMAINS, FAMILIES, POM, WORDS, Family
from utils.arguments import ArgumentParser
from utils.atomic_io import atomic_directory
from utils.errors import UserError, run_main

PACKAGE = "org.example.sample"
MARKER = ".sample-corpus"
ASSERTION_NAME = re.compile(r"\b(assert\w+|fail)\(")
VARIABLES = ("subject", "target", "sample", "item", "given", "tested")
IMPORTABLE = ("ArrayDeque", "ArrayList", "Deque", "HashMap", "List", "Map", "Objects")


def capitalise(word: str) -> str:
    return word[0].upper() + word[1:]


def fill(template: str, values: dict[str, str]) -> str:
    return Template(template).substitute(values)


def indent(text: str, depth: int) -> str:
    return "\n".join("    " * depth + line if line else "" for line in text.strip("\n").split("\n"))


def choose_names(family: Family, index: int, rng: random.Random) -> dict[str, str]:
    """The names that a class and its test share: the second half of the class name, its words, the variable."""
    names = {"v": rng.choice(VARIABLES), "kind": family.kinds[index % len(family.kinds)]}
    for key, choices in family.words.items():
        names[key] = rng.choice(choices)
        names[capitalise(key)] = capitalise(names[key])
    return names


def choose_values(rng: random.Random) -> dict[str, str]:
    """The values of one test: three rising numbers, three words, two currencies."""
    numbers = sorted(rng.sample(range(2, 10), 3))
    words = rng.sample(WORDS, 3)
    currencies = rng.sample(CURRENCIES, 2)
    return {
        **dict(zip("abc", map(str, numbers), strict=True)),
        **dict(zip("stu", words, strict=True)),
        **dict(zip("xy", currencies, strict=True)),
    }


def write_class(family: Family, names: dict[str, str]) -> str:
    body = fill(family.source, names)
    used = [name for name in IMPORTABLE if re.search(rf"\b{name}\b", body)]
    imports = "".join(f"import java.util.{name};\n" for name in used) + ("\n" if used else "")
    return f"package {PACKAGE};\n\n{imports}public class {names['C']} {{\n{indent(body, 1)}\n}}\n"


def write_test(family: Family, names: dict[str, str], jupiter: bool, rng: random.Random) -> str:
    """One test method per ``@ name`` section of the family, in random order."""
    sections = [section.partition("\n") for section in family.tests.strip().split("@ ")[1:]]
    rng.shuffle(sections)
    methods = []
    for title, _, lines in sections:
        values = {**names, **choose_values(rng)}
        visibility = "" if jupiter else "public "
        method = f"@Test\n{visibility}void {fill(title.strip(), values)}() {{\n{indent(fill(lines, values), 1)}\n}}"
        methods.append(indent(method, 1))
    body = "\n\n".join(methods)
    owner = "org.junit.jupiter.api.Assertions" if jupiter else "org.junit.Assert"
    test_annotation = "org.junit.jupiter.api.Test" if jupiter else "org.junit.Test"
    static = "".join(f"import static {owner}.{name};\n" for name in sorted(set(ASSERTION_NAME.findall(body))))
    header = f"package {PACKAGE};\n\n{static}\nimport {test_annotation};\n\n"
    return f"{header}{'' if jupiter else 'public '}class {names['C']}Test {{\n{body}\n}}\n"


def write_sample_corpus(output: str | Path, seed: int = 42, classes: int = 300, jupiter_share: float = 0.25) -> Path:
    """Write the Maven-shaped project to ``output``; an earlier one there is replaced, anything else is refused.

    The same arguments give the same bytes. Returns ``output``.
    """
    output = Path(output)
    limit = len(DOMAINS) * min(len(family.kinds) for family in FAMILIES) * len(FAMILIES)
    if not 1 <= classes <= limit:
        raise UserError(f"--classes {classes}: must lie between 1 and {limit}")
    if output.exists() and not (output / MARKER).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output}: holds something other than a sample corpus; choose another folder")
    rng = random.Random(seed)
    domains = {family.kinds: rng.sample(DOMAINS, len(DOMAINS)) for family in FAMILIES}
    with atomic_directory(output) as root:
        for number in range(classes):
            family, index = FAMILIES[number % len(FAMILIES)], number // len(FAMILIES)
            names = choose_names(family, index, rng)
            names["C"] = domains[family.kinds][index // len(family.kinds)] + names["kind"]
            path = Path(*PACKAGE.split("."))
            jupiter = rng.random() < jupiter_share
            for folder, name, text in (
                ("main", names["C"], write_class(family, names)),
                ("test", names["C"] + "Test", write_test(family, names, jupiter, rng)),
            ):
                file = root / "src" / folder / "java" / path / f"{name}.java"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        (root / "pom.xml").write_text(POM, encoding="utf-8")
        (root / MARKER).write_text(f"seed {seed}, classes {classes}\n", encoding="utf-8")
    return output


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--classes", type=int, default=300, help="number of classes, each with its test (default 300)")
    args = parser.parse_args()
    print(f"{write_sample_corpus(args.output, args.seed, args.classes)}: {args.classes} classes and their tests")
    return 0


if __name__ == "__main__":
    run_main(main)
