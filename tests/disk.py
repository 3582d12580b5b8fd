"""Files of tests: JSON, and a disk that is full."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """Return the value of a JSON file."""
    return json.loads(path.read_text())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size in bytes of written files, in place of a full disk.

    Only around the code under test: pytest's own output may be a file too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
