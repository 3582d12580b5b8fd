"""Errors for the user at the shell: one line that names the problem and the remedy."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable


class UserError(Exception):
    """Bad input. Its message is one line; the process prints it and ends with exit status 2."""


def check_minimum(least: int, **options: float | None) -> None:
    """Raise UserError for a command-line option, by its name in Python, that is below `least` or NaN. None: the option was not given."""
    for name, value in options.items():
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least {least}")


def run_cli(main: Callable[[], None]) -> None:
    """Run a script's `main`. End with status 2 and one line after bad input, with 130 after an interrupt."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # large images are no attack, and a corrupt one is a UserError of ours
    try:
        main()
    except UserError as error:
        sys.exit(_fail(str(error), 2))
    except OSError as error:  # full disk, permissions, a path that is a folder: the system's message names the file
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(_fail(f"{where}{error.strerror or error}", 2))
    except KeyboardInterrupt as interrupt:
        sys.exit(_fail(str(interrupt) or "interrupted", 130))


def _fail(message: str, status: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    # A broken pipe or a closed terminal must not turn the message into a traceback at exit
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
