"""An evaluation from the first image to the figures, which can be interrupted and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from config.files import output_folder, write_json
from config.progress import Progress
from utils.evaluation.coco import CocoTask, remove_derived
from utils.inference import PoseEstimator
from utils.journal import Journal, find_people, fingerprint


def evaluate(
    task: CocoTask, estimator: PoseEstimator, checkpoint: Path, output: Path, batch_size: int, boxes_file: Path | None = None
) -> None:
    """Detect people in every image, write them down, and compare with the annotations if there are any.

    boxes_file: where the task's boxes come from, if not from its annotations.
    """
    output = output_folder(output)
    files = [checkpoint, task.path, *[boxes_file] * (boxes_file is not None)]
    with Journal(output / "detections.partial", fingerprint(estimator.config, task.folder, *files)) as journal:
        with Progress(len(task.files), "evaluate", "image") as progress:
            find_people(journal, task.files, *_ways(task, estimator), batch_size, progress)
        detections = [detection for image_id in task.files for detection in journal.done[image_id]]
        write_json(output / "detections.json", detections)
        remove_derived(output)
        print(task.report(detections, output))
        journal.finish()
    print(f"{len(detections)} people in {len(task.files)} images: {output / 'detections.json'}")


def _ways(task: CocoTask, estimator: PoseEstimator) -> tuple[Callable, Callable]:
    """`find_people`'s estimate and entry. Where one answer is wanted for each annotated person, a system that looks into boxes is shown
    each box alone: of those of one image it would give the best, in their order."""
    if not estimator.needs_boxes:
        return lambda ids, images: estimator.batch(images), task.detections
    if not task.one_each:
        return lambda ids, images: estimator.batch(images, [task.boxes(image_id) for image_id in ids]), task.detections

    def estimate(ids: Sequence[int], images: Sequence[np.ndarray]) -> list[tuple]:
        boxes = [task.boxes(image_id) for image_id in ids]
        alone = [(image, box[None]) for image, of_image in zip(images, boxes) for box in of_image]
        found = iter(estimator.batch(*zip(*alone)))
        return [(list(islice(found, len(of_image))),) for of_image in boxes]

    return estimate, task.box_detections
