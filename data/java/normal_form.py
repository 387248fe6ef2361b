"""Assertions as text: split into statements, and brought into a form in which equal ones look equal.

Works on anything that a model may write, whether it is Java or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from data.java.frameworks import (
    ARITY,
    DROPPED_QUALIFIERS,
    FLUENT_MESSAGES,
    FRAMEWORKS,
    NAMES_BY_QUALIFIER,
    THROWS,
    WITH_DELTA,
)
from data.java.tokens import TOKEN, strip_comments, tokenize

TYPE_SIGNS = frozenset("<>.,?[]&@")
OPEN, CLOSE = frozenset("([{"), frozenset(")]}")
BEFORE_VALUE, AFTER_VALUE = frozenset({"(", ",", "=", "->", "return"}), frozenset({")", ",", ";", ""})


def split_assertions(text: str) -> list[str]:
    """The statements of ``text``, without their semicolons.

    A statement ends at a semicolon or before a line that starts with a word, both outside brackets: a fluent chain
    or a lambda over several lines stays whole, and a target without semicolons (one assertion a line) is split too.
    """
    parts: list[str] = []
    start: int | None = None
    end = depth = 0
    newline = False

    def close() -> None:
        nonlocal start
        if start is not None:
            parts.append(strip_comments(text[start:end]).strip())
        start = None

    for match in TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind in ("blank", "comment"):
            newline = newline or "\n" in token
            continue
        if depth == 0 and start is not None and newline and kind == "word" and text[end - 1] in ")}":
            close()
        newline = False
        if token in OPEN:
            depth += 1
        elif token in CLOSE:
            depth = max(0, depth - 1)
        if token == ";" and depth == 0:
            close()
            continue
        if start is None:
            start = match.start()
        end = match.end()
    close()
    return parts


def _opens_type_arguments(tokens: Sequence[str], index: int) -> bool:
    """``List<String>``, not ``MAX < b``: a name in upper case before it, and only what types consist of inside."""
    if not tokens[index - 1][0].isupper():
        return False
    depth = 0
    for token in tokens[index:]:
        depth += (token == "<") - (token == ">")
        if depth == 0:
            return True
        if not (token[0].isalpha() or token[0] == "_" or token in TYPE_SIGNS):
            return False
    return False


def _split_arguments(tokens: Sequence[str]) -> list[list[str]]:
    """Split the tokens between a call's brackets at the commas of the call itself."""
    arguments: list[list[str]] = [[]]
    depth = angles = 0
    for index, token in enumerate(tokens):
        if token in OPEN:
            depth += 1
        elif token in CLOSE:
            depth -= 1
        elif token == "<" and index and (angles or _opens_type_arguments(tokens, index)):
            angles += 1
        elif token == ">" and angles:
            angles -= 1
        elif token == "," and depth == 0 and angles == 0:
            arguments.append([])
            continue
        arguments[-1].append(token)
    return arguments if arguments != [[]] else []


def _find_closing(tokens: Sequence[str], opening: int) -> int | None:
    depth = 0
    for index in range(opening, len(tokens)):
        depth += (tokens[index] in OPEN) - (tokens[index] in CLOSE)
        if depth == 0:
            return index
    return None


def _is_text(argument: Sequence[str]) -> bool:
    """A string literal, a concatenation with one, String.format(...), or a supplier of such a thing."""
    if list(argument[:3]) == ["(", ")", "->"]:
        argument = argument[3:]
    if list(argument[:4]) == ["String", ".", "format", "("]:
        return _find_closing(argument, 3) == len(argument) - 1
    literal = plus = False
    depth = 0
    for token in argument:
        depth += (token in OPEN) - (token in CLOSE)
        if depth == 0:
            literal = literal or token[0] == '"'
            plus = plus or token == "+"
    return literal and (plus or len(argument) == 1)


def _drop_message(name: str, arguments: list[list[str]], framework: str | None) -> list[list[str]]:
    extra = len(arguments) - ARITY[name]
    if extra < 1 or extra > 1 + (name in WITH_DELTA):
        return arguments
    if name == "assertThat":  # Hamcrest's, whose reason comes first
        return arguments[1:]
    first, last = _is_text(arguments[0]), _is_text(arguments[-1])
    facts = FRAMEWORKS.get(framework or "")
    if facts and (facts.message_first or (framework == "testng" and name in THROWS)):
        last = False
        first = first or name not in WITH_DELTA or extra == 2
    elif facts:
        first = False
        last = last or name not in WITH_DELTA or extra == 2
    if first and (not last or len(arguments) == 1):
        return arguments[1:]
    if last and not first:
        return arguments[:-1]
    return arguments  # a delta, or two texts of which either may be the message


def normalise(text: str, framework: str | None = None) -> tuple[str, ...]:
    """Tokens of one assertion without what does not change its meaning.

    Dropped: white space, comments, the final semicolon, qualifiers such as ``Assert.`` with their package, and the
    failure message. Whether a message comes first (JUnit 3, 4) or last (JUnit 5, TestNG) is taken from ``framework``;
    without it only a text that must be the message is dropped, so nothing of ``assertEquals("a", b, "c")``.
    """
    tokens = tokenize(text)
    while tokens and tokens[-1] == ";":
        tokens.pop()
    kept: list[str] = []
    index = 0
    while index < len(tokens):
        token, following, next_but_one = (*tokens[index : index + 3], "", "")[:3]
        if token in DROPPED_QUALIFIERS and following == "." and next_but_one[:1].islower():
            while len(kept) >= 2 and kept[-1] == "." and kept[-2][0].islower():
                del kept[-2:]
            index += 2
            continue
        if token == "." and following in FLUENT_MESSAGES and next_but_one == "(":
            closing = _find_closing(tokens, index + 2)
            if closing is not None and any(t[0] == '"' for t in tokens[index + 3 : closing]):
                index = closing + 1
                continue
        kept.append(token)
        index += 1
    if len(kept) > 2 and kept[0] in ARITY and kept[1] == "(" and _find_closing(kept, 1) == len(kept) - 1:
        arguments = _drop_message(kept[0], _split_arguments(kept[2:-1]), framework)
        joined = [token for number, argument in enumerate(arguments) for token in ([","] if number else []) + argument]
        kept = [kept[0], "(", *joined, ")"]
    return tuple(kept)


