"""COCO's segmentation: polygons and run-length encodings (RLE) of one image, and masks."""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from config import UserError

FARTHEST = 1e5  # pixels, of a polygon's corner: pycocotools walks along all of its outline


def has_segmentation(annotation: dict) -> bool:
    """Whether an annotation says where its person is more exactly than by a box."""
    return bool(annotation.get("segmentation")) and annotation["segmentation"] != [[]]


def segmentation_to_rle(segmentation: list | dict, height: int, width: int) -> list[dict]:
    """Return an annotation's polygons or RLE as pycocotools' RLEs of the image. Raise UserError where they cannot be decoded."""
    try:
        if isinstance(segmentation, list):
            return coco_mask.frPyObjects(_polygons(segmentation), height, width)
        if list(segmentation["size"]) != [height, width]:  # before as much memory is asked for
            raise ValueError(f"it is for another size than the image's {width} x {height}")
        counts = segmentation["counts"]
        lengths = [int(length) for length in (counts if isinstance(counts, list) else _run_lengths(counts))]
        if sum(lengths) != height * width:  # pycocotools would read or leave what is in memory there
            raise ValueError(f"its runs are of {sum(lengths)} pixels, the image has {height * width}")
        given = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
        return [mask_to_rle(coco_mask.decode(given))]  # without empty runs, at which merging may end
    except Exception as error:  # pycocotools has no error classes of its own
        raise UserError(f"its 'segmentation' cannot be decoded ({error})") from error


def mask_to_rle(mask: np.ndarray) -> dict:
    """Return pycocotools' RLE of a mask (height, width), bool or of 0 and 1."""
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def rle_to_mask(runs: list[dict], height: int, width: int) -> np.ndarray:
    """Return (height, width) bool: the pixels of any of these RLEs of the image."""
    if not runs:
        return np.zeros((height, width), bool)
    return cv2.transpose(coco_mask.decode(coco_mask.merge(runs)).T).view(bool)  # pycocotools goes down the columns


def _run_lengths(counts: str | bytes) -> list[int]:
    """Decode COCO's packed RLE: five bits a character, the lowest first, and from the fourth on less the last but one.

    pycocotools does not check them, and crashes where they are more than the image's.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the number's last
            value -= (bits & 16) << (shift - 4)  # its sign
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def _polygons(segmentation: list) -> list[list[float]]:
    """Return those that have an area. Raise ValueError where none has, or one is not of x, y: pycocotools would read beyond its memory."""
    polygons = [np.asarray(polygon, float) for polygon in segmentation]
    if not all(p.ndim == 1 and p.size % 2 == 0 and (np.abs(p) < FARTHEST).all() for p in polygons):
        raise ValueError("a polygon is not a list of x, y within reach")
    with_area = [polygon.tolist() for polygon in polygons if polygon.size >= 6]
    if not with_area:
        raise ValueError("no polygon has three corners")
    return with_area
