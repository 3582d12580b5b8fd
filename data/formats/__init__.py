"""Annotation formats: all are read as pycocotools' index of COCO's format.

Another format joins by a module here and an entry in FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pycocotools.coco import COCO

import data.formats.coco as coco
import data.formats.crowdpose as crowdpose
import data.formats.mpii as mpii
import data.formats.posetrack as posetrack
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import AnnotationFile, indexed


class AnnotationFormat(NamedTuple):
    """How a data set's annotation files are recognized and read, and what predictions on it are evaluated by."""

    matches: Callable[[AnnotationFile], bool]
    load: Callable[[AnnotationFile], dict[str, Any]]  # the content in COCO's format
    metric: str = "utils.evaluation.coco:CocoMetric"  # "module:class"


FORMATS = {  # the first that matches reads the file
    "mpii": AnnotationFormat(mpii.matches, mpii.load, "utils.evaluation.mpii:PckhMetric"),
    "crowdpose": AnnotationFormat(crowdpose.matches, crowdpose.load, "utils.evaluation.crowdpose:CrowdPoseMetric"),
    "posetrack18": AnnotationFormat(posetrack.matches, posetrack.load, "utils.evaluation.posetrack:PoseTrackMetric"),
    "coco": AnnotationFormat(lambda _: True, coco.load),
}


def load_annotations(
    path: str | Path,
    images: Sequence[Path] = (),
    split: Literal["train", "test"] = "train",
    fixes: AnnotationFixes | None = None,
) -> COCO:
    """Read and index an annotation file; its `dataset["format"]` is the name in FORMATS. Raise UserError where it is of none of them.

    images: folders and zip files of its images, for formats that need them. split: which people, of a file that holds both. fixes: counts
    what is fixed in the file; None: that is printed.
    """
    file = AnnotationFile(Path(path), tuple(images), split, AnnotationFixes() if fixes is None else fixes)
    name, entry = next((name, entry) for name, entry in FORMATS.items() if entry.matches(file))
    annotations = indexed({**entry.load(file), "format": name})
    if fixes is None:
        file.fixes.report()
    return annotations
