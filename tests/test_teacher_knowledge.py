"""Storage of logits and reading of distillation data: exact where it should be, loud or counted where it is bad."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import torch
from conftest import make_rows, write_rows

from data.collate import Collator
from data.dataset import AssertionDataset, EpochSamplingDataset, Item, Rejected
from data.distillation_file import build_signal
from data.jsonl_index import RowReader, open_index
from data.sampling import micro_batches, share_of_rank
from data.training_data import RejectedRows
from models.loading import load_tokenizer
from models.teacher_pass import encode_topk
from utils.compress import (
    CompressionError,
    DenseRows,
    HiddenRows,
    TopKRows,
    compress_logits,
    decompress_logits,
    pack,
    unpack,
)
from utils.errors import UserError


@pytest.fixture
def logits() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((7, 501)) * 4).astype(np.float32)


# -- the published dense format ---------------------------------------------------------------------------------------


def test_nibbles_and_affine_values_by_hand() -> None:
    """q = [1, 2, 15], low nibble first, odd count padded: bytes 0x21, 0x0F; value = (q - 3) * 0.5."""
    stored = {"format": "lz4", "bits": 4, "shape": [1, 3], "scale": 0.5, "zero_point": 3, "packed": True,
              "data_encoded": {"encoding": "none", "data": "210f"}}  # fmt: skip
    assert decompress_logits(stored).tolist() == [[-1.0, -0.5, 6.0]]
    stored["data_encoded"] = {"encoding": "lz4", "data": lz4.frame.compress(bytes([0x21, 0x0F])).hex()}
    assert decompress_logits(stored).tolist() == [[-1.0, -0.5, 6.0]]


def test_floats_by_hand() -> None:
    stored = {"bits": 16, "shape": [1, 1, 2], "data_encoded": {"encoding": "none", "data": "003c00c0"}}
    assert decompress_logits(stored).tolist() == [[1.0, -2.0]]  # 0x3c00, 0xc000 little-endian


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
@pytest.mark.parametrize("encoding", ["lz4", "none"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("batch", [True, False])
def test_dense_round_trip(logits: np.ndarray, bits: int, encoding: str, packed: bool, batch: bool) -> None:
    given = logits[None] if batch else logits
    stored = json.loads(json.dumps(compress_logits(given, bits, encoding, packed)))
    half_step = (logits.max() - logits.min()) / (2**bits - 1) / 2 if bits <= 8 else np.abs(logits).max() * 2.0**-11
    assert np.abs(decompress_logits(stored) - logits).max() <= half_step * 1.02 + 1e-6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": [1 << 20, 1 << 20]}, "bounds"),
        ({"shape": [3, 501]}, "declared|more bytes"),
        ({"shape": [8, 501]}, "fit"),
        ({"data_encoded": {"encoding": "lz4", "data": "zz"}}, "hexadecimal"),
        ({"data_encoded": {"encoding": "lz4", "data": "00ff00ff"}}, "damaged"),
        ({"data_encoded": None}, "lacks"),
        ({"bits": 5}, "unknown"),
    ],
)
def test_bad_dense_rows_are_refused(logits: np.ndarray, change: dict, reason: str) -> None:
    with pytest.raises(CompressionError, match=reason):
        decompress_logits(compress_logits(logits, 8) | change)


# -- what is written --------------------------------------------------------------------------------------------------


def topk_rows(logits: np.ndarray, k: int) -> TopKRows:
    ids, values, mass = encode_topk(torch.from_numpy(logits), k)
    return TopKRows(ids.numpy(), values.numpy(), mass.numpy(), logits.shape[1])


@pytest.mark.parametrize("temperature", [1.0, 1.5, 2.0, 4.0])
def test_stored_topk_and_tail_are_the_distribution(logits: np.ndarray, temperature: float) -> None:
    """Probabilities of the k kept tokens and of the tail, from the stored row, against float64 softmax."""
    signal = build_signal([unpack(pack(topk_rows(logits, 16)))], {})
    exact = torch.softmax(torch.from_numpy(logits).double() / temperature, 1)
    kept = signal.logits.double() / temperature
    tail = signal.tail_log_mass_at(temperature).double()
    total = torch.logsumexp(torch.cat([kept, tail[:, None]], 1), 1)
    torch.testing.assert_close((kept - total[:, None]).exp(), exact.gather(1, signal.ids), rtol=5e-3, atol=1e-5)
    torch.testing.assert_close((tail - total).exp(), 1 - exact.gather(1, signal.ids).sum(1), rtol=5e-3, atol=1e-5)


def test_topk_of_64_fits_450_bytes_a_token() -> None:
    wide = (np.random.default_rng(1).standard_normal((32, 32100)) * 3).astype(np.float32)
    assert len(pack(topk_rows(wide, 64))) / 32 <= 450


@pytest.mark.parametrize(("bits", "limit"), [(8, 1 / 127), (16, 2.0**-10)])
def test_hidden_states_keep_their_digits(bits: int, limit: float) -> None:
    hidden = np.random.default_rng(2).standard_normal((5, 96)).astype(np.float32) * np.array([[1e-3], [1], [50], [3], [9]])
    back = unpack(pack(HiddenRows(hidden.astype(np.float32)), bits)).hidden
    assert (np.abs(back - hidden) / np.abs(hidden).max(1, keepdims=True)).max() <= limit


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_one_minus_infinity_does_not_spoil_its_row(logits: np.ndarray, bits: int) -> None:
    masked = logits.copy()
    masked[2, 5] = -np.inf
    back = unpack(pack(DenseRows(masked), bits)).logits
    others = np.ones_like(masked, dtype=bool)
    others[2, 5] = False
    step = np.ptp(logits, axis=1).max() / (2**bits - 1) if bits <= 8 else 0.02
    assert np.abs(back[others] - masked[others]).max() <= step


def test_nan_is_refused_when_written_and_when_read(logits: np.ndarray) -> None:
    logits[1, 1] = np.nan
    with pytest.raises(CompressionError, match="NaN"):
        pack(DenseRows(logits))
    with pytest.raises(CompressionError, match="NaN"):
        decompress_logits({"bits": 32, "shape": [1, 1], "data_encoded": {"encoding": "none", "data": "0000c07f"}})


def damaged(text: str) -> dict[str, str]:
    raw = bytearray(base64.b64decode(text))
    flipped = raw.copy()
    flipped[len(raw) // 2] ^= 0xFF
    huge = raw.copy()
    huge[6:14] = (100 * 2**30).to_bytes(8, "little")  # the frame's own content size
    return {
        "truncated": base64.b64encode(raw[: len(raw) // 2]).decode(),
        "flipped": base64.b64encode(flipped).decode(),
        "claims 100 GB": base64.b64encode(huge).decode(),
        "not base64": text[:-4] + "\x00!!!",
        "another payload": base64.b64encode(lz4.frame.compress(b"hello" * 10)).decode(),
    }


@pytest.mark.parametrize("kind", ["truncated", "flipped", "claims 100 GB", "not base64", "another payload"])
def test_damaged_payloads_are_refused(logits: np.ndarray, kind: str) -> None:
    with pytest.raises(CompressionError):
        unpack(damaged(pack(topk_rows(logits, 8)))[kind])


# -- index and datasets -----------------------------------------------------------------------------------------------


def test_index_finds_every_complete_line(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    lines = [b'{"a": 1}', b'{"b": "\xc3\xbc"}', b"", b"[broken", b'{"c": 3}']
    path.write_bytes(b"\n".join(lines) + b'\n{"half": ')
    read = RowReader(open_index(path))
    assert [read(i) for i in range(len(read.index))] == [line for line in lines if line]


def test_index_is_built_again_when_the_file_changes(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", make_rows(5, 1))
    assert len(open_index(path)) == 5
    with open(path, "a") as handle:
        handle.write(json.dumps(make_rows(1, 2)[0]) + "\n")
    assert len(open_index(path)) == 6
    (tmp_path / "f.jsonl.idx").write_bytes(b"garbage")
    assert len(open_index(path)) == 6


@pytest.fixture
def tokenizer(teacher_run: Path):
    return load_tokenizer(str(teacher_run / "final_model"))


def corrupted(teacher_run: Path, folder: Path, change) -> Path:
    """The training file with ``change(row)`` applied to its third row."""
    source = teacher_run / "distillation_data_training.jsonl"
    lines = source.read_text().splitlines()
    changed = change(json.loads(lines[3]))
    lines[3] = changed if isinstance(changed, str) else json.dumps(changed)
    folder.mkdir(exist_ok=True)
    path = folder / source.name
    path.write_text("\n".join(lines) + "\n")
    shared = source.with_name(source.name + ".shared.safetensors")
    (folder / shared.name).write_bytes(shared.read_bytes())
    return path


BAD_ROWS = {
    "not valid JSON": lambda row: json.dumps(row)[:-9],
    "not a JSON object": lambda row: "[1, 2]",
    "missing focal method": lambda row: {k: v for k, v in row.items() if k != "focal_method"},
    "masked test is not a string": lambda row: row | {"test_method_masked": 7},
    "missing assertion": lambda row: row | {"assertions": [" "]},
    "labels differ": lambda row: row | {"assertions": ["assertTrue(true);"]},
    "base64": lambda row: row | {"teacher_logits_compressed": "?"},
    "LZ4": lambda row: row | {"teacher_logits_compressed": damaged(row["teacher_logits_compressed"])["truncated"]},
    "missing teacher logits": lambda row: {k: v for k, v in row.items() if k != "teacher_logits_compressed"},
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_named_and_the_rest_survives(teacher_run: Path, tokenizer, tmp_path: Path, reason: str) -> None:
    path = corrupted(teacher_run, tmp_path / "bad", BAD_ROWS[reason])
    dataset = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=32)
    entries = [dataset[i] for i in range(len(dataset))]
    bad = [entry for entry in entries if isinstance(entry, Rejected)]
    assert len(entries) == 90 and len(bad) == 1
    assert bad[0].row_id == 2 and reason in bad[0].reason


def test_wrong_tokenizer_wrong_head_and_missing_file_are_refused(teacher_run: Path, tokenizer, tmp_path: Path) -> None:
    path = corrupted(teacher_run, tmp_path / "copy", lambda row: row)
    (tmp_path / "copy" / f"{path.name}.shared.safetensors").unlink()
    with pytest.raises(UserError, match="shared.safetensors: missing"):
        AssertionDataset(path, tokenizer)
    tokenizer.add_tokens(["brandNew"])
    with pytest.raises(UserError, match="vocabulary of"):
        AssertionDataset(teacher_run / "distillation_data_training.jsonl", tokenizer)
    with pytest.raises(UserError, match="another tokenizer"):
        AssertionDataset(teacher_run / "distillation_data_training.jsonl", tokenizer, vocab_size=len(tokenizer) - 1)
    with pytest.raises(UserError, match="--train_data_path: .*does not exist.*make one"):
        AssertionDataset(tmp_path / "none.jsonl", tokenizer)


def test_published_dense_rows_train_as_they_are(teacher_run: Path, tokenizer, tmp_path: Path) -> None:
    """A file of the old format: no header, padded logits, focal_file and original_target."""
    row = make_rows(1, 3)[0]
    labels = tokenizer(row["assertions"][0])["input_ids"] + [tokenizer.eos_token_id]
    values = np.random.default_rng(0).standard_normal((1, 40, len(tokenizer))).astype(np.float32)
    old = {"focal_file": row["focal_method"], "test_method": row["test_method_masked"],
           "original_target": row["assertions"][0], "compressed_logits": compress_logits(values, 32)}  # fmt: skip
    dataset = AssertionDataset(write_rows(tmp_path / "old.jsonl", [{"meta": "header"}, old]), tokenizer)
    batch = Collator(tokenizer.pad_token_id, dataset.shared)([dataset[0]])
    assert len(dataset) == 1 and dataset[0].labels == labels
    np.testing.assert_allclose(batch["teacher"].logits.numpy(), values[0, : len(labels)])


def test_epochs_draw_other_rows_reproducibly_and_cover_the_file(teacher_run: Path, tokenizer) -> None:
    path = teacher_run / "distillation_data_training.jsonl"
    one, two = (EpochSamplingDataset(path, tokenizer, samples_per_epoch=30, sampling_seed=5) for _ in range(2))
    assert [one.rows_of_epoch(e).tolist() for e in range(4)] == [two.rows_of_epoch(e).tolist() for e in range(4)]
    assert one.rows_of_epoch(0).tolist() != one.rows_of_epoch(1).tolist()
    union = set().union(*(one.rows_of_epoch(e).tolist() for e in range(4)))
    assert one.coverage(4) == len(union) / 90
    assert all(isinstance(one[int(row)], Item) for row in one.rows_of_epoch(3))


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize(("rows", "batch"), [(1, 4), (64, 4), (103, 8), (257, 16)])
def test_each_row_is_in_one_micro_batch_whatever_the_processes(rows: int, batch: int, group: bool) -> None:
    lengths = np.random.default_rng(1).integers(10, 500, rows)
    plan = micro_batches(np.arange(rows), lengths, batch, seed=3, epoch=1, window=4, group=group)
    assert sorted(np.concatenate(plan).tolist()) == list(range(rows))
    assert len(plan) == -(-rows // batch) and all(len(part) == batch for part in plan[:-1])
    for world in (1, 2, 3):
        shares = [share_of_rank(len(plan), rank, world) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1
        assert set().union(*map(set, shares)) == set(range(len(plan)))


def test_grouping_by_length_saves_padding() -> None:
    lengths = np.random.default_rng(1).integers(10, 500, 512)

    def padded(group: bool) -> int:
        plan = micro_batches(np.arange(512), lengths, 8, seed=3, epoch=0, window=16, group=group)
        return sum(int(lengths[part].max()) * len(part) for part in plan)

    assert padded(True) < 0.7 * padded(False)


def test_rejected_rows_are_listed_once_and_too_many_stop(tmp_path: Path) -> None:
    source = tmp_path / "data.jsonl"
    rejected = RejectedRows(tmp_path / "rejected.jsonl", 1000, 0.1, False, source)
    rejected.add([(4, "not valid JSON")], 50)
    rejected.add([(4, "not valid JSON"), (9, "missing assertion")], 100)
    again = RejectedRows(tmp_path / "rejected.jsonl", 1000, 0.1, False, source)
    again.add([(9, "missing assertion")], 200)
    rows = [json.loads(line)["row"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert rows == [4, 9]
    with pytest.raises(UserError, match="bad rows among the first 300 .*not valid JSON.*--max_reject_rate 0.1"):
        again.add([(row, "not valid JSON") for row in range(100, 140)], 300)
    with pytest.raises(UserError, match="--strict"):
        RejectedRows(tmp_path / "r.jsonl", 10, 0.1, True, source).add([(1, "x")], 1)
