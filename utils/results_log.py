"""A log of a network's results on many images, written batch by batch, so that an interrupted run continues."""

from __future__ import annotations

import glob
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from config import Config, UserError
from config.files import file_lock
from config.progress import Progress
from data.formats.coco import Size, check_size
from data.images import read_image, read_images
from utils.batching import predict_stream, sized_batches

FORMAT = "ResultsLog 2"  # a log of another format is not continued


class ResultsLog:
    """One JSONL file a rank. After its fingerprint each line holds a batch: [[image id, result], ...], the result being any JSON.

    `completed`: ids of the images in the files of all ranks. Files of another fingerprint do not count (see `fingerprint`). Raises
    UserError where another run writes to the same log.
    """

    def __init__(self, path: Path, fingerprint: str, rank: int = 0):
        self.path, self.fingerprint = path, fingerprint
        self._own, self._file = path.with_name(f"{path.name}.{rank}.jsonl"), None
        self._resources = ExitStack()
        if rank == 0:
            self._resources.enter_context(file_lock(path))
        self.completed = {image_id for image_id, _ in self._records()}

    def add(self, records: list[tuple[int, Any]]) -> None:
        """Append a batch and flush it, so that a kill of the process does not lose it."""
        if not records:
            return
        if self._file is None:
            self._file = self._resources.enter_context(self._own.open("a", encoding="utf-8"))
            if not _has_fingerprint(self._own, self.fingerprint):
                self._file.truncate(0)
                self._file.write(self.fingerprint)
            self._file.write("\n")  # also ends a line that a kill has cut
        self._file.write(json.dumps(records) + "\n")
        self._file.flush()
        self.completed.update(image_id for image_id, _ in records)

    def results(self) -> dict[int, Any]:
        """Return the results of all ranks by image id."""
        return dict(self._records())

    def remove(self) -> None:
        """Delete the files of all ranks, once the results are stored elsewhere."""
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.*.jsonl"))

    def _records(self) -> Iterator[tuple[int, Any]]:
        for path in self._paths():
            if _has_fingerprint(path, self.fingerprint):
                with path.open(encoding="utf-8", errors="replace") as lines:
                    next(lines)
                    for line in lines:
                        try:
                            records = json.loads(line)
                        except ValueError:  # cut by a kill, or empty: these images are run again
                            continue
                        yield from map(tuple, records)

    def __enter__(self) -> ResultsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()


def _has_fingerprint(path: Path, fingerprint: str) -> bool:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline() == fingerprint + "\n"


def fingerprint(config: Config, folder: Path, *files: Path) -> str:
    """Hash the inputs of results: configuration, image folder, and files such as checkpoint, annotations and rescoring network."""
    parts = [FORMAT, config.model_dump_json(), str(folder.resolve())]
    configured = [value for value in vars(config.inference).values() if isinstance(value, Path)]
    for file in (*files, *configured):
        parts += [str(file.resolve()), str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class InputImage(NamedTuple):
    """An image for `predict_images`."""

    path: Path
    size: Size = (None, None)  # height, width in the annotation file
    boxes: np.ndarray | None = None  # (B, 4 or 5), where the decoder needs them


def predict_images(
    log: ResultsLog,
    decoder: Any,
    images: Mapping[int, InputImage],
    to_result: Callable[[int, np.ndarray, np.ndarray], Any],
    batch_size: int,
    device: torch.device,
    label: str,
    rank: int = 0,
    ranks: int = 1,
    read: Callable[[Path], np.ndarray | UserError] = read_image,
) -> list[UserError]:
    """Run a `utils.systems.Decoder` on the images that the log lacks and add the results. Return the errors that `read` returned.

    to_result: image id, keypoints (P, K, 3), scores (P,) -> the log's entry. Images are ordered by the network's input size, and each rank
    takes every `ranks`-th batch. Where sizes are listed, batches depend neither on the ranks nor on completed images: the results are the
    same to the last bit. Raises UserError where an image has another size than listed, or no image can be read.
    """
    batches = sized_batches(images, lambda image_id: _batch_key(decoder, images[image_id].size), batch_size)[rank::ranks]
    batch_of = {image_id: number for number, batch in enumerate(batches) for image_id in batch}
    remaining = [image_id for image_id in batch_of if image_id not in log.completed]
    expected = Counter(batch_of[image_id] for image_id in remaining)  # results of each batch
    errors: list[UserError] = []
    running: deque[int] = deque()

    def inputs() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for image_id, image in zip(remaining, read_images((images[image_id].path for image_id in remaining), read)):
            if isinstance(image, UserError):
                errors.append(image)
                expected[batch_of[image_id]] -= 1
                continue
            check_size(images[image_id].path, *image.shape[:2], images[image_id].size)
            running.append(image_id)
            yield image, images[image_id].boxes

    with Progress(len(batch_of), label, "image", shown=rank == 0) as progress:
        progress.skip(len(batch_of) - len(remaining))
        records: list[tuple[int, Any]] = []
        try:
            for people in predict_stream(decoder, inputs(), batch_size, device):
                image_id = running.popleft()
                records.append((image_id, to_result(image_id, *people)))
                if len(records) >= expected[batch_of[image_id]]:  # store whole batches only: a continued run has the same ones
                    log.add(records)
                    progress.advance(len(records), f"{len(errors)} images failed" if errors else "")
                    records = []
        except torch.OutOfMemoryError as error:
            raise UserError("the device's memory is used up; lower --batch-size, or the largest of inference.scales") from error
        log.add(records)
        if errors and not log.completed:
            raise errors[0]
        progress.advance(len(records) + len(errors))
    return errors


def _batch_key(decoder: Any, size: Size) -> Any:
    return None if None in size else decoder.batch_key(size)
