"""CodeBLEU for assertions (Ren et al. 2020, arXiv 2009.10297), counted inside their test.

``codebleu==0.7.0``, the common implementation, scores whole methods. On one statement it misleads: it adds the full
0.25 for a missing data flow, takes what is between blanks for a token, and finds that a text of three tokens does not
match itself. Here the text is tokenised as Java. Both assertions are put into the same test, and only what is inside
them counts, so the copied test earns nothing. A part that the reference does not have is left out of the mean. On whole
methods (no context), with tokens separated by blanks, the two implementations agree.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tree_sitter import Node

from data.java.syntax import parse
from data.java.tokens import strip_comments, tokenize

MAX_ORDER = 4
SMOOTHING = 0.1  # Chen & Cherry (2014), method 1, as in codebleu 0.7.0
KEYWORD_WEIGHT, OTHER_WEIGHT = 1.0, 0.2
KEYWORDS = frozenset(
    """abstract assert boolean break byte case catch char class const continue default do double else enum extends
    final finally float for goto if implements import instanceof int interface long native new package private
    protected public return short static strictfp super switch synchronized this throw throws transient try void
    volatile while""".split()  # noqa: SIM905
)
TEXT_LEAVES = frozenset({"string_literal", "character_literal"})

Counts = list[Counter]


def ngram_counts(tokens: Sequence[str]) -> Counts:
    """Counts of the n-grams of order 1 to 4."""
    return [Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for n in range(1, MAX_ORDER + 1)]


def _geometric_mean(parts: Sequence[tuple[float, float]]) -> float:
    if not parts or parts[0][0] == 0:
        return 0.0
    logs = [math.log((numerator or SMOOTHING) / denominator) for numerator, denominator in parts]
    return math.exp(math.fsum(logs) / len(logs))


def ngram_match(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """BLEU-4 with brevity penalty and smoothing 1; orders longer than the reference are left out."""
    parts: list[tuple[float, float]] = []
    for wanted, given in zip(ngram_counts(reference), ngram_counts(hypothesis), strict=True):
        if wanted:
            parts.append((sum((wanted & given).values()), max(1, sum(given.values()))))
    if not hypothesis:
        return 0.0
    return min(1.0, math.exp(1 - len(reference) / len(hypothesis))) * _geometric_mean(parts)


def weighted_ngram_match(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    """N-gram recall in which a keyword counts 1 and any other single token 0.2.

    Recall needs no brevity penalty. (That of codebleu 0.7.0 compares with 2, the length of a pair.)
    """
    parts: list[tuple[float, float]] = []
    for order, (wanted, given) in enumerate(zip(ngram_counts(reference), ngram_counts(hypothesis), strict=True), 1):
        if not wanted:
            continue
        common = wanted & given
        if order == 1:
            weight = {gram: KEYWORD_WEIGHT if gram[0] in KEYWORDS else OTHER_WEIGHT for gram in wanted}
            matched = sum(weight[gram] * count for gram, count in common.items())
            total = sum(weight[gram] * count for gram, count in wanted.items())
            parts.append((matched, total))
        else:
            parts.append((sum(common.values()), sum(wanted.values())))
    return _geometric_mean(parts)


@dataclass(frozen=True)
class CodeView:
    """What syntax and data-flow match compare: subtrees as S-expressions, and (variable, relation, sources) edges."""

    subtrees: list[str]
    flow: list[tuple[str, str, tuple[str, ...]]]


@dataclass
class _Flow:
    """Data flow of Java as codebleu 0.7.0 defines it: every leaf that is not a keyword or operator is a variable."""

    code: bytes
    edges: list[tuple[int, str, str, tuple[tuple[str, int], ...]]]  # position, name, relation, (source, position)...

    def leaves(self, node: Node) -> list[tuple[str, int]]:
        if node.child_count and node.type not in TEXT_LEAVES:
            return [leaf for child in node.children for leaf in self.leaves(child)]
        text = self.text(node)
        return [(text, node.start_byte)] if text != node.type else []

    def text(self, node: Node) -> str:
        return self.code[node.start_byte : node.end_byte].decode("utf-8", "replace")

    def assign(self, target: Node | None, value: Node | None, relation: str, states: dict[str, list[int]]) -> None:
        groups = [(source,) for source in self.leaves(value)] if value is not None else [()]
        for name, position in self.leaves(target) if target is not None else []:
            self.edges += [(position, name, relation, group) for group in groups]
            states[name] = [position]

    def visit(self, node: Node, states: dict[str, list[int]]) -> None:
        """Append the edges of ``node`` in order; ``states``: name -> the positions that its value may come from."""
        kind, field = node.type, node.child_by_field_name
        if not node.child_count or kind in TEXT_LEAVES:
            name = self.text(node)
            if name == kind:
                return
            sources = tuple((name, position) for position in states.get(name, ()))
            self.edges.append((node.start_byte, name, "comesFrom", sources))
            if kind == "identifier" and name not in states:
                states[name] = [node.start_byte]
        elif kind == "variable_declarator":
            value = field("value")
            if value is not None:
                self.visit(value, states)
            self.assign(field("name"), value, "comesFrom", states)
        elif kind == "assignment_expression":
            right = field("right")
            if right is not None:
                self.visit(right, states)
            self.assign(field("left"), right, "computedFrom", states)
        elif kind == "update_expression":
            self.assign(node, node, "computedFrom", states)
        elif kind == "if_statement":
            self.branches(node, states)
        elif kind == "for_statement":
            self.sequence(node.children, states)
            kinds = [child.type for child in node.children]
            if "local_variable_declaration" in kinds:
                self.sequence(node.children[kinds.index("local_variable_declaration") + 1 :], states)
        elif kind == "enhanced_for_statement":
            for _ in range(2):
                self.sequence([child for child in (field("value"),) if child is not None], states)
                self.assign(field("name"), field("value"), "computedFrom", states)
                self.sequence([child for child in (field("body"),) if child is not None], states)
        elif kind == "while_statement":
            for _ in range(2):
                self.sequence(node.children, states)
        else:
            self.sequence(node.children, states)

    def sequence(self, nodes: Sequence[Node], states: dict[str, list[int]]) -> None:
        for node in nodes:
            self.visit(node, states)

    def branches(self, node: Node, states: dict[str, list[int]]) -> None:
        before = {name: list(positions) for name, positions in states.items()}
        after = [before]
        alternative = False
        for child in node.children:
            alternative = alternative or child.type in ("else", "if_statement")
            if alternative:
                branch = {name: list(positions) for name, positions in before.items()}
                self.visit(child, branch)
                after.append(branch)
            else:
                self.visit(child, states)
        for branch in after:
            for name, positions in branch.items():
                states[name] = sorted(set(states.get(name, [])) | set(positions))


def _merged_flow(code: bytes, root: Node) -> dict[int, tuple[str, str, tuple[str, ...]]]:
    """Position -> its edges as one. Positions that take part in no edge are dropped."""
    flow = _Flow(code, [])
    try:
        flow.visit(root, {})
    except RecursionError:  # nested hundreds of levels deep, such as a concatenation of 500 literals
        return {}
    involved = {p for position, _, _, sources in flow.edges if sources for p in (position, *(s[1] for s in sources))}
    merged: dict[int, tuple[str, str, dict[str, int]]] = {}
    for position, name, relation, sources in sorted(flow.edges, key=lambda edge: edge[0]):
        if position in involved:
            entry = merged.setdefault(position, (name, relation, {}))
            entry[2].update(dict(sources))
    return {
        position: (name, relation, tuple(sorted(sources, key=lambda source: (sources[source], source))))
        for position, (name, relation, sources) in merged.items()
    }


def _subtrees(root: Node, start: int, end: int) -> list[str]:
    found, stack = [], [root]
    while stack:
        node = stack.pop()
        if start <= node.start_byte and node.end_byte <= end:
            found.append(str(node))
        stack += [c for c in node.children if c.child_count and c.end_byte > start and c.start_byte < end]
    return found


def view_method(code: str) -> CodeView:
    """A whole snippet, its variables numbered by first appearance (codebleu's way)."""
    text = "\n".join(line for line in strip_comments(code.strip()).split("\n") if line.strip())
    data = text.encode("utf-8", "replace")
    root = parse(data)
    numbers: dict[str, str] = {}
    flow = []
    for name, relation, sources in _merged_flow(data, root).values():
        for variable in (*sources, name):
            numbers.setdefault(variable, f"var_{len(numbers)}")
        flow.append((numbers[name], relation, tuple(numbers[source] for source in sources)))
    return CodeView(_subtrees(root, 0, len(data)), flow)


def view_in_context(assertions: str, before: str, after: str) -> CodeView:
    """The part of a test that ``assertions`` make up. Both texts share the test, so variables keep their names.

    Only edges that end in the assertion count, and only those of variables: an earlier call of a method with the same
    name is not a flow of data.
    """
    data = f"{before} {assertions} {after}".encode("utf-8", "replace")
    root = parse(data)
    start = len(before.encode("utf-8", "replace")) + 1
    end = start + len(assertions.encode("utf-8", "replace"))
    methods = _method_names(root, start, end)
    flow = [
        edge
        for position, edge in _merged_flow(data, root).items()
        if start <= position < end and edge[2] and position not in methods
    ]
    return CodeView(_subtrees(root, start, end), flow)


def _method_names(root: Node, start: int, end: int) -> set[int]:
    found, stack = set(), [root]
    while stack:
        node = stack.pop()
        if node.type == "method_invocation" and (name := node.child_by_field_name("name")) is not None:
            found.add(name.start_byte)
        stack += [c for c in node.children if c.end_byte > start and c.start_byte < end]
    return found


def syntax_match(reference: CodeView, hypothesis: CodeView) -> float:
    """Share of the reference's subtrees that occur in the hypothesis (not clipped, as in codebleu 0.7.0)."""
    given = set(hypothesis.subtrees)
    return sum(tree in given for tree in reference.subtrees) / len(reference.subtrees) if reference.subtrees else 0.0


def dataflow_match(reference: CodeView, hypothesis: CodeView) -> float | None:
    """Share of the reference's edges that occur in the hypothesis, clipped; None where the reference has none."""
    if not reference.flow:
        return None
    return sum((Counter(reference.flow) & Counter(hypothesis.flow)).values()) / len(reference.flow)


def codebleu(reference: str, hypothesis: str, context: tuple[str, str] | None = None) -> float:
    """Mean of n-gram, weighted n-gram, syntax and data-flow match, over the parts that the reference has; 0 to 1.

    ``context``: the test before and after the assertion; without it both texts are whole snippets. A text that is
    nested about 450 levels deep counts as one without data flow.
    """
    wanted, given = tokenize(reference), tokenize(hypothesis)
    if not wanted or not given:
        return 0.0
    if context is None:
        views = view_method(reference), view_method(hypothesis)
    else:
        views = view_in_context(reference, *context), view_in_context(hypothesis, *context)
    parts = [ngram_match(wanted, given), weighted_ngram_match(wanted, given), syntax_match(*views)]
    flow = dataflow_match(*views)
    return math.fsum(parts if flow is None else [*parts, flow]) / (3 if flow is None else 4)
