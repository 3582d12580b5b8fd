"""Finding people in many images, for hours: what is found is on disk at once, so that an interrupted run goes on from there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import Config, UserError
from config.files import sole_writer, write_text, written_whole
from config.progress import Progress
from data.images import read_image, read_images

Estimate = Callable[[Sequence[int], Sequence[np.ndarray]], Sequence[tuple]]
FORMAT = "a line a batch"  # of the journal: one of another format is begun anew
Entry = tuple[int, Any]  # an image's id, what was found in it: anything that JSON can hold


class Journal:
    """A line of JSON per batch of images. `done`: the ids of the images in it; what was found in them stays on disk until it is asked for.

    fingerprint: what that depends on, another one starts anew. rank: of several processes that share the images each has a file of its own,
    beside the first one's, which takes them all in when it is opened: the others must be opened after that. Raises UserError where another
    run is writing to the same file.
    """

    def __init__(self, path: Path, fingerprint: str, rank: int = 0):
        self.first, self.fingerprint = path, fingerprint
        self.path = part_path(path, rank)
        self._held = ExitStack()
        if rank == 0:
            self._held.enter_context(sole_writer(path))
            self._take_in()
        else:
            write_text(self.path, fingerprint + "\n")
        self.done = {image for images, _ in _lines(path, fingerprint) for image in images}
        self._kept = bool(self.done) and rank == 0
        self.file = self.path.open("a", encoding="utf-8", buffering=1)

    def _take_in(self) -> None:
        """Join all files into the first, without what a kill cut short; written beside and renamed: a kill here loses nothing either."""
        parts = self._parts()
        with written_whole(self.path) as partial, partial.open("w", encoding="utf-8") as file:
            file.write(self.fingerprint + "\n")
            for part in [self.path, *parts]:
                file.writelines(line for _, line in _lines(part, self.fingerprint))
        for part in parts:
            part.unlink()

    def _parts(self) -> list[Path]:
        """The other processes' files, of this run or an earlier one."""
        return sorted(self.first.parent.glob(f"{glob.escape(self.first.stem)}.[0-9]*{self.first.suffix}"))

    def add(self, image: int, found: Any) -> None:
        """Keep what was found in one image, whatever happens to the machine from here on."""
        self.add_all([(image, found)])

    def add_all(self, entries: Sequence[Entry]) -> None:
        """`add` for the images of a batch: all of them are kept or none, so that it can be run again as the same batch."""
        self.file.write(_line(entries))
        os.fsync(self.file.fileno())
        self.done.update(image for image, _ in entries)
        self._kept = True

    def found(self) -> dict[int, Any]:
        """What was found in each image, by this process and the others."""
        lines = [_entries(line) for part in [self.first, *self._parts()] for _, line in _lines(part, self.fingerprint)]
        return {image: found for entries in lines for image, found in entries}

    def finish(self) -> None:
        """Everything is in the final files: nothing to go on from."""
        for path in [self.first, *self._parts()]:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        if not self._kept:
            self.path.unlink(missing_ok=True)
        self._held.close()


class Others:
    """What the other processes have done since the last look, by their files."""

    def __init__(self, journal: Journal, count: int):
        paths = [part_path(journal.first, rank) for rank in range(1, count)]
        self.ends = dict.fromkeys(paths, len(journal.fingerprint) + 1)  # how many bytes have been looked at

    def advanced(self) -> int:
        """How many images more."""
        images = 0
        for path, end in self.ends.items():
            if path.exists():
                with path.open("rb") as file:
                    file.seek(end)
                    lines, newline, _ = file.read().rpartition(b"\n")
                images += sum(len(_entries(line)) for line in lines.decode().splitlines())
                self.ends[path] = end + len(lines) + len(newline)
        return images


def part_path(path: Path, rank: int) -> Path:
    """Where the process of this rank writes down what it finds."""
    return path if rank == 0 else path.with_name(f"{path.stem}.{rank}{path.suffix}")


def _line(entries: Sequence[Entry]) -> str:
    text = json.dumps([[image, found] for image, found in entries])
    return f"{_checksum(text)} {text}\n"


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _entries(line: str) -> list[Entry]:
    return [tuple(entry) for entry in json.loads(line.partition(" ")[2])]


def _lines(path: Path, fingerprint: str) -> Iterator[tuple[list[int], str]]:
    """The lines of a journal of this fingerprint, each with its images' ids; one whose checksum is not its own is left out, and its
    images done again."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        if file.readline() != fingerprint + "\n":
            return
        for line in file:
            checksum, _, text = line.removesuffix("\n").partition(" ")
            if line.endswith("\n") and checksum == _checksum(text):
                yield [image for image, _ in _entries(line)], line


def fingerprint(config: Config, folder: Path, *files: Path) -> str:
    """What the people found depend on: configuration, images' folder, and files such as checkpoint, annotations, or a rescoring network."""
    parts = [FORMAT, config.model_dump_json(), str(folder.resolve())]
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
    share: tuple[int, int] = (0, 1),
    advanced: Callable[[], int] = lambda: 0,
) -> list[UserError]:
    """Add to the journal those of the images that it does not have; what is wrong with images that `read` gives as a UserError.

    estimate: ids and images (H, W, 3) uint8 BGR -> of each, its people. entry: an image's id and its people -> what the journal is to keep.
    share: this process's number among so many; each takes every so many-th batch, and which images make a batch depends neither on how
    many processes there are nor on what is done: a result could depend on it in its last digits. advanced: how many more images the others
    have done, for the progress.
    """
    number, count = share
    progress.skip(sum(image_id in journal.done for image_id in files))
    batches = islice(_batches(files, batch_size), number, None, count)
    waiting = [[image_id for image_id in ids if image_id not in journal.done] for ids in batches]
    decoded = read_images((files[image_id] for ids in waiting for image_id in ids), read)
    failures: list[UserError] = []
    for ids in filter(None, waiting):
        batch = dict(zip(ids, decoded))
        failures += [image for image in batch.values() if isinstance(image, UserError)]
        readable = {image_id: image for image_id, image in batch.items() if not isinstance(image, UserError)}
        found = zip(readable, _people(estimate, readable))
        entries = [(image_id, entry(image_id, *people)) for image_id, people in found]
        if entries:
            journal.add_all(entries)
        progress.advance(len(batch) + advanced(), f"{len(failures)} images failed" if failures else "")
    return failures


def _batches(files: Mapping[int, Path], size: int) -> Iterator[list[int]]:
    """The images' ids in groups of this size, in their order."""
    ids = iter(files)
    while batch := list(islice(ids, size)):
        yield batch


def _people(estimate: Estimate, images: Mapping[int, np.ndarray]) -> Sequence[tuple]:
    try:
        return estimate(list(images), list(images.values())) if images else []
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is used up; lower --batch-size, or the largest of inference.scales") from error
