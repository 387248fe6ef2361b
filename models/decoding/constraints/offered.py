"""What an input offers to name, for texts that are kept to its names."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from data.java.frameworks import FRAMEWORKS, JUNIT3_ASSERTIONS, ROOT_NAMES
from data.java.jdk import list_imported_types
from models.decoding.constraints.frames import QUALIFIERS, ROOTS, STATEMENTS
from models.decoding.constraints.shown import SIGNATURE, ShownScope, drop_type_arguments, list_usual_methods

LITERAL = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
NAME = re.compile(r"[A-Za-z_$][\w$]*")
CALLED = re.compile(r"[A-Za-z_$][\w$]*(?=\()")
BARE = re.compile(r"(?<![\w$.])([A-Za-z_$][\w$]*)\(|\bthis\.([A-Za-z_$][\w$]*)\(")
NOT_CREATED = re.compile(r"(?<!\bnew )(?<![\w$])[A-Za-z_$][\w$]*(?=\()")
OWN = re.compile(r"\bthis\.([A-Za-z_$][\w$]*)(?![\w$(])")
VARYING = re.compile(r"([A-Za-z_$][\w$]*)\([^()]*\.\.\.")  # a method that takes any number of arguments
CONSTANT = re.compile(r"[(,] *([A-Z][\w$]*) *(?:,|\)(?= *[;,.)]))")  # an argument that is nothing but such a name
MEMBER = re.compile(r"\.([A-Za-z_$][\w$]*)(?![\w$(])")
ASSERTION = re.compile(r"\);(?: // |$)", re.MULTILINE)  # a line of a context that holds another test's assertion
MESSAGE_FIRST = {one.assertion_class for one in FRAMEWORKS.values() if one.message_first} | {"junit.framework.TestCase"}
MESSAGE_LAST = {one.assertion_class for one in FRAMEWORKS.values() if not one.message_first} | {"org.testng.Assert"}
ASSERTING = ("assert", "fail", "verify")
STYLE = re.compile(r"^(?:static )?(?:[a-z]\w*\.)+[A-Z]\w*$", re.MULTILINE)  # whose assertions are imported, and how
CLASS = re.compile(r"\b[A-Z][\w$]*")
VARIABLE = re.compile(r"(?<![\w$.])[a-z_$][\w$]*(?![\w$(])")
# A line of the context that declares a variable or a field: its type, its name, and what it begins with.
DECLARED = re.compile(r"^[\w$.<>\[\],? &]+ ([A-Za-z_$][\w$]*)(?: = .*)?$", re.MULTILINE)
# Methods of every object, and what tests usually import statically.
METHODS = frozenset(
    NAME.findall("""
    equals getClass hashCode toString
    any anyInt anyLong anyString asList atLeastOnce containsString emptyList eq equalTo hasItem hasSize instanceOf
    is never not notNullValue nullValue times
""")
)
KEYWORDS = frozenset(
    NAME.findall("""
    true false null new this super int long short byte char boolean float double void instanceof final try catch
    finally for if else return throw while do switch case default break continue class
