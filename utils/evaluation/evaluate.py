"""An evaluation from the first image to the figures, which can be interrupted and taken up again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from config import Config, UserError
from config.files import output_folder, write_json
from config.progress import Progress
from data.images import read_images
from utils.evaluation.coco import FIGURES_NAME, CocoTask, figures_table, remove_derived, write_submission
from utils.evaluation.journal import Journal
from utils.inference import PoseEstimator
from utils.systems import People

T = TypeVar("T")


def evaluate(task: CocoTask, estimator: PoseEstimator, checkpoint: Path, output: Path, batch_size: int) -> None:
    """Detect people in every image, write them down, and compare with the annotations if there are any."""
    output = output_folder(output)
    with Journal(output / "detections.partial", _fingerprint(estimator.config, task, checkpoint)) as journal:
        waiting = [image for image in task.images if image["id"] not in journal.done]
        with Progress(len(task.images), "evaluate", "image") as progress:
            progress.advance(len(task.images) - len(waiting))
            decoded = read_images(task.folder / image["file_name"] for image in waiting)
            for batch in _batches(zip(waiting, decoded), batch_size):
                images, pixels = zip(*batch)
                for image, people in zip(images, _estimate(estimator, pixels)):
                    journal.add(image["id"], task.detections(image["id"], *people))
                progress.advance(len(batch))
        detections = [detection for image in task.images for detection in journal.done[image["id"]]]
        write_json(output / "detections.json", detections)
        remove_derived(output)
        if task.annotated:
            figures = task.figures(detections)
            write_json(output / FIGURES_NAME, figures)
            print(figures_table(figures))
        else:
            server = f"; for the COCO server: {write_submission(output, detections)}" if task.has_server else ""
            print(f"no annotations to compare with{server}")
        journal.finish()
    print(f"{len(detections)} people in {len(task.images)} images: {output / 'detections.json'}")


def _estimate(estimator: PoseEstimator, pixels: Sequence[np.ndarray]) -> list[People]:
    try:
        return estimator.batch(pixels)
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is used up; lower --batch-size, or the largest of --scales") from error


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _fingerprint(config: Config, task: CocoTask, checkpoint: Path) -> str:
    """What an evaluation's detections depend on."""
    parts = [config.model_dump_json(), str(task.folder.resolve())]
    for file in (checkpoint, task.path):
        parts += [str(file.resolve()), str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
