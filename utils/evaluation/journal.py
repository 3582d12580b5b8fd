"""What a long evaluation has found so far, on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
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
    return json.dumps([image, found]) + "\n"


def _entries(path: Path, fingerprint: str) -> list[Entry]:
    """The entries of a journal of this fingerprint; a damaged line is left out, and its image done again."""
    if not path.exists():
        return []
    header, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    entries = map(_entry, lines) if header == fingerprint else ()
    return [entry for entry in entries if entry is not None]


def _entry(line: str) -> Entry | None:
    try:
        image, found = json.loads(line)
    except (ValueError, TypeError):
        return None
    whole = isinstance(image, int) and isinstance(found, list) and all(isinstance(one, dict) for one in found)
    return (image, found) if whole else None
