"""A log of a network's results on many images, written batch by batch, so that an interrupted run continues."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from config import Config, UserError
from config.files import file_lock
from config.progress import Progress
from data.formats.coco import Size, check_size
from data.image_source import ImageEntry
from data.images import read_images
from utils.batching import predict_stream, sized_batches
from utils.predictions import PosePredictions

FORMAT = "ResultsLog 3"  # a log of another format is not continued


class ResultsLog:
    """One JSONL file a rank beside `path`, a line [image id, result] an image, the result being any JSON.

    `completed`: ids of the images in the files of all ranks. A log of another fingerprint has other files (see `fingerprint`). As a context
    it is locked. Raises UserError where another run has locked it.
    """

    def __init__(self, path: Path, fingerprint: str, rank: int = 0):
        self.path, self._name = path, f"{path.name}.{fingerprint[:16]}"
        self._own = path.with_name(f"{self._name}.{rank}.jsonl")
        self._lock = file_lock(path) if rank == 0 else nullcontext()
        self.completed = set(self.results())

    def add(self, image_id: int, result: Any) -> None:
        """Append a result. A kill of the process does not lose it."""
        try:
            with self._own.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps([image_id, result]))  # what a kill has cut is a line of its own
        except OSError as error:  # of a full disk, which does not name the file
            error.filename = str(self._own)
            raise
        self.completed.add(image_id)

    def results(self) -> dict[int, Any]:
        """Return the results of all ranks by image id."""
        results = {}
        for path in self._paths(self._name):
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    with suppress(ValueError):  # cut by a kill: this image is run again
                        image_id, result = json.loads(line)
                        results[image_id] = result
        return results

    def remove(self) -> None:
        """Delete the files of all ranks and fingerprints, once the results are stored elsewhere."""
        for path in self._paths(self.path.name):
            path.unlink()

    def _paths(self, name: str) -> list[Path]:
        return sorted(self.path.parent.glob(f"{glob.escape(name)}.*.jsonl"))

    def __enter__(self) -> ResultsLog:
        self._lock.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


def fingerprint(config: Config, *paths: Path) -> str:
    """Hash the inputs of results: configuration, folders of images, and files such as checkpoint, annotations and rescoring network."""
    parts = [FORMAT, config.model_dump_json()]
    configured = [value for value in vars(config.inference).values() if isinstance(value, Path)]
    for path in (*paths, *configured):
        parts += [str(path.resolve()), *([str(path.stat().st_size), str(path.stat().st_mtime_ns)] if path.is_file() else [])]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()  # a file's name can be no text


class InputImage(NamedTuple):
    """An image for `predict_images`."""

    file: ImageEntry
    size: Size = (None, None)  # height, width in the annotation file
    boxes: np.ndarray | None = None  # (B, 4 or 5), where the decoder needs them


def predict_images(
    log: ResultsLog,
    decoder: Any,
    images: Mapping[int, InputImage],
    to_result: Callable[[int, PosePredictions], Any],
    batch_size: int,
    device: torch.device,
    label: str,
    rank: int = 0,
    ranks: int = 1,
    read: Callable[[ImageEntry], np.ndarray | UserError] = ImageEntry.read_image,
) -> list[UserError]:
    """Run a `utils.systems.Decoder` on the images that the log lacks and add the results. Return the errors that `read` returned.

    to_result: image id, its people -> the log's entry. Images are ordered by the network's input size, and each rank
    takes every `ranks`-th batch. Where sizes are listed, batches depend neither on the ranks nor on completed images: the results are the
    same to the last bit. Raises UserError where an image has another size than listed, or no image can be read.
    """

    def batch_key(image_id: int) -> Any:
        return None if None in images[image_id].size else decoder.batch_key(images[image_id].size)

    batches = sized_batches(images, batch_key, batch_size)[rank::ranks]
    remaining = [image_id for batch in batches if not log.completed.issuperset(batch) for image_id in batch]  # whole batches
    errors: list[UserError] = []

    def inputs() -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        for image_id, image in zip(remaining, read_images((images[image_id].file for image_id in remaining), read)):
            if isinstance(image, UserError):
                errors.append(image)
                continue
            check_size(images[image_id].file.path, image.shape[0], image.shape[1], images[image_id].size)
            yield image_id, image, images[image_id].boxes

    count = sum(map(len, batches))
    with Progress(count, label, "image", shown=rank == 0) as progress:
        progress.skip(count - len(remaining))
        try:
            for image_id, people in predict_stream(decoder, inputs(), batch_size, device):
                log.add(image_id, to_result(image_id, people))
                progress.advance(note=f"{len(errors)} images failed" if errors else "")
        except torch.OutOfMemoryError as error:
            raise UserError("the device's memory is used up; lower --batch-size, or the largest of inference.scales") from error
        if errors and not log.completed:
            raise errors[0]
        progress.advance(len(errors))
    return errors
