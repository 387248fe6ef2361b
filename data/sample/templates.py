"""The families of classes that ``data/sample_corpus.py`` writes: Java with ``$name`` for what changes.

``$C`` class, ``$v`` the test's variable, ``$a < $b < $c`` numbers, ``$s $t $u`` different words, ``$x $y`` currencies;
the other names are the family's own words (``$f`` as it is, ``$F`` with a capital).
"""

from __future__ import annotations

from dataclasses import dataclass

DOMAINS = (
    "Order",
    "Visit",
    "Ticket",
    "Page",
    "Score",
    "Coin",
    "Seat",
    "Parcel",
    "Book",
    "Track",
    "Lamp",
    "Door",
    "Room",
    "River",
    "Garden",
    "Market",
    "Station",
    "Letter",
    "Photo",
    "Recipe",
    "Planet",
    "Harbour",
    "Engine",
    "Window",
    "Bridge",
    "Forest",
    "Violin",
    "Camera",
    "Island",
    "Tower",
)
WORDS = ("apple", "pear", "plum", "cherry", "grape", "lemon", "melon", "peach")
CURRENCIES = ("EUR", "USD", "GBP")


@dataclass(frozen=True)
class Family:
    """``kinds``: second halves of class names; ``words``: choices by placeholder; ``tests``: sections ``@ name``."""

    kinds: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    source: str
    tests: str


COUNTER = Family(
    ("Counter", "Tally", "Meter"),
    {
        "f": ("total", "count", "amount"),
        "add": ("add", "record", "accept"),
        "reset": ("reset", "clear", "restart"),
    },
    """
private int $f;

public int get$F() {
    return $f;
}

public void $add(int value) {
    if (value < 0) {
        throw new IllegalArgumentException("negative $f");
    }
    $f += value;
}

public void $reset() {
    $f = 0;
}

public boolean isEmpty() {
    return $f == 0;
}

public boolean isAtLeast(int limit) {
    return $f >= limit;
}
""",
    """
@ startsWithout$F
$C $v = new $C();
assertEquals(0, $v.get$F());
assertTrue($v.isEmpty());
@ ${add}Changes$F
int value = $a;
$C $v = new $C();
$v.$add(value);
assertEquals(value, $v.get$F());
assertFalse($v.isEmpty());
@ ${add}TwiceGivesSum
int first = $b;
int second = $a;
$C $v = new $C();
$v.$add(first);
$v.$add(second);
assertEquals(first + second, $v.get$F());
@ ${add}OnceGivesNumber
$C $v = new $C();
$v.$add($c);
assertEquals($c, $v.get$F());
@ ${reset}Removes$F
$C $v = new $C();
$v.$add($c);
$v.$reset();
assertEquals(0, $v.get$F());
assertTrue($v.isEmpty());
@ isAtLeastComparesWithLimit
int limit = $b;
$C $v = new $C();
$v.$add(limit);
assertTrue($v.isAtLeast(limit));
assertFalse($v.isAtLeast(limit + 1));
@ ${add}RefusesNegative
$C $v = new $C();
try {
    $v.$add(-$a);
    fail();
} catch (IllegalArgumentException e) {
    assertEquals("negative $f", e.getMessage());
}
""",
)

