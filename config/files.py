"""Read files that must exist; write files that appear whole or not at all."""

import io
import json
import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from config.errors import FULL_DISK, UserError


def existing_file(path: str | Path, what: str) -> Path:
    """Return the path of a readable file. Raises UserError, which calls the file `what`, where there is none."""
    path = Path(path)
    if not path.is_file():
        reason = "not found" if not path.exists() else "is a folder, not a file" if path.is_dir() else "not a regular file"
        raise UserError(f"{what} {path}: {reason}; check its path")
    if not os.access(path, os.R_OK):
        raise UserError(f"{what} {path}: no permission to read it")
    return path


def existing_folder(path: str | Path, what: str) -> Path:
    """Return the path of a folder. Raises UserError, which calls the folder `what`, where there is none."""
    if not Path(path).is_dir():
        raise UserError(f"{what} {path}: " + ("is a file, not a folder" if Path(path).exists() else "not found"))
    return Path(path)


def output_folder(path: str | Path, probe: bool = True) -> Path:
    """Create the folder if needed. Raises UserError where that fails or, with `probe`, where no file can be written into it."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if probe:
            tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise UserError(f"output folder {path}: cannot be written ({error.strerror}); choose another") from error
    return path


def check_outputs(files: Iterable[Path], inputs: Iterable[str | Path | None], folders: Iterable[Path] = ()) -> None:
    """Raise UserError where files or folders to be written are to be read, by whatever path, or something else than a file is in the way.

    inputs: None is one that was not given.
    """
    files = list(files)
    written = {_file_id(path): path for path in (*files, *folders)}
    written.pop(None, None)
    for path in inputs if written else ():  # they can be a hundred thousand images
        output = None if path is None else written.get(_file_id(path))
        if output is not None:
            raise UserError(f"output {output}: would overwrite the input {path}; choose another output")
    for path in files:
        _check_replaceable(path)


def _check_replaceable(path: Path) -> None:
    """Raise UserError where a folder or a device is: the superuser would replace /dev/null, which all programs need."""
    if path.exists() and not path.is_file():
        raise UserError(f"output {path}: is {'a folder' if path.is_dir() else 'not a regular file'}; name a file")


def _file_id(path: str | Path) -> tuple[int, int] | None:
    """Return what is equal for all paths of a file or folder; None where there is none."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextmanager
def file_lock(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Lock a file or folder against other processes. Where another one holds the lock, print `waiting` and wait, or raise UserError."""
    from filelock import FileLock, Timeout  # 0.1 s, needed by training and evaluation only

    lock = FileLock(path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        if waiting is None:
            raise UserError(f"{path}: another process is writing to it; wait for its end, or choose another --output") from error
        print(waiting, file=sys.stderr, flush=True)
        lock.acquire()
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; `release` does it there
            Path(lock.lock_file).unlink()
        lock.release()


@contextmanager
def atomic_write(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to. On success it replaces `path` in one step; on an error it is removed.

    sync: wait until the disk has the content, so that a power failure leaves the old file or the new one. That takes milliseconds; images
    and the JSON file of each image go without.
    """
    path = Path(path)
    output_folder(path.parent, probe=False)
    _check_replaceable(path)
    partial = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(4)}.partial{path.suffix}")  # no longer than names may be
    try:
        yield partial
        if sync:
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno in FULL_DISK or str(error.filename) == str(partial):  # a failed write does not name its file
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


class CheckedFile(io.FileIO):
    """A new file for a library that crashes where a write fails, as on a full disk: `check` and `close` raise the error instead."""

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and self._error is None:
            rest = rest[self._tried(super().write, rest) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        return self._tried(super().truncate, size)

    def check(self) -> None:
        """Raise the first error of all calls so far."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        super().close()
        self.check()

    def _tried(self, work: Callable[[Any], int], value: Any) -> int:
        try:
            return work(value)
        except OSError as error:
            self._error = error
            return 0


def write_text(path: str | Path, text: str, sync: bool = True) -> None:
    """Write a text file whole or not at all."""
    with atomic_write(path, sync) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, sync: bool = True) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, allow_nan=False) + "\n", sync)


def read_text(path: str | Path, what: str) -> str:
    """Return the text of a file in UTF-8 or UTF-16, with or without a byte order mark. Raises UserError, which calls the file `what`."""
    content = existing_file(path, what).read_bytes()
    if content.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise UserError(f"{what} {path}: is packed; unpack it first (gunzip or unzip)")
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} {path}: its text is neither UTF-8 nor UTF-16 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def read_json(path: str | Path, what: str) -> Any:
    """Parse a JSON file. Raises UserError, which calls the file `what`, where it is missing, truncated or not JSON."""
    return parse_json(read_text(path, what), f"{what} {path}")


def parse_json(text: str, source: str) -> Any:
    """Return the value of a JSON text. Raises UserError, which begins with `source`, where it is not JSON or a key is given twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            of_entry = f" in the entry with the id {entry['id']!r}" if "id" in entry else ""
            raise UserError(f"{source}: the key {key!r} is given twice{of_entry}; remove one of them")
        return entry

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}: not valid JSON ({error}); is the download complete?") from error
    except RecursionError:
        raise UserError(f"{source}: nested too deeply") from None
    except ValueError as error:  # of `int`
        raise UserError(f"{source}: has a number of more than {sys.get_int_max_str_digits():,} digits") from error
