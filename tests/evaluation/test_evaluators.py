"""The metrics of a set of predictions, against hand-made expectations and other libraries."""

import math
import random
from collections import Counter

import nltk
import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from data.rows.readers import Sample
from evaluation.evaluators import evaluate_predictions, knowledge_retention
from evaluation.scores.significance import (
    adjust_holm,
    bootstrap_sums,
    cluster_sums,
    corpus_bleu,
    mean_columns,
    mean_statistic,
    paired_difference,
)
from evaluation.scores.text import align, edit_distance, pans, score_task, token_similarity
from utils.metrics import METRICS, QUALITY_WEIGHTS

VOCABULARY = ["assertEquals", "assertTrue", "(", ")", ",", "x", "y", ".", "get", "1", '"a"', "null"]


def random_texts(count, seed, low=1, high=14):
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, k=generator.randint(low, high))) for _ in range(count)]


class CountingEncoder:
    """A bag of characters: equal texts are equal, others are not."""

    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        vectors = np.zeros((len(texts), 128))
        for row, text in enumerate(texts):
            for character in text:
                vectors[row, ord(character) % 128] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def all_measured(n, value=0.5):
    return {"token_accuracy": np.full(n, value), "critical_token_accuracy": np.full(n, value)}


# -- one task


def test_edit_distance_agrees_with_nltk():
    texts = [text.split() for text in ["", *random_texts(60, 1, 0, 20)]]
    for a, b in zip(texts, texts[::-1], strict=True):
        assert edit_distance(a, b) == nltk.edit_distance(a, b)
    assert edit_distance(["x"] * 300, ["y"] * 5 + ["x"] * 100) == 200  # 195 removed, 5 replaced


def naive_pans(prediction, reference):
    collected = possible = 0.0
    for n in range(1, 5):
        wanted = [tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)]
        given = [tuple(prediction[i : i + n]) for i in range(len(prediction) - n + 1)]
        for j, gram in enumerate(wanted):
            own = sum(math.exp(-0.1 * abs(i - j)) for i, other in enumerate(wanted) if other == gram)
            got = sum(math.exp(-0.1 * abs(i - j)) for i, other in enumerate(given) if other == gram)
            possible += own
            collected += min(own, got)
    return collected / possible if possible else 0.0


def test_pans_agrees_with_its_formula():
    texts = [text.split() for text in ["", "x", *random_texts(40, 2, 0, 60)]]
    for a, b in zip(texts, texts[::-1], strict=True):
        assert pans(a, b) == pytest.approx(naive_pans(a, b), abs=1e-12)


def test_pans_gains_nothing_from_repetition():
    reference = ["assertEquals", "(", "1", ",", "x", ")"]
    assert pans(reference, reference) == 1
    assert pans([], reference) == 0
    assert pans(["x"] * 50, reference) < pans(reference[:3], reference) < 1


def test_several_assertions_are_a_set():
    wanted = ("assertTrue(a.isSet());", "assertEquals(1, a.size());", "assertNull(b);")
    given = "assertNull(b);\nassertTrue(a.isSet());\nassertEquals(1, a.size());"
    assert set(score_task(given, wanted).values.values()) == {1.0}
    for name, value in score_task(given.split("\n")[0], wanted).values.items():
        assert value < 1 or name in ("precision", "ast_validity"), name


def test_assertions_are_no_alternatives():
    """One of two is half, not whole; naming one twice does not stand in for the other."""
    wanted = ("assertTrue(a);", "assertNull(b);")
    once = score_task("assertTrue(a);", wanted).values
    twice = score_task("assertTrue(a); assertTrue(a);", wanted).values
    assert once["exact_match"] == twice["exact_match"] == 0
    assert once["recall"] == 0.5
    assert once["precision"] == 1
    assert twice["precision"] == pytest.approx(6 / 8)  # the second one shares only its two brackets
    assert score_task("assertTrue(a); assertNull(b); f(c);", wanted).values["exact_match"] == 0


