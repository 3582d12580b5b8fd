"""Another process that holds the lock of a file or folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from places import ROOT

HOLD = "import sys, pathlib; from config.files import file_lock\nwith file_lock(pathlib.Path(sys.argv[1])): print(flush=True), input()"


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[None]:
    """Have another process hold the path's lock. It is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLD, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.kill()
