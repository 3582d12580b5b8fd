"""DEKR's targets against their definition, one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from places import ROOT

from config import load_config
from config.systems.dekr import DekrConfig
from data.targets.dekr import render_targets

Targets = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
COCO, CROWDPOSE = (load_config(ROOT / "config" / f"dekr_w32_{name}.yaml") for name in ("coco", "crowdpose"))
SIZE = (23, 31)  # height, width


def published(config: DekrConfig) -> DekrConfig:
    return config.model_copy(update={"targets": config.targets.model_copy(update={"published_faults": True})})


def by_definition(joints: np.ndarray, sizes: np.ndarray, map_size: tuple[int, int], center_sigma: float = 4) -> Targets:
    """Return the same maps, one pixel of one map at a time; of two people of the same size the later one wins."""
    (height, width), channels = map_size, joints.shape[1]
    heatmap, weight = np.zeros((channels, *map_size)), np.full((channels, *map_size), 0.1)
    offset, offset_weight = np.zeros((2, channels - 1, 2, *map_size))
    present = [[v > 0 and 0 <= x < width and 0 <= y < height for x, y, v in person] for person in joints.tolist()]
    for k in range(channels):
        sigma = center_sigma if k == channels - 1 else 2
        for i in range(height):
            for j in range(width):
                best = math.inf
                for p, person in enumerate(joints.tolist()):
                    x, y, _ = person[k]
                    if not present[p][k]:
                        continue
                    columns = math.floor(x - 3 * sigma - 1), math.ceil(x + 3 * sigma + 2)
                    rows = math.floor(y - 3 * sigma - 1), math.ceil(y + 3 * sigma + 2)
                    if columns[0] <= j < columns[1] and rows[0] <= i < rows[1]:
                        weight[k, i, j] = 1
                        heatmap[k, i, j] = max(heatmap[k, i, j], math.exp(-((j - x) ** 2 + (i - y) ** 2) / (2 * sigma**2)))
                    if k == channels - 1 or not present[p][-1]:
                        continue
                    across, down = j - int(person[-1][0]), i - int(person[-1][1])
                    if -4 <= across < 4 and -4 <= down < 4 and sizes[p] <= best:
                        best = sizes[p]
                        offset[k, :, i, j] = j - x, i - y
                        offset_weight[k, :, i, j] = 1 / math.sqrt(best)
    return heatmap, weight, offset.reshape(-1, *map_size), offset_weight.reshape(-1, *map_size)


def crowd(rng: np.random.Generator, people: int, keypoints: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample people with joints outside, unlabeled and on whole pixels, with centers near each other; two have the same size."""
    joints = rng.uniform((-6, -6), (SIZE[1] + 6, SIZE[0] + 6), (people, keypoints + 1, 2))
    joints[:, -1] = rng.uniform((8, 6), (18, 16), (people, 2))
    joints[:, ::5] = joints[:, ::5].round()
    sizes = rng.uniform(50, 900, people)
    sizes[1] = sizes[0]
    return np.concatenate([joints, rng.random((people, keypoints + 1, 1)) < 0.8], 2), sizes


def assert_same(rendered: Targets, expected: Targets) -> None:
    for name, maps, definition in zip(("heatmap", "weight", "offset", "offset weight"), rendered, expected, strict=True):
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, definition, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("config", "keypoints", "people"), [(COCO, 17, 4), (CROWDPOSE, 14, 4), (COCO, 3, 3)])
def test_targets_agree_with_their_definition(config, keypoints, people):
    joints, sizes = crowd(np.random.default_rng(keypoints), people, keypoints)
    before = joints.copy(), sizes.copy()
    assert_same(render_targets(joints, sizes, SIZE, config), by_definition(joints, sizes, SIZE))
    assert np.array_equal(joints, before[0]) and np.array_equal(sizes, before[1])


def test_the_published_bug_renders_the_centers_of_few_keypoints_small():
    for config, keypoints, sigma in ((COCO, 17, 4), (CROWDPOSE, 14, 2)):
        joints, sizes = crowd(np.random.default_rng(0), 2, keypoints)
        assert_same(render_targets(joints, sizes, SIZE, published(config)), by_definition(joints, sizes, SIZE, sigma))
