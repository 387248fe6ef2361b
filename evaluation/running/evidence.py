"""What a prediction's own code says of it: whether it asserts, leaves its fate to chance, or reaches into the JDK."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping

from tree_sitter import Node

from data.java.frameworks import ROOT_NAMES
from data.java.syntax import parse, text_of, walk

FORBIDS = re.compile(r"(?:(?:[\w.]+\.)?fail\s*\([^;]*\)|throw\s+new\s+AssertionError\s*\([^;]*\))\s*;?")
# Names that a class file holds where its code asks for the time, for chance, or for what differs between two runs.
CHANCE = re.compile(
    r"nanoTime|currentTimeMillis|random\w*|identityHashCode|hashCode|now|threadId|freeMemory|totalMemory|lastModified"
    r"|java/util/(Random|SplittableRandom|Date|Calendar|GregorianCalendar|UUID|Timer|WeakHashMap|concurrent/.*)"
    r"|java/security/SecureRandom|java/time/.*|java/lang/(Thread|Runtime|ProcessHandle|ref/.*|management/.*)"
    r"|java/lang/(Object|Class)\.(toString|get\w*Name)|java/util/IdentityHashMap|shuffle"
    r"|java/io/File|java/nio/file/.*|java/net/.*"
)
# The same for the words of a prediction, since its file may use such names already.
CHANCE_WORDS = re.compile(
    r"\b(?:nanoTime|currentTimeMillis|random\w*|\w*Random|identityHashCode|hashCode|now|UUID|Thread|Runtime"
    r"|new\s+Object|\w*Reference)\b"
)
# Names in code that may change the JDK for all that runs after it, in ways that the service cannot notice.
REACHES_JDK = re.compile(
    r"sun/.*|com/sun/.*|jdk/.*|java/lang/reflect/.*|java/lang/(foreign|instrument|management)/.*|java/lang/ClassLoader"
    r"|java/lang/(Runtime|Process.*|ThreadGroup|ModuleLayer|Module)|java/lang/invoke/(VarHandle|MethodHandle)"
    r"|java/util/(logging|prefs)/.*|java/util/concurrent/(ForkJoin.*|CompletableFuture)|java/util/ServiceLoader"
    r"|java/security/(Security|Provider|Policy|Permission)|java/(sql|rmi)/.*|javax/.*|java/net/.*|java/beans/.*"
    r"|java/io/Object\w*Stream|java/io/FileDescriptor|forName|getDeclared\w+|privateLookupIn|setSecurityManager"
    r"|java/lang/Thread\.(getAllStackTraces|setDefaultUncaughtExceptionHandler)|java/lang/System\.load\w*"
    r"|parallel\w*|java/lang/Class\.get\w*(Field|Method|Constructor)s?|finalize"
)
REACHES_WORDS = re.compile(
    r"\b(?:forName|setAccessible|getDeclared\w+|Unsafe|Proxy|\w*ClassLoader|Runtime|Process\w*|Security|Logger|LogManager"
    r"|ForkJoin\w*|CompletableFuture|parallel\w*|ThreadGroup|getAllStackTraces|finalize)\b"
)
# A backslash begins an escape where an even number of them stands before it (Java Language Specification 3.3).
ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\u+00([0-7][0-9a-fA-F])")
BACKSLASH = "5c"


def read_as_javac(statement: str) -> str:
    """The statement with the escapes of ASCII characters replaced and all line ends alike, as javac reads it.

    Otherwise a comment could hide code from us. An escaped backslash would hide what follows it; it stays, and nothing
    with one is judged (``hides_code``).
    """

    def decode(match: re.Match[str]) -> str:
        return match.group() if match[2].lower() == BACKSLASH else match[1] + chr(int(match[2], 16))

    return ESCAPE.sub(decode, statement).replace("\r\n", "\n").replace("\r", "\n")


def hides_code(statement: str) -> bool:
    """Whether an escaped backslash may make javac read something else than a parser does."""
    return any(match[2].lower() == BACKSLASH for match in ESCAPE.finditer(statement))


def asks_for_chance(statement: str, names: Collection[str]) -> bool:
    """Whether a statement that brings these ``names`` into its class may do something else in each run."""
    return CHANCE_WORDS.search(statement) is not None or any(map(CHANCE.fullmatch, names))


def reaches_jdk(statement: str, names: Collection[str]) -> bool:
    """Whether a statement that brings these ``names`` into its class may change the JDK for what runs after it."""
    return REACHES_WORDS.search(statement) is not None or any(map(REACHES_JDK.fullmatch, names))


def set_apart_assertions(statement: str) -> tuple[str, frozenset[int]]:
    """A prediction with each statement that asserts something on lines of its own, and these lines, from 0.

    What asserts is a known call, ``assert``, or the throw of an assertion error; a name like ``checkFoo`` proves
    nothing. Of statements inside one another the innermost is meant. Without an assertion there are no lines.
    """
    head = "class A { void m() {\n"
    source = f"{head}{statement}\n}}}}".encode("utf-8", "replace")
    spans = {(node.start_byte, node.end_byte) for node in _find_asserting_statements(source)}
    innermost = sorted(a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans))
    text, lines, last = "", set(), len(head)
    for start, end in innermost:
        before = source[last:start].decode()
        text += before + "\n" * bool((text + before).strip() and not before.endswith("\n"))
        first = text.count("\n")
        text += source[start:end].decode()
        lines |= set(range(first, text.count("\n") + 1))
        text += "\n"
        last = end
    return text + source[last:-3].decode(), frozenset(lines)


def _find_asserting_statements(source: bytes) -> Iterator[Node]:
    for node in walk(parse(source)):
        if node.type == "assert_statement" or (
            node.type == "throw_statement" and b"Assertion" in source[node.start_byte : node.end_byte]
        ):
            yield node
        elif node.type == "method_invocation" and text_of(node.child_by_field_name("name"), source) in ROOT_NAMES:  # type: ignore[arg-type]
            around: Node | None = node
            while around is not None and not around.type.endswith(("_statement", "variable_declaration")):
                around = around.parent
            if around is not None:
                yield around


def forbids_its_place(statement: str) -> bool:
    """Whether a statement says that it must not be reached: one ``fail(...)`` or ``throw new AssertionError(...)``."""
    return FORBIDS.fullmatch(statement.strip()) is not None


def names_in(classes: Mapping[str, bytes]) -> set[str]:
    """All names and texts in the constant pools of some classes, and ``Owner.member`` for what they call and read.

    Raises ValueError for what is no class file.
    """
    found: set[str] = set()
    for code in classes.values():
        try:
            found |= _read_constants(code)
        except (IndexError, struct.error) as error:
            raise ValueError(f"not a class file: {error}") from None
    return found


def _read_constants(code: bytes) -> set[str]:
    """The constant pool as in section 4.4 of the Java Virtual Machine Specification."""
    (count,) = struct.unpack_from(">H", code, 8)
    texts: dict[int, str] = {}
    pairs: dict[int, tuple[int, int]] = {}  # references: class and name-and-type; name-and-type: name and type
    classes: dict[int, int] = {}
    references: list[int] = []
    place, index = 10, 1
    while index < count:
        tag = code[place]
        if tag == 1:
            (length,) = struct.unpack_from(">H", code, place + 1)
            texts[index] = code[place + 3 : place + 3 + length].decode("utf-8", "replace")
            place += 3 + length
        elif tag in (7, 8, 16, 19, 20):
            (classes[index],) = struct.unpack_from(">H", code, place + 1)
            place += 3
        elif tag == 15:
            place += 4
        else:
            if tag in (9, 10, 11, 12):
                pairs[index] = struct.unpack_from(">HH", code, place + 1)
            if tag in (9, 10, 11):
                references.append(index)
            place += 9 if tag in (5, 6) else 5
        index += 2 if tag in (5, 6) else 1
    found = set(texts.values())
    for reference in references:
        owner, member = pairs[reference]
        found.add(f"{texts[classes[owner]]}.{texts[pairs[member][0]]}")
    return found
