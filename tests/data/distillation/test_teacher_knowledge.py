"""Storage of logits and reading of distillation data: exact where it should be, loud or counted where it is bad."""

from __future__ import annotations

import base64
import json
import os
import pickle
import resource
import signal
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import torch

from config.command_line import parse_config
from config.defaults import StudentConfig
from data.batches.collate import Collator
from data.batches.loader import JsonlTrainingData
from data.batches.sampling import micro_batches, share_of_rank
from data.dataset import AssertionDataset, EpochSamplingDataset, Item, Rejected
from data.distillation.file import (
    Header,
    attach_shared,
    build_signal,
    load_shared,
    publishing,
    read_header,
    shared_path,
)
from data.rows.index import RowReader, open_index
from data.rows.rejected import RejectedRows
from models.losses.teacher_rows import TeacherRows
from models.seq2seq.loading import load_model, load_tokenizer
from models.teacher.forward import encode_topk, finite_sums, mean_logits
from models.teacher.writer import DistillationWriter, WriterSettings
from tests.helpers.commands import make_rows, student_words, write_rows
from tests.helpers.forked import Started
from utils.atomic_io import atomic_writer
from utils.compress import (
    CompressionError,
    DenseRows,
    HiddenRows,
    TopKRows,
    compress_logits,
    decompress_logits,
    pack,
    try_pack,
    unpack,
)
from utils.errors import UserError


@pytest.fixture
def logits() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((7, 501)) * 4).astype(np.float32)


# -- the published dense format ---------------------------------------------------------------------------------------


def test_nibbles_and_affine_values_by_hand() -> None:
    """q = [1, 2, 15], low nibble first, odd count padded: bytes 0x21, 0x0F; value = (q - 3) * 0.5."""
    stored = {
        "format": "lz4",
        "bits": 4,
        "shape": [1, 3],
        "scale": 0.5,
        "zero_point": 3,
        "packed": True,
        "data_encoded": {"encoding": "none", "data": "210f"},
    }
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
    hidden = np.random.default_rng(2).standard_normal((5, 96)) * np.array([[1e-3], [1], [50], [3], [9]])
    back = unpack(pack(HiddenRows(hidden.astype(np.float32)), bits)).hidden
    assert (np.abs(back - hidden) / np.abs(hidden).max(1, keepdims=True)).max() <= limit


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_minus_infinity_comes_back_and_spoils_nothing(logits: np.ndarray, bits: int) -> None:
    masked = logits.copy()
    masked[2, 5] = masked[:, 7] = -np.inf
    back = unpack(pack(DenseRows(masked), bits)).logits
    np.testing.assert_array_equal(np.isneginf(back), np.isneginf(masked))
    finite = np.isfinite(masked)
    step = np.ptp(logits, axis=1).max() / (2**bits - 2) if bits <= 8 else 0.02
    assert np.abs(back[finite] - masked[finite]).max() <= step / 2 * 1.02
    if bits <= 8:
        with pytest.raises(CompressionError, match="-inf logits need 16 or 32 bits"):
            compress_logits(masked, bits)
    else:
        published = decompress_logits(compress_logits(masked, bits))
        np.testing.assert_array_equal(np.isneginf(published), np.isneginf(masked))


def test_topk_of_fewer_possible_tokens_than_k(logits: np.ndarray) -> None:
    """Three tokens can be, eight are stored: the distribution is that of the three, read in either way, without NaN."""
    only = np.full_like(logits, -np.inf)
    only[:, [3, 70, 500]] = logits[:, [3, 70, 500]]
    sums = finite_sums(torch.from_numpy(only)).numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(np.isfinite(only), only, 0).astype(np.float64).sum(0) / np.isfinite(only).sum(0)
    expected = np.where(np.isfinite(mean), mean - np.nanmax(mean), -np.inf)
    np.testing.assert_allclose(mean_logits(sums).numpy(), expected, rtol=1e-5, atol=1e-5)
    signal = build_signal([unpack(pack(topk_rows(only, 8)))], {"mean_logits": mean_logits(sums)})
    assert torch.isneginf(signal.tail_log_mass).all()
    for temperature in (1.0, 4.0):
        exact = torch.softmax(torch.from_numpy(only).double() / temperature, 1)
        shaped = torch.softmax(TeacherRows(signal, temperature)(0, len(only)).double() / temperature, 1)
        torch.testing.assert_close(shaped, exact, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["topk", "hidden", "dense 4", "dense 8", "dense 16", "dense 32"])
