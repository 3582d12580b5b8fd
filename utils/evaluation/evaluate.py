"""An evaluation from the first image to the figures, which can be interrupted and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from config.files import output_folder, write_json
from config.progress import Progress
from utils.evaluation.coco import CocoTask, remove_derived
from utils.evaluation.shares import Share
from utils.inference import PoseEstimator
from utils.journal import Estimate, Journal, Others, find_people, fingerprint

JOURNAL_NAME, DETECTIONS_NAME = "detections.partial", "detections.json"
ALONE = Share()


def evaluate(
    task: CocoTask,
    estimator: PoseEstimator,
    checkpoint: Path,
    output: Path,
    batch_size: int,
    boxes_file: Path | None = None,
    share: Share = ALONE,
) -> None:
    """Detect people in every image, write them down, and compare with the annotations if there are any.

    boxes_file: where the task's boxes come from, if not from its annotations. share: the images that this process looks at; the first one
    writes everybody's results. Raises UserError where an image is not as large as the annotation file says, or cannot be read.
    """
    output = output_folder(output)
    files = [checkpoint, task.path, *[boxes_file] * (boxes_file is not None)]
    with _open_journal(output / JOURNAL_NAME, fingerprint(estimator.config, task.folder, *files), share) as journal:
        others = Others(journal, share.count if share.is_first else 1)
        with Progress(len(task.files), "evaluate", "image", shown=share.is_first) as progress:
            taken = (share.number, share.count)
            estimate, entry = _ways(task, estimator)
            find_people(journal, task.files, _sized(task, estimate), entry, batch_size, progress, share=taken, advanced=others.advanced)
            if not share.is_first:
                return
            share.wait_for(others, progress)
        found = journal.found()
        detections = [detection for image_id in task.files for detection in found[image_id]]
        write_json(output / DETECTIONS_NAME, detections)
        report(task, detections, output)
        journal.finish()
    print(f"{len(detections)} people in {len(task.files)} images: {output / DETECTIONS_NAME}")


def report(task: CocoTask, detections: list[dict], output: Path) -> None:
    """Write and say what is made of detections."""
    remove_derived(output)
    with np.errstate(over="ignore"):  # people so far off that the square is no number any more are as unlike as can be
        print(task.report(detections, output))


def _open_journal(path: Path, fingerprint: str, share: Share) -> Journal:
    """This process's; the first one takes in those that an interrupted run has left, before the others look what is done."""
    if share.is_first:
        journal = Journal(path, fingerprint)
        share.meet()
        return journal
    share.meet()
    return Journal(path, fingerprint, share.number)


def _sized(task: CocoTask, estimate: Estimate) -> Estimate:
    """`estimate`, but for a UserError where an image is not as large as the annotation file says."""

    def checked(ids: Sequence[int], images: Sequence[np.ndarray]) -> Sequence[tuple]:
        for image_id, image in zip(ids, images):
            task.check_size(image_id, image)
        return estimate(ids, images)

    return checked


def _ways(task: CocoTask, estimator: PoseEstimator) -> tuple[Estimate, Callable]:
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
