"""Finding people in many images, for hours: what is found is on disk at once, so that an interrupted run goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import Config, UserError
from config.files import write_text
from config.progress import Progress
from data.images import read_image, read_images

Estimate = Callable[[Sequence[int], Sequence[np.ndarray]], Sequence[tuple]]
Entry = tuple[int, Any]  # an image's id, what was found in it: anything that JSON can hold


class Journal:
    """A line of JSON per image. `done`: image id -> what was found in it; `fingerprint`: what that depends on, another one starts anew."""

    def __init__(self, path: Path, fingerprint: str):
        self.path = path
        self.done: dict[int, Any] = dict(_entries(path, fingerprint))
        # Without what a kill cut short; written beside and renamed, so that a kill here loses nothing either
        write_text(path, "".join([fingerprint + "\n", *(_line(*entry) for entry in self.done.items())]))
        self.file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, image: int, found: Any) -> None:
        """Keep what was found in one image, whatever happens to the machine from here on."""
        self.done[image] = found
        self.file.write(_line(image, found))
        os.fsync(self.file.fileno())

    def finish(self) -> None:
        """Everything is in the final files: nothing to go on from."""
        self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if not self.done:
            self.path.unlink(missing_ok=True)


def _line(image: int, found: Any) -> str:
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


def fingerprint(config: Config, folder: Path, *files: Path) -> str:
    """What the people found depend on: configuration, images' folder, and files such as checkpoint, annotations, or a rescoring network."""
    parts = [config.model_dump_json(), str(folder.resolve())]
    configured = [value for value in vars(config.inference).values() if isinstance(value, Path)]
    for file in (*files, *configured):
        parts += [str(file.resolve()), str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def find_people(
    journal: Journal,
    files: Mapping[int, Path],
    estimate: Estimate,
    entry: Callable[..., Any],
    batch_size: int,
    progress: Progress,
    read: Callable[[Path], np.ndarray | UserError] = read_image,
) -> list[UserError]:
    """Add to the journal those of the images that it does not have; what is wrong with images that `read` gives as a UserError.

    estimate: ids and images (H, W, 3) uint8 BGR -> of each, its people. entry: an image's id and its people -> what the journal is to keep.
    """
    waiting = {image_id: file for image_id, file in files.items() if image_id not in journal.done}
    failures: list[UserError] = []
    progress.skip(len(files) - len(waiting))
    decoded = zip(waiting, read_images(waiting.values(), read))
    while batch := list(islice(decoded, batch_size)):
        failures += [image for _, image in batch if isinstance(image, UserError)]
        readable = {image_id: image for image_id, image in batch if not isinstance(image, UserError)}
        for image_id, people in zip(readable, _people(estimate, readable)):
            journal.add(image_id, entry(image_id, *people))
        progress.advance(len(batch), f"{len(failures)} images failed" if failures else "")
    return failures


def _people(estimate: Estimate, images: Mapping[int, np.ndarray]) -> Sequence[tuple]:
    try:
        return estimate(list(images), list(images.values())) if images else []
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is used up; lower --batch-size, or the largest of inference.scales") from error
