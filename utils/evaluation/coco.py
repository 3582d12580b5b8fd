"""COCO keypoint evaluation: what is to be found, detections as COCO's JSON, and pycocotools' ten figures."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config import Skeleton
from config.files import write_json, written_whole
from data.formats.coco import file_keypoints, image_files, indexed, keypoint_category, naming_file, person_area, person_box
from data.formats.detections import load_detections

FIGURES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
FIGURES_NAME = "figures.json"
RESULTS_NAME = "person_keypoints_test-dev2017_simplepose_results.json"  # the COCO server wants this pattern inside the archive
ARCHIVE_NAME = RESULTS_NAME.replace(".json", ".zip")
PREDICTIONS_NAME = "pred.mat"  # MPII's


class CocoTask:
    """The images of an annotation file, or the first so many, and the people to be found in them.

    Keypoints that only one of file and skeleton has do not count. A file without annotations (test-dev) can only be answered.
    Raises UserError where an annotation makes no sense or an image is missing: better now than after an hour.
    """

    has_server = True  # which takes answers where the file has no annotations
    one_each = False  # whether one answer is wanted for each annotated person, not everybody who is found

    def __init__(self, coco: COCO, path: Path, folder: Path, skeleton: Skeleton, limit: int | None = None):
        self.path, self.folder, self.skeleton = path, folder, skeleton
        self.annotated = self.has_boxes = bool(coco.anns)
        self.category, self.order = 1, np.arange(len(skeleton.dataset))  # what the server expects for test-dev
        self.count = len(self.order)
        if self.annotated or any(category.get("keypoints") for category in coco.cats.values()):
            self.category, self.order = keypoint_category(coco, skeleton, path)
            self.count = len(coco.cats[self.category]["keypoints"])
        if self.annotated:
            with naming_file(path):
                self._truth = ground_truth(coco, self.category, self.order)
        self._listed, self._detected = coco.imgs, None
        self.files = image_files(coco, path, folder, limit)

    def take_boxes(self, path: Path) -> None:
        """Have people found by a detector in the place of the annotated ones. Raises UserError where the file has none for the images."""
        self._detected, self.has_boxes = load_detections(path, self._listed, self.category), True

    def boxes(self, image_id: int) -> np.ndarray:
        """(B, 5) x, y, width, height in pixels and score: where people are, for a system that must be told; 1 for annotated ones."""
        if self._detected is not None:
            return self._detected.get(image_id, np.zeros((0, 5)))
        people = [person for person in self._truth.imgToAnns[image_id] if person["num_keypoints"] and not person["iscrowd"]]
        return np.array([[*person["bbox"], 1] for person in people], float).reshape(-1, 5)

    def detections(self, image_id: int, keypoints: np.ndarray, scores: np.ndarray) -> list[dict]:
        """One image's people as COCO results. keypoints (P, K, 3) x, y, score in image pixels; scores (P,)."""
        return to_detections(image_id, keypoints, scores, self.skeleton, self.category, self.order, self.count)

    def figures(self, detections: list[dict]) -> dict[str, float]:
        """The ten COCO figures over the images; -1 where there is nobody to find (as pycocotools says it)."""
        return self._coco_figures(detections, list(self.files))

    def report(self, detections: list[dict], folder: Path) -> str:
        """Write what is made of all detections into the folder; returns what is to be said about it."""
        if self.annotated:
            figures = self.figures(detections)
            write_json(folder / FIGURES_NAME, figures)
            return figures_table(figures)
        server = f"; for the COCO server: {write_submission(folder, detections)}" if self.has_server else ""
        return f"no annotations to compare with{server}"

    def _coco_figures(self, detections: list[dict], image_ids: list[int]) -> dict[str, float]:
        return keypoint_figures(self._truth, detections, image_ids, self.category, self.order, self.skeleton.oks_sigmas)