STACK = Family(
    ("Stack", "Pile", "Tray"),
    {
        "push": ("push", "place", "put", "load"),
        "pop": ("pop", "take", "remove", "pull"),
        "peek": ("peek", "top", "last"),
    },
    """
private final Deque<String> items = new ArrayDeque<>();

public void $push(String item) {
    items.push(item);
}

public String $pop() {
    if (items.isEmpty()) {
        throw new IllegalStateException("nothing to $pop");
    }
    return items.pop();
}

public String $peek() {
    return items.peek();
}

public int size() {
    return items.size();
}

public boolean isEmpty() {
    return items.isEmpty();
}
""",
    """
@ isEmptyAtFirst
$C $v = new $C();
assertTrue($v.isEmpty());
assertNull($v.$peek());
@ ${push}MakesNonEmpty
$C $v = new $C();
$v.$push("$s");
assertFalse($v.isEmpty());
assertEquals(1, $v.size());
@ ${pop}ReturnsNewest
String first = "$s";
String second = "$t";
$C $v = new $C();
$v.$push(first);
$v.$push(second);
assertEquals(second, $v.$pop());
@ ${peek}KeepsItem
$C $v = new $C();
$v.$push("$u");
assertEquals("$u", $v.$peek());
assertEquals(1, $v.size());
@ sizeCountsItems
$C $v = new $C();
$v.$push("$u");
$v.$push("$s");
assertEquals(2, $v.size());
@ ${pop}FailsWhenEmpty
try {
    new $C().$pop();
    fail();
} catch (IllegalStateException e) {
    assertEquals("nothing to $pop", e.getMessage());
}
""",
)

RANGE = Family(
    ("Range", "Interval", "Span"),
    {
        "low": ("lower", "start", "minimum"),
        "high": ("upper", "end", "maximum"),
        "clamp": ("clamp", "limit", "restrict"),
    },
    """
private final int $low;
private final int $high;

public $C(int $low, int $high) {
    this.$low = $low;
    this.$high = $high;
}

public int get$Low() {
    return $low;
}

public int get$High() {
    return $high;
}

public int length() {
    return $high - $low;
}

public boolean contains(int value) {
    return value >= $low && value <= $high;
}

public int $clamp(int value) {
    return Math.max($low, Math.min($high, value));
}
""",
    """
@ keepsBounds
int $low = $a;
int $high = $b;
$C $v = new $C($low, $high);
assertEquals($low, $v.get$Low());
assertEquals($high, $v.get$High());
@ lengthIsDifference
int $low = $a;
int $high = $c;
$C $v = new $C($low, $high);
assertEquals($high - $low, $v.length());
@ containsLowerBound
int $low = $a;
$C $v = new $C($low, $b);
assertTrue($v.contains($low));
@ containsUpperBound
int $high = $c;
$C $v = new $C($b, $high);
assertTrue($v.contains($high));
@ containsNothingBelow
int $low = $b;
$C $v = new $C($low, $c);
assertFalse($v.contains($low - 1));
@ containsNothingAbove
int $high = $b;
$C $v = new $C($a, $high);
assertFalse($v.contains($high + 1));
@ ${clamp}Raises
int value = $a;
int $low = $b;
$C $v = new $C($low, $c);
assertEquals($low, $v.$clamp(value));
@ ${clamp}Lowers
int value = $c;
int $high = $b;
$C $v = new $C($a, $high);
assertEquals($high, $v.$clamp(value));
@ ${clamp}KeepsInside
int value = $b;
$C $v = new $C($a, $c);
assertEquals(value, $v.$clamp(value));
""",
)

