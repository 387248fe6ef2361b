"""Errors that a user can act on, and how an entry point reports them."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable

from utils.environment import set_aside

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
PATH_ERRORS = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


class UserError(Exception):
    """Something the user can fix. The message is one line: what is wrong, where, and what to do."""


def _out_of_memory(error: Exception) -> bool:
    """Of this process or of the GPU; torch's own class is recognised by name, since torch may not be installed."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error))
    )


def run_main(main: Callable[[], int | None]) -> None:
    """Run an entry point and exit. A UserError or a failing disk or path: one line and code 2; Ctrl-C: code 130."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # print "?" instead of failing on a stream in Latin-1
    notes = set_aside()
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        sys.stderr.writelines(f"warning: {note}\n" for note in notes)
    try:
        if sys.platform == "win32":  # locks, signals and reads by position are those of Unix
            raise UserError("this program runs on Linux and macOS; on Windows, run it in WSL")
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: send the rest nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        if error.errno not in DISK_ERRORS | PATH_ERRORS:
            raise
        print(f"error: {error.filename or 'a file'}: {error.strerror}; fix this and run again", file=sys.stderr)
        code = 2
    except Exception as error:
        if not _out_of_memory(error):
            raise
        where = "the GPU" if "CUDA" in str(error) else "this machine"
        print(
            f"error: out of memory on {where}; lower --batch_size and raise --gradient_accumulation_steps, add"
            " --gradient_checkpointing, or lower --max_input_len",
            file=sys.stderr,
        )
        code = 2
    sys.exit(code or 0)
