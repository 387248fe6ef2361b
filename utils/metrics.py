"""The names of all metrics and what they mean: the one list that reports, CSV files and training logs share."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """What a number means: shown in the report and explained in docs/evaluation.md.

    ``column``: its place among the metric columns of training_metrics.csv; None where training does not measure it.
    """

    title: str
    formula: str
    traps: str
    column: int | None = None


# In the order of the reports. Each is between 0 and 1, and higher is better. Unless the formula says otherwise, it is
# the mean over tasks.
METRICS: dict[str, Metric] = {
    "code_quality_score": Metric(
        "Code Quality Score",
        "0.25 codebleu + 0.25 semantic_similarity + 0.20 ast_validity + 0.20 token_similarity + 0.10 token_accuracy",
        "Missing when a part is missing. A wrong but well-formed assertion of the right kind still earns about 0.6.",
        column=14,
    ),
    "semantic_similarity": Metric(
        "Semantic similarity",
        "cosine of the text encoder's embeddings of prediction and reference, below 0 counted as 0",
        "Its zero is not 0: unrelated assertions reach 0.3 to 0.6. assertTrue against assertFalse costs little.",
        column=10,
    ),
    "exact_match": Metric(
        "Exact match",
        "the same set of assertions; white space, Assert. and the like, and failure messages do not count",
        "Says nothing of another assertion that is also right.",
        column=1,
    ),
    "exact_match_strict": Metric(
        "Exact match, strict",
        "the same set of assertions as text, white space aside",
        "A failure message counts.",
        column=2,
    ),
    "f1": Metric(
        "Token F1",
        "2 · common / (predicted + wanted) Java tokens, as multisets, assertion by assertion",
        "Order is ignored: assertEquals(a, b) and assertEquals(b, a) are the same; brackets and commas earn points.",
        column=3,
    ),
    "precision": Metric(
        "Token precision",
        "common / predicted tokens",
        "A single right token scores 1.",
        column=4,
    ),
    "recall": Metric(
        "Token recall",
        "common / wanted tokens",
        "Long predictions gain.",
        column=5,
    ),
    "bleu": Metric(
        "BLEU",
        "sacrebleu BLEU-4 over Java tokens, of the corpus (counts summed over tasks), exponential smoothing",
        "Not the mean of the per-task values. On short statements the 4-grams decide.",
        column=6,
    ),
    "codebleu": Metric(
        "CodeBLEU",
        "mean of n-gram, keyword-weighted n-gram, syntax and data-flow match, counted inside the assertion as it "
        "stands in its test; without data flow the mean of the other three",
        "Lower than codebleu 0.7.0, which adds 0.25 where there is no data flow. Syntax ignores names and values.",
        column=7,
    ),
    "pans": Metric(
        "PANS",
        "n-grams (1 to 4) found, weighted exp(-0.1 · distance of places), each clipped at its own self-match; 1 - loss",
        "A recall: what follows a perfect start costs nothing.",
        column=8,
    ),
    "ast_validity": Metric(
        "AST validity",
        "share of predictions that parse as Java statements (tree-sitter), empty ones do not",
        "Parsing is not compiling: unknown names and wrong types pass.",
        column=9,
    ),
    "token_similarity": Metric(
        "Token similarity",
        "1 - token edit distance / longer length, over the paired assertions",
        "The frame that all assertions share gives about 0.4 for nothing.",
        column=11,
    ),
    "token_accuracy": Metric(
        "Token accuracy",
        "share of the reference's model tokens that are the model's first choice, given the reference so far",
        "Teacher-forced: a model that starts wrong is put right at each step, so it is above what generation reaches.",
        column=12,
    ),
    "critical_token_accuracy": Metric(
        "Critical-token accuracy",
        "the same over the critical tokens (config/critical_tokens.py), tasks without one left out",
        "Few tokens a task: wide interval.",
        column=13,
    ),
    "compile_rate": Metric(
        "Compiles",
        "share of control-stable tasks (their own assertion compiles and passes, twice) whose test compiles with the "
        "prediction in place",
        "Says nothing of sense.",
    ),
    "pass_rate": Metric(
        "Passes",
        "share of control-stable tasks whose test then passes on the unchanged code",
        "assertTrue(true) passes.",
    ),
    "nontrivial_rate": Metric(
        "Non-trivial",
        "share of control-stable tasks whose test passes, and fails in the prediction once the focal method is broken",
        "Depends on the mutants; a right assertion about something else counts as trivial.",
    ),
    "knowledge_retention_score": Metric(
        "Knowledge Retention Score",
        "0.6 · mean token F1 against the teacher's text + 0.4 · min(1, Code Quality Score / the teacher's)",
        "Copying a bad teacher scores 1.",
        column=15,
    ),
}
QUALITY_WEIGHTS = {
    "codebleu": 0.25,
    "semantic_similarity": 0.25,
    "ast_validity": 0.20,
    "token_similarity": 0.20,
    "token_accuracy": 0.10,
}
EXECUTION_METRICS = ("compile_rate", "pass_rate", "nontrivial_rate")
FORCED_METRICS = ("token_accuracy", "critical_token_accuracy")
# What a validation during training measures without --use_enhanced_metrics.
BASIC_METRICS = ("exact_match", "exact_match_strict", "f1", "precision", "recall", "token_accuracy")
TRAINING_METRICS = tuple(
    name for _, name in sorted((metric.column, name) for name, metric in METRICS.items() if metric.column is not None)
)
