"""The C library's memory in the project's scripts; programs that import the project keep their own settings."""

import ctypes
import os
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the process and for processes forked from it, unless the environment sets up its malloc.

    Otherwise large arrays go back to the kernel, which clears each page anew: a sixth of the time of a small network. All threads
    share one arena, since others hold 64 MiB at most, and give it back.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):  # -1: never
                mallopt(option, value)
