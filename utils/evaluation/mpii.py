"""MPII's evaluation: one prediction for each annotated person, PCKh by keypoint, and the file for MPII's server.

PCKh@t is the fraction of labeled keypoints with an error of at most t head sizes. The head size is 0.6 times the diagonal of the head box.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from config import UserError
from config.files import atomic_write, write_json
from data.formats.mpii import COUNT, KEYPOINTS, PckhTruth, annotated_ground_truth, load_ground_truth
from utils.evaluation.coco import METRICS_NAME, CocoMetric, GroundTruth, load_results
from utils.results_log import InputImage

PREDICTIONS_NAME = "pred.mat"
HEAD_SIZE = 0.6  # of the head box's diagonal
PUBLISHED_TENTH = 0.11  # the threshold of Mean@0.1 in published tables
SIDES = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
PARTS = {"Head": ("head_top",), **{part: (f"left_{part.lower()}", f"right_{part.lower()}") for part in SIDES}}
MEAN_OF = np.array([name not in ("pelvis", "thorax") for name in KEYPOINTS])
EXACT = "@0.1_exact"  # suffix of metrics at a threshold of exactly 0.1


def pckh(
    predictions: np.ndarray, joints: np.ndarray, missing: np.ndarray, head_boxes: np.ndarray, threshold: float = 0.5
) -> dict[str, float]:
    """Return PCKh in percent at a threshold in head sizes; -1 where no keypoint is labeled.

    predictions (N, 16, 2) x, y, counted from pixel 0. As in MPII's files, counted from pixel 1: joints (16, 2, N), missing (16, N) 1 where
    unlabeled, head_boxes (2, 2, N) x, y of two corners. Left and right are averaged; Mean covers all labeled keypoints except pelvis and
    thorax. Mean@0.1 has a threshold of 0.11, as in published tables; Mean@0.1_exact has 0.1. Neither depends on `threshold`.
    """
    labeled, error = np.asarray(missing) == 0, np.linalg.norm(np.transpose(predictions, (1, 2, 0)) + 1 - joints, axis=1)
    head_size = HEAD_SIZE * np.linalg.norm(np.subtract(head_boxes[1], head_boxes[0]), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = error / head_size

    def rate(keypoints: Sequence[int] | np.ndarray, threshold: float) -> float:
        count = labeled[keypoints].sum()
        return 100 * float((labeled[keypoints] & (error[keypoints] <= threshold)).sum() / count) if count else -1.0

    def part_rate(names: tuple[str, ...]) -> float:
        sides = [rate([KEYPOINTS.index(name)], threshold) for name in names]
        labeled_sides = [side for side in sides if side >= 0]
        return sum(labeled_sides) / len(labeled_sides) if labeled_sides else -1.0

    means = {"Mean": threshold, "Mean@0.1": PUBLISHED_TENTH, f"Mean{EXACT}": 0.1}
    return {part: part_rate(names) for part, names in PARTS.items()} | {name: rate(MEAN_OF, at) for name, at in means.items()}


def pckh_table(metrics: dict[str, float]) -> str:
    """Format `PckhMetric`'s metrics as lines: names over values at both thresholds, and the published mean."""
    columns = (*PARTS, "Mean")
    rows = {"PCKh@0.5": columns, "PCKh@0.1": [column + EXACT for column in columns]}
    lines = [" " * 8 + "".join(f"  {column:>8}" for column in columns)]
    lines += [name + "".join(f"  {metrics[key]:8.3f}" for key in keys) for name, keys in rows.items()]
    return "\n".join([*lines, f"Mean@0.1 of published tables, at a threshold of {PUBLISHED_TENTH}: {metrics['Mean@0.1']:.3f}"])


def write_predictions(path: Path, predictions: np.ndarray) -> None:
    """Write (N, 16, 2) x, y, counted from pixel 0, as MPII's server takes them: `preds`, counted from pixel 1."""
    with atomic_write(path) as partial:
        savemat(partial, {"preds": predictions + 1}, appendmat=False)


