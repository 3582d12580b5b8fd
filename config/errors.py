"""Errors that are meant for the person at the shell: one line that names the thing and the way out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. Its message is one line, shown as it is; the process ends with exit status 2."""


def at_least(least: int, **options: float | None) -> None:
    """Raise UserError for an option of the command line, by its name in Python, that is lower or no number; None: it was not given."""
    for name, value in options.items():
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least {least}")


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; end with status 2 and one line for bad input, 130 for an interrupt."""
    try:
        main()
    except UserError as error:
        sys.exit(_fail(str(error), 2))
    except OSError as error:  # full disk, permissions, a path that is a folder: the system's words name the file
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_fail(f"{where}{error.strerror or error}", 2))
    except KeyboardInterrupt as interrupt:
        sys.exit(_fail(str(interrupt) or "interrupted", 130))


def _fail(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    # A broken pipe or a closed terminal must not turn the message into a traceback at exit.
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
