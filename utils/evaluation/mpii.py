"""MPII's evaluation: one answer for each annotated person, PCKh by keypoint, and predictions as MPII's server takes them.

PCKh@t is the share of the labelled keypoints that lie at most t head sizes from where they are; the head's size is 0.6 times the diagonal
of its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from scipy.io import savemat

from config import Skeleton, UserError
from config.files import write_json, written_whole
from data.formats.mpii import COUNT, KEYPOINTS, PckhTruth, annotated_truth, load_truth
from utils.evaluation.coco import FIGURES_NAME, PREDICTIONS_NAME, CocoTask
from utils.systems import People

HEAD_SHARE = 0.6  # of the head box's diagonal is the head's size
PUBLISHED_TENTH = 0.11  # the threshold of what published tables call Mean@0.1
SIDES = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
PARTS = {"Head": ("head_top",), **{part: (f"left_{part.lower()}", f"right_{part.lower()}") for part in SIDES}}
MEAN_OF = np.array([name not in ("pelvis", "thorax") for name in KEYPOINTS])
EXACT = "@0.1_exact"  # ends the names of the figures at a threshold of 0.1 itself


def pckh(
    predictions: np.ndarray, joints: np.ndarray, missing: np.ndarray, head_boxes: np.ndarray, threshold: float = 0.5
) -> dict[str, float]:
    """PCKh in percent at a threshold in head sizes; -1 where nothing is labelled.

    predictions (N, 16, 2) x, y, the first pixel 0. As MPII's files have it, with the first pixel 1: joints (16, 2, N), missing (16, N) 1
    where not labelled, head_boxes (2, 2, N) two corners' x, y. Left and right are averaged; Mean is of all labelled keypoints but pelvis
    and thorax. Mean@0.1 is what published tables call so, whose threshold is 0.11; Mean@0.1_exact is at 0.1. Neither depends on
    `threshold`.
    """
    labelled, error = np.asarray(missing) == 0, np.linalg.norm(np.transpose(predictions, (1, 2, 0)) + 1 - joints, axis=1)
    head_size = HEAD_SHARE * np.linalg.norm(np.subtract(head_boxes[1], head_boxes[0]), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = error / head_size

    def rate(keypoints: Sequence[int] | np.ndarray, threshold: float) -> float:
        count = labelled[keypoints].sum()
        return 100 * float((labelled[keypoints] & (error[keypoints] <= threshold)).sum() / count) if count else -1.0

    def part_rate(names: tuple[str, ...]) -> float:
        sides = [rate([KEYPOINTS.index(name)], threshold) for name in names]
        there = [side for side in sides if side >= 0]
        return sum(there) / len(there) if there else -1.0

    means = {"Mean": threshold, "Mean@0.1": PUBLISHED_TENTH, f"Mean{EXACT}": 0.1}
    return {part: part_rate(names) for part, names in PARTS.items()} | {name: rate(MEAN_OF, at) for name, at in means.items()}


def pckh_table(figures: dict[str, float]) -> str:
    """`MpiiTask.figures` as lines: names over values at both thresholds, and the published mean."""
    columns = (*PARTS, "Mean")
    rows = {"PCKh@0.5": columns, "PCKh@0.1": [column + EXACT for column in columns]}
    lines = [" " * 8 + "".join(f"  {column:>8}" for column in columns)]
    lines += [name + "".join(f"  {figures[key]:8.3f}" for key in keys) for name, keys in rows.items()]
    return "\n".join([*lines, f"Mean@0.1 of published tables, which is at {PUBLISHED_TENTH}: {figures['Mean@0.1']:.3f}"])


def write_predictions(path: Path, predictions: np.ndarray) -> None:
    """Write (N, 16, 2) x, y, the first pixel 0, as MPII's server takes them: `preds`, the first pixel 1. Whole or not at all."""
    predictions = np.asarray(predictions, float)
    if predictions.shape[1:] != (COUNT, 2) or not np.isfinite(predictions).all():
        raise UserError(f"predictions {path}: of shape {predictions.shape}; expected finite numbers of shape (N, {COUNT}, 2)")
    with written_whole(path) as partial:
        savemat(partial, {"preds": predictions + 1}, appendmat=False)


