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
from models.decoding.constraints.shown import SIGNATURE, ShownScope, list_usual_methods

LITERAL = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
NAME = re.compile(r"[A-Za-z_$][\w$]*")
CALLED = re.compile(r"[A-Za-z_$][\w$]*(?=\()")
BARE = re.compile(r"(?<![\w$.])([A-Za-z_$][\w$]*)\(|\bthis\.([A-Za-z_$][\w$]*)\(")
NOT_CREATED = re.compile(r"(?<!\bnew )(?<![\w$])[A-Za-z_$][\w$]*(?=\()")
EMPTY = re.compile(r"([A-Za-z_$][\w$]*)\( *\)")
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


# What may follow a name: anything (""), the arguments of a call, or the rest of a qualified name.
Names = dict[str, str]


@dataclass(frozen=True)
class Offered:
    """What an input offers to name.

    ``names``: with what may follow each; ``classes``: whether classes are among them, since an input without a context
    lacks many; ``calls``: names that are called other than to create something; ``methods``: those that are nothing but
    methods; ``message_first``: whether assertions take their message first, else last, None where that is not told;
    ``scope``: the types and signatures that it shows.
    """

    names: Names
    classes: bool
    called: frozenset[str]
    calls: frozenset[str]
    methods: frozenset[str]
    members: frozenset[str]
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
    alone = ASSERTION.search(context) is None and SIGNATURE.search(context) is not None
    whole = "\n".join([test, method, STYLE.sub("", context), *[nearest] * (not alone)])
    static = not styles or any(line.startswith("static ") or line.endswith("TestCase") for line in styles)
    outside = "\n".join([test, STYLE.sub("", context), nearest if not alone else ""])  # of the method under test
    bare = [name or of_this for name, of_this in BARE.findall(outside)]
    asserting = [name for name in CALLED.findall(f"{test}\n{rest}") if name.startswith(ASSERTING)]
    called = CALLED.findall(whole)
    variables = VARIABLE.findall(test) + DECLARED.findall(shown)
    if len(others) == 2:
        variables += VARIABLE.findall(context)
    names = dict.fromkeys([*bare, *asserting * static], "(") | dict.fromkeys(ROOTS, ".")
    names |= dict.fromkeys([*CLASS.findall(whole), *variables], "")
    members = set(MEMBER.findall(whole))
    methods = {name for name in {*called, *METHODS, *ROOT_NAMES} if names.get(name) != ""} - members
    imported = {line.rpartition(".")[2] for line in styles if not line.startswith("static ")}
    always = ALWAYS | (imported if styles else QUALIFIERS)
    classes = {line.removeprefix("static ") for line in styles}
    if classes and classes <= ASSERTIONS.keys():
        always -= ROOT_NAMES.difference(*(ASSERTIONS[name] for name in classes))
    return Offered(
        dict.fromkeys(always, "") | names | dict.fromkeys(KEYWORDS, ""),
        len(others) > 1,
        frozenset(called),
        frozenset(NOT_CREATED.findall(whole)),
        frozenset(methods),
        frozenset(members),
        frozenset(set(called).difference(EMPTY.findall(whole), ROOT_NAMES, list_usual_methods(empty=True))),
        _find_message(classes),
        ShownScope(test, context),
    )
