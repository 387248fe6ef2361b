"""Two nodes on one machine: two network namespaces joined by a cable, one launcher in each, gloo between them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.commands import ROOT, student_words

ADDRESSES = ("10.77.0.1", "10.77.0.2")
TORCHRUN = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d",
            "--rdzv_endpoint", f"{ADDRESSES[0]}:29500", "--rdzv_id", "nodes", "--local_addr", "{address}",
            "--rdzv_conf", "is_host={is_host}"]  # fmt: skip  # torchrun would ask the host name, which the two share
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "2",
              "--machine_rank", "{rank}", "--main_process_ip", ADDRESSES[0], "--main_process_port", "29501",
              "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """The names of two namespaces that reach each other and nothing else."""
    names = [f"node{number}-{os.getpid()}" for number in range(2)]
    cables = [f"cable{number}-{os.getpid() % 10000}" for number in range(2)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
            for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
                ip("link", "set", cable, "netns", name)
                ip("-n", name, "link", "set", cable, "name", "eth0")
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name, check=False)
        ip("link", "del", cables[0], check=False)


@pytest.fixture(scope="module")
def words(teacher_run: Path) -> list[object]:
    more = ["--dropout_rate", 0, "--epochs", 1, "--gradient_accumulation_steps", 1]
    return student_words(teacher_run, Path("FOLDER"), *more)


@pytest.fixture(scope="module")
def one_node(words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run([sys.executable, *launcher, *in_folder(words, folder)], cwd=ROOT, check=True, env=environment("lo"),
                   capture_output=True, timeout=500)  # fmt: skip
    return folder


def in_folder(words: list[object], folder: Path) -> list[str]:
    return [str(folder) if str(word) == "FOLDER" else str(word) for word in words]


def environment(interface: str) -> dict[str, str]:
    more = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": interface}
    return {**os.environ, **more}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_nodes_train_what_two_processes_of_one_do(launcher, nodes, words, one_node, tmp_path):
    started = []
    for rank, (node, address) in enumerate(zip(nodes, ADDRESSES, strict=True)):
        given = [word.format(rank=rank, address=address, is_host=rank == 0) for word in launcher]
        command = ["ip", "netns", "exec", node, sys.executable, *given, *in_folder(words, tmp_path / "run")]
        with open(tmp_path / f"{rank}.log", "w") as log:
            started.append(subprocess.Popen(command, cwd=ROOT, env=environment("eth0"), stdout=log, stderr=log))
    try:
        codes = [process.wait(timeout=500) for process in started]
    finally:
        for process in started:
            process.kill()
    assert codes == [0, 0], [(tmp_path / f"{rank}.log").read_text()[-2000:] for rank in range(2)]
    ours, theirs = (load_file(folder / "final_model" / "model.safetensors") for folder in (one_node, tmp_path / "run"))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-5, atol=1e-5)