def test_logits_that_are_no_distribution_are_not_written(logits: np.ndarray, kind: str, value: float) -> None:
    """NaN, +inf, or a position where no token can be: ``try_pack`` names it, the writer counts it."""
    logits[1, :: 1 if value == -np.inf else 500] = value
    name, _, bits = kind.partition(" ")
    rows = {"topk": lambda x: topk_rows(x, 8), "hidden": HiddenRows, "dense": DenseRows}[name](logits)
    text, reason = try_pack(rows, int(bits or 16))
    assert text == "" and ("NaN or +inf" in reason or "no finite" in reason or "not finite" in reason)


def test_too_large_for_half_precision() -> None:
    with pytest.raises(CompressionError, match="too large for 16 bits"):
        pack(DenseRows(np.array([[0.0, 7e4]], dtype=np.float32)), 16)
    low = unpack(pack(DenseRows(np.array([[0.0, -7e4]], dtype=np.float32)), 16)).logits
    assert low.tolist() == [[0.0, -np.inf]]  # exp(-70000 / T) is 0 as well


def test_nan_is_refused_when_read() -> None:
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


def reframed(raw: bytes, claims: int) -> str:
    """An LZ4 frame of ``raw`` whose header, checksum included, claims another content size."""
    frame = bytearray(lz4.frame.compress(raw, store_size=True))
    frame[6:14] = claims.to_bytes(8, "little")
    for checksum in range(256):
        frame[14] = checksum
        try:
            lz4.frame.LZ4FrameDecompressor().decompress(bytes(frame), max_length=1)
        except RuntimeError as error:
            if "headerChecksum" in str(error):
                continue
        return base64.b64encode(frame).decode()
    raise AssertionError("no checksum fits")


@pytest.mark.parametrize(
    ("kind", "bits", "positions", "width", "claims"),
    [
        (3, 32, 16384, 32100, 100 * 2**30),  # the frame claims 100 GB
        (3, 32, 16384, 32100, 0),  # the frame says nothing, the shape asks for 2 GB
        (3, 32, 2**31, 2**31, 0),
        (1, 16, 16384, 30000, 0),
    ],
)
def test_payloads_that_declare_gigabytes_are_refused_before_allocation(kind, bits, positions, width, claims) -> None:
    head = struct.pack("<4sBBIIII", b"TLG1", kind, bits, positions, width, 32100, 12)
    text = reframed(head + b"\0" * 1000, claims) if claims else base64.b64encode(lz4.frame.compress(head)).decode()
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError, match=r"declares more bytes|out of bounds"):
            unpack(text)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_a_frame_is_decompressed_only_as_far_as_its_shape_needs(logits: np.ndarray) -> None:
    """64 MB of zeros behind a valid head shrink to 250 kB: only what the shape needs is decompressed."""
    raw = lz4.frame.decompress(base64.b64decode(pack(topk_rows(logits, 8))))
    text = base64.b64encode(lz4.frame.compress(raw + bytes(64 << 20), store_size=False)).decode()
    tracemalloc.start()
    try:
        with pytest.raises(CompressionError, match="holds more bytes"):
            unpack(text)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_rows_for_other_labels_are_refused_by_their_number(logits: np.ndarray) -> None:
    text = pack(topk_rows(logits, 8))
    assert len(unpack(text, 7).ids) == 7
    with pytest.raises(CompressionError, match="do not cover the labels"):
        unpack(text, 8)


# -- index and datasets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [b"", b'{"half": ', b'{"half": {"looks": "closed"}', b'{"whole": 1}', b"  "])
def test_index_finds_every_line(tmp_path: Path, last: bytes) -> None:
    """A last line without its newline is a row too: a whole one is used, one that is cut off is counted as bad."""
    path = tmp_path / "f.jsonl"
    lines = [b'{"a": 1}', b'{"b": "\xc3\xbc"}', b"", b"[broken", b'{"c": 3}']
    path.write_bytes(b"\n".join(lines) + b"\n" + last)
    for _ in range(2):  # built, then read from disk
        read = RowReader(open_index(path))
        assert [read(i) for i in range(len(read.index))] == [line for line in [*lines, last] if line.strip()]
        assert read.index.cut_off == (b"half" in last)


def test_index_is_built_again_when_the_file_changes(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "f.jsonl", make_rows(5, 1))
    assert len(open_index(path)) == 5
    with open(path, "a") as handle:
        handle.write(json.dumps(make_rows(1, 2)[0]) + "\n")
    assert len(open_index(path)) == 6
    (tmp_path / "f.jsonl.idx").write_bytes(b"garbage")
    assert len(open_index(path)) == 6


