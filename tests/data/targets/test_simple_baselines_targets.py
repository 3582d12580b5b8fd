"""Simple Baselines' maps against a loop over pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from places import ROOT

from config import load_config
from data.targets.simple_baselines import render_targets

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"
SIZE = (256, 192)


def by_pixel(joint: np.ndarray, sigma: float, height: int, width: int) -> tuple[np.ndarray, float]:
    """One joint's map and weight."""
    x, y = (int(value / 4 + 0.5) for value in joint)
    reach, heatmap = 3 * sigma, np.zeros((height, width))
    if x + reach < 0 or y + reach < 0 or x - reach >= width or y - reach >= height:
        return heatmap, 0.0
    for i in range(height):
        for j in range(width):
            if abs(i - y) <= reach and abs(j - x) <= reach:
                heatmap[i, j] = math.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * sigma**2))
    return heatmap, 1.0


@pytest.mark.parametrize("sigma", [2, 3])
def test_against_a_loop(sigma):
    """Inside, between pixels, over each border, and just beside it."""
    joints = np.random.default_rng(0).uniform((-50, -50), (240, 300), (17, 2))
    joints[:6] = [[97.9, 130.1], [98.1, 129.9], [-4 * 3 * sigma - 3, 100], [-4 * 3 * sigma + 2, 100], [100, 256 + 12 * sigma], [0, 0]]
    heatmap, weight = render_targets(joints, np.ones(17), SIZE, load_config(RECIPE, [f"targets.sigma={sigma}"]))
    assert heatmap.shape == (17, 64, 48) and weight.shape == (17, 1)
    for k, joint in enumerate(joints):
        expected, expected_weight = by_pixel(joint, sigma, 64, 48)
        np.testing.assert_allclose(heatmap[k], expected, atol=1e-6)
        assert weight[k, 0] == expected_weight
    assert 0 < weight.sum() < 17


def test_what_is_not_labelled_is_not_drawn():
    heatmap, weight = render_targets(np.full((17, 2), 100.0), np.arange(17) % 2, SIZE, load_config(RECIPE))
    assert (heatmap.any((1, 2)) == (np.arange(17) % 2 > 0)).all()
    assert (weight[:, 0] == np.arange(17) % 2).all()
    assert heatmap[1].max() == 1


@pytest.mark.parametrize("sigma", [2, 3])
def test_a_bell_counts_as_long_as_a_part_of_it_is_seen(sigma):
    """Map positions whose bells have one column or row left in the map of 64 x 48, and none."""
    reach = 3 * sigma
    last = [(-reach, 30), (47 + reach, 30), (20, -reach), (20, 63 + reach)]
    beyond = [(-reach - 1, 30), (48 + reach, 30), (20, -reach - 1), (20, 64 + reach)]
    joints = np.zeros((17, 2))
    joints[:8] = 4.0 * np.array(last + beyond)
    joints -= 4 * (joints < 0)  # below 0, half a pixel is cut off the other way
    heatmap, weight = render_targets(joints, np.ones(17), SIZE, load_config(RECIPE, [f"targets.sigma={sigma}"]))
    assert weight[:8, 0].tolist() == [1] * 4 + [0] * 4
    assert [int((one > 0).sum()) for one in heatmap[:8]] == [2 * reach + 1] * 4 + [0] * 4


def test_bells_stand_on_whole_pixels():
    """The nearest one: half a pixel goes up. Left of the map too, where numbers are cut off at 0."""
    for x, column in ((40, 10), (41.9, 10), (42, 11), (38, 10), (37.9, 9), (0, 0), (-5.9, 0)):
        heatmap, _ = render_targets(np.full((17, 2), (x, 100.0)), np.ones(17), SIZE, load_config(RECIPE))
        assert np.unravel_index(heatmap[0].argmax(), (64, 48)) == (25, column), x
        assert heatmap[0].max() == 1
