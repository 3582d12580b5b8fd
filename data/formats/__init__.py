"""Annotation files, one module a format."""

from __future__ import annotations

from pathlib import Path

from pycocotools.coco import COCO

from config.files import read_json
from data.formats.coco import checked, indexed, keypoint_names
from data.formats.crowdpose import check_crowd_index, is_crowdpose, set_areas
from data.formats.mending import Repairs, mended
from data.formats.mpii import load_mpii_mat, mpii_list
from data.formats.posetrack import as_coco, is_posetrack


def load_annotations(path: str | Path, held_out: bool = False, repairs: Repairs | None = None) -> COCO:
    """Read and index an annotation file of any format here. Raises UserError where it is none of them.

    held_out: of a file that holds both, the people of the test set, not those of the training set. repairs: takes what was mended in
    the file; None: nothing is.
    """
    if Path(path).suffix == ".mat":
        return load_mpii_mat(path, held_out)
    content = read_json(path, "annotation file")
    if isinstance(content, list):
        return mpii_list(content, path)
    coco = checked(content if repairs is None else mended(content, path, repairs), path)
    for category in coco.dataset["categories"]:
        keypoint_names(category, path)
    if is_crowdpose(coco):
        check_crowd_index(coco, path)
        set_areas(coco)
    return indexed(as_coco(coco.dataset, path)) if is_posetrack(coco) else coco
