"""COCO's keypoint evaluation: the ground truth of an annotation file, predictions as COCO's results, and pycocotools' ten metrics."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config import Skeleton, UserError
from config.files import atomic_write, read_json, write_json
from config.load import known_skeletons, load_skeleton
from data.formats import load_annotations
from data.formats.coco import image_files, indexed, keypoint_category, listed_size, read_people
from data.formats.detections import load_detections
from utils.evaluation.analysis import AnnotatedKeypoints, write_analysis
from utils.evaluation.matching import ImageResult
from utils.evaluation.worst import write_worst
from utils.results_log import InputImage

METRICS = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
METRICS_NAME = "metrics.json"
SUBMISSION_NAME = "person_keypoints_{}_{}_results"  # the pattern that COCO's server needs: test set, method
TEST_SET = re.compile(r"(test-dev|test|val)\d{4}")
RESULT_KEYS = ("image_id", "category_id", "keypoints", "score")


class GroundTruth:
    """The first `limit` images of an annotation file and their annotated people.

    Only keypoints that both the file and the skeleton have count. Raises UserError where an annotation is invalid or an image is missing,
    before any image is run.
    """

    def __init__(self, path: Path, folder: Path | None = None, skeleton: Skeleton | None = None, limit: int | None = None):
        """Read the file. folder: of the images, if any is read. skeleton: None selects the known one with the file's keypoints."""
        annotations = load_annotations(path, [] if folder is None else [folder], split="test")
        self.path, self.folder, self.annotations, self.format = path, folder, annotations, annotations.dataset["format"]
        self.skeleton = skeleton or _skeleton_of(annotations)
        self.is_annotated = bool(annotations.anns)
        self.category, self.file_index = 1, np.arange(len(self.skeleton.dataset))  # what COCO's server expects for test-dev
        self.num_keypoints = len(self.file_index)  # of the file; `file_index` (D,): index of the data set's keypoints in it, -1: none
        if self.is_annotated or any(category.get("keypoints") for category in annotations.cats.values()):
            self.category, self.file_index = keypoint_category(annotations, self.skeleton, path)
            self.num_keypoints = len(annotations.cats[self.category]["keypoints"])
        self.coco = read_people(annotations, self.category, self.file_index, path)
        self.files = image_files(annotations, path, folder, limit)

    def boxes(self, boxes_file: Path | None) -> dict[int, np.ndarray]:
        """Return boxes (B, 5) x, y, width, height, score by image: a detector's, or the annotated ones with a score of 1."""
        if boxes_file is not None:
            detected = load_detections(boxes_file, self.annotations.imgs, self.category)
            return {image_id: detected.get(image_id, np.zeros((0, 5))) for image_id in self.files}
        if not self.is_annotated:
            raise UserError(f"{self.path}: has no annotations, and the system needs person boxes; pass detections with --boxes FILE")
        people = {image_id: self.coco.imgToAnns[image_id] for image_id in self.files}
        return {
            image_id: np.array([[*p["bbox"], 1] for p in of_image if p["num_keypoints"] and not p["iscrowd"]], float).reshape(-1, 5)
            for image_id, of_image in people.items()
        }

    def image_results(self, predictions: list[dict]) -> list[ImageResult]:
        """Return the annotated and predicted people of each image."""
        of_image: dict[int, list[dict]] = {image_id: [] for image_id in self.files}
        for prediction in predictions:
            if prediction["image_id"] in of_image:
                of_image[prediction["image_id"]].append(prediction)
        present = self.file_index[self.file_index >= 0]
        return [ImageResult.of(image_id, self.coco.imgToAnns[image_id], of_image[image_id], present) for image_id in self.files]