class PckhMetric(CocoMetric):
    """PCKh on MPII's files: one prediction for each annotated person.

    A top-down system gets each annotated box alone. A bottom-up one gets the image; each person takes the prediction nearest to the box.
    head_boxes: file of PCKh's ground truth; None takes gt_NAME.mat or gt_valid.mat beside the annotation file. Without head boxes there are
    predictions and no metrics.
    """

    head_boxes: Path | None = None
    _is_top_down = False

    def inputs(self, ground_truth: GroundTruth, needs_boxes: bool, boxes_file: Path | None = None) -> dict[int, InputImage]:
        """Return the images, or for a top-down system each annotated person's image and box by annotation id."""
        missing = [name for name in KEYPOINTS if name not in ground_truth.skeleton.dataset]
        if missing:
            what = f"lacks {missing[0]}; MPII's evaluation needs all of its {COUNT} keypoints"
            raise UserError(f"skeleton {ground_truth.skeleton.name!r}: {what}")
        if boxes_file is not None:
            raise UserError(f"--boxes {boxes_file}: MPII's evaluation uses the annotated boxes; omit it")
        self._is_top_down = needs_boxes
        self._truth(ground_truth)  # fail early where --head-boxes does not fit
        if not needs_boxes:
            return super().inputs(ground_truth, False)
        people = sorted(people_of(ground_truth), key=lambda person: person["image_id"])
        return {p["id"]: InputImage(ground_truth.files[p["image_id"]], boxes=np.array([p["bbox"]], float)) for p in people}

    def to_results(self, ground_truth: GroundTruth, input_id: int, keypoints: np.ndarray, scores: np.ndarray) -> list[dict]:
        if self._is_top_down:
            return [_result(ground_truth, ground_truth.annotations.anns[input_id], keypoints[0], scores[0])] if len(keypoints) else []
        predicted = np.flatnonzero((keypoints[..., 2] > 0).any(1))
        if not len(predicted):
            return []
        people = ground_truth.annotations.imgToAnns[input_id]
        rows = predicted[nearest_people(np.array([person["bbox"] for person in people]), keypoints[predicted])]
        return [_result(ground_truth, person, keypoints[row], scores[row]) for person, row in zip(people, rows)]

    def load_results(self, path: Path, ground_truth: GroundTruth) -> list[dict]:
        self._truth(ground_truth)
        return load_results(path, ground_truth, {person["id"] for person in people_of(ground_truth)})

    def compute(self, predictions: list[dict], ground_truth: GroundTruth) -> dict[str, float]:
        """Return `pckh` at 0.5, and at 0.1 by names that end in `EXACT`. Raises UserError without head boxes."""
        truth, reason = self._truth(ground_truth)
        if truth is None:
            raise UserError(f"{ground_truth.path}: {reason}")
        poses = prediction_array(predictions, ground_truth)
        half, tenth = (pckh(poses, truth.joints, truth.missing, truth.head_boxes, threshold) for threshold in (0.5, 0.1))
        return {**half, **{part + EXACT: tenth[part] for part in (*PARTS, "Mean")}}

    def check_save_images(self, ground_truth: GroundTruth) -> None:
        raise UserError(f"--save-images: {ground_truth.path} is MPII's, whose metric does not rank images; omit it")

    def report(self, predictions: list[dict], ground_truth: GroundTruth, folder: Path, save_images: int, system: str) -> str:
        """Write pred.mat, and metrics if there are head boxes. Return the summary for the terminal."""
        path, (truth, summary) = folder / PREDICTIONS_NAME, self._truth(ground_truth)
        write_predictions(path, prediction_array(predictions, ground_truth))
        if truth is not None:
            metrics = self.compute(predictions, ground_truth)
            write_json(folder / METRICS_NAME, metrics)
            summary = pckh_table(metrics)
        return f"{summary}\npredictions for {len(people_of(ground_truth))} annotated people, in the file's order: {path}"

    def _truth(self, ground_truth: GroundTruth) -> tuple[PckhTruth | None, str]:
        """Return PCKh's ground truth of the people in the images, or the reason for its absence."""
        people = ground_truth.annotations.dataset["annotations"]
        truth, reason = _find_truth(people, ground_truth.path, self.head_boxes)
        rows = [row for row, person in enumerate(people) if person["image_id"] in ground_truth.files]
        return truth and truth.of(np.array(rows)), reason


