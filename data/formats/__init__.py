"""Annotation files, one module and one entry in `FORMATS` a format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pycocotools.coco import COCO

import data.formats.coco as coco
import data.formats.crowdpose as crowdpose
import data.formats.mpii as mpii
import data.formats.posetrack as posetrack
from config.files import read_json
from data.formats.mending import Repairs, mended


class AnnotationFormat(NamedTuple):
    """How a data set's annotation files are recognized and read, and the metric that predictions are evaluated by.

    `matches` and `load` take what is in the JSON file, None for another file, and its path; `load` also whether the people of the test set
    are wanted where a file holds both.
    """

    matches: Callable[[Any, Path], bool]
    load: Callable[[Any, Path, bool], COCO]
    metric: str = "utils.evaluation.coco:CocoMetric"  # module:class


# Another format joins by its file and an entry here. The first one that matches reads the file.
FORMATS = {
    "mpii": AnnotationFormat(mpii.matches, mpii.load, "utils.evaluation.mpii:PckhMetric"),
    "crowdpose": AnnotationFormat(crowdpose.matches, crowdpose.load, "utils.evaluation.crowdpose:CrowdPoseMetric"),
    "posetrack18": AnnotationFormat(posetrack.matches, posetrack.load),
    "coco": AnnotationFormat(lambda content, path: True, coco.load),
}


def load_annotations(path: str | Path, held_out: bool = False, repairs: Repairs | None = None) -> COCO:
    """Read and index an annotation file; `dataset["format"]` names the one of FORMATS. Raises UserError where it is none of them.

    held_out: of a file that holds both, the people of the test set, not those of the training set. repairs: takes what was mended in
    the file; None: nothing is.
    """
    path = Path(path)
    content = None if path.suffix == ".mat" else read_json(path, "annotation file")
    if repairs is not None:
        content = mended(content, path, repairs)
    name, entry = next((name, entry) for name, entry in FORMATS.items() if entry.matches(content, path))
    annotations = entry.load(content, path, held_out)
    annotations.dataset["format"] = name
    return annotations