MONEY = Family(
    ("Price", "Money", "Fee"),
    {"f": ("amount", "cents", "sum"), "plus": ("plus", "add", "increase"), "times": ("times", "multiply")},
    """
private final long $f;
private final String currency;

public $C(long $f, String currency) {
    this.$f = $f;
    this.currency = currency;
}

public long get$F() {
    return $f;
}

public String getCurrency() {
    return currency;
}

public $C $plus($C other) {
    if (!currency.equals(other.currency)) {
        throw new IllegalArgumentException("different currency");
    }
    return new $C($f + other.$f, currency);
}

public $C $times(int factor) {
    return new $C($f * factor, currency);
}

public boolean isFree() {
    return $f == 0;
}

@Override
public boolean equals(Object other) {
    return other instanceof $C && (($C) other).$f == $f && (($C) other).currency.equals(currency);
}

@Override
public int hashCode() {
    return Objects.hash($f, currency);
}
""",
    """
@ keeps${F}AndCurrency
int value = $a;
$C $v = new $C(value, "$x");
assertEquals(value, $v.get$F());
assertEquals("$x", $v.getCurrency());
@ ${plus}GivesSum
int first = $b;
int second = $a;
$C $v = new $C(first, "$y").$plus(new $C(second, "$y"));
assertEquals(first + second, $v.get$F());
assertEquals("$y", $v.getCurrency());
@ ${times}Multiplies
int value = $c;
int factor = $a;
$C $v = new $C(value, "$x").$times(factor);
assertEquals(value * factor, $v.get$F());
@ ${plus}RefusesOtherCurrency
$C $v = new $C($b, "$x");
try {
    $v.$plus(new $C($a, "$y"));
    fail();
} catch (IllegalArgumentException e) {
    assertEquals("different currency", e.getMessage());
}
@ isFreeForZero
$C $v = new $C(0, "$y");
assertTrue($v.isFree());
@ isFreeNotForMore
$C $v = new $C($b, "$y");
assertFalse($v.isFree());
@ equalsComparesCurrency
$C $v = new $C($a, "$x");
$C other = new $C($a, "$y");
assertFalse($v.equals(other));
@ equalsForSameValues
$C $v = new $C($b, "$x");
$C other = new $C($b, "$x");
assertTrue($v.equals(other));
@ hashCodeIsTheSame
$C $v = new $C($c, "$y");
$C other = new $C($c, "$y");
assertEquals($v.hashCode(), other.hashCode());
""",
)

CONVERTER = Family(
    ("Converter", "Scale", "Exchange"),
    {
        "n": ("2", "3", "4", "5"),
        "small": ("grains", "inches", "minutes"),
        "large": ("boxes", "hours", "crates"),
    },
    """
public static final int FACTOR = $n;

public int to$Small(int $large) {
    return $large * $n;
}

public int to$Large(int $small) {
    return $small / $n;
}

public int restOf(int $small) {
    return $small % $n;
}

public boolean isWhole(int $small) {
    return $small % $n == 0;
}

public static $C create() {
    return new $C();
}
""",
    """
@ to${Small}Multiplies
int $large = $a;
$C $v = new $C();
assertEquals($large * $n, $v.to$Small($large));
@ to${Small}OfZero
$C $v = new $C();
assertEquals(0, $v.to$Small(0));
@ to${Large}Divides
int $large = $b;
int $small = $large * $n;
$C $v = new $C();
assertEquals($large, $v.to$Large($small));
@ restOfWholeIsZero
int $small = $c * $n;
$C $v = new $C();
assertEquals(0, $v.restOf($small));
assertTrue($v.isWhole($small));
@ restOfOneMore
int $small = $a * $n + 1;
$C $v = $C.create();
assertEquals(1, $v.restOf($small));
assertFalse($v.isWhole($small));
@ createGivesNewInstance
$C $v = $C.create();
assertNotNull($v);
@ ${small}AndBack
int $large = $b;
$C $v = new $C();
assertEquals($large, $v.to$Large($v.to$Small($large)));
""",
)

TEXT = Family(
    ("Strings", "Text", "Words"),
    {
        "o": ("[", "|"),
        "sep": ("-", "/"),
        "join": ("join", "connect"),
        "wrap": ("wrap", "quote"),
        "none": ("none", "empty", "missing"),
    },
    """
private $C() {
}

public static String $join(String left, String right) {
    return left + "$sep" + right;
}

public static String $wrap(String text) {
    return "$o" + text + "$o";
}

public static boolean isBlank(String text) {
    return text == null || text.trim().isEmpty();
}

public static String orDefault(String text) {
    return text == null ? "$none" : text;
}

public static String trimToNull(String text) {
    return isBlank(text) ? null : text.trim();
}

public static int lengthOf(String text) {
    return text == null ? 0 : text.length();
}
""",
    """
@ ${join}PutsSeparator
String first = "$s";
String second = "$t";
String $v = $C.$join(first, second);
assertEquals(first + "$sep" + second, $v);
@ ${wrap}AddsMarks
String text = "$u";
String $v = $C.$wrap(text);
assertEquals("$o" + text + "$o", $v);
@ isBlankForNothing
boolean $v = $C.isBlank("");
assertTrue($v);
@ isBlankNotForText
boolean $v = $C.isBlank("$t");
assertFalse($v);
@ orDefaultReplacesNull
String $v = $C.orDefault(null);
assertEquals("$none", $v);
@ orDefaultKeepsText
String text = "$s";
String $v = $C.orDefault(text);
assertEquals(text, $v);
@ trimToNullOfSpaces
String $v = $C.trimToNull("   ");
assertNull($v);
@ trimToNullOfText
String text = "$u";
String $v = $C.trimToNull(" " + text + " ");
assertEquals(text, $v);
@ lengthOfText
String text = "$t";
int $v = $C.lengthOf(text);
assertEquals(text.length(), $v);
@ lengthOfNull
int $v = $C.lengthOf(null);
assertEquals(0, $v);
""",
)

