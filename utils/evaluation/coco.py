"""COCO keypoint evaluation: what is to be found, detections as COCO's JSON, and pycocotools' ten figures."""

from __future__ import annotations

import contextlib
import io
import re
import zipfile
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config import Skeleton, UserError
from config.files import write_json, written_whole
from data.formats.coco import (
    check_size,
    image_files,
    indexed,
    keypoint_category,
    listed_size,
    naming_file,
    read_person,
)
from data.formats.detections import load_detections
from utils.evaluation.details import DETAILS_NAMES, Labelled, write_details
from utils.evaluation.matching import Scene, best_first
from utils.evaluation.results import load_results
from utils.evaluation.worst import remove_worst, write_worst

FIGURES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
FIGURES_NAME = "figures.json"
RESULTS_NAME = "person_keypoints_{}_{}_results"  # the COCO server wants this pattern inside the archive: test set, method
TEST_SET = re.compile(r"(test-dev|test|val)\d{4}")
PREDICTIONS_NAME = "pred.mat"  # MPII's


class CocoTask:
    """The images of an annotation file, or the first so many, and the people to be found in them.

    Keypoints that only one of file and skeleton has do not count. A file without annotations (test-dev) can only be answered.
    Raises UserError where an annotation makes no sense or an image is missing: better now than after an hour.
    """

    has_server = True  # which takes answers where the file has no annotations
    one_each = False  # whether one answer is wanted for each annotated person, not everybody who is found

    method = "simplepose"  # as the server is told

    def __init__(self, coco: COCO, path: Path, folder: Path | None, skeleton: Skeleton, limit: int | None = None):
        """folder: the images'; None: nobody looks at them."""
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
        self._worst, self._listed, self._detected = 0, coco.imgs, None
        self.files = image_files(coco, path, folder, limit) if folder is not None else _unseen_files(coco, path, limit)

    def take_boxes(self, path: Path) -> None:
        """Have people found by a detector in the place of the annotated ones. Raises UserError where the file has none for the images."""
        self._detected, self.has_boxes = load_detections(path, self._listed, self.category), True

    def take_worst(self, count: int | None) -> None:
        """Have pictures drawn of so many of the worst images. Raises UserError where nobody can say which those are, or see them."""
        if count and not self.annotated:
            raise UserError(f"--save-images: {self.path} has no annotations, so no image is worse than another; leave it out")
        if count and self.folder is None:
            raise UserError("--save-images: the folder of the images is missing; give --images")
        self._worst = count or 0

    def check_size(self, image_id: int, image: np.ndarray) -> None:
        """Raise UserError where an image (H, W, 3) is not as large as the file says: nobody would be where the annotations are."""
        check_size(self.files[image_id], *image.shape[:2], listed_size(self._listed[image_id]))

    def boxes(self, image_id: int) -> np.ndarray:
        """(B, 5) x, y, width, height in pixels and score: where people are, for a system that must be told; 1 for annotated ones."""
        if self._detected is not None:
            return self._detected.get(image_id, np.zeros((0, 5)))
        people = [person for person in self._truth.imgToAnns[image_id] if person["num_keypoints"] and not person["iscrowd"]]
        return np.array([[*person["bbox"], 1] for person in people], float).reshape(-1, 5)

    def detections(self, image_id: int, keypoints: np.ndarray, scores: np.ndarray) -> list[dict]:
        """One image's people as COCO results. keypoints (P, K, 3) x, y, score in image pixels; scores (P,)."""
        return to_detections(image_id, keypoints, scores, self.skeleton, self.category, self.order, self.count)

    def load(self, path: Path) -> list[dict]:
        """The people of a file of results who are in the images. Raises UserError where it cannot be evaluated."""
        people = {person["id"] for person in self.people} if self.one_each else None
        return [entry for entry in load_results(path, self._listed, self.category, self.count, people) if entry["image_id"] in self.files]

    def figures(self, detections: list[dict]) -> dict[str, float]:
        """The ten COCO figures over the images; -1 where there is nobody to find (as pycocotools says it)."""
        return self._coco_figures(detections, list(self.files))

    def scenes(self, detections: list[dict]) -> list[Scene]:
        """Each image's people, those to be found and those found, for whoever looks closer than the figures."""
        found: dict[int, list[dict]] = {image_id: [] for image_id in self.files}
        for detection in detections:
            if detection["image_id"] in found:
                found[detection["image_id"]].append(detection)
        there = self.order[self.order >= 0]
        return [to_scene(image_id, self._truth.imgToAnns[image_id], found[image_id], there) for image_id in self.files]

    def report(self, detections: list[dict], folder: Path) -> str:
        """Write what is made of all detections into the folder; returns what is to be said about it."""
        if self.annotated:
            figures = self.figures(detections)
            write_json(folder / FIGURES_NAME, figures)
            scenes, labelled = self.scenes(detections), Labelled.of(self.skeleton, self.order)
            said = [figures_table(figures), write_details(scenes, labelled, folder)]
            said += [write_worst(scenes, labelled, self.files, folder, self._worst)] * (self._worst > 0)
            return "\n".join(said)
        server = f"; for the COCO server: {write_submission(folder, detections, self.path, self.method)}" if self.has_server else ""
        return f"no annotations to compare with{server}"

    def _coco_figures(self, detections: list[dict], image_ids: list[int]) -> dict[str, float]:
        return keypoint_figures(self._truth, detections, image_ids, self.category, self.order, self.skeleton.oks_sigmas)


