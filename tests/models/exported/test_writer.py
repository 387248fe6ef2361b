"""An exported model against its original in torch: the same expectations, the same texts, the same rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from data.java.scope import JavaScope, read_names
from models.decoding.constraints.reading import Reading
from models.decoding.generate import GenerationOptions, generate_candidates, pad_rows
from models.exported.convert import convert
from models.exported.loading import Opened, open_model
from models.seq2seq.loading import save_model, train_tokenizer
from tests.helpers.model_families import TEXTS, make_family
from tests.helpers.random_models import model_without_ties

LONGEST = (60, 32)
JAVA = ["assertEquals(3, cart.size());", 'assertTrue(list.contains("a"));', "assertThat(x).isEqualTo(f(1, y[0]));"]


def export(folder: Path, target: Path, quantization: str = "float32") -> tuple[Opened, Opened]:
    """The original in ``folder``, and its export."""
    original = open_model(str(folder), "MODEL", "cpu", LONGEST)
    target.mkdir()
    convert(original, str(folder), target, quantization, 96, 32)
    return original, open_model(str(target), "MODEL", "cpu", LONGEST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that likes brackets, quotes and the end, so that it breaks the rules often."""
    place = tmp_path_factory.mktemp("random") / "model"
    tokenizer = train_tokenizer(JAVA * 4, 330)
    often = [i for i in range(len(tokenizer)) if set(tokenizer.decode([i])) & set("()[]\"';")]
    end = tokenizer.eos_token_id
    save_model(model_without_ties(len(tokenizer), seed=1, end=end, often=[end, *often]), tokenizer, place)
    return place


@pytest.fixture(scope="module")
def pair(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Opened, Opened]:
    return export(folder, tmp_path_factory.mktemp("exported") / "float32")


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text)["input_ids"][:length] for text in JAVA for length in (2, 5, 9, 14)]


def batch_of(rows: list[list[int]], labels: list[list[int]]) -> dict[str, torch.Tensor]:
    ids = pad_rows(rows, 0)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": pad_rows(labels, -100)}


def distance(pair: tuple[Opened, Opened], rows: list[list[int]], labels: list[list[int]]) -> float:
    """The largest difference of two log-probabilities at a label."""
    batch = batch_of(rows, labels)
    mine, theirs = (one.writer.logits(batch).log_softmax(-1) for one in pair)  # type: ignore[arg-type]
    return float((mine - theirs)[batch["labels"] != -100].abs().max())


def test_logits_are_those_of_torch(pair, rows):
    labels = [row[::-1] for row in rows]
    assert distance(pair, rows, labels) < 1e-4
    assert distance(pair, rows, [labels[0], *labels[:-1]]) > 0  # not the same object twice


def likelihood_distance(pair: tuple[Opened, Opened], row: list[int], texts: list[list[int]]) -> float:
    """The largest difference between the two writers and what their logits say, at a token of a text."""
    given = batch_of([row] * len(texts), texts)
    found = [one.writer.log_likelihoods(row, texts) for one in pair]
    assert [[len(of_text) for of_text in of_one] for of_one in found] == [list(map(len, texts))] * 2
    apart = 0.0
    for one, of_one in zip(pair, found, strict=True):
        logits = one.writer.logits(given).log_softmax(-1)  # type: ignore[arg-type]
        for place, ids in enumerate(texts):
            expected = logits[place, : len(ids)].gather(1, torch.tensor(ids)[:, None])[:, 0]
            apart = max(apart, float((expected - torch.tensor(of_one[place])).abs().max()))
    mine, theirs = (torch.tensor([value for of_text in of_one for value in of_text]) for of_one in found)
    return max(apart, float((mine - theirs).abs().max()))


def test_likelihoods_are_those_of_the_logits(pair, rows):
    """More texts than one pass takes, ended and cut ones."""
    end = pair[0].writer.tokenizer.eos_token_id
    texts = [[*row[::-1], end] for row in rows] + [row[:-1] for row in rows]
    assert likelihood_distance(pair, rows[3], texts * 3) < 1e-4
    assert pair[1].writer.log_likelihoods(rows[0], []) == []


@pytest.mark.parametrize("decoding", ["free", "java", "names"])
def test_greedy_texts_are_those_of_torch(pair, rows, decoding):
    options = GenerationOptions(max_output_len=24, decoding=decoding, batch_size=5)
    mine, theirs = (generate_candidates(one.writer, rows, options) for one in pair)
    assert mine == theirs
    if decoding == "java":
        assert mine != generate_candidates(pair[0].writer, rows, GenerationOptions(max_output_len=24, decoding="free"))


CART = ["k\tdeclared\t-1", "M\tsize\t0\t0\t0\t1\t", "M\tadd\t0\t1\t0\t1\t0"]
PLACE = ["v\tcart\t0", "t\tCart\t0", "M\tassertEquals\t1\t2\t0\t1\t00", "M\tassertTrue\t1\t1\t0\t1\t0"]


def make_scope() -> JavaScope:
    return JavaScope(read_names(PLACE), lambda number: read_names(CART if number == 0 else ["k\tprimitive\t-1"]))


