"""That freed memory is reused: the kernel's count of page faults is the witness."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from utils.allocator import SET_BY_THE_USER

PROGRAM = """
import resource, torch
from utils.allocator import keep_freed_memory
print({call})
torch.set_num_threads(1)
block = torch.ones(10_000_000)
for _ in range(20):
    block * 2
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    block * 2
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(call: str, **variables: str) -> tuple[str, int]:
    plain = {name: value for name, value in os.environ.items() if name not in SET_BY_THE_USER}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)], env=plain | variables, stdout=-1, text=True, check=True
    )
    said, faults = done.stdout.split()
    return said, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_large_blocks_are_reused():
    pages = 10 * 40_000_000 // os.sysconf("SC_PAGE_SIZE")
    said, faults = count_faults("keep_freed_memory()")
    assert said == "True" and faults < pages / 10
    said, faults = count_faults("'as glibc does'.replace(' ', '_')")
    assert faults > pages / 2  # or this test would show nothing


def test_what_the_user_has_set_stays():
    said, _ = count_faults("keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="131072")
    assert said == "False"
