"""What a long evaluation has found so far, on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from config.files import write_text

Entry = tuple[int, list[dict]]  # an image's id, its detections


class Journal:
    """A line of JSON per image. `done`: image id -> its detections; `fingerprint`: what they depend on, another one starts anew."""

    def __init__(self, path: Path, fingerprint: str):
        self.path = path
        self.done: dict[int, list[dict]] = dict(_entries(path, fingerprint))
        # Without what a kill cut short; written beside and renamed, so that a kill here loses nothing either
        write_text(path, "".join([fingerprint + "\n", *(_line(*entry) for entry in self.done.items())]))
        self.file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, image: int, found: list[dict]) -> None:
        """Keep one image's detections."""
        self.done[image] = found
        self.file.write(_line(image, found))

    def finish(self) -> None:
        """Everything is in the final files: nothing to go on from."""
        self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _line(image: int, found: list[dict]) -> str:
    text = json.dumps([image, found])
    return f"{_checksum(text)} {text}\n"


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _entries(path: Path, fingerprint: str) -> Iterator[Entry]:
    """The entries of a journal of this fingerprint; a line whose checksum is not its own is left out, and its image done again."""
    if not path.exists():
        return
    header, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in lines if header == fingerprint else ():
        checksum, _, text = line.partition(" ")
        if checksum == _checksum(text):
            yield tuple(json.loads(text))
