"""What is read from maps, in memory and on a device alike: peaks and the evidence of limbs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT

from config import load_config
from utils.assignment import assign_people, extrapolate
from utils.assignment.candidates import by_image, find_peaks, strongest
from utils.assignment.numpy_heatmaps import NumpyHeatmaps
from utils.assignment.torch_heatmaps import TorchHeatmaps, assign_people_batch

RECIPE = ROOT / "config" / "simplepose_coco_512.yaml"
CONFIG = load_config(RECIPE)
ELBOW, WRIST = (30 + CONFIG.skeleton.index(name) for name in ("Relb", "Rwri"))
FOREARM = CONFIG.skeleton.limbs.index(("Relb", "Rwri"))
READERS = pytest.mark.parametrize(
    "read", [NumpyHeatmaps, lambda maps: TorchHeatmaps(torch.from_numpy(maps[None]))], ids=["memory", "device"]
)


def spot(maps: np.ndarray, channel: int, x: int, y: int, response: float) -> None:
    """A blob of a keypoint's usual width."""
    rows, columns = np.mgrid[: maps.shape[1], : maps.shape[2]]
    blob = response * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.25**2))
    maps[channel] = np.maximum(maps[channel], blob)


def forearm(limb: float, start: float = 0.9, end: float = 0.9) -> np.ndarray:
    """Maps of an elbow at (10, 20) and a wrist at (50, 20), with a limb of this response between them."""
    maps = np.zeros((50, 40, 64), np.float32)
    spot(maps, ELBOW, 10, 20, start)
    spot(maps, WRIST, 50, 20, end)
    maps[FOREARM, 18:23, 8:53] = limb
    return maps


def people(maps: np.ndarray, *overrides: str) -> np.ndarray:
    config = load_config(RECIPE, overrides)
    return assign_people(maps, config.skeleton, config.assignment, (160, 256), (4.0, 4.0))[0]


@READERS
def test_evidence_is_that_of_the_weakest_third(read):
    maps = np.zeros((50, 4, 9), np.float32)
    maps[0, 0] = [0.9, 0.9, 0.9, 0.5, 0.5, 0.2, 0.9, 0.9, 0.6]
    evidence = read(maps).weakest_third(np.arange(9)[None])
    np.testing.assert_allclose(evidence, [0.4], rtol=1e-6)


def test_a_way_that_leaves_the_limb_anywhere_is_no_limb():
    whole = forearm(0.8)
    assert len(people(whole, "assignment.trace=false")) == 1
    broken = forearm(0.8)
    broken[FOREARM, :, 38:] = 0  # bright for the first two thirds
    assert len(people(broken, "assignment.trace=false")) == 2


@pytest.mark.parametrize(("response", "persons"), [(0.2, 2), (0.3, 1)])
def test_faint_limbs_join_nobody(response, persons):
    assert len(people(forearm(response))) == persons


@pytest.mark.parametrize(("response", "persons"), [(0.28, 0), (0.32, 1)])
def test_a_faint_keypoint_that_stands_alone_is_nobody(response, persons):
    maps = np.zeros((50, 40, 64), np.float32)
    spot(maps, WRIST, 50, 20, response)
    assert len(people(maps)) == persons


@READERS
def test_of_too_many_peaks_the_strongest_are_kept(read):
    maps = np.zeros((50, 40, 64), np.float32)
    for n, response in enumerate([0.5, 0.9, 0.3, 0.7]):
        spot(maps, WRIST, 8 + 15 * n, 20, response)
    spot(maps, ELBOW, 30, 5, 0.2)  # of another kind: not in its way
    few = load_config(RECIPE, ["assignment.max_peaks=2"])
    found = find_peaks(read(maps), few.skeleton, few.assignment, 2.25)
    assert sorted(np.round(found.score, 2).tolist()) == pytest.approx([0.2, 0.7, 0.9], abs=1e-6)


# Batches


def test_images_of_a_batch_are_told_apart():
    image = np.array([2, 0, 2, 3, 0])
    assert [part.tolist() for part in by_image(image, 4)] == [[1, 4], [], [0, 2], [3]]


def test_ends_of_limbs_are_compared_within_their_image_only(monkeypatch):
    """What is compared with everything else must not grow with the square of the batch."""
    pairs = []
    for name in ("_near_candidate", "_merge_ends"):
        plain = getattr(extrapolate, name)

        def counting(ends, *more, plain=plain):
            pairs.append(len(ends) * (len(more[0]) if hasattr(more[0], "keypoint_type") else len(ends)))
            return plain(ends, *more)

        monkeypatch.setattr(extrapolate, name, counting)
    maps = forearm(0.8)
    maps[WRIST] = 0  # the limb leads to no peak: followed to its end
    counts = []
    for size in (1, 8):
        batch = torch.from_numpy(np.stack([maps] * size))
        found = assign_people_batch(batch, CONFIG.skeleton, CONFIG.assignment, [(4.0, 4.0)] * size)
        assert all((keypoints[0, CONFIG.skeleton.index("Rwri"), 2] > 0) for keypoints, _ in found)
        counts.append(sum(pairs))
        pairs.clear()
    assert counts[0] > 0
    assert counts[1] == 8 * counts[0]


def test_assignment_in_memory_needs_no_pytorch():
    """Whoever deploys it should not have to install that."""
    script = "import sys; import utils.assignment; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_strongest_of_each_group_are_kept_and_of_equal_ones_the_first():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size, count = rng.integers(0, 60), int(rng.integers(1, 6))
        group = rng.integers(0, 8, size)
        score = (rng.integers(0, rng.integers(2, 12), size) / 7).astype(np.float32)
        expected = np.zeros(size, bool)
        for one in range(8):
            rows = np.flatnonzero(group == one)
            expected[sorted(rows, key=lambda row: -score[row])[:count]] = True
        np.testing.assert_array_equal(strongest(group, score, count), expected)
