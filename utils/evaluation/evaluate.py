"""An evaluation from the first image to the figures, which can be interrupted and taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from config.files import output_folder, write_json
from config.progress import Progress
from utils.evaluation.coco import FIGURES_NAME, CocoTask, figures_table, remove_derived, write_submission
from utils.inference import PoseEstimator
from utils.journal import Journal, find_people, fingerprint
from utils.systems import People


def evaluate(
    task: CocoTask, estimator: PoseEstimator, checkpoint: Path, output: Path, batch_size: int, boxes_file: Path | None = None
) -> None:
    """Detect people in every image, write them down, and compare with the annotations if there are any.

    boxes_file: where the task's boxes come from, if not from its annotations.
    """
    output = output_folder(output)

    def estimate(image_ids: Sequence[int], images: Sequence[np.ndarray]) -> list[People]:
        if estimator.needs_boxes:
            return estimator.batch(images, [task.boxes(image_id) for image_id in image_ids])
        return estimator.batch(images)

    files = [checkpoint, task.path, *[boxes_file] * (boxes_file is not None)]
    with Journal(output / "detections.partial", fingerprint(estimator.config, task.folder, *files)) as journal:
        with Progress(len(task.files), "evaluate", "image") as progress:
            find_people(journal, task.files, estimate, task.detections, batch_size, progress)
        detections = [detection for image_id in task.files for detection in journal.done[image_id]]
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
    print(f"{len(detections)} people in {len(task.files)} images: {output / 'detections.json'}")
