"""Analysis of AP: AP by keypoint and by person size, precision and recall, and the AP lost by error type.

Errors are those of Ronchi and Perona (ICCV 2017). Predictions are matched to ground truth at OKS 0.5 first, as COCO does, and the rest at
OKS 0.1. Each annotated keypoint of a matched person is then

good       at its annotated position: its own OKS is at least 0.85;
jitter     near it: an OKS of at least 0.5;
inversion  at the person's own keypoint of the other side;
swap       at another person's keypoint, the same one or that of the other side;
miss       anywhere else, or not predicted.

pycocotools computes the reported metrics. This module follows the same rules on arrays, fast enough to repeat them for each error type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from config import Skeleton
from config.files import write_json
from data.images import write_image
from utils.oks import object_keypoint_similarity
from utils.visualize.charts import Bars, Line, beside, draw_bars, draw_lines

ANALYSIS_NAME, CURVES_NAME, ERRORS_NAME = "analysis.json", "pr_curves.png", "errors.png"
THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of OKS
RECALLS = np.linspace(0, 1, 101)  # at which precision is sampled
MAX_PREDICTIONS = 20  # of an image, the best
ANY_SIZE = (0.0, 1e10)  # area in pixels squared
SIDES = (0, 32, 64, 96, 192, 1e5)  # pixels; a person's size is the side of a square of the same area
KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
UNCOMPARED = -1  # kind of an unlabeled keypoint
PERSON_ERRORS = ("scores", "false_positives", "false_negatives")
SAME_PERSON = (0.5, 0.1)  # OKS
EXACT, NEAR = 0.85, 0.5  # OKS of one keypoint
COLORS = {
    "good": (120, 180, 90),
    "jitter": (80, 200, 235),
    "inversion": (200, 120, 60),
    "swap": (190, 80, 170),
    "miss": (70, 70, 220),
}  # BGR


@dataclass(frozen=True)
class AnnotatedKeypoints:
    """The D keypoints that both a skeleton and an annotation file have, in the data set's order."""

    skeleton: Skeleton
    names: tuple[str, ...]
    sigmas: np.ndarray  # (D,) of OKS
    mirror: np.ndarray  # (D,) the keypoint of the other side; itself where there is none

    @staticmethod
    def of(skeleton: Skeleton, file_index: np.ndarray) -> AnnotatedKeypoints:
        """Select the file's keypoints. file_index (D,): the index of each of the data set's keypoints in the file; -1: none."""
        present = file_index >= 0
        names = tuple(name for name, has in zip(skeleton.dataset, present) if has)
        rows = [skeleton.index(skeleton.dataset[name]) for name in names]
        mirror = np.array([rows.index(m) if (m := skeleton.flip_keypoints[row]) in rows else k for k, row in enumerate(rows)])
        return AnnotatedKeypoints(skeleton, names, skeleton.oks_sigmas[present], mirror)


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
        """Collect the arrays. people: see `coco.comparable`; predictions: COCO's results; file_index (D,): of keypoints in these."""
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

    def pose_areas(self) -> np.ndarray:
        """Return (P,) pixels squared of the box around all keypoints; as in pycocotools, unpredicted ones at 0, 0 count."""
        return np.prod(np.ptp(self.poses[..., :2], axis=1), -1)

    def of_keypoint(self, k: int) -> ImageResult:
        """Return the image with one keypoint only; predictions without it are excluded, people without it are ignored."""
        has, missing = self.poses[:, k].any(-1), self.joints[:, k, 2] <= 0
        joints, poses = self.joints[:, [k]], self.poses[has][:, [k]]
        return replace(self, joints=joints, ignored=self.ignored | missing, poses=poses, scores=self.scores[has])


# Matching and average precision, by COCO's rules


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