def test_overlap_is_counted_assertion_by_assertion():
    """Tokens of one assertion do not pay for those of another."""
    values = score_task("f(b); g(a);", ("f(a);", "g(b);")).values
    assert values["f1"] == pytest.approx(6 / 8)


def test_assignment_is_optimal():
    generator = random.Random(3)
    for _ in range(20):
        texts = [text.split() for text in random_texts(6, generator.random())]
        predictions, references = texts[:3], texts[3:]
        pairs = align(predictions, references)
        assert sorted(p for p, _ in pairs) == [0, 1, 2]
        total = sum(token_similarity(predictions[p], references[r]) for p, r in pairs)
        orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        best = max(sum(token_similarity(predictions[p], references[r]) for r, p in enumerate(o)) for o in orders)
        assert total == pytest.approx(best)


@pytest.mark.parametrize("prediction", ["", "  \n", "// nothing", ";"])
def test_empty_prediction_scores_0(prediction):
    encoder = CountingEncoder()
    evaluation = evaluate_predictions(
        [prediction], [("assertTrue(x);",)], encoder=encoder, measured=all_measured(1, 0.0)
    )
    for name, values in evaluation.per_sample.items():
        assert values.tolist() == [0.0], name


def test_scores_stay_between_0_and_1():
    encoder = CountingEncoder()
    predictions = [*random_texts(80, 4, 1, 40), "assertEquals(1, x);" * 50, "(((", "x" * 5000]
    references = [(text,) for text in random_texts(len(predictions), 5)]
    evaluation = evaluate_predictions(predictions, references, encoder=encoder, measured=all_measured(len(predictions)))
    for name, values in evaluation.per_sample.items():
        assert ((values >= 0) & (values <= 1)).all(), name


def test_token_f1_by_hand():
    values = score_task("assertEquals(x, x);", ("assertEquals(1, x);",)).values
    assert (values["precision"], values["recall"]) == (5 / 6, 5 / 6)
    assert values["token_similarity"] == 5 / 6
    longer = score_task("assertEquals(1, x, y);", ("assertEquals(1, x);",)).values
    assert (longer["precision"], longer["recall"]) == (6 / 8, 1.0)
    assert longer["f1"] == pytest.approx(2 * 0.75 / 1.75)


def test_exact_match_strict_and_normalised():
    wanted = ("assertEquals(1, x);",)
    cases = {
        "assertEquals(1, x);": (1, 1),
        "  assertEquals(1,\n x)": (1, 1),
        "Assert.assertEquals(1,x);": (1, 0),
        'assertEquals("m", 1, x);': (1, 0),
        "assertEquals(x, 1);": (0, 0),
    }
    for text, expected in cases.items():
        values = score_task(text, wanted).values
        assert (values["exact_match"], values["exact_match_strict"]) == expected, text


def test_framework_decides_where_the_message_is():
    wanted = ('assertEquals("a", b);',)
    for framework, expected in (("junit4", 1), ("junit5", 0)):
        samples = [Sample("void t() { <AssertPlaceHolder> }", "f", wanted, {"framework": framework})]
        evaluation = evaluate_predictions(['assertEquals("m", "a", b);'], [wanted], samples=samples)
        assert evaluation.value("exact_match") == expected


# -- all tasks


def test_corpus_bleu_is_sacrebleu():
    predictions, references = random_texts(60, 6), random_texts(60, 7)
    evaluation = evaluate_predictions(predictions, [(text,) for text in references])
    other = BLEU(tokenize="none", effective_order=True)
    expected = other.corpus_score([f"{p} ;" for p in predictions], [[f"{r} ;" for r in references]]).score / 100
    assert evaluation.value("bleu") == pytest.approx(expected)
    for counts in evaluation.bleu_counts[:20]:
        values = [int(c) for c in counts]
        by_sacrebleu = BLEU.compute_bleu(
            values[:4], values[4:8], values[8], values[9], smooth_method="exp", effective_order=True
        )
        assert corpus_bleu(counts) == pytest.approx(by_sacrebleu.score / 100)
    assert corpus_bleu(np.zeros(10)) == 0


