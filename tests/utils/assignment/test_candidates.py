"""Peaks of heatmaps, in memory and on a device alike: their sub-pixel positions, and the strongest of each keypoint type."""

import numpy as np
import pytest
import torch
from places import ROOT

from config import load_config
from utils.assignment.candidates import find_peaks, strongest
from utils.assignment.numpy_heatmaps import NumpyHeatmaps
from utils.assignment.torch_heatmaps import TorchHeatmaps

CONFIG = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
NOSE, WRIST = (30 + CONFIG.skeleton.index(name) for name in ("nose", "Rwri"))
READERS = {"numpy": NumpyHeatmaps, "torch": lambda maps: TorchHeatmaps(torch.from_numpy(maps[None]))}
HEIGHT, WIDTH = 30, 40


@pytest.fixture(params=READERS)
def read(request):
    return READERS[request.param]


def blob(x: float, y: float, sigma: float = 2.25, height: float = 0.9) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))).astype(np.float32)


def maps_of(*channels: tuple[int, np.ndarray]) -> np.ndarray:
    maps = np.zeros((50, HEIGHT, WIDTH), np.float32)
    for channel, values in channels:
        maps[channel] = np.maximum(maps[channel], values)
    return maps


def peaks(reader, keypoint_sigma: float = 2.25, *overrides: str):
    config = load_config(ROOT / "config" / "simplepose_coco_512.yaml", overrides)
    return find_peaks(reader, config.skeleton, config.assignment, keypoint_sigma)


@pytest.mark.parametrize("sigma", [1.5, 3.0])
@pytest.mark.parametrize(
    ("x", "y"), [(20.3, 11.8), (0.2, 11.8), (WIDTH - 1.3, 11.8), (20.3, -0.4), (20.3, HEIGHT - 0.7), (-0.3, HEIGHT - 1.2)]
)
def test_a_position_is_exact_for_any_width_inside_and_for_the_rendered_width_at_the_border(read, sigma, x, y):
    """One neighbor is missing at the border: the width of a rendered keypoint replaces it."""
    reader = read(maps_of((WRIST, blob(x, y, sigma))))
    peak, other = peaks(reader, sigma), peaks(reader, sigma + 1)
    assert (peak.image.tolist(), peak.keypoint_type.tolist()) == ([0], [WRIST - 30])
    np.testing.assert_allclose([peak.x[0], peak.y[0]], [x, y], atol=1e-4)
    assert (np.hypot(other.x[0] - x, other.y[0] - y) > 0.1) == (x != 20.3 or y != 11.8)


def test_a_peak_at_the_border_has_no_neighbors_at_the_other_border(read):
    """In memory the last pixel of a row comes before the first of the next."""
    found = peaks(read(maps_of((WRIST, blob(0.2, 11.8, height=0.5)), (WRIST, blob(WIDTH - 1, 11)))))
    assert sorted(found.x.round(1)) == [0.2, WIDTH - 1]


def test_position_moves_by_at_most_one_and_a_half_pixels(read):
    peak = peaks(read(maps_of((WRIST, blob(-4.0, 11.0)))), 2.25)
    np.testing.assert_allclose([peak.x[0], peak.y[0]], [-1.5, 11], atol=1e-4)


@pytest.mark.parametrize(("dx", "dy"), [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_of_equal_neighbors_the_first_is_the_peak(read, dx, dy):
    values = np.zeros((HEIGHT, WIDTH), np.float32)
    values[10, 10] = values[10 + dy, 10 + dx] = 0.5
    index, _ = read(maps_of((WRIST, values))).peaks(CONFIG.skeleton, 0.1)
    first = min((10, 10), (10 + dy, 10 + dx))
    assert index.tolist() == [(WRIST * HEIGHT + first[0]) * WIDTH + first[1]]


def test_maxima_at_or_below_the_threshold_are_no_peaks(read):
    low, high = np.zeros((2, HEIGHT, WIDTH), np.float32)
    low[10, 10], high[10, 20] = 0.125, 0.126
    assert len(peaks(read(maps_of((WRIST, low), (NOSE, high))), 2.25, "assignment.keypoint_threshold=0.125")) == 1


def test_the_strongest_peaks_of_each_keypoint_type_are_kept(read):
    wrists = [(WRIST, blob(5 + 10 * n, 20, 1.0, height)) for n, height in enumerate([0.5, 0.9, 0.3, 0.7])]
    strongest_peaks = peaks(read(maps_of(*wrists, (NOSE, blob(30, 5, 1.0, 0.2)))), 2.25, "assignment.max_peaks=2")
    assert sorted(np.round(strongest_peaks.score, 2).tolist()) == pytest.approx([0.2, 0.7, 0.9], abs=1e-6)
    group, score = np.array([0, 1, 0, 0, 1, 0]), np.array([0.5, 0.2, 0.9, 0.5, 0.2, 0.5], np.float32)
    assert strongest(group, score, 2).tolist() == [True, True, True, False, True, False]  # of equal scores the first
    assert strongest(group, score, 1).tolist() == [False, True, True, False, False, False]
    assert strongest(group[:0], score[:0], 1).tolist() == []


def test_weakest_third(read):
    maps = np.zeros((50, 4, 9), np.float32)
    maps[0, 0] = [0.9, 0.9, 0.9, 0.5, 0.5, 0.2, 0.9, 0.9, 0.6]
    np.testing.assert_allclose(read(maps).weakest_third(np.arange(9)[None]), [0.4], rtol=1e-6)