def people_of(ground_truth: GroundTruth) -> list[dict]:
    """Return the annotated people of the evaluated images, in the file's order."""
    return [person for person in ground_truth.annotations.dataset["annotations"] if person["image_id"] in ground_truth.files]


def prediction_array(predictions: list[dict], ground_truth: GroundTruth) -> np.ndarray:
    """Return (N, 16, 2) x, y of each annotated person, in the file's order; 0, 0 without a prediction."""
    of_person = {prediction["annotation_id"]: prediction["keypoints"] for prediction in predictions}
    rows = [of_person.get(person["id"], [0] * 3 * COUNT) for person in people_of(ground_truth)]
    return np.array(rows, float).reshape(-1, COUNT, 3)[..., :2]


def _result(ground_truth: GroundTruth, person: dict, keypoints: np.ndarray, score: float) -> dict:
    """Convert the keypoints (K, 3), in the skeleton's order, predicted for an annotated person."""
    ordered = np.zeros((COUNT, 3))
    ordered[ground_truth.file_index] = ground_truth.skeleton.to_dataset(keypoints[None])[0]
    ordered[:, 2] = ordered[:, 2] > 0
    ids = {"image_id": person["image_id"], "annotation_id": person["id"], "category_id": person["category_id"]}
    return {**ids, "keypoints": ordered.ravel().tolist(), "score": float(score)}


def nearest_people(boxes: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return (B,) the index of each box's pose: the one whose square has the highest IoU with it, or the nearest where none overlaps.

    boxes (B, 4) x, y, width, height; keypoints (P, K, 3) x, y, score, at least one score above 0 in each pose. MPII's boxes are squares as
    wide as people are high, so a neighbor can fill as much of one: each pose's extent becomes a square, too.
    """
    points, present = keypoints[..., :2].astype(float), keypoints[..., 2:] > 0
    low, high = np.where(present, points, np.inf).min(1), np.where(present, points, -np.inf).max(1)
    center, half = (low + high) / 2, (high - low).max(1, keepdims=True) / 2
    box_center, box_half = boxes[:, None, :2] + boxes[:, None, 2:] / 2, boxes[:, None, 2:] / 2
    shared = np.minimum(center + half, box_center + box_half) - np.maximum(center - half, box_center - box_half)
    intersection = shared.clip(0).prod(2)
    overlap = intersection / (4 * box_half.prod(2) + (2 * half[:, 0]) ** 2 - intersection)
    distance = np.linalg.norm(center - box_center, axis=2)
    return np.where((overlap > 0).any(1), overlap.argmax(1), distance.argmin(1))


def _find_truth(people: list[dict], path: Path, head_boxes: Path | None) -> tuple[PckhTruth | None, str]:
    """Return the ground truth of all annotated people, or the reason for its absence. Raises UserError where `head_boxes` does not fit."""
    of = f"but annotation file {path} has {len(people)}"
    if head_boxes is not None:
        truth = load_ground_truth(head_boxes)
        if len(truth) != len(people):
            raise UserError(f"head boxes {head_boxes}: of {len(truth)} people, {of}")
        return truth, ""
    if not any(person["num_keypoints"] for person in people):
        return None, "no annotations to compare with"
    truth = annotated_ground_truth(people)
    if truth is not None:
        return truth, ""
    reason = "no metrics: PCKh needs head boxes; name the file that has them, such as gt_valid.mat, with --head-boxes"
    for beside in (path.with_name(f"gt_{path.stem}.mat"), path.with_name("gt_valid.mat")):
        if beside.is_file():
            truth = load_ground_truth(beside)
            if len(truth) == len(people):
                return truth, ""
            reason += f" ({beside} is of {len(truth)} people, {of})"
            break
    return None, reason