def test_index_older_than_a_file_of_the_same_size(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"a": 1}\n{"b": 22}\n')
    before = open_index(path)
    os.utime(path.with_name("f.jsonl.idx"), (2**31, 2**31))  # its own time says nothing
    path.write_text('{"a": 11}\n{"b": 2}\n')
    read = RowReader(open_index(path))
    assert [read(i) for i in range(2)] == [b'{"a": 11}', b'{"b": 2}'] != [RowReader(before)(i) for i in range(2)]


@pytest.mark.parametrize("key", ["teacher_logits_compressed", "compressed_logits"])
def test_lengths_are_those_of_the_text_whatever_the_logits(tmp_path: Path, key: str) -> None:
    plain = [row | {"source": {"n": 1}} for row in make_rows(20, 4)]
    small, large = (
        [
            row | {key: "x" * n if key[0] == "t" else {"bits": 4, "data_encoded": {"encoding": "lz4", "data": "0" * n}}}
            for n, row in zip(range(1000, 1000 * factor, 1000 * (factor - 1) // 20), plain, strict=True)
        ]
        for factor in (21, 41)
    )
    one, two = (open_index(write_rows(tmp_path / f"{n}.jsonl", rows)) for n, rows in enumerate((small, large)))
    np.testing.assert_array_equal(one.text_lengths, two.text_lengths)
    bare = open_index(write_rows(tmp_path / "bare.jsonl", plain)).text_lengths
    assert len(set((one.text_lengths - bare).tolist())) == 1  # the key and its quotes


def test_a_file_that_is_being_written(teacher_run: Path, tokenizer, tmp_path: Path) -> None:
    """What was there is read; the half row is a counted bad one, and a good one as soon as it is whole."""
    path = corrupted(teacher_run, tmp_path / "growing", lambda row: row)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    cut = whole.rindex(b"}", last) - 7  # in the middle of the labels' hash
    for end, good in ((last, 89), (cut, 89), (len(whole) - 1, 90), (len(whole), 90)):
        path.write_bytes(whole[:end])
        dataset = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=32)
        with open(path, "ab") as handle:
            handle.write(whole[end : end + 50])  # the writer goes on
        entries = [dataset[i] for i in range(len(dataset))]
        bad = [entry for entry in entries if isinstance(entry, Rejected)]
        assert len(entries) - len(bad) == good
        assert bad == ([Rejected(89, "last line is cut off")] if end == cut else [])


@pytest.mark.parametrize("student_cuts", [6, 32, 128])
def test_student_that_cuts_targets_elsewhere_than_the_teacher(teacher_run: Path, tokenizer, student_cuts: int) -> None:
    path = teacher_run / "distillation_data_training.jsonl"  # cut at 32
    mine = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=student_cuts)
    plain = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=min(student_cuts, 32), teacher=False)
    whole = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=32)
    for i in range(len(mine)):
        assert isinstance(mine[i], Item) and mine[i].labels == plain[i].labels
        expected = whole[i].teacher
        np.testing.assert_array_equal(mine[i].teacher.ids, expected.ids[:student_cuts])
        np.testing.assert_array_equal(mine[i].teacher.tail_log_mass, expected.tail_log_mass[:student_cuts])


def test_batch_is_padded_as_torch_pads(teacher_run: Path, tokenizer) -> None:
    dataset = AssertionDataset(teacher_run / "distillation_data_training.jsonl", tokenizer, max_input_len=96)
    items = [dataset[i] for i in (0, 5, 11, 30)]
    batch = Collator(tokenizer.pad_token_id)(items)
    for key, name, value in (("input_ids", "input_ids", tokenizer.pad_token_id), ("labels", "labels", -100)):
        rows = [torch.tensor(getattr(item, name)) for item in items]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
        assert batch[key].dtype == torch.int64 and torch.equal(batch[key], padded)
    lengths = torch.tensor([len(item.input_ids) for item in items])
    assert torch.equal(batch["attention_mask"], (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long())


@pytest.mark.parametrize("workers", [0, 2])
def test_shared_tensors_are_put_in_once_by_the_main_process(
    teacher_run: Path, tokenizer, tmp_path: Path, workers: int
) -> None:
    path = teacher_run / "distillation_data_training.jsonl"
    dataset = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=32)
    assert pickle.loads(pickle.dumps(dataset)).shared == {} and dataset.shared["mean_logits"].dtype == torch.float32
    assert Collator(0)([dataset[0]])["teacher"].tail_shape is None
    config = parse_config(StudentConfig, ["--num_workers", str(workers), "--batch_size", "16"])
    data = JsonlTrainingData(dataset, config, RejectedRows(tmp_path / "r", path, 90, 0.1))
    tails = [batch["teacher"].tail_shape for batch in data.batches(0, 0)]
    assert len(tails) == 6 and all(tail.data_ptr() == tails[0].data_ptr() for tail in tails)
    torch.testing.assert_close(tails[0], load_shared(path, read_header(path))["mean_logits"])


