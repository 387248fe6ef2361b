"""Data of other tools: Parquet as DistillKit keeps it, both ways, and the texts of any language model."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import yaml
from pyarrow import parquet

from data.dataset import AssertionDataset, Item
from data.distillation.parquet import Packing, pack_bits, unpack_bits
from data.rows.readers import parse_sample
from data.rows.tokenization import TaskEncoder, TextFormat
from evaluation.suggesting.pool import make_pool
from models.seq2seq.loading import load_tokenizer, train_tokenizer
from tests.helpers.commands import make_rows, run_here, write_rows

SCRIPT = "scripts/convert_distillation_data.py"


# -- packed numbers ----------------------------------------------------------------------------------------------------


def bytes_of_bits(text: str) -> list[int]:
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


@pytest.mark.parametrize("bits", [1, 3, 8, 12, 17])
def test_packed_integers_are_one_stream_of_bits(bits):
    numbers = np.random.default_rng(bits).integers(0, 2**bits, (2, 5))
    packed = pack_bits(numbers, bits)
    assert packed.tolist() == [bytes_of_bits("".join(f"{n:0{bits}b}" for n in row)) for row in numbers.tolist()]
    assert unpack_bits(packed, bits, 5).tolist() == numbers.tolist()


def test_values_are_unpacked_as_their_configuration_says(tmp_path):
    """Two exact values, a curve of three terms, and residuals of 4 bits and of 1 bit; all as differences."""
    said = {"d": 300, "k": 8, "exact_k": 2, "exact_dtype": "float16", "polynomial_terms": [0, 1, "sqrt"]}
    said |= {"term_dtype": "float32", "delta_encoding": True, "normalize_t": False}
    said["residual_bins"] = [
        {"scale_dtype": "float32", "element_bits": 4, "num_elements": 3},
        {"scale_dtype": "float16", "element_bits": 1, "num_elements": 2},
    ]
    (tmp_path / "compression_config.yaml").write_text(yaml.safe_dump(said), encoding="utf-8")
    packing = Packing.read(tmp_path / "compression_config.yaml")
    assert packing.index_bits == 9
    stored = [*struct.pack("<2e", -0.5, -0.25), *struct.pack("<3f", -1.0, -0.5, 0.25), *struct.pack("<f", 0.125)]
    stored += bytes_of_bits("000010001111")  # -8, 0 and 7
    stored += [*struct.pack("<e", 0.5), *bytes_of_bits("01")]  # -1 and 1
    residuals = [-8 * 0.125, 0.0, 7 * 0.125, -0.5, 0.5, 0.0]
    curve = [-1.0 - 0.5 * step + 0.25 * step**0.5 for step in range(6)]
    differences = [-0.5, -0.25, *(a + b for a, b in zip(curve, residuals, strict=True))]
    found = packing.values(np.array([stored], dtype=np.uint8))
    np.testing.assert_allclose(found, [np.cumsum(differences)], rtol=1e-6)


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parquet") / "folder"
    done = run_here(SCRIPT, teacher_run / "distillation_data_validation.jsonl", folder, "--encoding", "parquet",
                    "--topk", 16)  # fmt: skip
    assert done.stdout.startswith(f"{folder}: 20 rows")
    return folder


def items_of(path: Path, tokenizer) -> list[Item]:
    dataset = AssertionDataset(
        str(path), tokenizer, max_input_len=96, max_output_len=32, vocab_size=len(tokenizer), flag="--val_data_path"
    )
    items = [dataset[row] for row in range(len(dataset))]
    assert all(isinstance(item, Item) and item.teacher is not None for item in items)
    return items  # type: ignore[return-value]


def test_there_and_back_gives_the_same_distributions(exported, teacher_run, raw_data, tmp_path):
    tokenizer = load_tokenizer(str(teacher_run / "final_model"))
    words = ["--encoding", "topk", "--topk", 64, "--rows", raw_data[1], "--tokenizer", teacher_run / "final_model"]
    done = run_here(SCRIPT, exported, tmp_path / "back.jsonl", *words, "--compression_bits", 32)
    assert "20 rows" in done.stdout and "omitted" not in done.stdout
    first = items_of(teacher_run / "distillation_data_validation.jsonl", tokenizer)
    for one, other in zip(first, items_of(tmp_path / "back.jsonl", tokenizer), strict=True):
        assert one.labels == other.labels
        assert one.teacher.ids[:, :16].tolist() == other.teacher.ids.tolist()
        np.testing.assert_allclose(other.teacher.logits, one.teacher.logits[:, :16], atol=2e-3)


def test_the_folder_holds_log_probabilities_behind_a_configuration(exported, teacher_run, raw_data):
    tokenizer = load_tokenizer(str(teacher_run / "final_model"))
    table = parquet.read_table(exported / "data_0.parquet").to_pylist()
    packing = Packing.read(exported / "compression_config.yaml")
    assert (packing.d, packing.k, len(table)) == (len(tokenizer), 16, 20)
    values = packing.values(np.array(table[3]["compressed_logprobs"], dtype=np.uint8))
    assert (np.diff(values, axis=1) <= 0).all() and (np.exp(values).sum(1) < 1 + 1e-5).all()
    row = json.loads(raw_data[1].read_text(encoding="utf-8").split("\n")[3])
    encoder = TaskEncoder(tokenizer, TextFormat())
    labels = encoder.target(row["assertions"][0], 32)
    assert table[3]["id"] == 3 and table[3]["input_ids"] == [tokenizer.pad_token_id, *labels]
    assert len(values) == len(labels)


def plain_folder(folder: Path, sequences: list[list[int]], ids: list, values: list, **more: list) -> Path:
    folder.mkdir()
    columns = {"input_ids": sequences, "token_ids": ids, "top_values": values, **more}
    parquet.write_table(pyarrow.table(columns), folder / "data_0.parquet")
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Two tasks whose teacher, a decoder, saw a prompt of three tokens before each answer and a padding after it."""
    folder = tmp_path_factory.mktemp("plain")
    rows = make_rows(2, 4)
    tokenizer = train_tokenizer([" ".join(map(str, row.values())) for row in rows], 320)
    tokenizer.save_pretrained(folder / "tokenizer")
    encoder = TaskEncoder(tokenizer, TextFormat())
    sequences, ids, values = [], [], []
    for row in reversed(rows):
        labels = encoder.target(row["assertions"][0], 32)
        sequences.append([7, 8, 9, *labels, tokenizer.pad_token_id])
        length = len(sequences[-1]) - 1
        ids.append([[token, 5] for token in sequences[-1][1:]])
        values.append([[-0.5 - 0.01 * place, -2.0] for place in range(length)])
    return {"folder": folder, "rows": write_rows(folder / "rows.jsonl", rows), "tokenizer": tokenizer,
            "data": (sequences, ids, values)}  # fmt: skip


