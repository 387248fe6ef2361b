"""Verified targets: what is judged good by running it becomes a row with the teacher's logits, once and for all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from data.dataset import AssertionDataset, Item
from data.java.statements import is_valid_java
from models.decoding.generate import GenerationOptions
from models.decoding.torch_writer import TorchWriter
from models.seq2seq.loading import build_scratch, load_model, load_tokenizer, save_model, train_tokenizer
from scripts import verify_predictions
from tests.helpers.java_project import junit_jars, need_jdk, task, write_project
from utils.errors import UserError

HUMAN = "assertEquals(7, cart.total());"
GOOD, WRONG, EMPTY = "assertEquals(3 + 4, cart.total());", "assertEquals(6, cart.total());", "assertTrue(true);"
FOCAL = "public int total() { return total; }"
TEST = "@Test public void testTotal() { Cart cart = new Cart(); cart.add(3); cart.add(4); <AssertPlaceHolder> }"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = train_tokenizer([TEST, FOCAL, HUMAN, GOOD, WRONG, EMPTY] * 3, 300)
    save_model(
        build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=1), tokenizer, folder / "model"
    )
    return folder / "model"


def write_data(path: Path, source: dict) -> Path:
    row = {"focal_method": FOCAL, "test_method_masked": TEST, "assertions": [HUMAN], "source": source}
    path.write_text((json.dumps(row) + "\n") * 2)
    return path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.jdk
def test_what_passes_and_notices_a_mutant_becomes_a_row(teacher, tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    project = write_project(tmp_path / "project")
    data = write_data(tmp_path / "rows.jsonl", task(project, "CartTest.java", "testTotal", HUMAN))
    texts = [[WRONG, GOOD, EMPTY], [WRONG]]
    monkeypatch.setattr(verify_predictions, "write_texts", lambda writer, items, args, seed: texts)
    jars = os.pathsep.join(map(str, junit_jars()))
    output = tmp_path / "out"
    words = ["--data", data, "--project", project, "--teacher", teacher, "--output_dir", output, "--class_path", jars]
    words = [*map(str, words), "--workers", "1", "--topk", "8", "--device", "cpu"]
    assert verify_predictions.main(words) == 0

    header, *rows = rows_of(output / verify_predictions.RESULT)
    assert [row["assertions"] for row in rows] == [[HUMAN], [GOOD], [HUMAN]]
    assert [row.get("verified") for row in rows] == [None, True, None]
    assert header["distillation_header"]["teacher"] == str(teacher)
    stored = AssertionDataset(output / verify_predictions.RESULT, load_tokenizer(str(teacher)))
    assert all(isinstance(stored[row], Item) and stored[row].teacher is not None for row in range(3))
    table = json.loads((output / verify_predictions.YIELDS).read_text())
    counted = {"tasks": 2, "distinct texts": 4, "compiled": 4, "passed": 2, "verified": 1, "new rows": 1}
    assert {name: table[name] for name in counted} == counted
    assert table["seconds"]["running"] > 0

    before = (output / verify_predictions.RESULT).read_bytes()
    (output / verify_predictions.RESULT).unlink()
    with open(output / verify_predictions.VERDICTS, "a") as handle:
        handle.write('{"row": 7, "verd')  # the machine died here
    monkeypatch.setattr(verify_predictions, "write_texts", None)  # nothing is written or run again
    assert verify_predictions.main(words) == 0
    assert (output / verify_predictions.RESULT).read_bytes() == before
    with pytest.raises(UserError, match="holds the work of other flags"):
        verify_predictions.main([*words, "--samples", "3"])
    request = output / verify_predictions.REQUEST
    older = json.loads(request.read_text())
    del older["decoding"]  # a folder from before this flag, whose beams kept to Java
    request.write_text(json.dumps(older))
    with pytest.raises(UserError, match="holds the work of other flags"):
        verify_predictions.main(words)
    assert verify_predictions.main([*words, "--decoding", "java"]) == 0


def test_texts_are_distinct_repeatable_and_not_the_target(teacher, tmp_path):
    data = write_data(tmp_path / "rows.jsonl", {})
    tokenizer = load_tokenizer(str(teacher))
    dataset = AssertionDataset(data, tokenizer, max_output_len=12)
    items = [dataset[0], dataset[1]]
    writer = TorchWriter(load_model(str(teacher)), tokenizer)
    words = ["--data", data, "--project", tmp_path, "--teacher", teacher, "--output_dir", tmp_path, "--num_beams", 2]
    words += ["--max_output_len", 12]
    args = verify_predictions.build_parser().parse_args([*map(str, words), "--samples", "3"])
    found, again, other = (verify_predictions.write_texts(writer, items, args, seed) for seed in (1, 1, 2))
    assert found == again != other
    for item, texts in zip(items, found, strict=True):
        assert 1 <= len(texts) <= 5 and len({" ".join(text.split()) for text in texts}) == len(texts)
        assert item.sample.target not in texts
    named = [item.__class__(0, item.input_ids, item.labels, item.sample, None) for item in items[:1]]
    object.__setattr__(named[0].sample, "assertions", (found[0][0],))  # now the first beam is what a person wrote
    assert found[0][0] not in verify_predictions.write_texts(writer, named + items[1:], args, 1)[0]


def test_samples_keep_to_the_rules_and_are_drawn(teacher):
    model, tokenizer = load_model(str(teacher)), load_tokenizer(str(teacher))
    inputs = tokenizer([TEST] * 4, return_tensors="pt").input_ids
    labels = tokenizer([text + tokenizer.eos_token for text in (HUMAN, GOOD, WRONG, EMPTY)], padding=True)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(40):
        model(input_ids=inputs, labels=torch.tensor(labels.input_ids)).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    def sample(decoding, count=32, seed=0):
        torch.manual_seed(seed)
        options = GenerationOptions(max_output_len=40, decoding=decoding)
        return TorchWriter(model, tokenizer).sample([inputs[0].tolist()] * 2, options, count, temperature=1.5)

    free, java = sample("free"), sample("java")
    assert [len(texts) for texts in java] == [32, 32] and java[0] != java[1]
    assert sum(map(is_valid_java, java[0] + java[1])) > sum(map(is_valid_java, free[0] + free[1])) + 5
    assert sample("java") == java
    assert len({sample("java", 1, seed)[0][0] for seed in range(8)}) > 1  # one sample is drawn, too


def test_a_pool_is_a_writer_too(teacher, tmp_path):
    data = write_data(tmp_path / "rows.jsonl", {})
    context = {
        "siblings": [{"test_name": f"test{n}", "assertion": text} for n, text in enumerate((HUMAN, GOOD, WRONG))]
    }
    data.write_text("".join(json.dumps(json.loads(line) | {"context": context}) + "\n" for line in data.open()))
    dataset = AssertionDataset(data, load_tokenizer(str(teacher)), max_output_len=12)
    words = ["--data", data, "--project", tmp_path, "--teacher", teacher, "--output_dir", tmp_path, "--writer", "pool"]
    args = verify_predictions.build_parser().parse_args([*map(str, words), "--num_beams", "4", "--samples", "3"])
    texts, _ = verify_predictions.list_pool([dataset[0], dataset[1]], args)
    assert {GOOD, WRONG} <= set(texts) and HUMAN not in texts and len(texts) <= 7


def test_rows_without_a_place_and_bad_numbers_are_refused(teacher, tmp_path):
    data = write_data(tmp_path / "rows.jsonl", {})
    words = ["--data", data, "--project", tmp_path, "--teacher", teacher, "--output_dir", tmp_path / "out"]
    words = [*map(str, words), "--device", "cpu"]
    with pytest.raises(UserError, match="do not say where they come from"):
        verify_predictions.main(words)
    with pytest.raises(UserError, match="--samples -1: must be 0 or more"):
        verify_predictions.main([*words, "--samples", "-1"])
