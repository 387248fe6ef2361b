"""Inspecting and converting distillation data, against float64 references computed here."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data.dataset import AssertionDataset, Item
from data.distillation.file import Header, build_signal, file_sha256, load_shared, read_header, shared_path
from data.rows.tokenization import TaskEncoder, TextFormat, labels_hash, tokenizer_fingerprint
from models.seq2seq.loading import load_tokenizer, train_tokenizer
from models.teacher.fidelity import fidelity
from models.teacher.forward import encode_topk
from tests.helpers.commands import make_rows, run_here, write_rows
from utils.compress import DenseRows, HiddenRows, TopKRows, compress_logits, decompress_logits, pack, unpack

WIDTH, ROWS = 12, 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Hidden-state data of a made-up teacher: its exact logits are head x hidden, in float64."""
    folder = tmp_path_factory.mktemp("data")
    raw = make_rows(ROWS, 5)
    tokenizer = train_tokenizer([" ".join([*map(str, row.values())]) for row in raw], 320)
    tokenizer.save_pretrained(folder / "tokenizer")
    random = np.random.default_rng(0)
    vocabulary = len(tokenizer)
    head = random.standard_normal((vocabulary, WIDTH)).astype(np.float16)
    path = folder / "hidden.jsonl"
    save_file({"head": torch.from_numpy(head)}, shared_path(path))
    header = Header(
        "made-up",
        tokenizer_fingerprint(tokenizer),
        vocabulary,
        "hidden",
        None,
        16,
        128,
        file_sha256(shared_path(path)),
        0,
    )
    exact, rows = [], []
    for row in raw:
        labels = TaskEncoder(tokenizer, TextFormat()).target(row["assertions"][0], 128)
        text = pack(HiddenRows(random.standard_normal((len(labels), WIDTH)).astype(np.float32)), 16)
        exact.append(unpack(text).hidden.astype(np.float64) @ head.astype(np.float64).T)
        rows.append(row | {"teacher_logits_compressed": text, "labels_hash": labels_hash(labels)})
    path.write_text(header.line() + "".join(json.dumps(row) + "\n" for row in rows))
    old = [row | {"compressed_logits": compress_logits(e[None], 32)} for row, e in zip(raw, exact, strict=True)]
    return {
        "folder": folder,
        "hidden": path,
        "exact": exact,
        "old": write_rows(folder / "old.jsonl", old),
        "rows": rows,
        "tokenizer": load_tokenizer(str(folder / "tokenizer")),
    }