def convert(plain: dict, folder: Path, output: Path, *more: object, check: bool = True):
    words = ["--encoding", "topk", "--rows", plain["rows"], "--tokenizer", plain["folder"] / "tokenizer"]
    return run_here(SCRIPT, folder, output, *words, *more, check=check)


def test_plain_columns_of_a_decoder_belong_to_their_ids(plain, tmp_path):
    folder = plain_folder(tmp_path / "in", *plain["data"], id=[1, 0])
    convert(plain, folder, tmp_path / "out.jsonl", "--compression_bits", 32)
    for number, item in enumerate(items_of(tmp_path / "out.jsonl", plain["tokenizer"])):
        assert item.teacher.ids[:, 0].tolist() == item.labels  # the answer's own positions, not the prompt's
        values = np.array(plain["data"][2][1 - number][2 : 2 + len(item.labels)])
        np.testing.assert_allclose(item.teacher.logits[:, 1], values[:, 1] - values[:, 0], atol=1e-3)
        # What the top leaves over is the mass of the tail at temperature 1.
        from data.distillation.file import build_signal

        total = np.log(1 - np.exp(values).sum(1)) - values[:, 0]
        found = build_signal([item.teacher]).tail_log_mass_at(1.0)
        np.testing.assert_allclose(found.numpy(), total, atol=1e-3)


