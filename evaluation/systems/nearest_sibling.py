"""The baseline that copies: the assertion of the nearest other test, with its variables renamed to those at hand."""

from __future__ import annotations

import re

from data.rows.context import Context, Sibling, split_declaration
from data.rows.readers import Sample
from evaluation.systems.baselines import TRIVIAL

# A name that is not a member of something; literals are matched first, so that what is in them stays.
FREE_NAME = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?<![\w$.])([A-Za-z_$][\w$]*)(?![\w$]|\s*\()""")
BLANKS_IN_TYPE = re.compile(r"\s+")


def copy_nearest(sample: Sample) -> str:
    """The nearest sibling's assertion; ``assertTrue(true)`` where the context has none."""
    siblings = sample.context.get("siblings", [])
    return rename_variables(siblings[0], sample.context) if siblings else TRIVIAL


def rename_variables(sibling: Sibling, context: Context) -> str:
    """The sibling's assertion; a local variable of its test that does not exist here becomes the nearest variable of
    the same type that it does not name already. Without one, or where the type is not known, the name stays."""
    here = [_split(text) for text in (*context.get("locals", []), *context.get("fields", []))]
    names = {name for _, name in here}
    theirs = {name: written for written, name in map(_split, sibling.get("locals", []))}
    text = sibling["assertion"]
    used = {match.group(2) for match in FREE_NAME.finditer(text) if match.group(2) in names}
    new: dict[str, str] = {}
    for match in FREE_NAME.finditer(text):
        name = match.group(2)
        if not name or name in names or name in new or name not in theirs:
            continue
        fitting = (other for written, other in here if written == theirs[name] and other not in used)
        new[name] = next(fitting, name)
        used.add(new[name])
    return FREE_NAME.sub(lambda match: match.group(1) or new.get(match.group(2), match.group(2)), text)


def _split(declared: str) -> tuple[str, str]:
    """``Map<K, V> map`` -> (``Map<K,V>``, ``map``)."""
    written, name = split_declaration(declared)
    return BLANKS_IN_TYPE.sub("", written), name