def _unseen_files(coco: COCO, path: Path, limit: int | None) -> dict[int, Path]:
    """The names of the images, as `image_files` has their files. Raises UserError where there are none."""
    if not coco.imgs:
        raise UserError(f"annotation file {path}: lists no image")
    return {image_id: Path(coco.imgs[image_id]["file_name"]) for image_id in sorted(coco.imgs)[:limit]}


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
    kept = ("image_id", "category_id", "score")  # of a box, or an outline, pycocotools would make something else than keypoints
    found = [
        {**{key: detection[key] for key in kept}, "keypoints": np.reshape(detection["keypoints"], (-1, 3))[order[there]].ravel()}
        for detection in detections
    ]
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
    keypoints, box, area = read_person(annotation, order)
    keypoints = keypoints[order >= 0]
    count = 0 if annotation.get("num_keypoints") == 0 else int((keypoints[:, 2] > 0).sum())
    known = {"id": number, "bbox": box.tolist(), "area": area, "iscrowd": int(bool(annotation.get("iscrowd")))}
    return {**annotation, **known, "keypoints": keypoints.ravel(), "num_keypoints": count}


def to_scene(image_id: int, people: list[dict], found: list[dict], order: np.ndarray) -> Scene:
    """One image's people; `people` as `ground_truth` has them, `found` as results. order (D,): where each keypoint stands in these."""
    count = len(order)
    joints = np.array([person["keypoints"] for person in people], float).reshape(-1, count, 3)
    crowd = np.array([person["iscrowd"] for person in people], bool)
    return best_first(
        Scene(
            image_id,
            joints,
            np.array([person["area"] for person in people], float),
            np.array([person["bbox"] for person in people], float).reshape(-1, 4),
            crowd | np.array([person["num_keypoints"] == 0 for person in people], bool),
            crowd,
            np.array([np.reshape(detection["keypoints"], (-1, 3))[order] for detection in found], float).reshape(-1, count, 3),
            np.array([detection["score"] for detection in found], float),
        )
    )


def figures_table(figures: dict[str, float]) -> str:
    """The figures as two lines, names over values."""
    names, values = zip(*((f"{name:>6}", f"{value:{max(len(name), 6)}.3f}") for name, value in figures.items()))
    return "  ".join(names) + "\n" + "  ".join(values)


def remove_derived(folder: Path) -> None:
    """Remove what was made from an earlier evaluation's detections: beside others it would mislead."""
    for name in (FIGURES_NAME, PREDICTIONS_NAME, *DETAILS_NAMES, *(RESULTS_NAME.format("*", "*") + end for end in (".json", ".zip"))):
        for path in folder.glob(name):
            path.unlink()
    remove_worst(folder)


def results_name(annotations: Path, method: str) -> str:
    """What the server wants the results to be called, of the test set that the annotation file's name says; else of test-dev2017."""
    named = TEST_SET.search(annotations.stem)
    return RESULTS_NAME.format(named[0] if named else "test-dev2017", method.replace("_", "-"))


def write_submission(folder: Path, detections: list[dict], annotations: Path, method: str) -> Path:
    """The archive that COCO's evaluation server takes."""
    name = results_name(annotations, method)
    results, path = folder / f"{name}.json", folder / f"{name}.zip"
    write_json(results, detections)
    with written_whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(results, results.name)
    return path
