"""Java text as tokens, and assertions in a form in which equal ones look equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A lexer that never fails: a model's output is often not Java. ">" stays single, so that generics and shifts agree.
TOKEN = re.compile(
    r"""(?P<blank>\s+)
      | (?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<text>\"\"\"(?:\\.|[^\\])*?\"\"\"|"(?:\\.|[^"\\\n])*")
      | (?P<char>'(?:\\.[0-9a-fA-F]*|[^'\\\n])'|'\\u+[0-9a-fA-F]{4}')
      | (?P<number>0[xX][\da-fA-F_]*(?:\.[\da-fA-F_]*)?(?:[pP][+-]?\d+)?[lLfFdD]?
          |(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?[lLfFdD]?)
      | (?P<word>[^\W\d][\w$]*|\$[\w$]*)
      | (?P<symbol>->|::|\.\.\.|\+\+|--|&&|\|\||<<=|[-+*/%&|^!=<>]=|<<|.)""",
    re.VERBOSE | re.DOTALL,
)
TYPE_SIGNS = frozenset("<>.,?[]&@")
OPEN, CLOSE = frozenset("([{"), frozenset(")]}")

# Classes whose static assertions are usually imported; "Assert.assertTrue(x)" and "assertTrue(x)" are the same.
QUALIFIERS = frozenset({"Assert", "Assertions", "TestCase", "MatcherAssert", "Truth", "AssertJUnit"})

# Number of arguments without the optional message, for JUnit 3 to 5 and TestNG.
ARITY = {
    "fail": 0,
    "assertTrue": 1,
    "assertFalse": 1,
    "assertNull": 1,
    "assertNotNull": 1,
    "assertDoesNotThrow": 1,
    "assertEquals": 2,
    "assertNotEquals": 2,
    "assertSame": 2,
    "assertNotSame": 2,
    "assertArrayEquals": 2,
    "assertIterableEquals": 2,
    "assertLinesMatch": 2,
    "assertInstanceOf": 2,
    "assertThrows": 2,
    "assertThrowsExactly": 2,
    "assertThat": 2,
}
WITH_DELTA = frozenset({"assertEquals", "assertNotEquals", "assertArrayEquals"})
THROWS = frozenset({"assertThrows", "assertThrowsExactly"})  # TestNG's alone takes its message first
MESSAGE_FIRST = frozenset({"junit3", "junit4"})
MESSAGE_LAST = frozenset({"junit5", "testng"})
FLUENT_MESSAGES = frozenset({"as", "describedAs", "withFailMessage", "overridingErrorMessage"})


def tokenize(text: str) -> list[str]:
    """Java tokens of ``text``, comments and white space dropped; characters that are no Java become one token each."""
    return [match.group() for match in TOKEN.finditer(text) if match.lastgroup not in ("blank", "comment")]


def strip_comments(text: str) -> str:
    """``text`` with each comment replaced by a blank."""
    return TOKEN.sub(lambda match: " " if match.lastgroup == "comment" else match.group(), text)


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


def _arguments(tokens: Sequence[str]) -> list[list[str]]:
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


def _closing(tokens: Sequence[str], opening: int) -> int | None:
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
        return _closing(argument, 3) == len(argument) - 1
    literal = plus = False
    depth = 0
    for token in argument:
        depth += (token in OPEN) - (token in CLOSE)
        if depth == 0:
            literal = literal or token[0] == '"'
            plus = plus or token == "+"
    return literal and (plus or len(argument) == 1)


def _without_message(name: str, arguments: list[list[str]], framework: str | None) -> list[list[str]]:
    extra = len(arguments) - ARITY[name]
    if extra < 1 or extra > 1 + (name in WITH_DELTA):
        return arguments
    if name == "assertThat":  # Hamcrest's, whose reason comes first
        return arguments[1:]
    first, last = _is_text(arguments[0]), _is_text(arguments[-1])
    if framework in MESSAGE_FIRST or (framework == "testng" and name in THROWS):
        last = False
        first = first or name not in WITH_DELTA or extra == 2
    elif framework in MESSAGE_LAST:
        first = False
        last = last or name not in WITH_DELTA or extra == 2
    if first and (not last or len(arguments) == 1):
        return arguments[1:]
    if last and not first:
        return arguments[:-1]
    return arguments  # a delta, or two texts of which either may be the message


def normalise(text: str, framework: str | None = None) -> tuple[str, ...]:
    """Tokens of one assertion without what does not change its meaning.

    Dropped: white space, comments, the final semicolon, ``Assert.`` and like qualifiers with their package, and the
    failure message. Whether a message comes first (JUnit 3, 4) or last (JUnit 5, TestNG) is taken from ``framework``;
    without it only a text that must be the message is dropped: of ``assertEquals("a", b, "c")`` nothing is.
    """
    tokens = tokenize(text)
    while tokens and tokens[-1] == ";":
        tokens.pop()
    kept: list[str] = []
    index = 0
    while index < len(tokens):
        token, following, next_but_one = (*tokens[index : index + 3], "", "")[:3]
        if token in QUALIFIERS and following == "." and next_but_one[:1].islower():
            while len(kept) >= 2 and kept[-1] == "." and kept[-2][0].islower():
                del kept[-2:]
            index += 2
            continue
        if token == "." and following in FLUENT_MESSAGES and next_but_one == "(":
            closing = _closing(tokens, index + 2)
            if closing is not None and any(t[0] == '"' for t in tokens[index + 3 : closing]):
                index = closing + 1
                continue
        kept.append(token)
        index += 1
    if len(kept) > 2 and kept[0] in ARITY and kept[1] == "(" and _closing(kept, 1) == len(kept) - 1:
        arguments = _without_message(kept[0], _arguments(kept[2:-1]), framework)
        joined = [token for number, argument in enumerate(arguments) for token in ([","] if number else []) + argument]
        kept = [kept[0], "(", *joined, ")"]
    return tuple(kept)


def assertion_kind(text: str) -> str:
    """The called assertion, such as ``assertEquals``; of a fluent one its start (``assertThat``); else ``other``."""
    tokens = normalise(text)
    return tokens[0] if len(tokens) > 1 and tokens[1] == "(" else "other"
