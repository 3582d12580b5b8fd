"""Limb scores, competing limbs, and the extrapolation of limbs to a missed keypoint."""

import numpy as np
import pytest
from places import ROOT

from config import load_config
from utils.assignment import assign_people
from utils.assignment.candidates import Candidates, Limbs, find_peaks
from utils.assignment.extrapolate import _merge_ends
from utils.assignment.limbs import score_limbs, suppress_competing_limbs
from utils.assignment.numpy_heatmaps import NumpyHeatmaps

RECIPE = ROOT / "config" / "simplepose_coco_512.yaml"
CONFIG = load_config(RECIPE)
SKELETON = CONFIG.skeleton
ELBOW, WRIST = (30 + SKELETON.index(name) for name in ("Relb", "Rwri"))
FOREARM = SKELETON.limbs.index(("Relb", "Rwri"))


def forearm(limb: float, end: float = 0.9) -> np.ndarray:
    """Maps of an elbow at (10, 20) and a wrist at (50, 20), with a limb of this value between them."""
    maps = np.zeros((50, 40, 64), np.float32)
    rows, columns = np.mgrid[:40, :64]
    for channel, x, height in ((ELBOW, 10, 0.9), (WRIST, 50, end)):
        maps[channel] = height * np.exp(-((columns - x) ** 2 + (rows - 20) ** 2) / (2 * 2.25**2))
    maps[FOREARM, 18:23, 8:53] = limb
    return maps


def people(maps: np.ndarray, *overrides: str) -> np.ndarray:
    config = load_config(RECIPE, overrides)
    return assign_people(maps, config.skeleton, config.assignment, (160, 256), (4.0, 4.0))[0]


@pytest.mark.parametrize(("limb", "end", "persons"), [(0.2, 0.9, 2), (0.3, 0.9, 1), (0, 0.28, 0), (0, 0.32, 1), ("broken", 0.9, 2)])
def test_limbs_and_isolated_keypoints_have_their_thresholds(limb, end, persons):
    """A line that leaves the limb anywhere is no limb."""
    maps = forearm(0.8 if limb == "broken" else limb, end)
    if limb == "broken":
        maps[FOREARM, :, 38:] = 0  # high in the first two thirds
    if not limb:
        maps[ELBOW] = 0
    assert len(people(maps, "assignment.trace=false")) == persons


@pytest.mark.parametrize(
    ("starts", "ends", "scores", "kept"),
    [
        ([0, 1, 0, 1], [2, 3, 3, 2], [1, 1, 0.69, 0.75], 3),  # of two crossed limbs one is weak beside others at both its ends
        ([0, 1, 0, 1], [2, 3, 3, 2], [1, 1, 0.71, 0.75], 4),
        ([0, 0], [2, 3], [1, 0.3], 2),  # the weak one is the best of its wrist
    ],
)
def test_a_limb_that_is_weak_beside_others_at_both_ends_is_dropped(starts, ends, scores, kept):
    """Two elbows and two wrists."""
    types, zeros = np.array([ELBOW, ELBOW, WRIST, WRIST]) - 30, np.zeros(4)
    candidates = Candidates(zeros.astype(int), types, zeros, zeros, zeros.astype(np.float32) + 0.9)
    limbs = Limbs(np.full(len(starts), FOREARM), np.array(starts), np.array(ends), np.array(scores, np.float32))
    assert len(suppress_competing_limbs(limbs, candidates, SKELETON, CONFIG.assignment).limb) == kept


def test_noise_keeps_few_limbs_at_each_end():
    """What noise costs is bounded: by the peaks of each keypoint type, and by the limbs of each type at a candidate."""
    config = load_config(RECIPE, ["assignment.max_peaks=40", "assignment.max_rivals=3"])
    reader = NumpyHeatmaps(np.random.default_rng(0).random((50, 64, 96), np.float32))
    peaks = find_peaks(reader, SKELETON, config.assignment, 2.25)
    assert np.bincount(peaks.keypoint_type).tolist() == [40] * 18
    limbs = suppress_competing_limbs(score_limbs(reader, peaks, SKELETON, config.assignment), peaks, SKELETON, config.assignment)
    for end in (limbs.start, limbs.end):
        assert np.bincount(end * SKELETON.num_limbs + limbs.limb).max() == 3


# Extrapolation


def test_a_missed_keypoint_is_placed_at_the_end_of_its_limb():
    maps = forearm(0.8)
    maps[WRIST] = 0
    (person,) = people(maps)
    x, y, score = person[WRIST - 30]
    assert abs((x + 0.5) / 4 - 0.5 - 51) < 1 and abs((y + 0.5) / 4 - 0.5 - 20) < 0.3  # the box ends at 52, its margin is 1
    assert score == pytest.approx(0.5 * 0.8, abs=0.01)


@pytest.mark.parametrize("border", [0, 39])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_limb_is_not_extrapolated_where_its_map_is_low_at_the_candidate(border, transposed):
    """The candidate lies in the map's first or last column or row."""
    maps = np.zeros((50, 40, 40), np.float32)
    rows, columns = np.mgrid[:40, :40]
    maps[ELBOW] = 0.9 * np.exp(-((columns - border) ** 2 + (rows - 20) ** 2) / (2 * 2.25**2))
    maps[FOREARM, 18:23, 1:39] = np.where(abs(columns[18:23, 1:39] - border) < 30, 0.8, 0)
    maps[FOREARM, 18:23, border] = 0.2
    keypoints = people(maps.swapaxes(1, 2) if transposed else maps)
    assert not keypoints[:, WRIST - 30, 2].any()


def test_near_ends_are_merged_by_their_precision_and_a_far_one_stays():
    """An end is more precise across its limb: of the first two one limb runs along x, one along y."""
    zeros = np.zeros(3, int)
    ends = Candidates(zeros, zeros, np.array([0, 1.0, 5.0]), np.array([0, 1.0, 0]), np.array([0.2, 0.4, 0.9]))
    merged = _merge_ends(ends, np.array([1.0, 0, 1]), np.array([0, 1.0, 0]), 3.0)
    np.testing.assert_allclose([merged.x, merged.y, merged.score], [[0.8, 5], [0.2, 0], [0.3, 0.9]], atol=1e-6)
