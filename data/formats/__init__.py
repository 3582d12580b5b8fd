"""Annotation formats: all are read as COCO's, and their people as `AnnotatedPeople`.

Another format joins by a module here and an entry in FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import data.formats.coco as coco
import data.formats.crowdpose as crowdpose
import data.formats.mpii as mpii
import data.formats.posetrack as posetrack
from config import Skeleton
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import AnnotationFile
from data.formats.people import AnnotatedPeople, read_people


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
NAMES_HELP = "a category without names of its keypoints has the skeleton's, in the order of its dataset"  # of --names-from-skeleton


def load_annotations(
    path: str | Path,
    skeleton: Skeleton | None = None,
    images: Sequence[Path] = (),
    split: Literal["train", "test"] = "train",
    fixes: AnnotationFixes | None = None,
    names_from_skeleton: bool = False,
) -> AnnotatedPeople:
    """Read an annotation file of any of the FORMATS. Raise UserError where it is of none of them, or an entry of people is invalid.

    skeleton: None is the known one with the file's keypoints. names_from_skeleton: a category without names of its keypoints has its.
    images: folders and zip files of its images, for formats that need them. split: which people, of a file that holds both. fixes: counts
    what is fixed in the file; None: that is printed.
    """
    file = AnnotationFile(Path(path), tuple(images), split, AnnotationFixes() if fixes is None else fixes)
    name, entry = next((name, entry) for name, entry in FORMATS.items() if entry.matches(file))
    people = read_people({**entry.load(file), "format": name}, skeleton, file.path, file.fixes, names_from_skeleton)
    if fixes is None:
        file.fixes.report()
    return people
