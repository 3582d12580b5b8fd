"""COCO's keypoint evaluation: the ground truth of an annotation file, predictions as COCO's results, and pycocotools' ten metrics."""

import contextlib
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config import Skeleton, UserError
from config.files import atomic_write, read_json, write_json
from data.formats import load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import Split, finite_numbers, indexed, listed_size
from data.formats.detections import load_detections, settle_ids
from data.image_source import present_images
from utils.evaluation.analysis import AnnotatedKeypoints, write_analysis
from utils.evaluation.matching import ImageResult
from utils.evaluation.worst import write_worst
from utils.predictions import PosePredictions
from utils.results_log import InputImage

METRICS = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
TEST_SET = re.compile(r"(test-dev|test|val)\d{4}")


class GroundTruth:
    """The first `limit` images of an annotation file and their annotated people, without images that are missing.

    Only keypoints that both the file and the skeleton have count. `fixes`: what was fixed or omitted, not yet printed. Raises UserError
    where an annotation is invalid, or all images are missing, before any image is run.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[Path] | None = None,
        skeleton: Skeleton | None = None,
        limit: int | None = None,
        names_from_skeleton: bool = False,
        strict: bool = False,
        split: Split | None = None,
    ):
        """Read the file. images: folders and zip files, if images are read. strict: what would be fixed or omitted is an error.

        The others: see `load_annotations`.
        """
        self.path, self.fixes = path, AnnotationFixes(strict)
        people = load_annotations(path, skeleton, images or (), split, self.fixes, names_from_skeleton, "val")
        self.containers = people.containers
        self.format, self.coco, self.skeleton = people.format, people.coco, people.skeleton
        self.is_annotated, self.ids, self.orders = bool(people.coco.anns), people.ids, people.orders
        self.category, self.file_index, self.num_keypoints = people.category, people.file_index, people.num_keypoints
        self.files = present_images(people.coco.imgs, path, self.containers, self.fixes, limit)

    @property
    def images_by_file_id(self) -> dict[Any, dict]:
        """Return the entries of all listed images by the file's own ids."""
        return {file_id: self.coco.imgs[number] for file_id, number in self.ids["image_id"].items()}

    def annotated_boxes(self) -> dict[int, np.ndarray]:
        """Return boxes (B, 5) x, y, width, height and a score of 1 by image, of the people that count."""
        if not self.is_annotated:
            raise UserError(f"{self.path}: has no annotations, and the system needs person boxes; pass detections with --boxes FILE")
        boxes = defaultdict(list)
        for person in self.coco.dataset["annotations"]:
            if person["num_keypoints"] and not person["iscrowd"]:
                boxes[person["image_id"]].append([*person["bbox"], 1])
        return {image_id: np.array(rows, float) for image_id, rows in boxes.items()}

    def with_file_ids(self, predictions: list[dict]) -> list[dict]:
        """Return predictions with the file's own ids of images and categories."""
        own = {key: {number: file_id for file_id, number in ids.items()} for key, ids in self.ids.items()}
        return [{**prediction, **{key: ids[prediction[key]] for key, ids in own.items()}} for prediction in predictions]

    def image_results(self, predictions: list[dict]) -> list[ImageResult]:
        """Return the annotated and predicted people of each image."""
        of_image, present = defaultdict(list), self.file_index[self.file_index >= 0]
        for prediction in predictions:
            of_image[prediction["image_id"]].append(prediction)
        return [ImageResult.of(image_id, self.coco.imgToAnns[image_id], of_image[image_id], present) for image_id in self.files]


