"""What the benchmarks share: timing in turns, peak memory, a description of the machine, tables and result files."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from utils.atomic_io import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NOT_RUN = "no time was left"
PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy")


def options(description: str | None, repeats: int) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--toy", action="store_true", help="a tiny size, to see within seconds that it runs; stores nothing"
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="measured turns; medians are reported")
    parser.add_argument("--budget", type=float, default=240.0, help="seconds after which no further turn begins")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: for a machine that is busy")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's choice)")
    parser.add_argument("--output", type=Path, help="JSON to write (default: benchmarks/results/NAME.json)")
    return parser


def _processor_seconds() -> tuple[float, float, float]:
    """Of the cores that this process may use: seconds used by anyone, used by it and its children, and all."""
    try:
        import resource

        mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    except (ImportError, AttributeError, OSError):
        return 0.0, 0.0, 0.0
    ticks = [[float(x) for x in row[1:9]] for row in rows if row[0] in mine]
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    rate = os.sysconf("SC_CLK_TCK")
    # user nice system idle iowait irq softirq steal
    return sum(sum(t) - t[3] - t[4] for t in ticks) / rate, own, sum(map(sum, ticks)) / rate


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, with torch's threads set."""
    args = parser.parse_args()
    args.processor_seconds = _processor_seconds()
    if args.toy:
        args.repeats = min(args.repeats, 2)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    return args


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def find_commit() -> str | None:
    """The commit of the code, short; None where it is no checkout."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Processor, cores, memory, device and versions: what a number depends on besides the code."""
    import psutil
    import torch

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "system": platform.system(),
        "python": platform.python_version(),
        **found,
        "commit": find_commit(),
    }


def _cpu_clock() -> float:
    """Processor seconds of this process's threads and of its ended children."""
    return time.process_time() + sum(os.times()[2:4])


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": _cpu_clock}


def seconds(function: Callable[[], Any], clock: str = "wall") -> float:
    """Time of one call, the GPU's work included."""
    import torch

    now = CLOCKS[clock]
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = now()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return now() - started


def in_turns(
    cases: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmup: int = 1,
    *,
    budget: float = float("inf"),
    clock: str = "wall",
) -> dict[str, list[float]]:
    """Seconds of each case in each turn; a turn runs all cases, so a busy spell of the machine hits them alike.

    After ``budget`` seconds no further turn begins, so there may be fewer than ``repeats``.
    """
    began = time.perf_counter()
    for _ in range(warmup):
        for function in cases.values():
            function()
    times: dict[str, list[float]] = {name: [] for name in cases}
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats):
            turn_began = time.perf_counter()
            # Every second turn backwards: no case always follows the same other.
            for name in list(cases)[:: 1 if turn % 2 == 0 else -1]:
                times[name].append(seconds(cases[name], clock))
            now = time.perf_counter()
            if now + (now - turn_began) > began + budget:
                break
    finally:
        gc.enable()
    return times


def ratio(times: Mapping[str, Sequence[float]], case: str, base: str) -> float:
    """Median over the turns of ``case / base`` within one turn."""
    return statistics.median(a / b for a, b in zip(times[case], times[base], strict=True))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and both ends."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "turns": len(values)}


def peak_extra_bytes(function: Callable[[], Any]) -> int | None:
    """How far the resident memory rises above what it was, during one call; None where the system cannot tell.

    Linux resets its high-water mark on request; no allocator's own account is trusted. Freed memory goes back to the
    system first, or what an earlier call left in the heap would hide what this one needs.
    """
    import ctypes

    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    before = status("VmRSS")
    function()
    return status("VmHWM") - before


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers at the right, in as many digits as they deserve."""

    def shown(value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    cells = [[shown(value) for value in row] for row in rows]
    number = [any(isinstance(row[i], int | float) for row in rows) for i in range(len(columns))]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = (v.rjust(w) if n else v.ljust(w) for v, w, n in zip(row, widths, number, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, number, strict=True)) + "|"
    return "\n".join([line(columns), rule, *map(line, cells)])


def report(
    name: str, args: argparse.Namespace, settings: Mapping[str, Any], tables: Mapping[str, tuple], **more: Any
) -> int:
    """Print tables (title -> columns, rows) and the JSON; store it, unless the size is a toy's. Returns 0."""
    used, own, everything = (b - a for a, b in zip(args.processor_seconds, _processor_seconds(), strict=True))
    settings = dict(settings) | {"clock": args.clock}
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    result: dict[str, Any] = {"benchmark": name, "command": command, "machine": machine(), "settings": settings}
    # Figures of a machine that was busy with other things say little; above a tenth measure again.
    result["machine"]["used_by_others"] = round(max(0.0, used - own) / everything, 3) if everything else None
    print(f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in result["machine"].items() if value is not None))
    print("settings: " + ", ".join(f"{key} {value}" for key, value in settings.items()))
    for title, (columns, rows) in tables.items():
        print(f"\n{title}\n{table(columns, rows)}")
    result["tables"] = {
        title: [dict(zip(columns, row, strict=True)) for row in rows] for title, (columns, rows) in tables.items()
    }
    result |= more
    print("\n" + json.dumps(result))
    output = args.output or (None if args.toy else RESULTS / f"{name}.json")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, result)
    return 0
