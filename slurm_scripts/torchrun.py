"""Starts torchrun for jobs that are requeued: it survives SIGUSR1 and ends with its workers' exit code.

Slurm signals every process of a job step, so the workers get SIGUSR1 themselves and write their checkpoint. Plain
torchrun would die of the signal, and would turn the workers' "start me again" into exit code 1. The arguments are
torchrun's.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

asked: list[int] = []  # the signals that asked for a checkpoint and an end
# Not SIG_IGN, which workers inherit: a worker without a handler of its own must die of the signal, not miss it.
signal.signal(signal.SIGUSR1, lambda number, _: asked.append(number))

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from utils.signals import REQUEUE_EXIT_CODE

try:
    main()
except ChildFailedError as error:
    codes = {failure.exitcode for failure in error.failures.values()}
    print(f"workers ended with {sorted(codes)}", file=sys.stderr)
    sys.exit(REQUEUE_EXIT_CODE if codes & {REQUEUE_EXIT_CODE, -signal.SIGUSR1} else 1)
except SignalException as error:
    # With several nodes, srun ends this launcher as soon as another one has ended with 85.
    sys.exit(REQUEUE_EXIT_CODE if asked else 128 + error.sigval)