def convert(source: Path, target: Path, *words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run_here("scripts/convert_distillation_data.py", source, target, *words, check=check)


def teacher_rows(path: Path) -> list:
    return [unpack(json.loads(line)["teacher_logits_compressed"]) for line in path.read_text().splitlines()[1:]]


def test_hidden_to_topk_to_fewer(made: dict) -> None:
    wide, narrow = made["folder"] / "k40.jsonl", made["folder"] / "k8.jsonl"
    convert(made["hidden"], wide, "--encoding", "topk", "--topk", 40)
    convert(wide, narrow, "--encoding", "topk", "--topk", 8)
    shared = load_shared(narrow, read_header(narrow))
    mean = np.concatenate(made["exact"]).mean(0)
    np.testing.assert_allclose(shared["mean_logits"].numpy(), mean - mean.max(), atol=1e-4)
    for exact, rows in zip(made["exact"], teacher_rows(narrow), strict=True):
        signal = build_signal([rows], shared)
        for temperature in (1.0, 4.0):
            p = torch.softmax(torch.from_numpy(exact) / temperature, 1)
            kept, tail = signal.logits.double() / temperature, signal.tail_log_mass_at(temperature).double()
            total = torch.logsumexp(torch.cat([kept, tail[:, None]], 1), 1)
            torch.testing.assert_close((kept - total[:, None]).exp(), p.gather(1, signal.ids), rtol=5e-3, atol=1e-5)
            torch.testing.assert_close((tail - total).exp(), 1 - p.gather(1, signal.ids).sum(1), rtol=5e-3, atol=1e-5)
    dataset = AssertionDataset(narrow, made["tokenizer"])
    assert all(isinstance(dataset[i], Item) for i in range(ROWS))


def test_old_file_to_dense_and_topk(made: dict) -> None:
    dense, topk = made["folder"] / "dense.jsonl", made["folder"] / "from_old.jsonl"
    tokenizer = ("--tokenizer", made["folder"] / "tokenizer")
    convert(made["old"], dense, "--encoding", "dense", "--compression_bits", 32, *tokenizer)
    convert(made["old"], topk, "--encoding", "topk", "--topk", 16, *tokenizer)
    for exact, rows in zip(made["exact"], teacher_rows(dense), strict=True):
        np.testing.assert_allclose(rows.logits, exact, rtol=1e-6, atol=1e-6)
    for path in (dense, topk):
        dataset = AssertionDataset(path, made["tokenizer"])
        assert dataset.has_teacher and all(isinstance(dataset[i], Item) for i in range(ROWS))
    missing = convert(made["old"], made["folder"] / "x.jsonl", "--encoding", "dense", check=False)
    assert missing.returncode == 2 and "--tokenizer" in missing.stderr


def test_a_conversion_to_what_the_file_does_not_hold_is_refused(made: dict) -> None:
    topk, target = made["folder"] / "k5.jsonl", made["folder"] / "no.jsonl"
    convert(made["hidden"], topk, "--encoding", "topk", "--topk", 5)
    for words in (("dense",), ("hidden",), ("topk", "--topk", 6)):
        done = convert(topk, target, "--encoding", *words, check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert not target.exists() and not shared_path(target).exists()
    same = convert(topk, topk, "--encoding", "topk", "--topk", 2, "--overwrite", check=False)
    assert same.returncode == 2 and "never the input" in same.stderr


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text: text[: len(text) // 2 // 4 * 4], "truncated|cut|damaged"),
        (lambda text: text[:60] + ("A" if text[60] != "A" else "B") + text[61:], "damaged|payload|declare"),
        (lambda text: "*" + text[1:], "base64"),
        (lambda text: None, "missing|string"),
    ],
)
def test_bad_rows_are_left_out_and_counted(made: dict, tmp_path: Path, spoil, reason: str) -> None:
    rows = [dict(row) for row in made["rows"]]
    rows[3]["teacher_logits_compressed"] = spoil(rows[3]["teacher_logits_compressed"])
    source = tmp_path / "source.jsonl"
    shared_path(source).write_bytes(shared_path(made["hidden"]).read_bytes())
    header = made["hidden"].read_text().splitlines()[0]
    lines = [header, *map(json.dumps, rows), '{"focal_method": "cut sho']
    source.write_text("\n".join(lines))
    done = convert(source, tmp_path / "out.jsonl", "--encoding", "topk", "--max_reject_rate", 0.2)
    kept = [json.loads(line)["assertions"] for line in (tmp_path / "out.jsonl").read_text().splitlines()[1:]]
    assert kept == [row["assertions"] for number, row in enumerate(rows) if number != 3]
    assert "omitted: 1 x not valid JSON" in done.stdout  # the last line, which its writer did not finish
    assert len(re.findall("omitted: 1 x", done.stdout)) == 2
    too_many = convert(source, tmp_path / "two.jsonl", "--encoding", "topk", "--max_reject_rate", 0.01, check=False)
    assert too_many.returncode == 2 and "rows are bad" in too_many.stderr
    assert not (tmp_path / "two.jsonl").exists()
    no_share = convert(source, tmp_path / "two.jsonl", "--encoding", "topk", "--max_reject_rate", 5, check=False)
    assert no_share.returncode == 2 and "--max_reject_rate 5.0: must be from 0 to 1" in no_share.stderr
    report = json.loads(run_here("scripts/inspect_distillation_data.py", source, "--json").stdout)
    assert report["rows"] == ROWS - 1 and sum(report["bad_rows"].values()) == 2
    assert report["bad_rows"].pop("not valid JSON") == 1
    assert re.search(reason, next(iter(report["bad_rows"])))


def test_fidelity_report_against_float64(made: dict) -> None:
    """8-bit dense against exact hidden states: KL by hand, and every figure there."""
    coarse = made["folder"] / "coarse.jsonl"
    convert(made["hidden"], coarse, "--encoding", "dense", "--compression_bits", 8)
    report = json.loads(
        run_here("scripts/inspect_distillation_data.py", coarse, "--reference", made["hidden"], "--json").stdout
    )
    stored = np.concatenate([rows.logits for rows in teacher_rows(coarse)]).astype(np.float64)
    exact = np.concatenate(made["exact"])
    for temperature in (1.0, 2.0):
        log_p = exact / temperature - np.logaddexp.reduce(exact / temperature, axis=1, keepdims=True)
        log_q = stored / temperature - np.logaddexp.reduce(stored / temperature, axis=1, keepdims=True)
        kl = (np.exp(log_p) * (log_p - log_q)).sum(1).mean()
        got = report["fidelity"][f"T={temperature:g}"]
        assert got["kl"] == pytest.approx(kl, rel=0.02)
        assert got["kl_gradient_cosine"] > 0.99 and got["jsd_gradient_ratio"] == pytest.approx(1, abs=0.05)
        top = -np.sort(-np.exp(log_p), axis=1)[:, :64].sum(1)
        assert report["mass_outside"][f"T={temperature:g}"] == pytest.approx(1 - top.mean(), abs=2e-3)
    # 8 bits leave ties at the top: which of the tied tokens is first is anybody's choice.
    tied = stored == stored.max(1, keepdims=True)
    right = tied[np.arange(len(exact)), exact.argmax(1)]
    alone = right & (tied.sum(1) == 1)
    assert alone.mean() <= report["fidelity"]["T=1"]["top1"] <= right.mean() and alone.mean() > 0.9
    text = run_here("scripts/inspect_distillation_data.py", coarse, "--reference", made["hidden"]).stdout
    assert "KL gradient cosine" in text and f"{ROWS} rows" in text
    raw = made["folder"] / "raw.jsonl"
    raw.write_text("\n".join(json.dumps({k: v for k, v in row.items() if "logits" not in k}) for row in made["rows"]))
    refused = run_here("scripts/inspect_distillation_data.py", coarse, "--reference", raw, check=False)
    assert refused.returncode == 2 and "rows has readable teacher logits" in refused.stderr


def test_topk_of_all_tokens_has_the_exact_gradient() -> None:
    """With k = V nothing is left out, so both readings give the dense teacher's divergences and gradients."""
    random = torch.Generator().manual_seed(0)
    exact, student = (torch.randn(5, 40, generator=random) * 3 for _ in range(2))
    ids, values, mass = (part.numpy() for part in encode_topk(exact, 40))
    signal = build_signal([unpack(pack(TopKRows(ids, values, mass, 40)))], {"mean_logits": exact.mean(0)})
    for tail in ("shaped", "bucket"):
        for key, value in fidelity(exact, signal, student, 2.0, tail).items():
            assert value / 5 == pytest.approx(0.0 if key in ("kl", "jsd") else 1.0, abs=2e-3), (tail, key)


def test_dense_old_and_new_agree_with_each_other() -> None:
    logits = (np.random.default_rng(3).standard_normal((4, 50)) * 5).astype(np.float32)
    old = decompress_logits(json.loads(json.dumps(compress_logits(logits, 16))))
    np.testing.assert_array_equal(old, unpack(pack(DenseRows(logits), 16)).logits)
