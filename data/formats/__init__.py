"""Annotation formats: all are read as COCO's, and their people as `AnnotatedPeople`.

Another format joins by a module here and an entry in FORMATS.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import data.formats.coco as coco
import data.formats.crowdpose as crowdpose
import data.formats.mpii as mpii
import data.formats.posetrack as posetrack
import data.formats.yolo_pose as yolo_pose
from config import Skeleton, UserError
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import AnnotationFile, Split
from data.formats.people import AnnotatedPeople, read_people


class AnnotationFormat(NamedTuple):
    """How a data set's annotation files are recognized and read, and what predictions on it are evaluated by."""

    matches: Callable[[AnnotationFile], bool]
    load: Callable[[AnnotationFile], dict[str, Any]]  # the content in COCO's format
    metric: str = "utils.evaluation.coco:CocoMetric"  # "module:class"
    splits: bool = False  # whether a file holds several
    skeleton: Callable[[AnnotationFile, dict[str, Any]], Skeleton] | None = None  # the data set's own, of file and content


FORMATS = {  # the first that matches reads the file
    "yolo_pose": AnnotationFormat(yolo_pose.matches, yolo_pose.load, splits=True, skeleton=yolo_pose.skeleton),
    "mpii": AnnotationFormat(mpii.matches, mpii.load, "utils.evaluation.mpii:PckhMetric", splits=True),
    "crowdpose": AnnotationFormat(crowdpose.matches, crowdpose.load, "utils.evaluation.crowdpose:CrowdPoseMetric"),
    "posetrack18": AnnotationFormat(posetrack.matches, posetrack.load, "utils.evaluation.posetrack:PoseTrackMetric"),
    "coco": AnnotationFormat(lambda _: True, coco.load),
}
SPLIT_HELP = "of a YOLO pose data set, or of MPII's .mat"  # of --split
NAMES_HELP = "a category without names of its keypoints has the skeleton's, in the order of its dataset"  # of --names-from-skeleton


def load_annotations(
    path: str | Path,
    skeleton: Skeleton | None = None,
    images: Sequence[Path] = (),
    split: Split | None = None,
    fixes: AnnotationFixes | None = None,
    names_from_skeleton: bool = False,
    default_split: Split = "train",
) -> AnnotatedPeople:
    """Read an annotation file of any of the FORMATS. Raise UserError where it is of none of them, or an entry of people is invalid.

    skeleton: None is the known one with the file's keypoints, or the data set's own. names_from_skeleton: a category without names of its
    keypoints has its. images: folders and zip files of its images; none: what the file names, in a format that does. split: which people,
    of a file that holds several; None: default_split. fixes: counts what is fixed in the file; None: that is printed.
    """
    file = AnnotationFile(Path(path), tuple(images), split or default_split, AnnotationFixes() if fixes is None else fixes)
    name, entry = next((name, entry) for name, entry in FORMATS.items() if entry.matches(file))
    if split is not None and not entry.splits:
        raise UserError(f"--split {split}: annotation file {path} has only one; omit it")
    content = entry.load(file)
    content = {"folders": list(images), **content, "format": name}
    if skeleton is None and entry.skeleton is not None:
        skeleton = entry.skeleton(file, content)
    people = read_people(content, skeleton, file.path, file.fixes, names_from_skeleton)
    if fixes is None:
        file.fixes.report()
    return people
