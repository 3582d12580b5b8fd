"""MPII's evaluation: one prediction for each annotated person, PCKh by keypoint, and the file for MPII's server.

PCKh@t is the fraction of labeled keypoints with an error of at most t head sizes. The head size is 0.6 times the diagonal of the head box.
"""

from pathlib import Path

import numpy as np
from pycocotools import mask
from scipy.io import savemat

from config import UserError
from config.files import atomic_write, write_json
from data.formats.mpii import COUNT, KEYPOINTS, PckhTruth, annotated_ground_truth, load_ground_truth
from utils.boxes import extents
from utils.evaluation.coco import CocoMetric, GroundTruth, metrics_table
from utils.predictions import PosePredictions
from utils.results_log import InputImage

HEAD_SIZE = 0.6  # of the head box's diagonal
PUBLISHED_TENTH = 0.11  # the threshold of Mean@0.1 in published tables
SIDES = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
PARTS = {"Head": ("head_top",), **{part: (f"left_{part.lower()}", f"right_{part.lower()}") for part in SIDES}}
MEAN_OF = [k for k, name in enumerate(KEYPOINTS) if name not in ("pelvis", "thorax")]
EXACT = "@0.1_exact"  # suffix of metrics at a threshold of exactly 0.1
NO_METRICS = "no metrics: PCKh needs annotations and head boxes; name a file that has them, such as gt_valid.mat, with --head-boxes"


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

    def rate(keypoints: list[int], threshold: float) -> float:
        count = labeled[keypoints].sum()
        return 100 * float((labeled[keypoints] & (error[keypoints] <= threshold)).sum() / count) if count else -1.0

    def part_rate(names: tuple[str, ...]) -> float:
        sides = [side for name in names if (side := rate([KEYPOINTS.index(name)], threshold)) >= 0]
        return sum(sides) / len(sides) if sides else -1.0

    means = {"Mean": threshold, "Mean@0.1": PUBLISHED_TENTH, f"Mean{EXACT}": 0.1}
    return {part: part_rate(names) for part, names in PARTS.items()} | {name: rate(MEAN_OF, at) for name, at in means.items()}


