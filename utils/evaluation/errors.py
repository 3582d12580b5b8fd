"""Where AP is lost: errors of keypoints and of people, in the manner of Ronchi and Perona (ICCV 2017).

Somebody found is the annotated person whom the pose is most like: by an OKS of at least 0.5, as COCO has it, or of 0.1 among those who are
left over then. Each labelled keypoint of the person is then

good       where it is annotated: its own part of the OKS is at least 0.85;
jitter     near there: at least 0.5;
inversion  at the person's own keypoint of the other side;
swap       at somebody else's keypoint, the same one or that of the other side;
miss       anywhere else, or not found.

What an error costs is the AP that there would be more without it, everything else being as it is: with keypoints moved to where they are
annotated, with scores that are the OKS itself, without people who are nobody (or somebody once more), without the annotated whom nobody is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.evaluation.matching import Scene, average_precision, best_first, judge, match

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
NONE = -1  # of a keypoint that is not labelled
OF_PEOPLE = ("scores", "false_positives", "false_negatives")
SAME_PERSON = (0.5, 0.1)  # OKS
EXACT, NEAR = 0.85, 0.5  # a keypoint's own part of the OKS


@dataclass(frozen=True)
class Found:
    """What became of one image's people."""

    scene: Scene
    whom: np.ndarray  # (P,) the annotated person who each one found is; -1: nobody
    oks: np.ndarray  # (P,) how like; 0: nobody
    kinds: np.ndarray  # (P, D) one of KINDS by number, NONE where there is nothing to compare with

    @property
    def false(self) -> np.ndarray:
        """(P,) bool: is nobody, or somebody once more."""
        return self.whom < 0

    @property
    def unfound(self) -> np.ndarray:
        """(G,) bool: was to be found and was not."""
        return ~self.scene.ignored & ~np.isin(np.arange(len(self.scene.joints)), self.whom)


def find_errors(scene: Scene, sigmas: np.ndarray, mirror: np.ndarray) -> Found:
    """Compare one image's people. sigmas (D,); mirror (D,): the keypoint of the other side, of the nose the nose itself."""
    similarity = scene.similarity(sigmas)
    whom = np.full(len(scene.poses), -1)
    for least in SAME_PERSON:
        left, taken = whom < 0, np.isin(np.arange(len(scene.joints)), whom) & ~scene.crowd
        whom[left] = match(np.where(taken, 0, similarity[left]), np.array([least]), scene.ignored, scene.crowd)[0]
    rows = np.arange(len(whom))
    oks = np.where(whom >= 0, similarity[rows, whom], 0) if similarity.size else np.zeros(len(whom))
    kinds = np.full(scene.poses.shape[:2], NONE)
    for p in np.flatnonzero(whom >= 0):
        if not scene.ignored[whom[p]]:
            kinds[p] = keypoint_errors(scene.poses[p], scene.joints, int(whom[p]), float(scene.areas[whom[p]]), sigmas, mirror)
    return Found(scene, whom, oks, kinds)


def keypoint_errors(pose: np.ndarray, joints: np.ndarray, person: int, area: float, sigmas: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """(D,) the kind of each of a pose's keypoints, NONE where the person's is not labelled. pose (D, 3); joints (G, D, 3) of everybody.

    Where a keypoint is near several others it is the nearest one's.
    """
    tolerance = 2 * area * (2 * sigmas) ** 2 + np.spacing(1)

    def likeness(places: np.ndarray) -> np.ndarray:
        near = np.exp(-np.square(pose[:, :2] - places[..., :2]).sum(-1) / tolerance)
        return near * (places[..., 2] > 0) * pose.any(1)

    own = likeness(joints[person])
    inverted = np.where(mirror != np.arange(len(mirror)), likeness(joints[person][mirror]), 0)
    others = np.delete(joints, person, 0)
    swapped = np.maximum(likeness(others), likeness(others[:, mirror])).max(0, initial=0)
    wrong = np.select([np.maximum(inverted, swapped) < NEAR, inverted >= swapped], [MISS, INVERSION], SWAP)
    kinds = np.select([own >= EXACT, own >= NEAR], [GOOD, JITTER], wrong)
    return np.where(joints[person, :, 2] > 0, kinds, NONE)


def corrected(found: Found, error: str) -> Scene:
    """The scene as it would be without one kind of error. With `jitter` what is good becomes exact as well."""
    scene = found.scene
    if error == "scores":
        return replace(scene, scores=found.oks)
    if error == "false_positives":
        return replace(scene, poses=scene.poses[~found.false], scores=scene.scores[~found.false])
    if error == "false_negatives":
        # nobody is taken away: who is found beside somebody unfound is as wrong as before
        return replace(scene, ignored=scene.ignored | found.unfound)
    kinds = (GOOD, JITTER) if error == "jitter" else (KINDS.index(error),)
    wrong = np.isin(found.kinds, kinds)
    places = np.where(wrong[..., None], scene.joints[found.whom], scene.poses) if len(scene.joints) else scene.poses
    return replace(scene, poses=places)


def lost_precision(found: Sequence[Found], sigmas: np.ndarray) -> dict[str, float]:
    """How much higher AP would be without each kind of error alone; -1 where there is nobody to find."""

    def reached(scenes: Iterable[Scene]) -> float:
        return average_precision(judge([best_first(scene) for scene in scenes], sigmas).precision())

    as_it_is, lost = reached(each.scene for each in found), {}
    for error in (*KINDS[JITTER:], *OF_PEOPLE):
        without = reached(corrected(each, error) for each in found)
        without = 1.0 if without < 0 else without  # none of those who are left to be found is missing
        lost[error] = without - as_it_is if as_it_is >= 0 else -1.0
    return lost


def shortfalls(found: Sequence[Found]) -> np.ndarray:
    """(images,) how far each is from what is annotated, in people: what everybody to be found lacks of an OKS of 1, and each person who is
    nobody by the share of the right ones whom the score ranks them above. Who has a low score does no harm.
    """
    rights = [each.scene.scores[(each.whom >= 0) & ~np.append(each.scene.ignored, False)[each.whom]] for each in found]
    right = np.sort(np.concatenate([np.zeros(0), *rights]))

    def shortfall(each: Found) -> float:
        best = np.zeros(len(each.scene.joints))
        best[each.whom[~each.false]] = each.oks[~each.false]
        lacking = (1 - best)[~each.scene.ignored].sum()
        return float(lacking + (np.searchsorted(right, each.scene.scores[each.false]) / max(len(right), 1)).sum())

    return np.array([shortfall(each) for each in found])