def test_hidden_batches_get_their_head_afterwards() -> None:
    hidden, head = np.ones((3, 4), np.float32), torch.ones(9, 4)
    signal = build_signal([HiddenRows(hidden)])
    assert signal.head.shape == (0, 4)
    assert attach_shared(signal, {"head": head}).head.data_ptr() == head.data_ptr()


# -- writing ----------------------------------------------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a full disk: no file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def writer(teacher_run: Path, raw_data, tokenizer, monkeypatch):
    """Makes writers of the validation rows, 4 of them a chunk."""
    monkeypatch.setattr("models.teacher.writer.CHUNK", 4)
    model = load_model(str(teacher_run / "final_model"))

    def make(output: Path, **settings) -> DistillationWriter:
        dataset = AssertionDataset(
            raw_data[1],
            tokenizer,
            max_input_len=96,
            max_output_len=32,
            teacher=False,
            vocab_size=model.config.vocab_size,
        )
        return DistillationWriter(model, tokenizer, dataset, output, WriterSettings("t", **settings))

    make.model = model
    return make


@pytest.mark.parametrize("encoding", ["topk", "hidden", "dense"])
def test_no_disk_left_while_writing(writer, tmp_path: Path, encoding: str) -> None:
    """One line says so; what was written is kept, and continued where there is room again."""
    options = {"encoding": encoding, "topk": 16}
    writer(tmp_path / "whole.jsonl", **options).run()
    whole = (tmp_path / "whole.jsonl").read_bytes()
    output = tmp_path / "data.jsonl"
    with largest_file(len(whole) // 2), pytest.raises(UserError, match=r"data.jsonl: cannot be written .*start again"):
        writer(output, **options).run()
    assert not output.exists()
    rows = []
    counts = writer(output, **options).run(rows.append)
    assert rows[0] >= 4 and sum(rows) == 20 and counts["rows"] == 20  # the first number: done before
    assert output.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == "." or "new" in path.name) == []


