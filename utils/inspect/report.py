"""Summarize a training HDF5 in lines of text."""

from collections.abc import Sequence

import numpy as np

from config.skeleton import OCCLUDED, UNLABELED, VISIBLE
from data.datasets import PoseDataset
from data.hdf5 import TrainingHDF5
from utils.inspect.issues import LabelIssue, describe_person

BAR = 40  # characters of the longest bar
SHOWN = 10  # issues of one kind that are listed
HEIGHTS = (16, 32, 64, 96, 128, 192, 256, 384, 512)  # lower bounds of the bins, image pixels
PEOPLE = (1, 2, 3, 4, 5, 10, 20)  # lower bounds of the bins of people per image


def summary(people: TrainingHDF5, issues: dict[str, list[LabelIssue]], samples: PoseDataset | None) -> str:
    """Return the whole report, with the number of a system's samples if there are any."""
    annotated = ~people.crowd
    paragraphs = {
        str(people.path): counts(people, samples),
        "keypoints of people with keypoints": keypoints(people),
        "heights of people's boxes, pixels": histogram(people.boxes[annotated, 3], HEIGHTS),
        "people per image": histogram(np.bincount(people.image_of[annotated], minlength=len(people)), PEOPLE),
        "possible label issues, to be checked": listed_issues(people, issues),
    }
    return "\n".join("\n  ".join([title, *lines]) + "\n" for title, lines in paragraphs.items())


def counts(people: TrainingHDF5, samples: PoseDataset | None) -> list[str]:
    """Return the counts of images, people, keypoints and samples."""
    annotated, size, skeleton = ~people.crowd, people.path.stat().st_size, people.skeleton
    without = (annotated & (people.num_labeled == 0)).sum()
    masks, tracks = "outlines" if people.outlines else "boxes", len(np.unique(people.tracks[people.tracks >= 0]))
    labeled = f"{len(people.keypoints)} of the {len(skeleton.dataset)} of the skeleton {skeleton.name!r}"
    lines = {
        "images": f"{len(people):,}",
        "people": f"{annotated.sum():,}, masked by their {masks}; {without:,} of them without keypoints",
        "crowd regions": f"{people.crowd.sum():,}",
        "tracks": f"{tracks:,}" if tracks else "",
        "keypoints": f"{people.num_labeled[annotated].sum():,}; the file labels {labeled}",
        "file": f"{size / 2**20:,.1f} MiB, {size / len(people) / 1024:,.1f} KiB per image",
        "samples": f"{len(samples):,} of the system {samples.config.system!r}" if samples is not None else "",
    }
    return [f"{name:16} {line}" for name, line in lines.items() if line]


def keypoints(people: TrainingHDF5) -> list[str]:
    """Return how often each keypoint is labeled, among people with keypoints."""
    v = people.joints(np.flatnonzero(~people.crowd & (people.num_labeled > 0)))[..., 2]
    width = max(map(len, people.skeleton.keypoints))
    lines = [f"{'':{width}}   labeled  visible occluded"]
    for name, of_people in zip(people.skeleton.keypoints, v.T):
        labeled, visible, occluded = (of_people != UNLABELED).sum(), (of_people == VISIBLE).sum(), (of_people == OCCLUDED).sum()
        lines.append(f"{name:{width}}  {labeled:8,} {visible:8,} {occluded:8,}")
    return lines


def histogram(values: np.ndarray, bounds: Sequence[float]) -> list[str]:
    """Return a bar for each bin of values (N,): below the first bound, from each one to the next, and from the last one on."""
    bins = np.bincount(np.searchsorted(bounds, values, side="right"), minlength=len(bounds) + 1)
    labels = [f"below {bounds[0]}", *(f"from {bound}" for bound in bounds)]
    return [f"{label:8}  {'#' * -(-BAR * n // max(bins.max(), 1)):{BAR}} {n:9,}" for label, n in zip(labels, bins.tolist())]


def listed_issues(people: TrainingHDF5, issues: dict[str, list[LabelIssue]]) -> list[str]:
    """Return each kind of issue with the images that may have it."""
    lines = []
    for kind, of_kind in issues.items():
        lines.append(f"{kind}: {len(of_kind) or 'none'}")
        for image, row, message in of_kind[:SHOWN]:
            person = "" if row is None else f", {describe_person(people, row)}"
            lines.append(f"  image {people.image_ids[image]}{person}: {message}")
        if len(of_kind) > SHOWN:
            ids = list(dict.fromkeys(str(people.image_ids[issue.image]) for issue in of_kind[SHOWN:]))
            lines.append(f"  and {len(of_kind) - SHOWN} more, first in images {', '.join(ids[: 5 * SHOWN])}")
    return lines
