"""Simple Baselines' targets against their definition, one joint at a time."""

import numpy as np
import pytest
from places import ROOT

from config import load_config
from data.targets.simple_baselines import render_targets

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"
SIZE = (256, 192)


def by_definition(joint: np.ndarray, sigma: float) -> np.ndarray:
    """Return one joint's map of 64 x 48."""
    (i, j), (x, y) = np.mgrid[:64, :48], (int(value / 4 + 0.5) for value in joint)
    near = (abs(i - y) <= 3 * sigma) & (abs(j - x) <= 3 * sigma)
    return near * np.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("sigma", [2, 3])
def test_targets_agree_with_their_definition(sigma):
    """Joints inside, between pixels, and with one or no column or row of their Gaussian in the map of 64 x 48."""
    reach = 3 * sigma
    last = np.array([(-reach, 30), (47 + reach, 30), (20, -reach), (20, 63 + reach)])
    beyond = last + [(-1, 0), (1, 0), (0, -1), (0, 1)]
    joints = np.random.default_rng(0).uniform((-50, -50), (240, 300), (17, 2))
    joints[:8] = 4.0 * np.concatenate([last, beyond])
    joints -= 4 * (joints < 0)  # below 0, rounding goes the other way
    joints[8:12] = [[97.9, 130.1], [98.1, 129.9], [-5.9, 100], [37.9, 42]]
    heatmap, weight = render_targets(joints, np.ones(17), SIZE, load_config(RECIPE, [f"targets.sigma={sigma}"]))
    assert heatmap.shape == (17, 64, 48) and weight.shape == (17, 1)
    expected = np.array([by_definition(joint, sigma) for joint in joints])
    np.testing.assert_allclose(heatmap, expected, atol=1e-6)
    assert weight[:, 0].tolist() == expected.any((1, 2)).tolist()
    assert weight[:8, 0].tolist() == [1] * 4 + [0] * 4
    assert [int((one > 0).sum()) for one in heatmap[:8]] == [2 * reach + 1] * 4 + [0] * 4
    heatmap, weight = render_targets(np.full((17, 2), 100.0), np.arange(17) % 2, SIZE, load_config(RECIPE))
    assert (heatmap.max((1, 2)) == np.arange(17) % 2).all() and (weight[:, 0] == np.arange(17) % 2).all(), "the unlabeled ones"