def test_quality_score_is_the_weighted_sum():
    encoder = CountingEncoder()
    predictions, references = random_texts(10, 8), random_texts(10, 9)
    evaluation = evaluate_predictions(
        predictions, [(r,) for r in references], encoder=encoder, measured=all_measured(10, 0.3)
    )
    value = evaluation.value
    expected = (
        0.25 * value("codebleu")
        + 0.25 * value("semantic_similarity")
        + 0.2 * value("ast_validity")
        + 0.2 * value("token_similarity")
        + 0.1 * 0.3
    )
    assert value("code_quality_score") == pytest.approx(expected)
    assert sum(QUALITY_WEIGHTS.values()) == pytest.approx(1)


def test_missing_part_is_null_with_reason_and_so_is_what_is_built_on_it():
    evaluation = evaluate_predictions(
        ["f(x);"], [("f(x);",)], reasons={"semantic_similarity": "no encoder on this machine"}
    )
    summary = evaluation.summarise()
    assert set(summary) == set(METRICS)
    assert summary["semantic_similarity"] == {"value": None, "reason": "no encoder on this machine"}
    assert summary["code_quality_score"]["value"] is None
    assert "no encoder on this machine" in summary["code_quality_score"]["reason"]
    assert summary["f1"] == {"value": 1.0, "low": pytest.approx(0.2065, abs=1e-4), "high": 1.0, "n": 1}
    retained = knowledge_retention(evaluation, evaluation, np.ones(1))
    assert retained["value"] is None
    assert "no encoder on this machine" in retained["reason"]


def test_tasks_without_a_value_are_left_out():
    measured = {"critical_token_accuracy": np.array([1.0, np.nan, 0.0]), "pass_rate": np.full(3, np.nan)}
    summary = evaluate_predictions(["f(x);"] * 3, [("f(x);",)] * 3, measured=measured).summarise()
    assert summary["critical_token_accuracy"]["value"] == 0.5
    assert summary["critical_token_accuracy"]["n"] == 2
    assert summary["pass_rate"]["value"] is None


def test_retention_score():
    encoder = CountingEncoder()
    texts = random_texts(6, 10)
    references = [(text,) for text in texts]
    teacher = evaluate_predictions(texts, references, encoder=encoder, measured=all_measured(6, 1.0))
    student = evaluate_predictions(["x"] * 6, references, encoder=encoder, measured=all_measured(6, 0.0))
    agreement = np.array([0.5, 0.25, 0.0, 1.0, 0.5, 0.75])
    ratio = student.value("code_quality_score") / teacher.value("code_quality_score")
    retained = knowledge_retention(student, teacher, agreement)
    assert retained["value"] == pytest.approx(0.6 * 0.5 + 0.4 * ratio)
    assert retained["low"] < retained["value"] < retained["high"]
    assert knowledge_retention(teacher, student, np.ones(6))["value"] == pytest.approx(1.0)  # the ratio is capped


def test_retention_score_is_over_the_tasks_that_have_a_value_of_both():
    def judged(value: float, tasks: int, texts: list[str]):
        measured = {name: np.r_[column, np.nan][:tasks] for name, column in all_measured(5, value).items()}
        return evaluate_predictions(
            texts[:tasks], [(t,) for t in random_texts(6, 10)[:tasks]], encoder=CountingEncoder(), measured=measured
        )

    agreement = np.array([0.5, 0.25, 0.0, 1.0, 0.5, 0.75])
    found = [
        knowledge_retention(judged(0.0, n, ["x"] * 6), judged(1.0, n, random_texts(6, 10)), agreement[:n])
        for n in (5, 6)
    ]
    assert found[1]["n"] == 5 and found[1]["value"] == pytest.approx(found[0]["value"])


