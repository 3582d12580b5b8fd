"""COCO keypoint evaluation: detections as COCO's JSON, and pycocotools' ten figures."""

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
from data.formats.coco import file_keypoints, indexed, person_area, person_box

FIGURES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
FIGURES_NAME = "figures.json"
RESULTS_NAME = "person_keypoints_test-dev2017_simplepose_results.json"  # the COCO server wants this pattern inside the archive
ARCHIVE_NAME = RESULTS_NAME.replace(".json", ".zip")


def to_detections(
    image_id: int, keypoints: np.ndarray, scores: np.ndarray, skeleton: Skeleton, category: int, order: np.ndarray, count: int
) -> list[dict]:
    """One image's people as COCO results, in the annotation file's own order.

    keypoints (P, K, 3) x, y, score in image pixels; order (D,): where each of the data set's keypoints stands among the file's `count`.
    """
    ordered = np.zeros((len(keypoints), count, 3))
    ordered[:, order] = skeleton.to_dataset(keypoints)
    ordered[..., 2] = ordered[..., 2] > 0
    flat = np.round(ordered.reshape(len(keypoints), 3 * count), 2).tolist()
    return [
        {"image_id": image_id, "category_id": category, "keypoints": person, "score": round(float(score), 6)}
        for person, score in zip(flat, scores)
    ]


def ground_truth(coco: COCO, category: int, order: np.ndarray) -> COCO:
    """The people of an annotation file as `keypoint_figures` compares with. Raises UserError where an annotation makes no sense.

    order (D,): where each of the data set's keypoints stands in the file.
    """
    people = [annotation for annotation in coco.dataset["annotations"] if annotation["category_id"] == category]
    return indexed({**coco.dataset, "annotations": [_true_person(*numbered, order) for numbered in enumerate(people, start=1)]})


def keypoint_figures(
    truth: COCO, detections: list[dict], image_ids: list[int], category: int, order: np.ndarray, sigmas: np.ndarray
) -> dict[str, float]:
    """The ten COCO figures over these images; -1 where there is nobody to find (as pycocotools says it).

    truth: see `ground_truth`. order (D,): where each of the data set's keypoints stands in the annotation file.
    sigmas (D,): OKS's, in the data set's order.
    """
    if not detections:
        return dict.fromkeys(FIGURES, 0.0)
    found = [{**detection, "keypoints": file_keypoints(detection, order).ravel()} for detection in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "keypoints")
        evaluation.params.imgIds, evaluation.params.catIds, evaluation.params.kpt_oks_sigmas = image_ids, [category], sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(FIGURES, evaluation.stats)}


def _true_person(number: int, annotation: dict, order: np.ndarray) -> dict:
    """An annotation as pycocotools wants it: keypoints in the order of the sigmas, and what files of one's own often leave out.

    The id is new, since pycocotools takes 0, where such files like to begin, for "not matched".
    """
    keypoints, box = file_keypoints(annotation, order), person_box(annotation).tolist()
    known = {"id": number, "bbox": box, "area": person_area(annotation), "iscrowd": int(bool(annotation.get("iscrowd")))}
    return {**annotation, **known, "keypoints": keypoints.ravel(), "num_keypoints": int((keypoints[:, 2] > 0).sum())}


def figures_table(figures: dict[str, float]) -> str:
    """The figures as two lines, names over values."""
    names, values = zip(*((f"{name:>6}", f"{value:6.3f}") for name, value in figures.items()))
    return "  ".join(names) + "\n" + "  ".join(values)


def remove_derived(folder: Path) -> None:
    """Remove what was made from an earlier evaluation's detections: beside others it would mislead."""
    for name in (FIGURES_NAME, RESULTS_NAME, ARCHIVE_NAME):
        (folder / name).unlink(missing_ok=True)


def write_submission(folder: Path, detections: list[dict]) -> Path:
    """The archive that COCO's evaluation server takes."""
    path = folder / ARCHIVE_NAME
    write_json(folder / RESULTS_NAME, detections)
    with written_whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / RESULTS_NAME, RESULTS_NAME)
    return path
