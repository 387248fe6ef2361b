"""Facts about test and assertion frameworks: annotations, assertion classes, names and arguments of assertions.

To add a framework, start here. ``data/mining/find_tests.py`` finds its tests from these facts (and has rules for tests
without annotations); to compile and run them it needs an adapter in ``evaluation/running/java/adapters`` and an entry
in ``ADAPTERS`` of ``evaluation/running/source_files.py``. The words that the loss weights are in
``config/critical_tokens.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

# -- test frameworks -------------------------------------------------------------------------------------------------

_IN_BOTH_JUNITS = frozenset(
    (
        "assertEquals",
        "assertNotEquals",
        "assertTrue",
        "assertFalse",
        "assertNull",
        "assertNotNull",
        "assertSame",
        "assertNotSame",
        "assertArrayEquals",
        "assertThrows",
        "fail",
    )
)
_IN_JUNIT5 = frozenset(
    (
        "assertThrowsExactly",
        "assertDoesNotThrow",
        "assertAll",
        "assertIterableEquals",
        "assertLinesMatch",
        "assertTimeout",
        "assertTimeoutPreemptively",
        "assertInstanceOf",
    )
)


@dataclass(frozen=True)
class Framework:
    """A test framework.

    test_annotation: qualified name of its ``@Test``; one that ends with a dot is a package.
    other_annotations: simple names of test annotations that no other framework has.
    assertion_class: the class to import static assertions from; empty where none has to be imported.
    assertions: the static methods of that class.
    message_first: whether the optional failure message is the first argument of an assertion, or the last.
    """

    test_annotation: str = ""
    other_annotations: frozenset[str] = frozenset()
    assertion_class: str = ""
    assertions: frozenset[str] = frozenset()
    message_first: bool = False


FRAMEWORKS = {
    # Tests are recognised by their superclass TestCase, from which they inherit the assertions.
    "junit3": Framework(message_first=True),
    "junit4": Framework(
        test_annotation="org.junit.Test",
        other_annotations=frozenset({"Theory"}),
        assertion_class="org.junit.Assert",
        assertions=_IN_BOTH_JUNITS | {"assertThat"},
        message_first=True,
    ),
    "junit5": Framework(
        test_annotation="org.junit.jupiter.",
        other_annotations=frozenset({"ParameterizedTest", "RepeatedTest", "TestFactory", "TestTemplate"}),
        assertion_class="org.junit.jupiter.api.Assertions",
        assertions=_IN_BOTH_JUNITS | _IN_JUNIT5,
    ),
    # Its tests are mined but not run, so nothing is imported for them.
    "testng": Framework(test_annotation="org.testng.annotations.Test"),
}
JUNIT3_ASSERTIONS = _IN_BOTH_JUNITS - {"assertNotEquals", "assertArrayEquals", "assertThrows"}  # of TestCase
DISABLING_ANNOTATIONS = frozenset({"Ignore", "Disabled"})

# -- assertions ------------------------------------------------------------------------------------------------------

_IN_TESTNG = frozenset(
    (
        "assertEqualsNoOrder",
        "assertEqualsDeep",
        "assertNotEqualsDeep",
        "assertListContains",
        "assertListNotContains",
        "expectThrows",
    )
)
_THROWN = (
    "ThrownBy",
    "Code",
    "Exception",
    "ExceptionOfType",
    "NoException",
    "NullPointerException",
    "IllegalArgumentException",
    "IllegalStateException",
    "IOException",
    "IndexOutOfBoundsException",
)
_OF_TYPE = (
    "Object",
    "List",
    "Collection",
    "Iterable",
    "Iterator",
    "Stream",
    "Path",
    "Predicate",
    "Comparable",
    "CharSequence",
    "Throwable",
    "RuntimeException",
    "ReflectiveOperationException",
)
_IN_ASSERTJ_AND_TRUTH = frozenset(
    (
        "assertThat",  # Hamcrest's, too
        *(f"assertThat{suffix}" for suffix in (*_THROWN, *_OF_TYPE)),
        "assertWithMessage",
        "assertAbout",
        "assert_",
    )
)
BDD_NAMES = frozenset({"then", *(f"then{suffix}" for suffix in (*_THROWN, *_OF_TYPE))})
# Any other name that begins with assert is a helper of one project. Nothing in the test or the method under test tells
# a reader that it exists, so it is no fair target.
ASSERT_NAMES = (_IN_BOTH_JUNITS - {"fail"}) | _IN_JUNIT5 | _IN_TESTNG | _IN_ASSERTJ_AND_TRUTH
VERIFY_NAMES = frozenset(
    {"verify", "verifyNoMoreInteractions", "verifyZeroInteractions", "verifyNoInteractions", "verifyAll"}
)
# The calls that an assertion statement may begin with; "then" is BDDMockito's and BDDAssertions'.
ROOT_NAMES = ASSERT_NAMES | VERIFY_NAMES | BDD_NAMES | {"fail"}
# Assertions whose value a test goes on to use: `e = assertThrows(...)`.
VALUE_NAMES = frozenset(
    (
        "assertThrows",
        "assertThrowsExactly",
        "expectThrows",
        "assertInstanceOf",
        "assertDoesNotThrow",
        "assertTimeout",
        "assertTimeoutPreemptively",
    )
)
# Spring's MockMvc asserts in the middle of a chain: perform(...).andExpect(...).
CHAINED_NAMES = frozenset({"andExpect", "andExpectAll"})

ASSERTION_CLASSES = frozenset({"Assert", "Assertions", "TestCase", "MatcherAssert", "Truth"})
_ASSERTJ_CLASSES = ("AssertionsForClassTypes", "AssertionsForInterfaceTypes", "Java6Assertions", "WithAssertions")
# What may stand before the dot of an assertion, and which names may follow it.
NAMES_BY_QUALIFIER = {
    **dict.fromkeys((*ASSERTION_CLASSES, *_ASSERTJ_CLASSES, "AssertJUnit", "this", "super"), ASSERT_NAMES | {"fail"}),
    **dict.fromkeys(("Mockito", "BDDMockito", "EasyMock"), VERIFY_NAMES | {"then"}),
    "BDDAssertions": BDD_NAMES,
}
_SOFT_NAMES = ASSERT_NAMES - {"assertAll"} | BDD_NAMES | {"fail"}  # the last call, assertAll(), checks nothing
# The types of variables on which assertions are called, and which these are.
NAMES_BY_TYPE = {
    "InOrder": VERIFY_NAMES,
    **dict.fromkeys(
        (f"{kind}SoftAssertions" for kind in ("", "JUnit", "JUnitBDD", "Java6", "BDD", "Java6BDD", "AutoCloseable")),
        _SOFT_NAMES,
    ),
    **dict.fromkeys(("AutoCloseableBDDSoftAssertions", "SoftAssert", "StandardSoftAssertionsProvider"), _SOFT_NAMES),
    "ErrorCollector": frozenset({"checkThat", "checkThrows"}),
    "Expect": frozenset({"that", "withMessage", "about"}),
}
# "Assert.assertTrue(x)" and "assertTrue(x)" are the same assertion: these classes' methods are usually imported.
DROPPED_QUALIFIERS = ASSERTION_CLASSES | {"AssertJUnit"}

# -- arguments of assertions -----------------------------------------------------------------------------------------

# Number of arguments without the optional message and delta, for JUnit 3 to 5 and TestNG.
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
# The only assertions of TestNG that take their message first.
THROWS = frozenset({"assertThrows", "assertThrowsExactly"})
# Calls in a fluent chain that set the failure message.
FLUENT_MESSAGES = frozenset({"as", "describedAs", "withFailMessage", "overridingErrorMessage"})
