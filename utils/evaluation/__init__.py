"""Evaluation, chosen by the data set."""

from __future__ import annotations

from pathlib import Path

from pycocotools.coco import COCO

from config import Skeleton, UserError
from config.load import known_skeletons, load_skeleton
from data.formats import load_annotations
from utils.evaluation.coco import CocoTask
from utils.evaluation.crowdpose import CrowdPoseTask
from utils.evaluation.mpii import MpiiTask


def load_task(
    path: Path, folder: Path | None, skeleton: Skeleton | None, limit: int | None = None, head_boxes: Path | None = None
) -> CocoTask:
    """The task of an annotation file, of the data set that it is of. Raises UserError as the tasks do.

    folder: the images'; None: nobody looks at them. skeleton: the network's; None: the known one that has the file's keypoints.
    head_boxes: the file that MPII's evaluation takes them from; None: the one beside the annotation file, if there is one.
    """
    coco = load_annotations(path, [] if folder is None else [folder], split="test")
    skeleton = skeleton or skeleton_of(coco)
    if coco.dataset["format"] == "mpii":
        return MpiiTask(coco, path, folder, skeleton, limit, head_boxes)
    if head_boxes is not None:
        raise UserError(f"--head-boxes {head_boxes}: is for MPII's evaluation, but annotation file {path} is not MPII's")
    return (CrowdPoseTask if coco.dataset["format"] == "crowdpose" else CocoTask)(coco, path, folder, skeleton, limit)


def skeleton_of(coco: COCO) -> Skeleton:
    """The known skeleton that has most of an annotation file's keypoints, and fewest besides; COCO's where the file has none."""
    names = max((set(category.get("keypoints") or []) for category in coco.dataset["categories"]), key=len, default=set())
    known = {name: load_skeleton(name) for name in known_skeletons()}
    best = max(known.values(), key=lambda skeleton: (len(names & set(skeleton.dataset)), -len(skeleton.dataset)))
    return best if names else known["coco"]
