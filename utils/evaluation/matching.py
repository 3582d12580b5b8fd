"""Who was found is who of the people to be found, and average precision: COCO's rules, fast enough to be followed again and again.

pycocotools gives the figures; what they are made of is worked out here, by the same rules, on arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.oks import object_keypoint_similarity

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS
RECALLS = np.linspace(0, 1, 101)  # where precision is read
MOST = 20  # people found of one image that count, the best
EVERY_SIZE = (0.0, 1e10)  # area in pixels squared


@dataclass(frozen=True)
class Scene:
    """One image: G people to be found, and P who were found, best first. D keypoints, in the data set's order."""

    image_id: int
    joints: np.ndarray  # (G, D, 3) x, y, v, 0: not labelled
    areas: np.ndarray  # (G,) pixels squared
    boxes: np.ndarray  # (G, 4) x, y, width, height
    ignored: np.ndarray  # (G,) bool: need not be found, as crowds and people without keypoints
    crowd: np.ndarray  # (G,) bool: may be found by many
    poses: np.ndarray  # (P, D, 3) x, y, v, 0 0 0: keypoint not found
    scores: np.ndarray  # (P,)

    def similarity(self, sigmas: np.ndarray) -> np.ndarray:
        """(P, G) OKS. sigmas (D,)."""
        return object_keypoint_similarity(self.poses, self.joints, self.areas, self.boxes, sigmas)

    def pose_areas(self) -> np.ndarray:
        """(P,) pixels squared, as pycocotools has it: of the box round all keypoints, those at 0, 0 too."""
        places = self.poses[..., :2]
        return np.prod(places.max(1) - places.min(1), -1) if len(places) else np.zeros(0)

    def of_keypoint(self, k: int) -> Scene:
        """The same with one keypoint only: who does not have it is not there, or need not be found."""
        has = self.poses[:, k].any(-1)
        unlabelled = self.joints[:, k, 2] <= 0
        return replace(
            self, joints=self.joints[:, [k]], ignored=self.ignored | unlabelled, poses=self.poses[has][:, [k]], scores=self.scores[has]
        )


def best_first(scene: Scene) -> Scene:
    """The scene with who was found in the order of the scores, those who count."""
    order = np.argsort(-scene.scores, kind="stable")[:MOST]
    return replace(scene, poses=scene.poses[order], scores=scene.scores[order])


def match(similarity: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(T, P) who of the people to be found each one found is, at each threshold of OKS; -1: nobody.

    The best choose first, and choose whom they are most like: somebody to be found before somebody ignored. similarity (P, G); thresholds
    (T,); ignored, crowd (G,) bool.
    """
    found, people = similarity.shape
    matches = np.full((len(thresholds), found), -1)
    if not people:
        return matches
    rows, free = np.arange(len(thresholds)), np.ones((len(thresholds), people), bool)
    for p in np.flatnonzero(similarity.max(1) >= thresholds.min()):
        like = similarity[p] >= np.minimum(thresholds, 1 - 1e-10)[:, None]
        for choice in (~ignored, ignored):
            value = np.where(like & choice & (free | crowd), similarity[p], -1)
            best = people - 1 - value[:, ::-1].argmax(1)  # of equals the last, as pycocotools does
            hit = (value[rows, best] >= 0) & (matches[:, p] < 0)
            matches[hit, p] = best[hit]
            free[rows[hit], best[hit]] = False
    return matches


@dataclass(frozen=True)
class Judged:
    """Everybody found in all images, N, at T thresholds."""

    scores: np.ndarray  # (N,)
    right: np.ndarray  # (T, N) bool: is somebody who was to be found
    counted: np.ndarray  # (T, N) bool: is not somebody ignored
    people: int  # to be found

    def precision(self) -> np.ndarray:
        """(T, 101) the precision at each recall of RECALLS: the best that there is at this recall or a higher one, 0 at those not reached.

        (T, 0) where there is nobody to find.
        """
        if not self.people:
            return np.zeros((len(self.right), 0))
        order = np.argsort(-self.scores, kind="stable")
        right = np.cumsum(self.right[:, order], 1, dtype=float)
        wrong = np.cumsum((self.counted & ~self.right)[:, order], 1, dtype=float)
        precision = right / (right + wrong + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        precision = np.c_[precision, np.zeros(len(precision))]
        return np.stack([at[np.searchsorted(recall, RECALLS)] for at, recall in zip(precision, right / self.people)])

    def recall(self) -> np.ndarray:
        """(T,) the share of the people to be found who are; 0 where there is nobody to find."""
        return self.right.sum(1) / max(self.people, 1)


def judge(
    scenes: Sequence[Scene], sigmas: np.ndarray, thresholds: np.ndarray = THRESHOLDS, size: tuple[float, float] = EVERY_SIZE
) -> Judged:
    """Who of those found is right. size: the areas of the people to be found that count; who is as small or large otherwise is ignored."""
    scores, right, counted, people = [], [], [], 0
    for scene in scenes:
        ignored = scene.ignored | (scene.areas < size[0]) | (scene.areas > size[1])
        people += int((~ignored).sum())
        if not len(scene.poses):
            continue
        matches = match(scene.similarity(sigmas), thresholds, ignored, scene.crowd)
        areas = scene.pose_areas()
        outside = (areas < size[0]) | (areas > size[1])
        known = matches >= 0
        of_ignored = known & np.append(ignored, False)[matches]
        scores.append(scene.scores)
        right.append(known & ~of_ignored)
        counted.append(~of_ignored & ~(~known & outside))
    nobody = np.zeros((len(thresholds), 0), bool)
    return Judged(np.concatenate([np.zeros(0), *scores]), np.hstack([nobody, *right]), np.hstack([nobody, *counted]), people)


def average_precision(precision: np.ndarray) -> float:
    """The mean of precisions at all recalls; -1 where there is nobody to find, as pycocotools says it."""
    return float(precision.mean()) if precision.size else -1.0
