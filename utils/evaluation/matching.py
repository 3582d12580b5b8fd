"""Matching of predictions with annotated people, and average precision, by COCO's rules.

pycocotools computes the reported metrics. This module follows the same rules on arrays, fast enough to repeat them for each keypoint, size
and error type of the analysis.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from utils.oks import object_keypoint_similarity

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS
RECALLS = np.linspace(0, 1, 101)  # at which precision is sampled
MAX_PREDICTIONS = 20  # of an image, the best


@dataclass(frozen=True)
class ImageResult:
    """One image: G annotated people and P predictions with D keypoints, in the data set's order."""

    image_id: int
    joints: np.ndarray  # (G, D, 3) x, y, v; v 0: unlabeled
    areas: np.ndarray  # (G,) pixels squared
    boxes: np.ndarray  # (G, 4) x, y, width, height
    ignored: np.ndarray  # (G,) bool: crowds and people without keypoints; neither hits nor misses
    crowd: np.ndarray  # (G,) bool: may be matched by many predictions
    poses: np.ndarray  # (P, D, 3) x, y, v; 0 0 0: not predicted
    scores: np.ndarray  # (P,)

    @staticmethod
    def of(image_id: int, people: list[dict], predictions: list[dict], file_index: np.ndarray) -> ImageResult:
        """Collect the arrays. people: see `coco.read_people`; predictions: COCO's results; file_index (D,): of keypoints in these."""
        count = len(file_index)
        crowd = np.array([person["iscrowd"] for person in people], bool)
        return ImageResult(
            image_id,
            np.array([person["keypoints"] for person in people], float).reshape(-1, count, 3),
            np.array([person["area"] for person in people], float),
            np.array([person["bbox"] for person in people], float).reshape(-1, 4),
            crowd | np.array([person["num_keypoints"] == 0 for person in people], bool),
            crowd,
            np.array([np.reshape(p["keypoints"], (-1, 3))[file_index] for p in predictions], float).reshape(-1, count, 3),
            np.array([prediction["score"] for prediction in predictions], float),
        )

    def best_first(self) -> ImageResult:
        """Return the image with its `MAX_PREDICTIONS` best predictions, in descending score."""
        order = np.argsort(-self.scores, kind="stable")[:MAX_PREDICTIONS]
        return replace(self, poses=self.poses[order], scores=self.scores[order])

    def similarity(self, sigmas: np.ndarray) -> np.ndarray:
        """Return (P, G) OKS. sigmas (D,)."""
        return object_keypoint_similarity(self.poses, self.joints, self.areas, self.boxes, sigmas)

    def of_keypoint(self, k: int) -> ImageResult:
        """Return the image with one keypoint only; predictions without it are excluded, people without it are ignored."""
        has, missing = self.poses[:, k].any(-1), self.joints[:, k, 2] <= 0
        joints, poses = self.joints[:, [k]], self.poses[has][:, [k]]
        return replace(self, joints=joints, ignored=self.ignored | missing, poses=poses, scores=self.scores[has])


def match(similarity: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Match greedily in descending score. Return (T, P) the index of each prediction's person at each OKS threshold, -1: none.

    Each prediction takes the unmatched person with the highest OKS; counted people come before ignored ones. Crowds match repeatedly.
    similarity (P, G), predictions in descending score; thresholds (T,); ignored, crowd (G,) bool.
    """
    predictions, people = similarity.shape
    matches = np.full((len(thresholds), predictions), -1)
    if not people:
        return matches
    rows, free = np.arange(len(thresholds)), np.ones((len(thresholds), people), bool)
    for p in np.flatnonzero(similarity.max(1) >= thresholds.min()):
        similar = similarity[p] >= np.minimum(thresholds, 1 - 1e-10)[:, None]
        for group in (~ignored, ignored):
            value = np.where(similar & group & (free | crowd), similarity[p], -1)
            best = people - 1 - value[:, ::-1].argmax(1)  # the last of equals, as in pycocotools
            hit = (value[rows, best] >= 0) & (matches[:, p] < 0)
            matches[hit, p] = best[hit]
            free[rows[hit], best[hit]] = False
    return matches


class PrecisionCurves(NamedTuple):
    """Precision and recall of all predictions at each OKS threshold."""

    people: int  # that count
    precision: np.ndarray  # (T, 101) the highest precision at each of RECALLS or above, 0 if not reached; (T, 0) without people
    recall: np.ndarray  # (T,) true positives by counted people; 0 without people

    def summary(self) -> dict[str, float]:
        """Return the number of people, AP, AP50, AP75 and the recall at OKS 0.5; an AP of -1 without people, as in pycocotools."""
        rows = {"AP": self.precision, "AP50": self.precision[:1], "AP75": self.precision[5:6]}
        aps = {name: float(precision.mean()) if self.people else -1.0 for name, precision in rows.items()}
        return {"people": self.people, **aps, "recall50": float(self.recall[0])}


def precision_curves(images: Iterable[ImageResult], sigmas: np.ndarray, size: tuple[float, float] = (0, 1e10)) -> PrecisionCurves:
    """Match the predictions of all images. size: least and greatest area of the people that count; others are ignored."""
    none = np.zeros((len(THRESHOLDS), 0), bool)
    scores, true_positives, false_positives, people = [np.zeros(0)], [none], [none], 0
    for image in images:
        ignored = image.ignored | (image.areas < size[0]) | (image.areas > size[1])
        people += int((~ignored).sum())
        matches = match(image.similarity(sigmas), THRESHOLDS, ignored, image.crowd)
        areas = np.prod(np.ptp(image.poses[..., :2], axis=1), -1)  # as in pycocotools, unpredicted keypoints at 0, 0 count
        outside = (areas < size[0]) | (areas > size[1])
        scores.append(image.scores)
        true_positives.append(~np.append(ignored, True)[matches])
        false_positives.append((matches < 0) & ~outside)
    if not people:
        return PrecisionCurves(0, np.zeros((len(THRESHOLDS), 0)), np.zeros(len(THRESHOLDS)))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right, wrong = (np.cumsum(np.hstack(hits)[:, order], 1, dtype=float) for hits in (true_positives, false_positives))
    precision, recall = right / (right + wrong + np.spacing(1)), right / people
    precision = np.c_[np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1], np.zeros(len(precision))]  # 0 at recalls that are not reached
    at_recalls = [row[np.searchsorted(of_row, RECALLS)] for row, of_row in zip(precision, recall)]
    return PrecisionCurves(people, np.stack(at_recalls), recall.max(1, initial=0))