def test_texts_are_embedded_once_and_flipped_order_is_the_same_text():
    encoder = CountingEncoder()
    evaluation = evaluate_predictions(
        ["g(y); f(x);", "f(x);", "f(x);"], [("f(x);", "g(y);"), ("f(x);",), ("f(x)",)], encoder=encoder
    )
    assert evaluation.per_sample["semantic_similarity"].tolist() == pytest.approx([1, 1, 1])
    assert Counter(encoder.calls[0]) == Counter(["f(x)\ng(y)", "f(x)"])


def test_worker_processes_do_not_change_the_scores():
    predictions, references = random_texts(30, 11), [(text,) for text in random_texts(30, 12)]
    alone = evaluate_predictions(predictions, references)
    shared = evaluate_predictions(predictions, references, workers=2)
    for name, values in alone.per_sample.items():
        assert values.tolist() == shared.per_sample[name].tolist()


def test_no_tasks():
    summary = evaluate_predictions([], []).summarise()
    assert all(metric["value"] is None for metric in summary.values())


def test_breakdown_by_kind_and_length():
    references = [("assertTrue(x);",), ("assertTrue(y);",), ("assertEquals(a.b(c, d), e.f(g, h, i));",)]
    evaluation = evaluate_predictions(["assertTrue(x);", "assertTrue(x);", ""], references)
    parts = evaluation.break_down(replicates=50)
    assert list(parts["kind"]) == ["assertTrue", "assertEquals"]
    assert parts["kind"]["assertTrue"]["exact_match"]["value"] == 0.5
    assert parts["kind"]["assertTrue"]["exact_match"]["n"] == 2
    assert parts["kind"]["assertEquals"]["bleu"]["value"] == 0
    assert list(parts["length"]) == ["up to 8 tokens", "over 20 tokens"]


# -- intervals and tests


def test_interval_covers_the_mean_about_95_times_in_100():
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        sums = mean_columns(generator.binomial(1, 0.3, 150).astype(float))
        draws = mean_statistic(bootstrap_sums(sums, 400, seed))
        low, high = np.quantile(draws, [0.025, 0.975])
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 199


def test_the_interval_of_0_of_n_reaches_above_0_and_of_n_of_n_below_1():
    """Wilson's interval where every task agrees: 0 of 20 is 0 to 0.161, 20 of 20 is 0.839 to 1."""
    for prediction, value, low, high in (("g(y);", 0, 0, 0.1611), ("f(x);", 1, 0.8389, 1)):
        metric = evaluate_predictions([prediction] * 20, [("f(x);",)] * 20).summarise()["exact_match"]
        assert [metric[key] for key in ("value", "low", "high")] == pytest.approx([value, low, high], abs=1e-4)
    rounding = {"token_accuracy": np.full(20, 1 - 1e-9)}
    rounded = evaluate_predictions(["g(y);"] * 20, [("f(x);",)] * 20, measured=rounding)
    assert rounded.summarise()["token_accuracy"]["low"] == pytest.approx(0.8389, abs=1e-4)


def test_one_class_shows_no_spread():
    """Of a single test class nothing can be resampled: no interval, rather than one of no width."""
    references = [("f(x);",)] * 4
    right, wrong = (
        evaluate_predictions([text, "f(x);", text, "g();"], references, clusters=["ATest"] * 4)
        for text in ("f(x);", "h();")
    )
    found = right.summarise()["exact_match"]
    assert (found["value"], found["low"], found["high"], found["n"]) == (0.75, None, None, 4)
    difference = right.subtract(wrong, "exact_match")
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0.5, None, None, 1.0)


def test_clusters_widen_the_interval():
    """Ten copies of each of 30 values say no more than the 30."""
    values = np.random.default_rng(1).random(30)
    copied, clusters = np.repeat(values, 10), np.repeat(np.arange(30), 10)

    def width(sums):
        low, high = np.quantile(mean_statistic(bootstrap_sums(sums)), [0.025, 0.975])
        return high - low

    single, clustered = width(mean_columns(values)), width(cluster_sums(mean_columns(copied), clusters))
    assert clustered == pytest.approx(single, rel=0.02)
    assert width(mean_columns(copied)) < 0.5 * clustered