VALIDATOR = Family(
    ("Validator", "Checker", "Rule"),
    {
        "n": ("2", "3", "4"),
        "accept": ("accepts", "isValid", "allows"),
        "short": ("too short", "not enough", "too small"),
        "check": ("check", "verdict", "explain"),
        "failures": ("failures", "errors", "problems"),
    },
    """
private int $failures;

public boolean $accept(String text) {
    return text != null && text.length() >= $n;
}

public String $check(String text) {
    if ($accept(text)) {
        return null;
    }
    $failures++;
    return "$short";
}

public int get$Failures() {
    return $failures;
}
""",
    """
@ ${accept}LongText
String text = "$s";
$C $v = new $C();
assertTrue($v.$accept(text));
@ ${accept}NotNull
String text = null;
$C $v = new $C();
assertFalse($v.$accept(text));
@ ${accept}NotEmptyText
String text = "";
$C $v = new $C();
assertFalse($v.$accept(text));
@ ${check}OfLongTextIsNull
String text = "$t";
$C $v = new $C();
assertNull($v.$check(text));
assertEquals(0, $v.get$Failures());
@ ${check}OfEmptyTextTellsWhy
String text = "";
$C $v = new $C();
assertEquals("$short", $v.$check(text));
assertEquals(1, $v.get$Failures());
@ ${check}Counts$Failures
$C $v = new $C();
$v.$check(null);
$v.$check("");
assertEquals(2, $v.get$Failures());
""",
)

BUILDER = Family(
    ("Builder", "Form", "Draft"),
    {
        "name": ("name", "title", "label"),
        "size": ("size", "height", "width"),
        "with": ("with", "set", "use"),
    },
    """
private String $name;
private int $size;

public $C $with$Name(String $name) {
    this.$name = $name;
    return this;
}

public $C $with$Size(int $size) {
    this.$size = $size;
    return this;
}

public String get$Name() {
    return $name;
}

public int get$Size() {
    return $size;
}

public boolean isComplete() {
    return $name != null && $size > 0;
}

public String build() {
    return $name + ":" + $size;
}
""",
    """
@ isEmptyAtFirst
$C $v = new $C();
assertNull($v.get$Name());
assertEquals(0, $v.get$Size());
@ $with${Name}Sets$Name
String value = "$s";
$C $v = new $C();
$v.$with$Name(value);
assertEquals(value, $v.get$Name());
@ $with${Size}Sets$Size
$C $v = new $C();
$v.$with$Size($b);
assertEquals($b, $v.get$Size());
@ $with${Name}ReturnsItself
$C $v = new $C();
$C other = $v.$with$Name("$t");
assertSame($v, other);
@ $with${Size}ReturnsItself
$C $v = new $C();
$C other = $v.$with$Size($a);
assertSame($v, other);
@ isCompleteWithBoth
$C $v = new $C().$with$Name("$u").$with$Size($c);
assertTrue($v.isComplete());
@ isCompleteNeeds$Size
$C $v = new $C().$with$Name("$u");
assertFalse($v.isComplete());
@ buildJoinsBoth
String text = "$s";
int value = $a;
$C $v = new $C().$with$Name(text).$with$Size(value);
assertEquals(text + ":" + value, $v.build());
""",
)