def refusal(plain: dict, folder: Path, tmp_path: Path, *more: object) -> str:
    done = convert(plain, folder, tmp_path / "out.jsonl", *more, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not (tmp_path / "out.jsonl").exists()
    return done.stderr


def test_another_vocabulary_is_refused(plain, exported, tmp_path):
    """Of another width; of other ids; and ids that no token has."""
    config = tmp_path / "wide"
    shutil.copytree(exported, config)
    said = yaml.safe_load((config / "compression_config.yaml").read_text())
    (config / "compression_config.yaml").write_text(yaml.safe_dump({**said, "d": 32100}))
    assert "has a vocabulary of 32100, the tokenizer of" in refusal(plain, config, tmp_path)
    sequences, ids, values = plain["data"]
    shifted = [[index + 1 for index in sequence] for sequence in sequences]
    folder = plain_folder(tmp_path / "shifted", shifted, ids, values, id=[1, 0])
    assert "2 x the sequence does not end with the ids of the assertion" in refusal(plain, folder, tmp_path)
    beyond = [[[first, 50_000] for first, _ in sequence] for sequence in ids]
    folder = plain_folder(tmp_path / "beyond", sequences, beyond, values, id=[1, 0])
    assert "2 x token ids beyond the vocabulary" in refusal(plain, folder, tmp_path)


def test_files_that_are_not_such_data(plain, exported, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    assert "no .parquet file in it" in refusal(plain, tmp_path / "empty", tmp_path)
    (tmp_path / "text.parquet").write_text("no table")
    assert "not a Parquet file that can be read" in refusal(plain, tmp_path / "text.parquet", tmp_path)
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "other.parquet")
    assert "has the columns text; wanted are input_ids and" in refusal(plain, tmp_path / "other.parquet", tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(exported / "data_0.parquet", alone)
    assert "compression_config.yaml: missing" in refusal(plain, alone, tmp_path)
    (alone / "compression_config.yaml").write_text("k: 3")
    assert "not a compression configuration of DistillKit" in refusal(plain, alone, tmp_path)
    folder = plain_folder(tmp_path / "logits", plain["data"][0], plain["data"][1],
                          [[[3.0, 9.0]] * len(one) for one in plain["data"][2]], id=[1, 0])  # fmt: skip
    assert "2 x values that are not falling log-probabilities" in refusal(plain, folder, tmp_path)
    done = run_here(SCRIPT, folder, tmp_path / "out.jsonl", "--encoding", "topk", check=False)
    assert "name the tasks with --rows and the --tokenizer" in done.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refusal(plain, folder, tmp_path) == "error: Parquet files need pyarrow; pip install pyarrow\n"


# -- texts -------------------------------------------------------------------------------------------------------------


def test_texts_of_a_model_become_what_the_student_learns(tmp_path):
    rows = make_rows(5, 6)
    rows[4]["id"] = "box-5"
    texts = [
        {"id": 2, "prediction": "assertTrue(box.isFull());"},
        {"id": 0, "prediction": "assertEquals(1, x); assertNull(y);"},
        {"id": 3, "prediction": "I would assert that it works."},
        {"id": "box-5", "prediction": "assertNotNull(box);"},
    ]
    done = run_here(SCRIPT, write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl",
                    "--predictions", write_rows(tmp_path / "texts.jsonl", texts))  # fmt: skip
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["assertions"] for row in made] == [
        ["assertEquals(1, x); assertNull(y);"],
        ["assertTrue(box.isFull());"],
        ["assertNotNull(box);"],
    ]
    assert made[1]["human_assertions"] == rows[2]["assertions"] and made[1]["focal_method"] == rows[2]["focal_method"]
    assert "omitted: 1 x no prediction" in done.stdout and "omitted: 1 x not an assertion in Java" in done.stdout
    dataset = AssertionDataset(str(tmp_path / "out.jsonl"), train_tokenizer(["assertNull(y);"], 300), max_input_len=96,
                               max_output_len=32)  # fmt: skip
    assert dataset[1].sample.target == "assertTrue(box.isFull());"


def test_what_ranks_first_around_a_test_becomes_what_the_student_learns(tmp_path):
    sibling = {"test_name": "testSize", "assertion": "assertEquals(2, box.size());", "locals": ["Box box"]}
    rows = make_rows(3, 6)
    for row in rows[:2]:
        row["context"] = {"siblings": [sibling], "locals": ["Box crate"]}
    source = write_rows(tmp_path / "rows.jsonl", rows)
    done = run_here(SCRIPT, source, tmp_path / "out.jsonl", "--pool")
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(made) == 2 and "omitted: 1 x no context to write from" in done.stdout
    for row, old in zip(made, rows, strict=False):
        (text,) = row["assertions"]
        assert text in [draft.text for draft in make_pool(parse_sample(old))]
        assert row["human_assertions"] == old["assertions"] and row["context"] == old["context"]
    (tmp_path / "out.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (*made, made[0] | {"verified": True}))
    )
    with open(tmp_path / "out.jsonl", "a") as handle:
        handle.write("{\n")
    done = run_here(SCRIPT, tmp_path / "out.jsonl", tmp_path / "again.jsonl", "--pool")
    assert [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()] == made
    assert "1 x verified, not a person's" in done.stdout and "1 x not valid JSON" in done.stdout
    without = write_rows(tmp_path / "without.jsonl", rows[2:])
    for words, message in (
        (["--pool"], "--pool: no row has a context to write from"),
        (["--pool", "--predictions", source], "--pool and --predictions exclude each other"),
        (["--pool", "--encoding", "topk"], "--pool and --encoding exclude each other"),
        (["--predictions", source, "--rows", source], "--predictions and --rows exclude each other"),
    ):
        done = run_here(SCRIPT, without, tmp_path / "another.jsonl", *words, check=False)
        assert done.returncode == 2 and message in done.stderr and not (tmp_path / "another.jsonl").exists()


def test_a_text_keeps_neither_the_humans_answer_in_sight_nor_the_logits_of_another(teacher_run, tmp_path):
    stored = (teacher_run / "distillation_data_training.jsonl").read_text().splitlines()[1]
    bare = {
        "focal_method": "int f() { return 1; }",
        "test_method": "void t() { Box b = g(); assertEquals(1, b.f()); }",
        "assertion": "assertEquals(1, b.f());",
    }
    rows = write_rows(tmp_path / "rows.jsonl", [json.loads(stored), bare])
    texts = [{"id": key, "prediction": "assertNotNull(b);"} for key in (json.loads(stored).get("id", 0), 1)]
    run_here(SCRIPT, rows, tmp_path / "out.jsonl", "--predictions", write_rows(tmp_path / "texts.jsonl", texts))
    first, second = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert not {"teacher_logits_compressed", "labels_hash"} & first.keys()
    assert second["test_method_masked"] == "void t() { Box b = g(); <AssertPlaceHolder> }"
    assert "assertEquals" not in str({**second, "human_assertions": None})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"id": 0, "prediction": "f();"}', '{"id": 0, "prediction": "g();"}'], "a second prediction for id 0"),
        (['{"id": 0}'], "line 1: no id or no prediction"),
        (['{"prediction": "f();"}'], "line 1: no id or no prediction"),
        (["not JSON"], "line 1: not valid JSON"),
        (['{"id": 99, "prediction": "f();"}'], "none of its ids is a row of"),
        (['{"id": 0, "prediction": "?!"}'], "none of its texts is an assertion"),
    ],
)
def test_texts_that_cannot_be_used(lines, message, tmp_path):
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n")
    rows = write_rows(tmp_path / "rows.jsonl", make_rows(2, 6))
    done = run_here(SCRIPT, rows, tmp_path / "out.jsonl", "--predictions", tmp_path / "texts.jsonl", check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()