def to_detections(
    image_id: int, keypoints: np.ndarray, scores: np.ndarray, skeleton: Skeleton, category: int, order: np.ndarray, count: int
) -> list[dict]:
    """One image's people as COCO results, in the annotation file's own order; without those who have none of its keypoints.

    keypoints (P, K, 3) x, y, score in image pixels; order (D,): where each of the data set's keypoints stands among the file's `count`,
    -1: nowhere.
    """
    ordered, there = np.zeros((len(keypoints), count, 3)), order >= 0
    ordered[:, order[there]] = skeleton.to_dataset(keypoints)[:, there]
    ordered[..., 2] = ordered[..., 2] > 0
    flat = np.round(ordered.reshape(len(keypoints), 3 * count), 2).tolist()
    # The score as it is: rounded, people of almost one score would be ranked by chance
    return [
        {"image_id": image_id, "category_id": category, "keypoints": person, "score": float(score)}
        for person, score, has_any in zip(flat, scores, ordered[..., 2].any(1))
        if has_any
    ]


def ground_truth(coco: COCO, category: int, order: np.ndarray) -> COCO:
    """The people of an annotation file as `keypoint_figures` compares with. Raises UserError where an annotation makes no sense.

    order (D,): where each of the data set's keypoints stands in the file; -1: nowhere.
    """
    people = [annotation for annotation in coco.dataset["annotations"] if annotation["category_id"] == category]
    return indexed({**coco.dataset, "annotations": [_true_person(*numbered, order) for numbered in enumerate(people, start=1)]})


def keypoint_figures(
    truth: COCO, detections: list[dict], image_ids: list[int], category: int, order: np.ndarray, sigmas: np.ndarray
) -> dict[str, float]:
    """The ten COCO figures over these images; -1 where there is nobody to find (as pycocotools says it).

    truth: see `ground_truth`. order (D,): where each of the data set's keypoints stands in the annotation file; -1: nowhere.
    sigmas (D,): OKS's, in the data set's order.
    """
    there = order >= 0
    found = [{**detection, "keypoints": file_keypoints(detection, order[there]).ravel()} for detection in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        answer = truth.loadRes(found) if found else indexed({**truth.dataset, "annotations": []})
        evaluation = COCOeval(truth, answer, "keypoints")
        evaluation.params.imgIds, evaluation.params.catIds, evaluation.params.kpt_oks_sigmas = image_ids, [category], sigmas[there]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats)}


def _true_person(number: int, annotation: dict, order: np.ndarray) -> dict:
    """An annotation as pycocotools wants it: keypoints in the order of the sigmas, and what files of one's own often leave out.

    The id is new, since pycocotools takes 0, where such files like to begin, for "not matched". Whoever has no keypoints by the file's
    own count is not to be found: CrowdPose's leaves out head and neck.
    """
    keypoints, box = file_keypoints(annotation, order[order >= 0]), person_box(annotation).tolist()
    count = 0 if annotation.get("num_keypoints") == 0 else int((keypoints[:, 2] > 0).sum())
    known = {"id": number, "bbox": box, "area": person_area(annotation), "iscrowd": int(bool(annotation.get("iscrowd")))}
    return {**annotation, **known, "keypoints": keypoints.ravel(), "num_keypoints": count}


def figures_table(figures: dict[str, float]) -> str:
    """The figures as two lines, names over values."""
    names, values = zip(*((f"{name:>6}", f"{value:{max(len(name), 6)}.3f}") for name, value in figures.items()))
    return "  ".join(names) + "\n" + "  ".join(values)


def remove_derived(folder: Path) -> None:
    """Remove what was made from an earlier evaluation's detections: beside others it would mislead."""
    for name in (FIGURES_NAME, RESULTS_NAME, ARCHIVE_NAME, PREDICTIONS_NAME):
        (folder / name).unlink(missing_ok=True)


def write_submission(folder: Path, detections: list[dict]) -> Path:
    """The archive that COCO's evaluation server takes."""
    path = folder / ARCHIVE_NAME
    write_json(folder / RESULTS_NAME, detections)
    with written_whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / RESULTS_NAME, RESULTS_NAME)
    return path
