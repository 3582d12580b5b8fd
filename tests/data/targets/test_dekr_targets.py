"""DEKR's targets against their definition, one person at a time."""

import math

import numpy as np
import pytest
from places import ROOT

from config import load_config
from config.load import with_overrides
from data.targets.dekr import render_targets

Targets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
COCO, CROWDPOSE = (load_config(ROOT / "config" / f"dekr_w32_{name}.yaml") for name in ("coco", "crowdpose"))
SIZE = (23, 31)  # height, width


def by_definition(joints: np.ndarray, sizes: np.ndarray, center_sigma: float = 4) -> Targets:
    """Return the same maps, one person's keypoint at a time; of two people of the same size the later one wins."""
    (height, width), channels, (i, j) = SIZE, joints.shape[1], np.mgrid[: SIZE[0], : SIZE[1]]
    heatmap, weight = np.zeros((channels, *SIZE)), np.full((channels, *SIZE), 0.1)
    offset, offset_weight = np.zeros((2, channels - 1, 2, *SIZE))
    present = (joints[..., 2] > 0) & (joints[..., :2] >= 0).all(2) & (joints[..., :2] < (width, height)).all(2)
    for k in range(channels):
        sigma, smallest = center_sigma if k == channels - 1 else 2, np.full(SIZE, np.inf)
        for p in np.flatnonzero(present[:, k]):
            (x, y), (left, top) = joints[p, k, :2], joints[p, -1, :2].astype(int)
            low, high = np.floor(joints[p, k, :2] - 3 * sigma - 1), np.ceil(joints[p, k, :2] + 3 * sigma + 2)
            near = (low[0] <= j) & (j < high[0]) & (low[1] <= i) & (i < high[1])
            weight[k][near] = 1
            heatmap[k] = np.maximum(heatmap[k], near * np.exp(-((j - x) ** 2 + (i - y) ** 2) / (2 * sigma**2)))
            if k < channels - 1 and present[p, -1]:
                wins = (left - 4 <= j) & (j < left + 4) & (top - 4 <= i) & (i < top + 4) & (sizes[p] <= smallest)
                smallest[wins], offset_weight[k, :, wins] = sizes[p], 1 / math.sqrt(sizes[p])
                offset[k, :, wins] = np.stack([j - x, i - y], 2)[wins]
    return heatmap, weight, offset.reshape(-1, *SIZE), offset_weight.reshape(-1, *SIZE)


def crowd(rng: np.random.Generator, people: int, keypoints: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample people with joints outside, unlabeled and on whole pixels, with centers near each other; two have the same size."""
    joints = rng.uniform((-6, -6), (SIZE[1] + 6, SIZE[0] + 6), (people, keypoints + 1, 2))
    joints[:, -1] = rng.uniform((8, 6), (18, 16), (people, 2))
    joints[:, ::5] = joints[:, ::5].round()
    sizes = rng.uniform(50, 900, people)
    sizes[1] = sizes[0]
    return np.concatenate([joints, rng.random((people, keypoints + 1, 1)) < 0.8], 2), sizes


@pytest.mark.parametrize(
    ("config", "keypoints", "people", "published"),
    [(COCO, 17, 4, True), (CROWDPOSE, 14, 4, False), (CROWDPOSE, 14, 2, True), (COCO, 3, 3, False)],
)
def test_targets_agree_with_their_definition(config, keypoints, people, published):
    """The published bug renders the centers of few keypoints small."""
    joints, sizes = crowd(np.random.default_rng(keypoints), people, keypoints)
    before, config = joints.copy(), with_overrides(config, [f"targets.published_faults={str(published).lower()}"])
    expected = by_definition(joints, sizes, 2 if published and keypoints < 17 else 4)
    rendered = render_targets(joints, sizes, SIZE, config)
    for name, maps, definition in zip(("heatmap", "weight", "offset", "offset weight"), rendered, expected, strict=True):
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, definition, atol=1e-5, err_msg=name)
    assert np.array_equal(joints, before)