class CocoMetric:
    """COCO's ten metrics, and the base class of the other metrics. `data.formats.FORMATS` names the metric of each format."""

    def inputs(self, ground_truth: GroundTruth, needs_boxes: bool, boxes_file: Path | None = None) -> dict[int, InputImage]:
        """Return the network's inputs by id. boxes_file: a detector's; None takes annotated boxes where boxes are needed."""
        boxes = ground_truth.boxes(boxes_file) if needs_boxes else {}
        images = ground_truth.annotations.imgs
        return {i: InputImage(path, listed_size(images[i]), boxes.get(i)) for i, path in ground_truth.files.items()}

    def to_results(self, ground_truth: GroundTruth, input_id: int, keypoints: np.ndarray, scores: np.ndarray) -> list[dict]:
        """Convert predictions in one of `inputs`, keypoints (P, K, 3) and scores (P,), to COCO's results."""
        truth = ground_truth
        return to_results(input_id, keypoints, scores, truth.skeleton, truth.category, truth.file_index, truth.num_keypoints)

    def load_results(self, path: Path, ground_truth: GroundTruth) -> list[dict]:
        """Read predictions in COCO's format for results. Raises UserError where an entry cannot be evaluated."""
        return load_results(path, ground_truth)

    def compute(self, predictions: list[dict], ground_truth: GroundTruth) -> dict[str, float]:
        """Return the metrics over the images of the ground truth; -1 where no person counts, as in pycocotools."""
        return compute_on(predictions, ground_truth, list(ground_truth.files))

    def check_save_images(self, ground_truth: GroundTruth) -> None:
        """Raise UserError where images cannot be ranked or read."""
        if not ground_truth.is_annotated:
            raise UserError(f"--save-images: {ground_truth.path} has no annotations to rank images by; omit it")
        if ground_truth.folder is None:
            raise UserError("--save-images: no folder of images given; add --images")

    def report(self, predictions: list[dict], ground_truth: GroundTruth, folder: Path, save_images: int, system: str) -> str:
        """Write metrics, analysis and the worst images into the folder. Return the summary for the terminal."""
        truth = ground_truth
        if not truth.is_annotated:
            archive = write_submission(folder, predictions, truth.path, system) if truth.format == "coco" else None
            return "no annotations to compare with" + f"; for the COCO server: {archive}" * (archive is not None)
        metrics = self.compute(predictions, truth)
        write_json(folder / METRICS_NAME, metrics)
        images = [image.best_first() for image in truth.image_results(predictions)]
        keypoints = AnnotatedKeypoints.of(truth.skeleton, truth.file_index)
        lines = [metrics_table(metrics), write_analysis(images, keypoints, folder)]
        if save_images:
            lines.append(write_worst(images, keypoints, truth.files, folder, save_images))
        return "\n".join(lines)


def compute_on(predictions: list[dict], ground_truth: GroundTruth, image_ids: list[int]) -> dict[str, float]:
    """Return COCO's ten metrics over some images of the ground truth."""
    truth, selected = ground_truth, set(image_ids)
    predictions = [prediction for prediction in predictions if prediction["image_id"] in selected]
    return keypoint_metrics(truth.coco, predictions, image_ids, truth.category, truth.file_index, truth.skeleton.oks_sigmas)


def keypoint_metrics(
    truth: COCO, predictions: list[dict], image_ids: list[int], category: int, file_index: np.ndarray, sigmas: np.ndarray
) -> dict[str, float]:
    """Return COCO's ten metrics over these images; -1 where no person counts, as in pycocotools.

    truth: see `read_people`. file_index (D,): the index of each of the data set's keypoints in the annotation file; -1: none.
    sigmas (D,): of OKS, in the data set's order.
    """
    present = file_index >= 0
    keys = ("image_id", "category_id", "score")  # given a bbox or segmentation, pycocotools does not evaluate keypoints
    results = [
        {**{k: p[k] for k in keys}, "keypoints": np.reshape(p["keypoints"], (-1, 3))[file_index[present]].ravel()} for p in predictions
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = truth.loadRes(results) if results else indexed({**truth.dataset, "annotations": []})
        evaluation = COCOeval(truth, loaded, "keypoints")
        evaluation.params.imgIds, evaluation.params.catIds, evaluation.params.kpt_oks_sigmas = image_ids, [category], sigmas[present]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(METRICS, evaluation.stats)}


