"""Reading what must be there and writing what must appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from config.errors import UserError


def existing_file(path: str | Path, what: str) -> Path:
    """The path, if it is a readable file; else a UserError that calls it `what`."""
    path = Path(path)
    if not path.is_file():
        gone = "a link that leads nowhere" if path.is_symlink() else "not found"
        reason = "is a folder, not a file" if path.is_dir() else "not a regular file" if path.exists() else gone
        raise UserError(f"{what} {path}: {reason}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{what} {path}: no permission to read it")
    return path


def existing_folder(path: str | Path, what: str) -> Path:
    """The path, if it is a folder; else a UserError that calls it `what`."""
    path = Path(path)
    if not path.is_dir():
        reason = "is a file, not a folder" if path.exists() else "not found"
        raise UserError(f"{what} {path}: {reason}")
    return path


def output_folder(path: str | Path) -> Path:
    """The folder, made if needed; a UserError if it cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another machine's process of the same number has the same probe
    except OSError as error:
        raise UserError(f"output folder {path}: cannot be written ({error.strerror}); choose another") from error
    return path


def check_apart(output: Path, sources: Iterable[Path]) -> None:
    """Raise UserError where a data set below `output` would replace one of these files and folders, or its pictures mix with theirs."""
    for part, source in product((output / "annotations.json", output / "images"), sources):
        written, read = part.resolve(), source.resolve()
        if written.is_relative_to(read) or read.is_relative_to(written):
            raise UserError(f"output folder {output}: its {part.name} would replace {source} or mix with it; choose another --output")


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Keep other processes from writing to a file or a folder meanwhile. Raises UserError where one is at it."""
    lock = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UserError(f"{path}: another process is writing to it; wait for its end, or choose another --output") from error
        except OSError:  # a file system without locks
            pass
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it becomes `path` in one step at the end, or is removed on any error."""
    path = Path(path)
    output_folder(path.parent)
    partial = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.partial{path.suffix}")  # no longer than names may be
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{path}: the name is too long for a file") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, allow_nan=False) + "\n")


def read_json(path: str | Path, what: str) -> Any:
    """Parse a JSON file; a UserError that calls it `what` if it is missing, cut short or not JSON."""
    path = existing_file(path, what)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path}: not valid JSON ({error}); is the download complete?") from error
