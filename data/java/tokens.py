"""Java text as tokens. There are two lexers, and results depend on which one is used:

``tokenize`` finds the tokens of the Java language: ``>=`` is one token, and so is ``1e-3``. It never fails, because a
model's output often is not Java. Use it to compare what a model wrote with what a person wrote.

``coarse_tokens`` makes each sign a token of its own and is faster. Mining measures the length of
code with it and finds copies by it, so the data sets depend on it. Use it for nothing but source code that is mined.
"""

from __future__ import annotations

import re

PLACEHOLDER = "<AssertPlaceHolder>"  # stands in a test for the assertion that it lacks

# ">" is never joined to a second one, so that the ends of nested generics and shifts look the same.
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
_COARSE_LITERAL = r'"""[\s\S]*?(?<!\\)"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
_COARSE_BLANK = r"(?:\s|//[^\n]*|/\*[\s\S]*?\*/)+"
# A single blank that stays one is not looked at: most are.
BLANK_OR_LITERAL = re.compile(rf"({_COARSE_LITERAL})|(?:(?! [^\s/)])|(?<=\())" + _COARSE_BLANK)
COARSE_TOKEN = re.compile(rf"{_COARSE_BLANK}|({_COARSE_LITERAL}|[A-Za-z_$][\w$]*|\d[\w.]*|{PLACEHOLDER}|\S)")


def tokenize(text: str) -> list[str]:
    """Java tokens of ``text``, comments and white space dropped; a character that is not Java is a token of its own."""
    return [match.group() for match in TOKEN.finditer(text) if match.lastgroup not in ("blank", "comment")]


def strip_comments(text: str) -> str:
    """``text`` with a blank in place of each comment."""
    return TOKEN.sub(lambda match: " " if match.lastgroup == "comment" else match.group(), text)


def coarse_tokens(text: str) -> list[str]:
    """Literals, names, numbers and single signs of ``text``; comments and white space are dropped."""
    return [token for token in COARSE_TOKEN.findall(text) if token]


def _tidy_match(match: re.Match[str]) -> str:
    if match.group(1) is not None:
        return match.group(1)
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    broken = "\n" in match.group()
    return "" if before == "(" or after == ")" or (broken and (before == "." or after in (".", ";", ","))) else " "


def tidy(text: str) -> str:
    """``one_line`` for a part of a text: a blank at its beginning or end stays."""
    return BLANK_OR_LITERAL.sub(_tidy_match, text)


def one_line(text: str) -> str:
    """Java on one line: without comments, with single blanks, and with none just inside of parentheses.

    Literals stay as they are, so a text block keeps its lines.
    """
    return tidy(text).strip()


def join_text_block(literal: str) -> str:
    """The string literal on one line that means the same as a text block (JLS 3.10.6)."""
    lines = re.sub(r"\r\n?", "\n", literal[3:-3]).split("\n")[1:]
    # Blank lines do not count for the indentation, but for the one that ends the text block.
    margins = [len(line) - len(line.lstrip(" \t\f")) for line in lines[:-1] if line.strip()]
    margin = min((*margins, len(lines[-1]) - len(lines[-1].lstrip(" \t\f"))))
    text = "\n".join(line[margin:].rstrip(" \t\f") for line in lines)
    joined = {'"': '\\"', "\n": "\\n", "\\\n": ""}
    return '"' + re.sub(r'\\[\s\S]|["\n]', lambda match: joined.get(match.group(), match.group()), text) + '"'