def to_results(
    image_id: int, keypoints: np.ndarray, scores: np.ndarray, skeleton: Skeleton, category: int, file_index: np.ndarray, count: int
) -> list[dict]:
    """Convert one image's predictions to COCO's results in the annotation file's order; exclude those with none of its keypoints.

    keypoints (P, K, 3) x, y, score in image pixels; file_index (D,): the index of each of the data set's keypoints among the file's
    `count`, -1: none.
    """
    ordered, present = np.zeros((len(keypoints), count, 3)), file_index >= 0
    ordered[:, file_index[present]] = skeleton.to_dataset(keypoints)[:, present]
    ordered[..., 2] = ordered[..., 2] > 0
    flat = np.round(ordered.reshape(len(keypoints), 3 * count), 2).tolist()
    # Rounded scores would rank people of almost equal scores by chance
    return [
        {"image_id": image_id, "category_id": category, "keypoints": person, "score": float(score)}
        for person, score, has_any in zip(flat, scores, ordered[..., 2].any(1))
        if has_any
    ]


def load_results(path: Path, ground_truth: GroundTruth, people: set[int] | None = None) -> list[dict]:
    """Read a file in COCO's format for results; return the entries of the ground truth's images.

    people: ids of annotated people; each entry needs the `annotation_id` of one. None: no such id. Raises UserError with the number of the
    first entry that cannot be evaluated.
    """
    entries, truth = read_json(path, "detections"), ground_truth
    keys = (*RESULT_KEYS, *["annotation_id"] * (people is not None))
    expected = f"expected a list of {{{', '.join(keys)}}}"
    if not isinstance(entries, list):
        raise UserError(f"detections {path}: not COCO's format for results; {expected}")
    if not entries:
        raise UserError(f"detections {path}: an empty list, there is nothing to evaluate")

    def error(entry: object) -> str | None:
        missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if missing:
            return f"lacks {missing[0]!r}; {expected}"
        image_id, category, keypoints = entry["image_id"], entry["category_id"], entry["keypoints"]
        if type(image_id) is not int or image_id not in truth.annotations.imgs:
            return f"is of image {image_id!r}, which the annotation file does not list"
        if people is not None and (type(entry["annotation_id"]) is not int or entry["annotation_id"] not in people):
            return f"is of person {entry['annotation_id']!r}, which the annotation file does not list"
        if type(category) is not int or category != truth.category:
            return f"is of category {category!r}; people are {truth.category}"
        if not isinstance(keypoints, list) or len(keypoints) != 3 * truth.num_keypoints or not all(map(_is_finite, keypoints)):
            return f"needs {3 * truth.num_keypoints} finite numbers as 'keypoints': x, y, v of the {truth.num_keypoints} keypoints"
        return None if _is_finite(entry["score"]) else f"has the score {entry['score']!r}, expected a finite number"

    for number, entry in enumerate(entries, start=1):
        problem = error(entry)
        if problem:
            raise UserError(f"detections {path}: entry {number} {problem}")
    return [entry for entry in entries if entry["image_id"] in truth.files]


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _skeleton_of(annotations: COCO) -> Skeleton:
    """Return the known skeleton with most of the file's keypoints and fewest others; COCO's where the file has none."""
    names = max((set(category.get("keypoints") or []) for category in annotations.dataset["categories"]), key=len, default=set())
    best = max(known_skeletons(), key=lambda skeleton: (len(names & set(skeleton.dataset)), -len(skeleton.dataset)))
    return best if names else load_skeleton("coco")


def metrics_table(metrics: dict[str, float]) -> str:
    """Format metrics as two lines: names over values."""
    values = [str(value) if isinstance(value, int) else f"{value:.3f}" for value in metrics.values()]
    widths = [max(len(name), 6) for name in metrics]
    return "\n".join("  ".join(f"{word:>{width}}" for word, width in zip(line, widths)) for line in (metrics, values))


def write_submission(folder: Path, predictions: list[dict], annotations: Path, system: str) -> Path:
    """Write the archive for COCO's server; the annotation file's name contains the test set, by default test-dev2017."""
    named = TEST_SET.search(annotations.stem)
    name = SUBMISSION_NAME.format(named[0] if named else "test-dev2017", system.replace("_", "-"))
    results, path = folder / f"{name}.json", folder / f"{name}.zip"
    write_json(results, predictions)
    with atomic_write(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(results, results.name)
    return path
