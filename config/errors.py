"""Errors for the user at the shell: one line that names the problem and the remedy."""

import difflib
import errno
import os
import re
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Collection
from pathlib import Path

from config.memory import keep_freed_memory

TRACEBACK = "--traceback"
PACKAGES = ("__main__", "config", "data", "deploy", "losses", "models", "utils")
OUT_OF_MEMORY = re.compile("out of memory|allocate memory|nsufficient memory")  # CUDA's, PyTorch's and the system's, OpenCV's
MORE_SPACE = "free some space"
FULL_DISK = {errno.ENOSPC: MORE_SPACE, errno.EDQUOT: MORE_SPACE, errno.EFBIG: "raise the limit on the size of files (ulimit -f)"}


class UserError(Exception):
    """Bad input. Its message is one line; the process prints it and ends with exit status 2."""


def check_minimum(least: int, **options: float | None) -> None:
    """Raise UserError for a command-line option, by its name in Python, that is below `least` or NaN. None: the option was not given."""
    for name, value in options.items():
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least {least}")


def suggestion(word: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown word: the most similar known one, or all."""
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def run_cli(main: Callable[[], None]) -> None:
    """Run a script's `main`. An error ends it with one line: status 2 after bad input, 130 after an interrupt, 1 after any other.

    The option `--traceback` is every script's. It prints where the error was raised before that line.
    """
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115 (None: closed)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may lack the letters of a file's name; a notebook has all
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # large images are no attack, and a corrupt one is a UserError of ours
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no partial file stays behind
    keep_freed_memory()
    arguments = [word for word in sys.argv if word != TRACEBACK]
    show_traceback, sys.argv = len(arguments) < len(sys.argv), arguments
    try:
        main()
    except KeyboardInterrupt as interrupt:
        sys.exit(_fail(str(interrupt) or "interrupted", 130))
    except Exception as error:
        if show_traceback:
            traceback.print_exception(error)
        sys.exit(_fail(*_explain(error)))


def _explain(error: Exception) -> tuple[str, int]:
    """Return an error's message for the user, and the exit status."""
    if isinstance(error, UserError):
        return str(error), 2
    text = str(error)
    if "Traceback (most recent" in text:  # the error of a DataLoader worker comes with its traceback
        text = text.strip().splitlines()[-1]
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return f"not enough memory ({text or 'of this machine'}); end other programs, or lower the batch size or the number of workers", 2
    if isinstance(error, OSError):  # full disk, permissions, a path that is a folder: the system's message names the file
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in FULL_DISK:
            return f"{where}{os.strerror(error.errno)}; {FULL_DISK[error.errno]}, or choose another folder", 2
        return f"{where}{error.strerror or error}", 2
    return f"unexpected {type(error).__name__} in {_place(error)}: {textwrap.shorten(text, 300)}; run with {TRACEBACK} to see where", 1


def _place(error: Exception) -> str:
    """Return file and line of the project's innermost call that led to an error."""
    calls = [call for call in traceback.walk_tb(error.__traceback__) if call[0].f_globals.get("__name__", "").split(".")[0] in PACKAGES]
    frame, line = calls[-1]
    return f"{os.path.relpath(frame.f_code.co_filename, Path(__file__).parents[1])}:{line}"


def _fail(message: str, status: int) -> int:
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))  # a file's name can hold any character
    print(f"error: {line}", file=sys.stderr, flush=True)
    # A broken pipe or a closed terminal must not turn the message into a traceback at exit
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