REGISTRY = Family(
    ("Registry", "Catalogue", "Index"),
    {
        "put": ("register", "store", "enter"),
        "find": ("find", "lookup", "fetch"),
        "has": ("contains", "has", "knows"),
        "drop": ("remove", "delete"),
    },
    """
private final Map<String, Integer> entries = new HashMap<>();

public void $put(String key, int value) {
    entries.put(key, value);
}

public Integer $find(String key) {
    return entries.get(key);
}

public boolean $has(String key) {
    return entries.containsKey(key);
}

public boolean $drop(String key) {
    return entries.remove(key) != null;
}

public int size() {
    return entries.size();
}
""",
    """
@ ${find}UnknownIsNull
String key = "$s";
$C $v = new $C();
assertNull($v.$find(key));
assertFalse($v.$has(key));
@ ${put}MakesKnown
String key = "$t";
$C $v = new $C();
$v.$put(key, $a);
assertTrue($v.$has(key));
assertEquals(1, $v.size());
@ ${find}ReturnsValue
String key = "$u";
Integer value = $b;
$C $v = new $C();
$v.$put(key, value);
assertEquals(value, $v.$find(key));
@ ${put}Overwrites
String key = "$s";
Integer value = $c;
$C $v = new $C();
$v.$put(key, $a);
$v.$put(key, value);
assertEquals(value, $v.$find(key));
@ ${drop}ForgetsKey
String key = "$t";
$C $v = new $C();
$v.$put(key, $b);
assertTrue($v.$drop(key));
assertNull($v.$find(key));
@ ${drop}UnknownIsFalse
String key = "$u";
$C $v = new $C();
assertFalse($v.$drop(key));
@ sizeCountsKeys
$C $v = new $C();
$v.$put("$s", $a);
$v.$put("$t", $b);
assertEquals(2, $v.size());
""",
)

SWITCH = Family(
    ("Lever", "Valve", "Gate"),
    {
        "on": ("open", "active", "enabled"),
        "start": ("turnOn", "begin", "raise"),
        "stop": ("turnOff", "finish", "lower"),
        "toggle": ("toggle", "flip", "change"),
    },
    """
private boolean $on;
private int changes;

public void $start() {
    $on = true;
    changes++;
}

public void $stop() {
    $on = false;
    changes++;
}

public boolean $toggle() {
    $on = !$on;
    changes++;
    return $on;
}

public boolean is$On() {
    return $on;
}

public int getChanges() {
    return changes;
}
""",
    """
@ isNot${On}AtFirst
$C $v = new $C();
assertFalse($v.is$On());
assertEquals(0, $v.getChanges());
@ ${start}Makes$On
$C $v = new $C();
$v.$start();
assertTrue($v.is$On());
assertEquals(1, $v.getChanges());
@ ${stop}MakesNot$On
$C $v = new $C();
$v.$start();
$v.$stop();
assertFalse($v.is$On());
assertEquals(2, $v.getChanges());
@ ${toggle}Makes$On
$C $v = new $C();
assertTrue($v.$toggle());
@ ${toggle}TwiceRestores
$C $v = new $C();
$v.$toggle();
assertFalse($v.$toggle());
@ ${toggle}Counts
$C $v = new $C();
$v.$toggle();
assertEquals(1, $v.getChanges());
""",
)

