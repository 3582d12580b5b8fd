"""COCO annotation files: the category that holds a skeleton's keypoints, and its people."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from config import Skeleton, UserError
from config.files import read_json
from config.skeleton import HIDDEN, UNLABELLED, VISIBLE


def load_coco(path: str | Path) -> COCO:
    """Read and index an annotation file. Raises UserError where it is not one."""
    dataset = read_json(path, "annotation file")
    lists = ("images", "annotations", "categories")
    if not isinstance(dataset, dict) or not isinstance(dataset.get("images"), list):
        raise UserError(f"annotation file {path}: not in COCO's format, it has no list 'images'")
    broken = [key for key in lists if not isinstance(dataset.get(key, []), list)]
    if broken:
        raise UserError(f"annotation file {path}: not in COCO's format, {broken[0]!r} is not a list")
    coco = COCO()
    coco.dataset = {"info": {}, "annotations": [], "categories": [], **dataset}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
    except (KeyError, TypeError) as error:
        raise UserError(f"annotation file {path}: not in COCO's format, an entry lacks {error}") from error
    return coco


def keypoint_category(coco: COCO, skeleton: Skeleton, path: str | Path) -> tuple[int, np.ndarray]:
    """The id of the category that has the skeleton's keypoints, and where each of them stands in the file's own order (D,).

    Raises UserError where there is none; it names what the file has.
    """
    wanted = list(skeleton.dataset)
    for category in coco.dataset["categories"]:
        names = category.get("keypoints") or []
        if set(wanted) <= set(names):
            return category["id"], np.array([names.index(name) for name in wanted])
    found = ", ".join(str(category.get("name")) for category in coco.dataset["categories"]) or "none"
    raise UserError(
        f"annotation file {path}: no category has the keypoints of skeleton {skeleton.name!r} ({wanted[0]}, ...); categories found: {found}"
        " (COCO's person_keypoints_*.json files have it)"
    )


def annotated_joints(annotation: dict, order: np.ndarray) -> np.ndarray:
    """(D, 3) x, y, v in the data set's order with v 1 visible, 0 hidden, 2 not labelled (COCO's file has 2, 1, 0).

    order (D,): where each keypoint stands in the file. Raises UserError where the list is too short.
    """
    values = np.asarray(annotation.get("keypoints", ()), np.float32)
    if values.size == 0:
        values = np.zeros(3 * (int(order.max()) + 1), np.float32)
    if values.size % 3 or values.size <= 3 * order.max():
        raise UserError(
            f"annotation {annotation.get('id')}: {values.size} keypoint numbers, expected 3 for each of the category's keypoints"
        )
    joints = values.reshape(-1, 3)[order]
    joints[:, 2] = np.select([joints[:, 2] == 2, joints[:, 2] == 1], [VISIBLE, HIDDEN], UNLABELLED)
    return joints


def region(annotation: dict, height: int, width: int) -> np.ndarray:
    """(height, width) bool: the pixels of an annotation's polygons or RLE."""
    segmentation = annotation.get("segmentation")
    if not segmentation:  # files without outlines: the box is the best that is known
        mask = np.zeros((height, width), bool)
        x, y, w, h = annotation["bbox"]
        mask[max(round(y), 0) : max(round(y + h), 0), max(round(x), 0) : max(round(x + w), 0)] = True
        return mask
    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    return coco_mask.decode(encoded).astype(bool)
