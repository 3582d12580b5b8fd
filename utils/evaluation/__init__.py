"""Evaluation, chosen by the data set."""

from __future__ import annotations

from pathlib import Path

from config import Skeleton
from data.formats import load_annotations
from data.formats.crowdpose import is_crowdpose
from utils.evaluation.coco import CocoTask
from utils.evaluation.crowdpose import CrowdPoseTask


def load_task(path: Path, folder: Path, skeleton: Skeleton, limit: int | None = None) -> CocoTask:
    """The task of an annotation file, of the data set that it is of. Raises UserError as the tasks do."""
    coco = load_annotations(path)
    return (CrowdPoseTask if is_crowdpose(coco) else CocoTask)(coco, path, folder, skeleton, limit)
