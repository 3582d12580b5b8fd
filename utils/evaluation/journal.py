"""What a long evaluation has found so far, on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path


class Journal:
    """A line of JSON per image. `done`: image id -> its detections; `fingerprint`: what they depend on, another one starts anew."""

    def __init__(self, path: Path, fingerprint: str):
        self.path = path
        self.done: dict[int, list[dict]] = self._read(fingerprint)
        self.file = path.open("w", encoding="utf-8", buffering=1)
        self.file.write(fingerprint + "\n")
        for image, found in self.done.items():
            self._write(image, found)

    def add(self, image: int, found: list[dict]) -> None:
        """Keep one image's detections."""
        self.done[image] = found
        self._write(image, found)

    def finish(self) -> None:
        """Everything is in the final files: nothing to go on from."""
        self.path.unlink()

    def _read(self, fingerprint: str) -> dict[int, list[dict]]:
        if not self.path.exists():
            return {}
        header, *lines = self.path.read_text(encoding="utf-8").split("\n")
        # What follows the last line's end is empty, or a line that an interrupt cut short.
        return dict(map(json.loads, lines[:-1])) if header == fingerprint else {}

    def _write(self, image: int, found: list[dict]) -> None:
        self.file.write(json.dumps([image, found]) + "\n")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