PAIR = Family(
    ("Pair", "Couple", "Link"),
    {
        "one": ("left", "source", "head"),
        "two": ("right", "goal", "tail"),
        "swap": ("swap", "reverse", "mirror"),
    },
    """
private final String $one;
private final String $two;

public $C(String $one, String $two) {
    this.$one = $one;
    this.$two = $two;
}

public String get$One() {
    return $one;
}

public String get$Two() {
    return $two;
}

public $C $swap() {
    return new $C($two, $one);
}

public boolean isSame() {
    return Objects.equals($one, $two);
}

public boolean has(String value) {
    return value.equals($one) || value.equals($two);
}
""",
    """
@ keepsBoth
String first = "$s";
String second = "$t";
$C $v = new $C(first, second);
assertEquals(first, $v.get$One());
assertEquals(second, $v.get$Two());
@ ${swap}Exchanges$One
String first = "$t";
String second = "$u";
$C $v = new $C(first, second).$swap();
assertEquals(second, $v.get$One());
assertEquals(first, $v.get$Two());
@ ${swap}MakesNewInstance
$C $v = new $C("$u", "$s");
assertNotSame($v, $v.$swap());
@ isSameForEqualValues
$C $v = new $C("$s", "$s");
assertTrue($v.isSame());
@ isSameNotForOthers
$C $v = new $C("$t", "$s");
assertFalse($v.isSame());
@ hasItsValues
String value = "$s";
$C $v = new $C(value, "$u");
assertTrue($v.has(value));
@ hasNotOthers
String other = "$t";
$C $v = new $C("$s", "$u");
assertFalse($v.has(other));
@ ${one}MayBeNull
$C $v = new $C(null, "$u");
assertNull($v.get$One());
""",
)

ARRAYS = Family(
    ("Arrays", "Numbers", "Vector"),
    {
        "reverse": ("swap", "reverse"),
        "sort": ("sort", "order", "arrange"),
        "twice": ("twice", "repeat", "duplicate"),
        "largest": ("largest", "highest"),
    },
    """
public int[] $reverse(int[] values) {
    return new int[] {values[1], values[0]};
}

public int[] $sort(int[] values) {
    int[] result = values.clone();
    java.util.Arrays.sort(result);
    return result;
}

public int[] $twice(int value) {
    return new int[] {value, value};
}

public int $largest(int[] values) {
    int[] sorted = $sort(values);
    return sorted[sorted.length - 1];
}

public boolean isEmpty(int[] values) {
    return values.length == 0;
}
""",
    """
@ ${reverse}Swaps
int first = $b;
int second = $a;
int[] values = {first, second};
$C $v = new $C();
assertArrayEquals(new int[] {second, first}, $v.$reverse(values));
@ ${sort}PutsInOrder
int low = $a;
int high = $b;
int[] values = {high, low};
$C $v = new $C();
assertArrayEquals(new int[] {low, high}, $v.$sort(values));
@ ${sort}MakesCopy
int[] values = {$c, $b};
$C $v = new $C();
assertNotSame(values, $v.$sort(values));
@ ${twice}Repeats
int value = $b;
$C $v = new $C();
assertArrayEquals(new int[] {value, value}, $v.$twice(value));
@ ${largest}FindsLast
int high = $c;
int[] values = {$a, high};
$C $v = new $C();
assertEquals(high, $v.$largest(values));
@ isEmptyWithoutValues
int[] values = {};
$C $v = new $C();
assertTrue($v.isEmpty(values));
@ isEmptyNotWithValues
int[] values = {$a};
$C $v = new $C();
assertFalse($v.isEmpty(values));
""",
)