class CocoMetric:
    """COCO's ten metrics, and the base class of the other metrics. `data.formats.FORMATS` names the metric of each format."""

    ranks_images = True  # whether `report` can write the worst images

    def inputs(self, truth: GroundTruth, needs_boxes: bool, boxes_file: Path | None = None) -> dict[int, InputImage]:
        """Return the network's inputs by id. boxes_file: a detector's; None takes annotated boxes where boxes are needed."""
        images, none, boxes = truth.coco.imgs, np.zeros((0, 5)), dict.fromkeys(truth.files)
        if needs_boxes and boxes_file is None:
            boxes = truth.annotated_boxes()
        elif needs_boxes:
            found = load_detections(boxes_file, truth.images_by_file_id, [*truth.ids["category_id"]], truth.fixes)
            boxes = {truth.ids["image_id"][file_id]: rows for file_id, rows in found.items()}
        return {i: InputImage(file, listed_size(images[i]), boxes.get(i, none)) for i, file in truth.files.items()}

    def to_results(self, truth: GroundTruth, input_id: int, people: PosePredictions) -> list[dict]:
        """Convert the people predicted in one of `inputs` to COCO's results."""
        return to_results(input_id, people, truth.skeleton, truth.category, truth.file_index, truth.num_keypoints)

    def load_results(self, path: Path, truth: GroundTruth) -> list[dict]:
        """Read a file in COCO's format for results; return the entries of the ground truth's images.

        Raise UserError with the number of the first entry that cannot be evaluated.
        """
        entries, count, form = read_json(path, "detections"), truth.num_keypoints, "{image_id, category_id, keypoints, score}"
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"detections {path}: no results in COCO's format; expected a list of {form}")
        settle_ids(entries, truth.images_by_file_id, [*truth.ids["category_id"]], f"detections {path}", truth.fixes)
        for number, entry in enumerate(entries, start=1):
            place = f"detections {path}: entry {number}"
            for key, known in truth.ids.items():
                value = entry.get(key)
                if type(value) not in (int, float, str) or value not in known:
                    raise UserError(f"{place}: its {key!r} is {value!r}, expected a listed one, such as {next(iter(known), None)}")
                entry[key] = known[value]
            keypoints = finite_numbers(entry, "keypoints", f"{3 * count} numbers: x, y, v of the {count} keypoints", place, (3 * count,))
            order, present = truth.orders[entry["category_id"]], truth.file_index >= 0
            ordered = keypoints.reshape(-1, 3).copy()
            ordered[truth.file_index[present]] = keypoints.reshape(-1, 3)[order[present]]
            entry |= {"category_id": truth.category, "keypoints": ordered.ravel().tolist()}
            finite_numbers(entry, "score", "a number", place, ())
        return [entry for entry in entries if entry["image_id"] in truth.files]

    def compute(self, predictions: list[dict], truth: GroundTruth) -> dict[str, float]:
        """Return the metrics over all images of the ground truth."""
        return self.compute_over(truth.files, predictions, truth)

    def compute_over(self, image_ids: Collection[int], predictions: list[dict], truth: GroundTruth) -> dict[str, float]:
        """Return the metrics over these images; -1 where no person counts, as in pycocotools."""
        selected = set(image_ids)
        predictions = [prediction for prediction in predictions if prediction["image_id"] in selected]
        return keypoint_metrics(truth.coco, predictions, sorted(selected), truth.category, truth.file_index, truth.skeleton.oks_sigmas)

    def report(self, predictions: list[dict], truth: GroundTruth, folder: Path, save_images: int, system: str) -> str:
        """Write metrics, analysis and the worst images into the folder. Return the summary for the terminal."""
        if not truth.is_annotated:
            archive = write_submission(folder, truth.with_file_ids(predictions), truth.path, system) if truth.format == "coco" else None
            return "no annotations to compare with" + f"; for the COCO server: {archive}" * (archive is not None)
        metrics = self.compute(predictions, truth)
        write_json(folder / "metrics.json", metrics)
        images = [image.best_first() for image in truth.image_results(predictions)]
        keypoints = AnnotatedKeypoints(truth.skeleton, truth.file_index)
        lines = [metrics_table(metrics), write_analysis(images, keypoints, folder)]
        if save_images:
            lines.append(write_worst(images, keypoints, truth.files, folder / "worst", save_images))
        return "\n".join(lines)


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


def to_results(image_id: int, people: PosePredictions, skeleton: Skeleton, category: int, file_index: np.ndarray, count: int) -> list[dict]:
    """Convert one image's predictions to COCO's results in the annotation file's order; exclude those with none of its keypoints.

    file_index (D,): the index of each of the data set's keypoints among the file's `count`, -1: none.
    """
    keypoints, scores = people
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


def metrics_table(metrics: dict[str, float]) -> str:
    """Format metrics as two lines: names over values."""
    values = [str(value) if isinstance(value, int) else f"{value:.3f}" for value in metrics.values()]
    widths = [max(len(name), 6) for name in metrics]
    return "\n".join("  ".join(f"{word:>{width}}" for word, width in zip(line, widths)) for line in (metrics, values))


def write_submission(folder: Path, predictions: list[dict], annotations: Path, system: str) -> Path:
    """Write the archive for COCO's server; the annotation file's name contains the test set, by default test-dev2017."""
    named = TEST_SET.search(annotations.stem)
    name = f"person_keypoints_{named[0] if named else 'test-dev2017'}_{system.replace('_', '-')}_results"  # the server's pattern
    write_json(folder / f"{name}.json", predictions)
    with atomic_write(folder / f"{name}.zip") as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / f"{name}.json", f"{name}.json")
    return folder / f"{name}.zip"