class PckhMetric(CocoMetric):
    """PCKh on MPII's files: one prediction for each annotated person.

    A top-down system gets each annotated box alone. A bottom-up one gets the image; each person takes the prediction nearest to the box.
    head_boxes: file of PCKh's ground truth; None takes gt_NAME.mat or gt_valid.mat beside the annotation file. Without head boxes there are
    predictions and no metrics.
    """

    head_boxes: Path | None = None
    ranks_images = False
    _is_top_down = False

    def inputs(self, truth: GroundTruth, needs_boxes: bool, boxes_file: Path | None = None) -> dict[int, InputImage]:
        """Return the images, or for a top-down system each annotated person's image and box by annotation id."""
        missing = [name for name in KEYPOINTS if name not in truth.skeleton.dataset]
        if missing:
            raise UserError(f"skeleton {truth.skeleton.name!r}: lacks {missing[0]}; MPII's evaluation needs all of its keypoints")
        if boxes_file is not None:
            raise UserError(f"--boxes {boxes_file}: MPII's evaluation uses the annotated boxes; omit it")
        self.find_heads(truth)  # fail early where --head-boxes does not fit
        self._is_top_down = needs_boxes
        if not needs_boxes:
            return super().inputs(truth, False)
        people = sorted(people_of(truth), key=lambda person: person["image_id"])
        return {p["id"]: InputImage(truth.files[p["image_id"]], boxes=np.array([p["bbox"]], float)) for p in people}

    def to_results(self, truth: GroundTruth, input_id: int, people: PosePredictions) -> list[dict]:
        keypoints, scores = people
        predicted = (keypoints[..., 2] > 0).any(1)
        if not predicted.any():
            return []
        annotated = [truth.coco.anns[input_id]] if self._is_top_down else truth.coco.imgToAnns[input_id]
        rows = nearest_people(np.array([person["bbox"] for person in annotated]), keypoints[predicted])
        ordered = np.zeros((len(keypoints), COUNT, 3))
        ordered[:, truth.file_index] = truth.skeleton.to_dataset(keypoints)
        ordered[..., 2] = ordered[..., 2] > 0
        ids = [{"image_id": p["image_id"], "annotation_id": p["id"], "category_id": p["category_id"]} for p in annotated]
        found = zip(ids, ordered[predicted][rows].reshape(len(rows), -1).tolist(), scores[predicted][rows].tolist())
        return [{**of_person, "keypoints": points, "score": score} for of_person, points, score in found]

    def load_results(self, path: Path, truth: GroundTruth) -> list[dict]:
        entries, people = super().load_results(path, truth), {person["id"] for person in people_of(truth)}
        unknown = [entry.get("annotation_id") for entry in entries if entry.get("annotation_id") not in people]
        if unknown:
            raise UserError(f"detections {path}: an entry has the 'annotation_id' {unknown[0]!r}; MPII's need that of a listed person")
        return entries

    def compute(self, predictions: list[dict], truth: GroundTruth) -> dict[str, float]:
        """Return `pckh` at 0.5, and at 0.1 by names that end in `EXACT`; nothing without head boxes."""
        heads, poses = self.find_heads(truth), prediction_array(predictions, truth)
        if heads is None:
            return {}
        half, tenth = (pckh(poses, heads.joints, heads.missing, heads.head_boxes, threshold) for threshold in (0.5, 0.1))
        return {**half, **{part + EXACT: tenth[part] for part in (*PARTS, "Mean")}}

    def report(self, predictions: list[dict], truth: GroundTruth, folder: Path, save_images: int, system: str) -> str:
        """Write pred.mat, and metrics if there are head boxes. Return the summary for the terminal."""
        path, metrics = folder / "pred.mat", self.compute(predictions, truth)
        with atomic_write(path) as partial:  # as MPII's server takes it: counted from pixel 1
            savemat(partial, {"preds": prediction_array(predictions, truth) + 1}, appendmat=False)
        if metrics:
            write_json(folder / "metrics.json", metrics)
        rows = [{name: value for name, value in metrics.items() if name.endswith(EXACT) == exact} for exact in (False, True)]
        summary = "\n".join(["PCKh in percent:", *map(metrics_table, rows)]) if metrics else NO_METRICS
        return f"{summary}\npredictions for {len(people_of(truth))} annotated people, in the file's order: {path}"

    def find_heads(self, truth: GroundTruth) -> PckhTruth | None:
        """Return PCKh's ground truth of the people in the images. Raise UserError where `head_boxes` is of other people."""
        people, named = truth.coco.dataset["annotations"], self.head_boxes
        beside = [truth.path.with_name(name) for name in (f"gt_{truth.path.stem}.mat", "gt_valid.mat")]
        files = [path for path in beside if path.is_file()] if named is None else [named]
        candidates = [annotated_ground_truth(people) if named is None else None, *map(load_ground_truth, files)]
        fitting = [heads for heads in candidates if heads is not None and len(heads) == len(people)]
        if named is not None and not fitting:
            raise UserError(f"head boxes {named}: not of the {len(people)} people in annotation file {truth.path}")
        rows = np.array([row for row, person in enumerate(people) if person["image_id"] in truth.files])
        return fitting[0].of(rows) if fitting else None


def people_of(truth: GroundTruth) -> list[dict]:
    """Return the annotated people of the evaluated images, in the file's order."""
    return [person for person in truth.coco.dataset["annotations"] if person["image_id"] in truth.files]


def prediction_array(predictions: list[dict], truth: GroundTruth) -> np.ndarray:
    """Return (N, 16, 2) x, y of each annotated person, in the file's order; 0, 0 without a prediction."""
    of_person = {prediction["annotation_id"]: prediction["keypoints"] for prediction in predictions}
    rows = [of_person.get(person["id"], [0] * 3 * COUNT) for person in people_of(truth)]
    return np.array(rows, float).reshape(-1, COUNT, 3)[..., :2]


def nearest_people(boxes: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Return (B,) the index of each box's pose: the one whose square has the highest IoU with it, or the nearest where none overlaps.

    boxes (B, 4) x, y, width, height; keypoints (P, K, 3) x, y, score, at least one score above 0 in each pose. MPII's boxes are squares as
    wide as people are high, so a neighbor can fill as much of one: each pose's extent becomes a square, too.
    """
    own = extents(keypoints.astype(float))
    center, side = own[:, :2] + own[:, 2:] / 2, np.repeat(own[:, 2:].max(1, keepdims=True), 2, 1)
    overlap = mask.iou(boxes.astype(float), np.hstack([center - side / 2, side]), [0] * len(side))
    distance = np.linalg.norm(center - (boxes[:, None, :2] + boxes[:, None, 2:] / 2), axis=2)
    return np.where((overlap > 0).any(1), overlap.argmax(1), distance.argmin(1))