def test_draws_are_those_of_numpy_choice():
    """Mean and spread as a plain bootstrap that draws indices; many rows, so that more than one chunk is drawn."""
    values = np.random.default_rng(2).random(5000)
    draws = mean_statistic(bootstrap_sums(mean_columns(values), 1200))
    plain = np.random.default_rng(3)
    expected = [values[plain.integers(0, 5000, 5000)].mean() for _ in range(1200)]
    assert draws.mean() == pytest.approx(np.mean(expected), abs=5e-4)
    assert draws.std() == pytest.approx(np.std(expected), rel=0.1)


def test_permutation_test_agrees_with_the_exact_one():
    a, b = np.array([1, 1, 1, 0, 1, 1, 0, 1.0]), np.array([0, 0, 1, 0, 0, 1, 1, 0.0])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = np.mean(np.abs((a - b) @ signs) >= abs((a - b).sum()) - 1e-9)
    found = paired_difference(mean_columns(a), mean_columns(b), replicates=20_000)
    assert found.value == pytest.approx((a - b).mean())
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found.low <= found.value <= found.high


def test_false_alarms_are_as_rare_as_promised():
    generator = np.random.default_rng(4)
    alarms = 0
    for seed in range(200):
        a, b = generator.random((2, 40))
        alarms += paired_difference(mean_columns(a), mean_columns(b), replicates=200, seed=seed).p_value <= 0.05
    assert alarms <= 20


def test_the_same_system_does_not_differ_from_itself():
    texts = random_texts(20, 13)
    evaluation = evaluate_predictions(texts, [(text,) for text in random_texts(20, 14)])
    for metric in ("f1", "bleu", "codebleu"):
        difference = evaluation.subtract(evaluation, metric, replicates=100)
        assert (difference.value, difference.low, difference.high, difference.p_value) == (0, 0, 0, 1)


def test_difference_of_two_systems():
    references = [(text,) for text in random_texts(60, 15, 5)]
    good = evaluate_predictions([r[0] for r in references], references)
    bad = evaluate_predictions(random_texts(60, 16), references)
    for metric in ("f1", "bleu"):
        difference = good.subtract(bad, metric, replicates=500)
        assert difference.value == pytest.approx(good.value(metric) - bad.value(metric))
        assert 0 < difference.low < difference.value < difference.high
        assert difference.p_value == pytest.approx(1 / 501)
    assert good.subtract(bad, "pass_rate") is None


def test_holm():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert adjust_holm([]) == []


def test_a_literal_is_one_token_of_bleu():
    def bleu(given: str, wanted: str) -> float:
        return score_task(f"assertEquals({given}, x);", (f"assertEquals({wanted}, x);",)).values["bleu"]

    assert bleu('"a b c d e f g h"', '"a b c d e f g X"') == bleu('"abcdefgh"', '"abcdefgX"') < 1
    assert bleu('"a  b"', '"a b"') < 1 == bleu('"a b"', '"a b"')


def test_a_deeply_nested_prediction_is_scored():
    deep = "assertTrue(" + "f(" * 600 + ")" * 600 + ");"
    joined = "assertEquals(" + " + ".join(f'"l{i}"' for i in range(900)) + ", x);"
    for text in (deep, joined):
        values = score_task(text, ("assertTrue(f(x));",)).values
        assert all(0 <= value <= 1 for value in values.values())
        assert score_task(text, (text,)).values["codebleu"] == pytest.approx(1)


def test_same_input_same_numbers():
    texts = random_texts(20, 17)
    references = [(text,) for text in random_texts(20, 18)]
    assert evaluate_predictions(texts, references).summarise() == evaluate_predictions(texts, references).summarise()