def test_types_are_kept_greedily_as_in_torch(pair, rows):
    options = GenerationOptions(max_output_len=24, decoding="types", batch_size=5)
    mine, theirs = (one.writer.write(rows, options, [make_scope() for _ in rows]) for one in pair)
    assert mine == theirs != pair[1].writer.write(rows, replace(options, decoding="java"))


def test_beams_keep_to_types(pair, rows):
    options = GenerationOptions(max_output_len=24, num_beams=4, num_return_sequences=4, decoding="types")
    scopes = [make_scope() for _ in rows]
    texts = pair[1].writer.write(rows, options, scopes)
    assert [len(found) for found in texts] == [4] * len(rows)
    assert all(Reading(make_scope()).after(text) is not None for found in texts for text in found)
    free = pair[1].writer.write(rows, replace(options, decoding="java"))
    assert any(Reading(make_scope()).after(text) is None for found in free for text in found)


def test_free_beams_are_those_of_torch_where_the_engine_is_patient(pair, rows, monkeypatch):
    monkeypatch.setattr("models.exported.writer.PATIENCE", 4.0)
    options = GenerationOptions(max_output_len=24, num_beams=4, num_return_sequences=4, decoding="free", batch_size=5)
    mine, theirs = (generate_candidates(one.writer, rows, options) for one in pair)
    same = sum(a[0] == b[0] for a, b in zip(mine, theirs, strict=True))
    assert same >= len(rows) - 1  # of 12; 9 where the engine ends its search as it does by itself
    assert [len(texts) for texts in mine] == [4] * len(rows)


@pytest.mark.parametrize("wanted", [1, 4])
def test_beams_follow_the_rules_of_java(pair, rows, wanted):
    from models.decoding.constraints.java import State

    options = GenerationOptions(max_output_len=24, num_beams=4, num_return_sequences=wanted, batch_size=5)
    free = generate_candidates(pair[1].writer, rows, replace(options, decoding="free", num_return_sequences=4))
    texts = generate_candidates(pair[1].writer, rows, options)
    assert [len(found) for found in texts] == [wanted] * len(rows)
    assert all(State().after(text) is not None for found in texts for text in found)
    assert any(State().after(text) is None for found in free for text in found)


def test_beams_that_follow_the_rules_come_first_and_others_are_mended(pair, rows, monkeypatch):
    writer = pair[1].writer
    tokenizer, run = writer.tokenizer, writer._run
    beams = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in ("f(]", "f(x);", "f(x));", "g();")]

    def engine(rows, options, begun=None):
        return run(rows, options, begun) if begun is not None else [(beams, torch.empty(0)) for _ in rows]

    monkeypatch.setattr(writer, "_run", engine)
    options = GenerationOptions(max_output_len=24, num_beams=4, num_return_sequences=2)
    assert generate_candidates(writer, rows[:2], options) == [["f(x);", "g();"]] * 2
    found = writer._choose(rows[:1], [beams], replace(options, num_return_sequences=3))[0]
    assert found[:2] == [beams[1], beams[3]]
    assert tokenizer.decode(found[2]).startswith("f(") and not tokenizer.decode(found[2]).startswith("f(]")


def test_int8_is_near_and_small(tmp_path):
    folder = make_family("codet5p", tmp_path / "model")
    exact, small = (export(folder, tmp_path / kind, kind)[1] for kind in ("float32", "int8"))
    rows = [exact.writer.tokenizer(text)["input_ids"] for text in TEXTS[:4]]
    batch = batch_of(rows, [row[:6] for row in rows])
    mine, theirs = (one.writer.logits(batch) for one in (exact, small))
    assert 0 < float((mine - theirs).norm() / mine.norm()) < 0.5
    assert small.size_bytes < 0.5 * exact.size_bytes and small.parameters == exact.parameters


def test_only_as_many_beams_are_mended_as_are_asked_for(pair, rows):
    options = GenerationOptions(max_output_len=24, num_beams=4, num_return_sequences=4)
    whole = generate_candidates(pair[1].writer, rows, options)
    few = generate_candidates(pair[1].writer, rows, replace(options, fewest=1))
    assert all(len(texts) == 4 for texts in whole) and all(1 <= len(texts) <= 4 for texts in few)
    assert any(len(texts) < 4 for texts in few)
    none = generate_candidates(pair[1].writer, rows, replace(options, fewest=0))
    assert not all(none) and all(set(some) <= set(texts) for some, texts in zip(none, few, strict=True))
    assert all(set(some) <= set(texts) for some, texts in zip(few, whole, strict=True))


FAMILIES = ("t5", "codet5", "codet5p", "t5_v1.1", "mt5", "umt5", "bart", "t5gemma")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_expects_what_torch_does(family, tmp_path):
    pair = export(make_family(family, tmp_path / "model"), tmp_path / "exported")
    tokenizer = pair[0].writer.tokenizer
    rows = [tokenizer(text)["input_ids"] for text in TEXTS[:4]]
    assert distance(pair, rows, [row[:6] for row in rows]) < 1e-3
    assert likelihood_distance(pair, rows[0], [*rows, *(row + row for row in rows)]) < 1e-3
    again = pair[1].writer.tokenizer
    assert [again(text)["input_ids"] for text in TEXTS[:4]] == rows