STATISTICS = Family(
    ("Sensor", "Monitor", "Recorder"),
    {
        "add": ("measure", "note"),
        "high": ("highest", "maximum", "peak"),
        "low": ("lowest", "minimum", "floor"),
        "latest": ("latest", "newest"),
    },
    """
private final List<Integer> values = new ArrayList<>();

public boolean $add(int value) {
    return values.add(value);
}

public int $high() {
    return values.stream().mapToInt(Integer::intValue).max().getAsInt();
}

public int $low() {
    return values.stream().mapToInt(Integer::intValue).min().getAsInt();
}

public Integer $latest() {
    return values.isEmpty() ? null : values.get(values.size() - 1);
}

public List<Integer> getValues() {
    return values;
}

public boolean hasValues() {
    return !values.isEmpty();
}
""",
    """
@ hasNoValuesAtFirst
$C $v = new $C();
assertFalse($v.hasValues());
assertNull($v.$latest());
@ ${add}GivesTrue
int value = $a;
$C $v = new $C();
assertTrue($v.$add(value));
assertTrue($v.hasValues());
@ ${high}OfTwo
int small = $a;
int large = $b;
$C $v = new $C();
$v.$add(small);
$v.$add(large);
assertEquals(large, $v.$high());
@ ${low}OfTwo
int small = $b;
int large = $c;
$C $v = new $C();
$v.$add(small);
$v.$add(large);
assertEquals(small, $v.$low());
@ ${latest}IsLast
Integer value = $a;
$C $v = new $C();
$v.$add($c);
$v.$add(value);
assertEquals(value, $v.$latest());
@ getValuesKeepsAll
$C $v = new $C();
$v.$add($a);
$v.$add($b);
$v.$add($c);
assertEquals(3, $v.getValues().size());
@ getValuesIsNeverNull
$C $v = new $C();
assertNotNull($v.getValues());
""",
)

CURSOR = Family(
    ("Cursor", "Reader", "Walker"),
    {
        "next": ("next", "step"),
        "position": ("position", "offset"),
        "more": ("hasMore", "hasNext"),
        "rewind": ("rewind", "reset"),
    },
    """
private final String[] items;
private int $position;

public $C(String... items) {
    this.items = items;
}

public String $next() {
    if (!$more()) {
        throw new IllegalStateException("at the end");
    }
    return items[$position++];
}

public boolean $more() {
    return $position < items.length;
}

public int get$Position() {
    return $position;
}

public $C $rewind() {
    $position = 0;
    return this;
}
""",
    """
@ startsAtZero
$C $v = new $C("$s");
assertEquals(0, $v.get$Position());
assertTrue($v.$more());
@ ${next}GivesFirst
String first = "$t";
$C $v = new $C(first, "$u");
assertEquals(first, $v.$next());
assertEquals(1, $v.get$Position());
@ ${next}TwiceGivesSecond
String second = "$s";
$C $v = new $C("$u", second);
$v.$next();
assertEquals(second, $v.$next());
assertFalse($v.$more());
@ ${more}NotForEmpty
$C $v = new $C();
assertFalse($v.$more());
@ ${next}AfterEndFails
$C $v = new $C();
try {
    $v.$next();
    fail();
} catch (IllegalStateException e) {
    assertEquals("at the end", e.getMessage());
}
@ ${rewind}ReturnsItself
$C $v = new $C("$t");
assertSame($v, $v.$rewind());
@ ${rewind}StartsAgain
$C $v = new $C("$s", "$t");
$v.$next();
$v.$rewind();
assertEquals(0, $v.get$Position());
""",
)

FAMILIES = (
    COUNTER,
    STACK,
    RANGE,
    MONEY,
    CONVERTER,
    TEXT,
    VALIDATOR,
    BUILDER,
    REGISTRY,
    SWITCH,
    PAIR,
    ARRAYS,
    STATISTICS,
    CURSOR,
)

POM = """<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>org.example</groupId>
  <artifactId>sample</artifactId>
  <version>1.0</version>
  <properties>
    <maven.compiler.source>11</maven.compiler.source>
    <maven.compiler.target>11</maven.compiler.target>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency>
      <groupId>junit</groupId>
      <artifactId>junit</artifactId>
      <version>4.13.2</version>
      <scope>test</scope>
    </dependency>
    <dependency>
      <groupId>org.junit.jupiter</groupId>
      <artifactId>junit-jupiter</artifactId>
      <version>5.9.2</version>
      <scope>test</scope>
    </dependency>
    <dependency>
      <groupId>org.junit.vintage</groupId>
      <artifactId>junit-vintage-engine</artifactId>
      <version>5.9.2</version>
      <scope>test</scope>
    </dependency>
  </dependencies>
</project>
"""
