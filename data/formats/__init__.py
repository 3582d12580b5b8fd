"""Annotation files, one module a format."""

from __future__ import annotations

from pathlib import Path

from pycocotools.coco import COCO

from data.formats.coco import load_coco
from data.formats.crowdpose import check_crowd_index, is_crowdpose, set_areas


def load_annotations(path: str | Path) -> COCO:
    """Read and index an annotation file of any format here. Raises UserError where it is none of them."""
    coco = load_coco(path)
    if is_crowdpose(coco):
        check_crowd_index(coco, path)
        set_areas(coco)
    return coco