class MpiiTask(CocoTask):
    """`CocoTask` for MPII's files: one answer for each annotated person of the images, who are cut out by their boxes.

    A system that finds people by itself answers with whom it found there. head_boxes: file of the ground truth of PCKh; None: a
    gt_NAME.mat or gt_valid.mat beside the annotation file. Without head boxes there are predictions and no figures.
    """

    one_each = True

    def __init__(
        self, coco: COCO, path: Path, folder: Path | None, skeleton: Skeleton, limit: int | None = None, head_boxes: Path | None = None
    ):
        super().__init__(coco, path, folder, skeleton, limit)
        lacking = [name for name in KEYPOINTS if name not in skeleton.dataset]
        if lacking:
            raise UserError(f"skeleton {skeleton.name!r}: lacks {lacking[0]}; MPII's evaluation wants all of its {COUNT} keypoints")
        everybody = coco.dataset["annotations"]
        rows = [row for row, annotation in enumerate(everybody) if annotation["image_id"] in self.files]
        self.people = [everybody[row] for row in rows]
        self._people_of: dict[int, list[dict]] = {number: [] for number in self.files}
        for person in self.people:
            self._people_of[person["image_id"]].append(person)
        truth, self.without_figures = _find_truth(everybody, path, head_boxes)
        self.truth = truth and truth.of(np.array(rows))

    def take_boxes(self, path: Path) -> None:
        """Raises UserError: nobody else says where the annotated people are."""
        raise UserError(f"--boxes {path}: MPII's people are looked for in their own boxes; leave it out")

    def take_worst(self, count: int | None) -> None:
        """Raises UserError: PCKh is of keypoints, not of images."""
        if count:
            raise UserError(f"--save-images: {self.path} is MPII's, where no image is said to be worse than another; leave it out")

    def boxes(self, image_id: int) -> np.ndarray:
        """(B, 4) x, y, width, height of the image's annotated people, in the file's order."""
        return np.array([person["bbox"] for person in self._people_of[image_id]]).reshape(-1, 4)

    def box_detections(self, image_id: int, found: Sequence[People]) -> list[dict]:
        """What was found in each of `boxes` alone: the best of its people answers for the one annotated there."""
        answers = zip(self._people_of[image_id], found)
        return [self._detection(person, keypoints[0], scores[0]) for person, (keypoints, scores) in answers if len(keypoints)]

    def detections(self, image_id: int, keypoints: np.ndarray, scores: np.ndarray) -> list[dict]:
        """For each of the image's annotated people the found one at that place. keypoints (P, K, 3), scores (P,)."""
        there = np.flatnonzero((keypoints[..., 2] > 0).any(1))
        if not len(there):
            return []
        rows = there[nearest_people(self.boxes(image_id), keypoints[there])]
        return [self._detection(person, keypoints[row], scores[row]) for person, row in zip(self._people_of[image_id], rows)]

    def figures(self, detections: list[dict]) -> dict[str, float]:
        """`pckh` at 0.5, and the same at 0.1 by names that end in `EXACT`."""
        truth, predictions = self.truth, self.predictions(detections)
        half, tenth = (pckh(predictions, truth.joints, truth.missing, truth.head_boxes, threshold) for threshold in (0.5, 0.1))
        return {**half, **{part + EXACT: tenth[part] for part in (*PARTS, "Mean")}}

    def predictions(self, detections: list[dict]) -> np.ndarray:
        """(N, 16, 2) x, y of each annotated person, in the file's order; 0, 0 for whom nobody was found."""
        found = {detection["annotation_id"]: detection["keypoints"] for detection in detections}
        nobody = [0] * 3 * COUNT
        return np.array([found.get(person["id"], nobody) for person in self.people], float).reshape(-1, COUNT, 3)[..., :2]

    def report(self, detections: list[dict], folder: Path) -> str:
        """Write predictions, and figures if there is something to compare with; returns what is to be said about it."""
        path = folder / PREDICTIONS_NAME
        write_predictions(path, self.predictions(detections))
        said = self.without_figures
        if self.truth is not None:
            figures = self.figures(detections)
            write_json(folder / FIGURES_NAME, figures)
            said = pckh_table(figures)
        return f"{said}\npredictions for {len(self.people)} annotated people, in the file's order: {path}"

    def _detection(self, person: dict, keypoints: np.ndarray, score: float) -> dict:
        """keypoints (K, 3) of the skeleton."""
        answer = np.zeros((COUNT, 3))
        answer[self.order] = self.skeleton.to_dataset(keypoints[None])[0]
        answer[:, 2] = answer[:, 2] > 0
        known = {"image_id": person["image_id"], "annotation_id": person["id"], "category_id": person["category_id"]}
        return {**known, "keypoints": answer.ravel().tolist(), "score": float(score)}


def nearest_people(boxes: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """(B,) who of the people found is in each box: whose square overlaps it most, or is nearest where none does.

    boxes (B, 4) x, y, width, height; keypoints (P, K, 3) x, y, score, each with a score above 0 somewhere. MPII's boxes are squares and
    as wide as people are high, so somebody beside can fill as much of one: the extent of the keypoints found is made a square too.
    """
    points, there = keypoints[..., :2].astype(float), keypoints[..., 2:] > 0
    low, high = np.where(there, points, np.inf).min(1), np.where(there, points, -np.inf).max(1)
    middle, half = (low + high) / 2, (high - low).max(1, keepdims=True) / 2
    wanted, wanted_half = boxes[:, None, :2] + boxes[:, None, 2:] / 2, boxes[:, None, 2:] / 2
    common = np.minimum(middle + half, wanted + wanted_half) - np.maximum(middle - half, wanted - wanted_half)
    inside = common.clip(0).prod(2)
    overlap = inside / (4 * wanted_half.prod(2) + (2 * half[:, 0]) ** 2 - inside)
    distance = np.linalg.norm(middle - wanted, axis=2)
    return np.where((overlap > 0).any(1), overlap.argmax(1), distance.argmin(1))


def _find_truth(everybody: list[dict], path: Path, head_boxes: Path | None) -> tuple[PckhTruth | None, str]:
    """The ground truth of all annotated people, or why there is none. Raises UserError where the file that is named does not fit."""
    of = f"but annotation file {path} has {len(everybody)}"
    if head_boxes is not None:
        truth = load_truth(head_boxes)
        if len(truth) != len(everybody):
            raise UserError(f"head boxes {head_boxes}: of {len(truth)} people, {of}")
        return truth, ""
    if not any(person["num_keypoints"] for person in everybody):
        return None, "no annotations to compare with"
    truth = annotated_truth(everybody)
    if truth is not None:
        return truth, ""
    without = "no figures: PCKh needs head boxes; name the file that has them, such as gt_valid.mat, with --head-boxes"
    for beside in (path.with_name(f"gt_{path.stem}.mat"), path.with_name("gt_valid.mat")):
        if beside.is_file():
            truth = load_truth(beside)
            if len(truth) == len(everybody):
                return truth, ""
            without += f" ({beside} is of {len(truth)} people, {of})"
            break
    return None, without
