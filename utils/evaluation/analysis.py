"""Analysis of AP: AP by keypoint and by person size, precision and recall, and the AP lost by error type.

Errors are those of Ronchi and Perona (ICCV 2017). Predictions are matched to ground truth at OKS 0.5 first, as COCO does, and the rest at
OKS 0.1. Each annotated keypoint of a matched person is then

good       at its annotated position: its own OKS is at least 0.85;
jitter     near it: an OKS of at least 0.5;
inversion  at the person's own keypoint of the other side;
swap       at another person's keypoint, the same one or that of the other side;
miss       anywhere else, or not predicted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from config import Skeleton
from config.files import write_json
from data.images import write_image
from utils.evaluation.matching import RECALLS, ImageResult, match, precision_curves
from utils.visualize.charts import BLUE, GREEN, RED, BarChart, LineChart, draw_charts

SIDES = (0, 32, 64, 96, 192, 1e5)  # pixels; a person's size is the side of a square of the same area
KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
UNCOMPARED = -1  # kind of an unlabeled keypoint
PERSON_ERRORS = ("scores", "false_positives", "false_negatives")
SAME_PERSON = (0.5, 0.1)  # OKS
EXACT, NEAR = 0.85, 0.5  # OKS of one keypoint
COLORS = {"jitter": (80, 200, 235), "inversion": BLUE, "swap": (190, 80, 170), "miss": (70, 70, 220)}  # BGR


class AnnotatedKeypoints:
    """The D keypoints that both a skeleton and an annotation file have, in the data set's order."""

    def __init__(self, skeleton: Skeleton, file_index: np.ndarray):
        """Select the file's keypoints. file_index: the index of each of the data set's keypoints in the file; -1: none."""
        self.skeleton, self.present = skeleton, file_index >= 0  # of all of the data set's keypoints
        self.names = [name for name, has in zip(skeleton.dataset, self.present) if has]
        self.sigmas = skeleton.oks_sigmas[self.present]  # (D,) of OKS
        rows = [skeleton.index(skeleton.dataset[name]) for name in self.names]
        mirrored = [skeleton.flip_keypoints[row] for row in rows]
        # (D,) the keypoint of the other side; itself where there is none
        self.mirror = np.array([rows.index(m) if m in rows else k for k, m in enumerate(mirrored)])


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
    oks, kinds = np.zeros(len(gt_index)), np.full(image.poses.shape[:2], UNCOMPARED)
    for p in np.flatnonzero(gt_index >= 0):
        oks[p] = similarity[p, gt_index[p]]
        if not image.ignored[gt_index[p]]:
            kinds[p] = keypoint_kinds(image.poses[p], image.joints, gt_index[p], image.areas[gt_index[p]], keypoints)
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
    poses = image.poses.copy()
    wrong, keypoint = np.isin(matched.kinds, (GOOD, JITTER) if error == "jitter" else KINDS.index(error)).nonzero()
    poses[wrong, keypoint] = image.joints[matched.gt_index[wrong], keypoint]
    return replace(image, poses=poses)


def ap_gain_if_fixed(matched: Sequence[MatchedImage], sigmas: np.ndarray) -> dict[str, float]:
    """Return the AP gained by fixing each error type alone; -1 without people."""

    def ap(images: Iterable[ImageResult]) -> float:
        return precision_curves((image.best_first() for image in images), sigmas).summary()["AP"]

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
    analysis = analyze(images, keypoints)
    if not analysis["precision"]["OKS 0.5"]:
        return "no person is annotated: no analysis"
    write_json(folder / "analysis.json", analysis)
    write_image(folder / "pr_curves.png", _draw_curves(analysis))
    write_image(folder / "errors.png", _draw_errors(analysis))
    largest = sorted(analysis["ap_gain_if_fixed"].items(), key=lambda gain: -gain[1])[:3]
    errors = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in largest)
    return f"AP lost by error type: {errors}; more in {folder / 'analysis.json'}, pr_curves.png and errors.png beside it"


def analyze(images: Sequence[ImageResult], keypoints: AnnotatedKeypoints) -> dict[str, Any]:
    """Return the content of analysis.json."""
    precision = precision_curves(images, keypoints.sigmas).precision
    matched = [match_image(image, keypoints) for image in images]
    kinds = np.concatenate([each.kinds for each in matched])
    by_keypoint, by_size = {}, {}
    for k, name in enumerate(keypoints.names):
        curves = precision_curves([image.of_keypoint(k) for image in images], keypoints.sigmas[[k]])
        by_keypoint[name] = {**curves.summary(), "errors": {kind: int((kinds[:, k] == n).sum()) for n, kind in enumerate(KINDS)}}
    for low, high in zip(SIDES, SIDES[1:]):
        name = f"{low}-{high} px" if high < SIDES[-1] else f"over {low} px"
        by_size[name] = precision_curves(images, keypoints.sigmas, (low**2, high**2)).summary()
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


def _draw_curves(analysis: dict[str, Any]) -> np.ndarray:
    """Plot precision over recall, and AP by keypoint and by size. Return (H, W, 3) uint8 BGR."""
    (_, recall), *curves = analysis["precision"].items()
    lines = {f"{name}: AP {np.mean(values):.3f}": (recall, values, color) for (name, values), color in zip(curves, (GREEN, BLUE, RED))}
    by_keypoint, by_size = (
        {f"{name} ({part['people']})": [part["AP"]] for name, part in analysis[by].items() if part["people"]}
        for by in ("keypoints", "sizes")
    )
    return draw_charts(
        [
            LineChart("Precision and recall", "recall", "precision", lines, (0, 1, 0, 1.02)),
            BarChart("AP by keypoint, each alone (people)", by_keypoint, {"AP": BLUE}, 1),
            BarChart("AP by person size (people)", by_size, {"AP": GREEN}, 1),
        ]
    )


def _draw_errors(analysis: dict[str, Any]) -> np.ndarray:
    """Plot the AP lost by error type, and the error types of each keypoint. Return (H, W, 3) uint8 BGR."""
    gains = {f"{name} ({analysis['errors'].get(name, '-')})": [gain] for name, gain in analysis["ap_gain_if_fixed"].items()}
    counts = {name: part["errors"] for name, part in analysis["keypoints"].items()}
    percent = {name: [100 * of_kind[kind] / max(sum(of_kind.values()), 1) for kind in COLORS] for name, of_kind in counts.items()}
    return draw_charts(
        [
            BarChart("AP lost by error type (number of errors)", gains, {"AP": RED}),
            BarChart("Errors by keypoint, % of the labeled", percent, COLORS),
        ]
    )