@dataclass(frozen=True)
class MatchTable:
    """All N predictions of all images at T thresholds."""

    scores: np.ndarray  # (N,)
    is_true_positive: np.ndarray  # (T, N) bool: matches a counted person
    not_ignored: np.ndarray  # (T, N) bool: a true or false positive
    people: int  # that count

    def precision(self) -> np.ndarray:
        """Return (T, 101) the highest precision at each of RECALLS or above, 0 if not reached; (T, 0) without people."""
        if not self.people:
            return np.zeros((len(self.is_true_positive), 0))
        order = np.argsort(-self.scores, kind="stable")
        right = np.cumsum(self.is_true_positive[:, order], 1, dtype=float)
        wrong = np.cumsum((self.not_ignored & ~self.is_true_positive)[:, order], 1, dtype=float)
        precision = right / (right + wrong + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        precision = np.c_[precision, np.zeros(len(precision))]
        return np.stack([row[np.searchsorted(recall, RECALLS)] for row, recall in zip(precision, right / self.people)])

    def recall(self) -> np.ndarray:
        """Return (T,) true positives by counted people; 0 without people."""
        return self.is_true_positive.sum(1) / max(self.people, 1)


def match_predictions(
    images: Iterable[ImageResult], sigmas: np.ndarray, thresholds: np.ndarray = THRESHOLDS, size: tuple[float, float] = ANY_SIZE
) -> MatchTable:
    """Match the predictions of all images. size: least and greatest area of the people that count; others are ignored."""
    no_predictions = np.zeros((len(thresholds), 0), bool)
    scores, is_true_positive, not_ignored, people = [np.zeros(0)], [no_predictions], [no_predictions], 0
    for image in images:
        ignored = image.ignored | (image.areas < size[0]) | (image.areas > size[1])
        people += int((~ignored).sum())
        matches = match(image.similarity(sigmas), thresholds, ignored, image.crowd)
        areas = image.pose_areas()
        outside, matched = (areas < size[0]) | (areas > size[1]), matches >= 0
        of_ignored = matched & np.append(ignored, False)[matches]
        scores.append(image.scores)
        is_true_positive.append(matched & ~of_ignored)
        not_ignored.append(~of_ignored & (matched | ~outside))
    return MatchTable(np.concatenate(scores), np.hstack(is_true_positive), np.hstack(not_ignored), people)


def average_precision(precision: np.ndarray) -> float:
    """Return the mean precision over all recalls; -1 without people, as in pycocotools."""
    return float(precision.mean()) if precision.size else -1.0


# Errors


@dataclass(frozen=True)
class MatchedImage:
    """An image's predictions with their errors."""

    image: ImageResult
    gt_index: np.ndarray  # (P,) the annotated person of each prediction; -1: none
    oks: np.ndarray  # (P,) with that person; 0: none
    kinds: np.ndarray  # (P, D) index into KINDS, or UNCOMPARED

    @property
    def is_false_positive(self) -> np.ndarray:
        """(P,) bool: matches no person, or only one that a better prediction matches."""
        return self.gt_index < 0

    @property
    def missed(self) -> np.ndarray:
        """(G,) bool: false negatives."""
        return ~self.image.ignored & ~np.isin(np.arange(len(self.image.joints)), self.gt_index)


def match_image(image: ImageResult, keypoints: AnnotatedKeypoints) -> MatchedImage:
    """Match one image's predictions and classify each keypoint."""
    similarity, gt_index = image.similarity(keypoints.sigmas), np.full(len(image.poses), -1)
    for threshold in SAME_PERSON:
        rest, matched = gt_index < 0, np.isin(np.arange(len(image.joints)), gt_index) & ~image.crowd
        gt_index[rest] = match(np.where(matched, 0, similarity[rest]), np.array([threshold]), image.ignored, image.crowd)[0]
    oks = np.where(gt_index >= 0, similarity[np.arange(len(gt_index)), gt_index], 0) if similarity.size else np.zeros(len(gt_index))
    kinds = np.full(image.poses.shape[:2], UNCOMPARED)
    for p in np.flatnonzero(gt_index >= 0):
        if not image.ignored[gt_index[p]]:
            kinds[p] = keypoint_kinds(image.poses[p], image.joints, int(gt_index[p]), float(image.areas[gt_index[p]]), keypoints)
    return MatchedImage(image, gt_index, oks, kinds)


def keypoint_kinds(pose: np.ndarray, joints: np.ndarray, person: int, area: float, keypoints: AnnotatedKeypoints) -> np.ndarray:
    """Return (D,) the kind of each of a pose's keypoints: the nearest annotated keypoint decides.

    pose (D, 3); joints (G, D, 3) of all people; person: the index of the pose's; area: of that person, in pixels squared.
    """
    mirror, tolerance = keypoints.mirror, 2 * area * (2 * keypoints.sigmas) ** 2 + np.spacing(1)

    def keypoint_oks(positions: np.ndarray) -> np.ndarray:
        near = np.exp(-np.square(pose[:, :2] - positions[..., :2]).sum(-1) / tolerance)
        return near * (positions[..., 2] > 0) * pose.any(1)

    own = keypoint_oks(joints[person])
    inverted = keypoint_oks(joints[person][mirror])  # of a keypoint without another side: `own`, which is compared first
    others = np.delete(joints, person, 0)
    swapped = np.maximum(keypoint_oks(others), keypoint_oks(others[:, mirror])).max(0, initial=0)
    wrong = np.select([np.maximum(inverted, swapped) < NEAR, inverted >= swapped], [MISS, INVERSION], SWAP)
    kinds = np.select([own >= EXACT, own >= NEAR], [GOOD, JITTER], wrong)
    return np.where(joints[person, :, 2] > 0, kinds, UNCOMPARED)


def fix_error(matched: MatchedImage, error: str) -> ImageResult:
    """Return the image with one error type fixed. Fixing `jitter` makes good keypoints exact as well."""
    image = matched.image
    if error == "scores":
        return replace(image, scores=matched.oks)
    if error == "false_positives":
        return replace(image, poses=image.poses[~matched.is_false_positive], scores=image.scores[~matched.is_false_positive])
    if error == "false_negatives":  # ignored, not removed: a prediction near a missed person stays a false positive
        return replace(image, ignored=image.ignored | matched.missed)
    kinds = (GOOD, JITTER) if error == "jitter" else (KINDS.index(error),)
    wrong = np.isin(matched.kinds, kinds)
    return replace(image, poses=np.where(wrong[..., None], image.joints[matched.gt_index], image.poses)) if len(image.joints) else image


def ap_gain_if_fixed(matched: Sequence[MatchedImage], sigmas: np.ndarray) -> dict[str, float]:
    """Return the AP gained by fixing each error type alone; -1 without people."""

    def ap(images: Iterable[ImageResult]) -> float:
        return average_precision(match_predictions((image.best_first() for image in images), sigmas).precision())

    before, gains = ap(each.image for each in matched), {}
    for error in (*KINDS[JITTER:], *PERSON_ERRORS):
        after = ap(fix_error(each, error) for each in matched)
        after = 1.0 if after < 0 else after  # no counted person remains, so none is missed
        gains[error] = after - before if before >= 0 else -1.0
    return gains


def image_errors(matched: Sequence[MatchedImage]) -> np.ndarray:
    """Return (images,) the error of each image, in people: 1 - OKS of each person, and for each false positive the fraction of all true
    positives with a lower score.
    """
    true_scores = [m.image.scores[(m.gt_index >= 0) & ~np.append(m.image.ignored, False)[m.gt_index]] for m in matched]
    true_scores = np.sort(np.concatenate([np.zeros(0), *true_scores]))

    def error(m: MatchedImage) -> float:
        best = np.zeros(len(m.image.joints))
        best[m.gt_index[~m.is_false_positive]] = m.oks[~m.is_false_positive]
        above = np.searchsorted(true_scores, m.image.scores[m.is_false_positive]) / max(len(true_scores), 1)
        return float((1 - best)[~m.image.ignored].sum() + above.sum())

    return np.array([error(each) for each in matched])


# Files


def write_analysis(images: Sequence[ImageResult], keypoints: AnnotatedKeypoints, folder: Path) -> str:
    """Write analysis.json, pr_curves.png and errors.png. Return a summary line."""
    precision = match_predictions(images, keypoints.sigmas).precision()
    if not precision.size:
        return "no person is annotated: no analysis"
    analysis = analyze(images, keypoints, precision)
    write_json(folder / ANALYSIS_NAME, analysis)
    write_image(folder / CURVES_NAME, _draw_curves(analysis))
    write_image(folder / ERRORS_NAME, _draw_errors(analysis))
    largest = sorted(analysis["ap_gain_if_fixed"].items(), key=lambda gain: -gain[1])[:3]
    errors = ", ".join(f"{_plain(name)} {value:.3f}" for name, value in largest)
    return f"AP lost by error type: {errors}; more in {', '.join(str(folder / n) for n in (ANALYSIS_NAME, CURVES_NAME, ERRORS_NAME))}"


def analyze(images: Sequence[ImageResult], keypoints: AnnotatedKeypoints, precision: np.ndarray) -> dict[str, Any]:
    """Return the content of analysis.json. precision (T, 101): over all people."""
    matched = [match_image(image, keypoints) for image in images]
    kinds = np.concatenate([each.kinds for each in matched])
    by_keypoint = {}
    for k, name in enumerate(keypoints.names):
        table = match_predictions([image.of_keypoint(k) for image in images], keypoints.sigmas[[k]])
        by_keypoint[name] = {**_summary(table), "errors": {kind: int((kinds[:, k] == n).sum()) for n, kind in enumerate(KINDS)}}
    by_size = {}
    for low, high in zip(SIDES, SIDES[1:]):
        name = f"{low}-{high} px" if high < SIDES[-1] else f"over {low} px"
        by_size[name] = _summary(match_predictions(images, keypoints.sigmas, size=(low**2, high**2)))
    return {
        "keypoints": by_keypoint,
        "sizes": by_size,
        "ap_gain_if_fixed": ap_gain_if_fixed(matched, keypoints.sigmas),
        "errors": {
            **{kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)},
            "false_positives": sum(int(each.is_false_positive.sum()) for each in matched),
            "false_negatives": sum(int(each.missed.sum()) for each in matched),
        },
        "precision": {
            "recall": RECALLS.tolist(),
            "OKS 0.5": precision[0].tolist(),
            "OKS 0.75": precision[5].tolist(),
            "OKS 0.5:0.95": precision.mean(0).tolist(),
        },
    }