def _drop_brackets(tokens: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Without the round brackets that enclose a whole argument or value: ``f((7), x)`` is ``f(7, x)``."""
    redundant: set[int] = set()
    opened: list[int] = []
    for at, (token, _, _) in enumerate(tokens):
        if token == "(":
            opened.append(at)
        elif token == ")" and opened:
            first = opened.pop()
            before, after = (tokens[i][0] if 0 <= i < len(tokens) else "" for i in (first - 1, at + 1))
            if before in BEFORE_VALUE and after in AFTER_VALUE and at > first + 1:
                redundant |= {first, at}
    return [item for at, item in enumerate(tokens) if at not in redundant] if redundant else tokens


def _place_tokens(text: str) -> list[tuple[str, int, int]]:
    """Tokens with their places in ``text``, spelt in one way: a qualifier that is usually imported belongs to the name
    that follows, and needless brackets are left out."""
    found: list[tuple[str, int, int]] = []
    for match in TOKEN.finditer(text):
        if match.lastgroup in ("blank", "comment"):
            continue
        token = match.group()
        found.append((token, match.start(), match.end()))
        if len(found) < 3 or found[-2][0] != "." or not token[0].islower():
            continue
        qualifier, first = found[-3][0], len(found) - 3
        if qualifier in DROPPED_QUALIFIERS or token in NAMES_BY_QUALIFIER.get(qualifier, ()):
            while first >= 2 and found[first - 1][0] == "." and found[first - 2][0][0].islower():
                first -= 2
            found[first:] = [(token, found[first][1], match.end())]
    return _drop_brackets(found)


@lru_cache(1 << 14)  # an assertion is the sibling of many
def spell(text: str) -> tuple[str, ...]:
    """Tokens of ``text``, the same for spellings that mean the same: blanks, line breaks, comments, qualifiers such as
    ``Assert.``, needless brackets and the last semicolon may differ."""
    tokens = tuple(token for token, _, _ in _place_tokens(text))
    return tokens[:-1] if tokens[-1:] == (";",) else tokens


def find_tokens(tokens: tuple[str, ...], wanted: tuple[str, ...]) -> int | None:
    """Where the statement ``wanted`` begins in ``tokens``, both as ``spell`` gives them; None where it does not stand.

    ``log.fail()`` does not hold ``fail()``, nor ``assertThat(x).isNull()`` the beginning of itself.
    """
    size = len(wanted)
    for at in range(len(tokens) - size + 1 if size else 0):
        after = at + size
        chained = tokens[max(0, at - 1) : at] == (".",) or tokens[after : after + 1] == (".",)
        if tokens[at:after] == wanted and not chained:
            return at
    return None


def _place(tokens: list[tuple[str, int, int]], first: int, after: int) -> tuple[int, int]:
    """From the first token to the last before ``after``, or to the semicolon that ends the statement there."""
    last = after if tokens[after : after + 1] and tokens[after][0] == ";" else after - 1
    return tokens[first][1], tokens[last][2]


def find_assertion(text: str, assertion: str) -> tuple[int, int] | None:
    """Where ``assertion`` first stands in ``text`` as a whole statement, as (start, end); None where it does not.

    Both are compared as ``spell`` gives them. The semicolon belongs to the place, whether the assertion has one or not.
    """
    wanted = spell(assertion)
    if not wanted or wanted[0] not in text:  # the second saves most of the work, since most texts lack it
        return None
    tokens = _place_tokens(text)
    at = find_tokens(tuple(token for token, _, _ in tokens), wanted)
    return None if at is None else _place(tokens, at, at + len(wanted))


def _count_words(tokens: Sequence[str]) -> Counter[str]:
    return Counter(token for token in tokens if token[0].isalnum() or token[0] in "_$\"'")


def find_near_assertion(text: str, assertion: str) -> tuple[int, int] | None:
    """Where a statement stands that calls the same assertion with the same words, as ``find_assertion`` tells it.

    Their order may differ, and one of the two may have more, up to a third: a message, a cast, another call.
    """
    wanted = spell(assertion)
    if wanted[1:2] != ("(",) or wanted[0] not in text:
        return None
    words = _count_words(wanted)
    tokens = _place_tokens(text)
    names = [token for token, _, _ in tokens]
    for at, name in enumerate(names[:-1]):
        if name != wanted[0] or names[at + 1] != "(" or (at and names[at - 1] == "."):
            continue
        depth, after = 0, at
        while after < len(names) and depth >= 0 and (depth or names[after] != ";"):
            depth += (names[after] in OPEN) - (names[after] in CLOSE)
            after += 1
        after -= depth < 0  # a bracket that encloses the statement
        others = _count_words(names[at:after])
        more, fewer = (others - words).total(), (words - others).total()
        if min(more, fewer) == 0 and 3 * max(more, fewer) <= words.total():
            return _place(tokens, at, after)
    return None


def name_assertion(text: str) -> str:
    """The assertion that is called, such as ``assertEquals``; ``assertThat`` for a fluent chain; else ``other``."""
    tokens = normalise(text)
    return tokens[0] if len(tokens) > 1 and tokens[1] == "(" else "other"
