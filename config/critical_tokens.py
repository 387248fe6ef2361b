"""310 tokens on which an assertion's meaning hangs, in 11 categories; each stands in one of them.

Curated from the public APIs of JUnit 3 to 5, TestNG, Mockito, Hamcrest and AssertJ, and from what assertions compare:
logic, exceptions, collections, strings, numbers, and the punctuation that holds a call together.
"""

from __future__ import annotations

CRITICAL_TOKENS: dict[str, tuple[str, ...]] = {
    "junit": (
        "assertEquals", "assertNotEquals", "assertTrue", "assertFalse", "assertNull", "assertNotNull", "assertSame",
        "assertNotSame", "assertArrayEquals", "assertIterableEquals", "assertLinesMatch", "assertThrows",
        "assertThrowsExactly", "assertDoesNotThrow", "assertTimeout", "assertTimeoutPreemptively", "assertAll",
        "assertInstanceOf", "assertThat", "fail", "assumeTrue", "assumeFalse", "assumeNotNull", "assumeNoException",
        "assumingThat", "Assert", "Assertions", "Assume", "Assumptions", "TestCase", "expected", "actual", "message",
        "delta",
    ),
    "testng": (
        "assertEqualsNoOrder", "assertEqualsDeep", "assertNotEqualsDeep", "assertListContains",
        "assertListContainsObject", "assertListNotContains", "expectThrows", "SoftAssert", "assertion",
        "expectedExceptions", "dataProvider",
    ),
    "mockito": (
        "verify", "verifyNoMoreInteractions", "verifyNoInteractions", "verifyZeroInteractions", "when", "thenReturn",
        "thenThrow", "thenAnswer", "doReturn", "doThrow", "doNothing", "doAnswer", "mock", "spy", "times", "never",
        "atLeast", "atLeastOnce", "atMost", "only", "inOrder", "timeout", "any", "anyInt", "anyString", "anyList",
        "argThat", "eq", "refEq", "isA", "ArgumentCaptor", "capture", "getValue", "getAllValues",
    ),
    "hamcrest": (
        "MatcherAssert", "Matchers", "CoreMatchers", "is", "not", "equalTo", "nullValue", "notNullValue",
        "sameInstance", "instanceOf", "hasItem", "hasItems", "hasSize", "hasEntry", "hasKey", "hasValue",
        "hasProperty", "hasToString", "containsInAnyOrder", "containsString", "startsWith", "endsWith", "everyItem",
        "allOf", "anyOf", "both", "either", "closeTo", "greaterThan", "greaterThanOrEqualTo", "lessThan",
        "lessThanOrEqualTo", "emptyIterable", "anything",
    ),
    "assertj": (
        "isEqualTo", "isNotEqualTo", "isTrue", "isFalse", "isNull", "isNotNull", "isSameAs", "isNotSameAs",
        "isInstanceOf", "isExactlyInstanceOf", "isIn", "isNotIn", "isEmpty", "isNotEmpty", "isNullOrEmpty",
        "hasSameSizeAs", "containsExactly", "containsExactlyInAnyOrder", "containsOnly", "containsOnlyOnce",
        "doesNotContain", "containsEntry", "doesNotContainKey", "isGreaterThan", "isGreaterThanOrEqualTo",
        "isLessThan", "isLessThanOrEqualTo", "isBetween", "isCloseTo", "isZero", "isPositive", "isNegative",
        "isPresent", "isNotPresent", "hasMessage", "hasMessageContaining", "hasCauseInstanceOf",
        "hasFieldOrPropertyWithValue", "assertThatThrownBy", "assertThatExceptionOfType", "assertThatCode",
        "isThrownBy", "doesNotThrowAnyException", "extracting", "usingRecursiveComparison", "satisfies", "allMatch",
        "anyMatch", "noneMatch", "matches",
    ),
    "logical": (
        "true", "false", "null", "==", "!=", "<", ">", "<=", ">=", "&&", "||", "!", "instanceof", "equals",
        "compareTo", "Objects", "Boolean", "TRUE", "FALSE", "?", "&", "|", "^",
    ),
    "exceptions": (
        "Exception", "Throwable", "Error", "RuntimeException", "IllegalArgumentException", "IllegalStateException",
        "NullPointerException", "IndexOutOfBoundsException", "ArrayIndexOutOfBoundsException",
        "UnsupportedOperationException", "ClassCastException", "NumberFormatException", "ArithmeticException",
        "NoSuchElementException", "ConcurrentModificationException", "IOException", "FileNotFoundException",
        "InterruptedException", "TimeoutException", "AssertionError", "throw", "throws", "try", "catch", "getMessage",
        "getCause", "class",
    ),
    "collections": (
        "List", "Set", "Map", "Collection", "Collections", "Arrays", "ArrayList", "HashMap", "HashSet", "Optional",
        "Iterator", "Stream", "asList", "of", "size", "get", "contains", "containsKey", "containsValue",
        "containsAll", "add", "remove", "put", "keySet", "entrySet", "values", "iterator", "hasNext", "next",
        "emptyList", "singletonList", "length", "toArray", "stream", "indexOf",
    ),
    "strings": (
        "String", "toString", "charAt", "substring", "concat", "trim", "toLowerCase", "toUpperCase", "split", "replace",
        "equalsIgnoreCase", "format", "valueOf", "StringBuilder", "append", "getName", "getBytes", "hashCode", "\"",
        "\"\"", "'",
    ),
    "numbers": (
        "0", "1", "2", "-1", "10", "0.0", "1.0", "0L", "1L", "int", "long", "double", "float", "Integer", "Long",
        "Double", "Float", "BigDecimal", "BigInteger", "MAX_VALUE", "MIN_VALUE", "NaN", "intValue", "parseInt",
    ),
    "structure": (
        "(", ")", "[", "]", "{", "}", ";", ",", ".", "->", "::", "new", "return", "this", "=", "+", "-",
    ),
}  # fmt: skip