def _summary(table: MatchTable) -> dict[str, float]:
    precision = table.precision()
    aps = {"AP": precision, "AP50": precision[:1], "AP75": precision[5:6]}
    return {"people": table.people, **{name: average_precision(rows) for name, rows in aps.items()}, "recall50": float(table.recall()[0])}


def _draw_curves(analysis: dict[str, Any]) -> np.ndarray:
    """Plot precision over recall, and AP by keypoint and by size. Return (H, W, 3) uint8 BGR."""
    (_, recall), *curves = analysis["precision"].items()
    colors = ((90, 170, 80), (200, 120, 60), (60, 60, 200))
    lines = [Line(f"{name}: AP {np.mean(values):.3f}", recall, values, color) for (name, values), color in zip(curves, colors)]
    rows = [(_plain(name), [part["AP"]]) for name, part in analysis["keypoints"].items() if part["people"]]
    sizes = [(f"{name} ({part['people']})", [part["AP"]]) for name, part in analysis["sizes"].items() if part["people"]]
    return beside(
        draw_lines("Precision and recall", "recall", "precision", lines),
        draw_bars("AP by keypoint, each alone", Bars(rows, ("AP",), ((200, 120, 60),)), 1),
        draw_bars("AP by person size (people)", Bars(sizes, ("AP",), ((90, 170, 80),)), 1),
    )


def _draw_errors(analysis: dict[str, Any]) -> np.ndarray:
    """Plot the AP lost by error type, and the error types of each keypoint. Return (H, W, 3) uint8 BGR."""
    counts, kinds = analysis["errors"], KINDS[JITTER:]
    gains = [(_plain(n) + (f" ({counts[n]})" if n in counts else ""), [gain]) for n, gain in analysis["ap_gain_if_fixed"].items()]
    percent = []
    for name, part in analysis["keypoints"].items():
        total = max(sum(part["errors"].values()), 1)
        percent.append((_plain(name), [100 * part["errors"][kind] / total for kind in kinds]))
    return beside(
        draw_bars("AP lost by error type (number of errors)", Bars(gains, ("AP",), ((60, 60, 200),)), None),
        draw_bars("Errors by keypoint, % of the labeled", Bars(percent, kinds, tuple(COLORS[kind] for kind in kinds)), None),
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")