def test_no_disk_left_for_the_shared_tensors(writer, tmp_path: Path) -> None:
    small = {"encoding": "hidden", "bits": 8}
    writer(tmp_path / "whole.jsonl", **small).run()
    head = shared_path(tmp_path / "whole.jsonl").stat().st_size
    assert head > (tmp_path / "whole.jsonl").stat().st_size  # so that the head is what does not fit
    with largest_file(head - 100), pytest.raises(UserError, match="cannot be written"):
        writer(tmp_path / "data.jsonl", **small).run()
    assert not (tmp_path / "data.jsonl").exists() and not shared_path(tmp_path / "data.jsonl").exists()
    writer(tmp_path / "data.jsonl", **small).run()
    assert (tmp_path / "data.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_finished_file_is_left_alone_until_the_teacher_changes(writer, tmp_path: Path) -> None:
    first = writer(tmp_path / "data.jsonl").run()
    stamp = (tmp_path / "data.jsonl").stat().st_mtime_ns
    calls = []
    writer.model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert writer(tmp_path / "data.jsonl").run() == first and not calls
    assert (tmp_path / "data.jsonl").stat().st_mtime_ns == stamp
    with torch.no_grad():
        writer.model.encoder.block[0].layer[0].SelfAttention.q.weight.add_(0.01)
    writer(tmp_path / "data.jsonl").run()
    assert calls


def test_bad_logits_are_left_out_and_counted(writer, tmp_path: Path) -> None:
    """A teacher that gives NaN for one row: the others are written."""
    made = writer(tmp_path / "data.jsonl", max_reject_rate=0.5)
    whole = made.forward

    class Broken:
        head = whole.head

        def __call__(self, batch):
            logits, hidden = (part.clone() for part in whole(batch))
            if 7 in batch["row_ids"]:
                logits[int((batch["labels"] != -100)[: batch["row_ids"].tolist().index(7)].sum()), 3] = float("nan")
            return logits, hidden

    made.forward = Broken()
    assert made.run() == made.read_counts() | {"rows": 19, "rejected": {"logits hold NaN or +inf": 1}}
    mean = load_shared(tmp_path / "data.jsonl", read_header(tmp_path / "data.jsonl"))["mean_logits"]
    assert mean.isfinite().all()


def test_killed_while_publishing_there_is_always_a_loadable_file(tmp_path: Path) -> None:
    """Old or new, header and tensors belong together, at whichever rename or removal the process dies."""
    path = tmp_path / "data.jsonl"

    def publish(value: float) -> None:
        with publishing({"mean_logits": torch.full((5,), value)}, path) as digest, atomic_writer(path, "wb") as handle:
            handle.write(Header("t", "f", 5, "topk", 1, 16, 8, digest, 0).line().encode())

    publish(0.0)

    def die_at(operation: int) -> None:
        calls = iter(range(1000))

        def counted(original: Callable) -> Callable:
            return lambda *args, **kwargs: os._exit(9) if next(calls) == operation else original(*args, **kwargs)

        for name in ("replace", "unlink", "fsync"):
            setattr(os, name, counted(getattr(os, name)))

    seen = []
    for operation in range(20):
        child = os.fork()
        if child == 0:
            die_at(operation)
            publish(1.0 + operation)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        seen.append(float(load_shared(path, read_header(path))["mean_logits"][0]))
        if ended == 0:
            break
    assert ended == 0 and seen[-1] == 1.0 + operation
    assert {value == 1.0 + number for number, value in enumerate(seen)} == {True, False}  # died before and after
    assert [name.name for name in tmp_path.iterdir() if name.suffix == ".new"] == []


@pytest.fixture
def tokenizer(teacher_run: Path):
    return load_tokenizer(str(teacher_run / "final_model"))


def corrupted(teacher_run: Path, folder: Path, change, row: int = 2) -> Path:
    """The training file with ``change`` applied to one row."""
    source = teacher_run / "distillation_data_training.jsonl"
    lines = source.read_text().splitlines()
    changed = change(json.loads(lines[row + 1]))
    lines[row + 1] = changed if isinstance(changed, str) else json.dumps(changed)
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


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_named_and_the_rest_survives(
    teacher_run: Path, tokenizer, tmp_path: Path, reason: str, row: int
) -> None:
    path = corrupted(teacher_run, tmp_path / "bad", BAD_ROWS[reason], row)
    dataset = AssertionDataset(path, tokenizer, max_input_len=96, max_output_len=32)
    entries = [dataset[i] for i in range(len(dataset))]
    bad = [entry for entry in entries if isinstance(entry, Rejected)]
    assert len(entries) == 90 and len(bad) == 1
    assert bad[0].row_id == row and reason in bad[0].reason


def test_wrong_tokenizer_wrong_head_and_missing_file_are_refused(teacher_run: Path, tokenizer, tmp_path: Path) -> None:
    path = corrupted(teacher_run, tmp_path / "copy", lambda row: row)
    (tmp_path / "copy" / f"{path.name}.shared.safetensors").unlink()
    with pytest.raises(UserError, match=r"shared.safetensors: missing"):
        AssertionDataset(path, tokenizer)
    tokenizer.add_tokens(["brandNew"])
    with pytest.raises(UserError, match="vocabulary of"):
        AssertionDataset(teacher_run / "distillation_data_training.jsonl", tokenizer)
    with pytest.raises(UserError, match="another tokenizer"):
        AssertionDataset(teacher_run / "distillation_data_training.jsonl", tokenizer, vocab_size=len(tokenizer) - 1)
    with pytest.raises(UserError, match=r"--train_data_path: .*does not exist.*make one"):
        AssertionDataset(tmp_path / "none.jsonl", tokenizer)


def test_published_dense_rows_train_as_they_are(teacher_run: Path, tokenizer, tmp_path: Path) -> None:
    """A file of the old format: no header, padded logits, focal_file and original_target."""
    row = make_rows(1, 3)[0]
    labels = tokenizer(row["assertions"][0])["input_ids"] + [tokenizer.eos_token_id]
    values = np.random.default_rng(0).standard_normal((1, 40, len(tokenizer))).astype(np.float32)
    old = {
        "focal_file": row["focal_method"],
        "test_method": row["test_method_masked"],
        "original_target": row["assertions"][0],
        "compressed_logits": compress_logits(values, 32),
    }
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


def peak_memory(run: Started) -> int:
    """Bytes of resident memory that a run had at its highest."""
    high = 0
    while run.processes[0].is_alive():
        with suppress(OSError):
            status = Path(f"/proc/{run.pid}/status").read_text()
            high = max([high, *(int(x.split()[1]) << 10 for x in status.splitlines() if x.startswith("VmHWM"))])
        time.sleep(0.02)
    ended = run.wait()
    assert ended.code == 0, ended.output
    return high


def test_memory_of_training_does_not_grow_with_the_file(teacher_run: Path, tmp_path: Path) -> None:
    """The real script on a file and on one of a hundred times its rows (benchmarks/data_loading.py: 10 MB and 1 GB)."""
    source = teacher_run / "distillation_data_training.jsonl"
    header, _, rows = source.read_bytes().partition(b"\n")
    peaks, sizes = [], []
    for times in (1, 100):
        path = tmp_path / f"{times}.jsonl"
        path.write_bytes(header + b"\n" + rows * times)
        shared_path(path).write_bytes(shared_path(source).read_bytes())
        sizes.append(path.stat().st_size)
        words = student_words(
            teacher_run,
            tmp_path / "run",
            "--train_data_path",
            path,
            "--max_steps",
            3,
            "--overwrite",
            "--validation_frequency",
            0,
        )
        peaks.append(peak_memory(Started(words)))
    assert sizes[1] > 30e6
    assert peaks[1] - peaks[0] < min(0.1 * peaks[0], 0.2 * sizes[1])


def test_rejected_rows_are_listed_once_and_too_many_stop(tmp_path: Path) -> None:
    source = tmp_path / "data.jsonl"
    rejected = RejectedRows(tmp_path / "rejected.jsonl", source, 1000, 0.1)
    rejected.add([(4, "not valid JSON")], 50)
    rejected.add([(4, "not valid JSON"), (9, "missing assertion")], 100)
    again = RejectedRows(tmp_path / "rejected.jsonl", source, 1000, 0.1)
    again.add([(9, "missing assertion")], 200)
    rows = [json.loads(line)["row"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert rows == [4, 9]
    with pytest.raises(UserError, match=r"bad rows among the first 300 .*not valid JSON.*--max_reject_rate 0.1"):
        again.add([(row, "not valid JSON") for row in range(100, 140)], 300)
    with pytest.raises(UserError, match=r"--strict"):
        RejectedRows(tmp_path / "r.jsonl", source, 10, 0.1, strict=True).add([(1, "x")], 1)


def test_a_signal_to_the_group_leaves_the_compressing_processes_alone(writer, tmp_path: Path) -> None:
    made = writer(tmp_path / "data.jsonl", encoding="topk", workers=1)
    with made.open_pool() as pool:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            assert pool.submit(signal.raise_signal, number).result() is None


def test_a_compressing_process_that_dies_is_told_in_a_line(writer, tmp_path: Path, monkeypatch) -> None:
    made = writer(tmp_path / "data.jsonl", encoding="topk", workers=1)
    monkeypatch.setattr(
        made, "encode", lambda items, total, pool: {item.row_id: pool.submit(os.abort) for item in items}
    )
    with pytest.raises(UserError, match=r"a compressing process died.*start again"):
        made.run()


def test_a_row_of_another_encoding_than_the_files_is_a_bad_row(writer, tmp_path: Path) -> None:
    for name, options in (
        ("a", {"encoding": "topk", "topk": 16}),
        ("b", {"encoding": "topk", "topk": 8}),
        ("c", {"encoding": "dense"}),
    ):
        writer(tmp_path / f"{name}.jsonl", **options).run()
    header, *lines = (tmp_path / "a.jsonl").read_text().splitlines()
    others = [(tmp_path / f"{name}.jsonl").read_text().splitlines()[1] for name in "bc"]
    (tmp_path / "a.jsonl").write_text("\n".join([header, lines[0], *others]) + "\n")
    made = writer(tmp_path / "x.jsonl")
    dataset = AssertionDataset(
        tmp_path / "a.jsonl", made.tokenizer, max_input_len=96, max_output_len=32, vocab_size=made.vocab_size
    )
    assert isinstance(dataset[0], Item)
    assert [dataset[row].reason for row in (1, 2)] == [
        "teacher logits are of another encoding than the header says"
    ] * 2