""")
)
# What a text may always name; list_imported_types has what no file has to import.
ALWAYS = METHODS | KEYWORDS | ROOT_NAMES | list_imported_types()
# The assertions of the classes that style names.
ASSERTIONS = {one.assertion_class: one.assertions for one in FRAMEWORKS.values() if one.assertion_class}
ASSERTIONS |= {"junit.framework.TestCase": JUNIT3_ASSERTIONS}


@dataclass(frozen=True)
class Offered:
    """What an input offers to name.

    ``names``: what may follow each: anything (""), the arguments of a call, or the rest of a qualified name.
    ``classes``: whether classes are among them, since an input without a context lacks many. ``called``: what anything
    calls, ``calls``: other than to create something, ``never_empty``: always with arguments. ``methods``: names that
    are nothing but methods; ``members``: names behind a dot that are none; ``constants``: those spelt like a class that
    stand for a value. ``message_first``: whether assertions take their message first, else last; None: not told.
    ``scope``: the types and signatures that the input shows.
    """

    names: dict[str, str]
    classes: bool
    called: frozenset[str]
    calls: frozenset[str]
    methods: frozenset[str]
    members: frozenset[str]
    constants: frozenset[str]
    never_empty: frozenset[str]
    message_first: bool | None
    scope: ShownScope

    @cached_property
    def spelt(self) -> list[str]:
        """All names but those with which a statement begins, sorted."""
        return sorted(self.names.keys() - STATEMENTS)

    @cached_property
    def dotted(self) -> list[str]:
        """The names that may follow a dot as far as the input shows, sorted."""
        return sorted(self.members | self.called)


def read_inputs(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """The texts of input ids, in which each separator ends a line, so that test, method and context end theirs."""
    marks = re.compile(
        "|".join(re.escape(mark) for mark in tokenizer.all_special_tokens if mark != tokenizer.unk_token)
    )
    texts = tokenizer.batch_decode([list(row) for row in rows], skip_special_tokens=False)
    return [marks.sub("\n", text) for text in texts]


def _find_message(imported: Set[str]) -> bool | None:
    """Whether assertions take their message first, as far as the framework that a context names tells."""
    if imported.isdisjoint(MESSAGE_LAST):
        return None if imported.isdisjoint(MESSAGE_FIRST) else True
    return False if imported.isdisjoint(MESSAGE_FIRST) else None


def _count_arguments(text: str, place: int) -> int | None:
    """How many arguments a call has whose bracket opens before ``place``; None where it is cut."""
    depth = commas = 0
    for end in range(place, len(text)):
        char = text[end]
        if char in "([{":
            depth += 1
        elif char in ")]}" and depth:
            depth -= 1
        elif char in ")]}":
            return commas + 1 if text[place:end].strip() else 0
        elif char == "," and not depth:
            commas += 1
        elif char in ";\n" and not depth:
            return None
    return None


def _list_calls(text: str) -> set[tuple[str, int]]:
    """What a text calls, with how many arguments."""
    counted = ((found[0], _count_arguments(text, found.end() + 1)) for found in CALLED.finditer(text))
    return {(name, count) for name, count in counted if count is not None}


def find_offered(text: str) -> Offered:
    """What an input offers.

    Variables are those of the test, its first line, and what the context declares; those of the method under test and
    of other tests' assertions are theirs. What test and context call without a receiver can be called so. Where a
    tokenizer knows no line ends, the context is one line, all of whose names count. Signatures come after other tests'
    assertions: where none comes before them, the one that stands apart may be of another project, and offers the names
    of assertions only.
    """
    test, *others = text.strip().split("\n")
    if test.replace('\\"', "").count('"') % 2:  # the test was cut inside a literal
        test = f'"{test}'
    test, rest = LITERAL.sub('""', test), LITERAL.sub('""', "\n".join(others))
    shown, _, nearest = rest.partition("\n\n")
    method, _, context = shown.partition("\n")
    styles = STYLE.findall(context)
    context = STYLE.sub("", context)
    outside = "\n".join((test, context, nearest))  # of the method under test
    asserting = [name for name in CALLED.findall(outside) if name.startswith(ASSERTING)]
    if ASSERTION.search(context) is None and SIGNATURE.search(context) is not None:
        nearest, outside = "", f"{test}\n{context}"
    whole = "\n".join((test, method, context, nearest))
    written = "\n".join((test, SIGNATURE.sub("", context), nearest))
    static = not styles or any(line.startswith("static ") or line.endswith("TestCase") for line in styles)
    bare = [name or of_this for name, of_this in BARE.findall(outside)]
    variables = VARIABLE.findall(test) + DECLARED.findall(shown) + OWN.findall(written)
    if len(others) == 2:
        variables += VARIABLE.findall(context)
    names = dict.fromkeys([*bare, *asserting * static], "(") | dict.fromkeys(ROOTS, ".")
    names |= dict.fromkeys([*CLASS.findall(whole), *variables], "")
    called = CALLED.findall(whole)
    members = set(MEMBER.findall(whole))
    methods = {name for name in {*called, *METHODS, *ROOT_NAMES} if names.get(name) != ""} - members
    calls = _list_calls(drop_type_arguments(f"{written}\n{method}"))
    filled = {name for name, _ in calls} - {name for name, count in calls if not count} - set(VARYING.findall(whole))
    imported = {line.rpartition(".")[2] for line in styles if not line.startswith("static ")}
    always = ALWAYS | (imported if styles else QUALIFIERS)
    classes = {line.removeprefix("static ") for line in styles}
    if classes and classes <= ASSERTIONS.keys():
        always -= ROOT_NAMES.difference(*(ASSERTIONS[name] for name in classes))
    return Offered(
        names=dict.fromkeys(always, "") | names | dict.fromkeys(KEYWORDS, ""),
        classes=len(others) > 1,
        called=frozenset(called),
        calls=frozenset(NOT_CREATED.findall(whole)),
        methods=frozenset(methods),
        members=frozenset(members),
        constants=frozenset(CONSTANT.findall(written)),
        never_empty=frozenset(filled.difference(ROOT_NAMES, list_usual_methods(empty=True))),
        message_first=_find_message(classes),
        scope=ShownScope(test, context, calls),
    )
