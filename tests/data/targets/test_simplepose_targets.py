"""SimplePose's targets against their definition, one person at a time."""

import math

import numpy as np

from config import load_config
from data.targets import render_targets

CONFIG = load_config("config/simplepose_coco_512.yaml")
SKELETON = CONFIG.skeleton


def people(*keypoints: dict[str, tuple[float, float]]) -> np.ndarray:
    """Return (P, 18, 3) joints; keypoints without a name here are unlabeled."""
    joints = np.full((len(keypoints), 18, 3), (0, 0, 2), np.float32)
    for person, named in zip(joints, keypoints):
        for name, position in named.items():
            person[SKELETON.index(name)] = *position, 1
    return joints


def render(joints: np.ndarray, size: tuple[int, int] = (40, 60), mask: np.ndarray | None = None) -> np.ndarray:
    return render_targets(joints, np.zeros(size, np.float32) if mask is None else mask, CONFIG)


def by_definition(joints: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the same maps, one person's keypoint or limb at a time."""
    maps, (i, j) = np.zeros((50, height, width)), np.mgrid[:height, :width]
    px, py = 4 * j + 1.5, 4 * i + 1.5
    radius = math.ceil(math.sqrt(-2 * 81 * math.log(0.015)) / 4)
    for k in range(18):
        for x, y, v in joints[:, k].astype(float):
            near = (v != 2) & (abs(j - round(x / 4)) <= radius) & (abs(i - round(y / 4)) <= radius)
            maps[30 + k] = np.maximum(maps[30 + k], near * np.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * 81)))
    for l, ends in enumerate(SKELETON.limb_ends):
        total = count = np.zeros((height, width))
        for (x1, y1, v1), (x2, y2, v2) in joints[:, ends].astype(float):
            length = math.hypot(x2 - x1, y2 - y1)
            if v1 == 2 or v2 == 2 or length == 0:
                continue
            inside_x = (round((min(x1, x2) - 4) / 4) <= j) & (j <= round((max(x1, x2) + 4) / 4))
            inside = inside_x & (round((min(y1, y2) - 4) / 4) <= i) & (i <= round((max(y1, y2) + 4) / 4))
            response = np.exp(-((((x2 - x1) * (y1 - py) - (x1 - px) * (y2 - y1)) / length) ** 2) / (2 * 49))
            total, count = total + inside * np.where(response > 0.015, response, 0.01), count + inside
        maps[l] = total / np.maximum(count, 1)
    maps[49] = maps[30:48].max(0)
    return maps


def test_targets_agree_with_their_definition():
    rng = np.random.default_rng(0)
    joints = rng.uniform((-30, -30, 0), (90, 70, 0), (3, 18, 3)).astype(np.float32)
    joints[..., 2] = rng.choice([0, 1, 2], (3, 18), p=[0.2, 0.6, 0.2])
    joints[2, SKELETON.index("Lwri"), :2] = joints[2, SKELETON.index("Lelb"), :2]  # a limb of no length
    assert np.abs(render(joints, (12, 15)) - by_definition(joints, 12, 15)).max() < 1e-5


def test_joints_far_outside_render_nothing():
    for position in ((-500.0, 20.0), (1e5, 20.0), (20.0, -500.0), (-30.0, 1e6)):
        assert not render(people({"nose": position})).any()
        assert render(people({"nose": position, "neck": (50, 50)}))[30:].sum() > 0


def test_the_person_mask_is_eroded():
    mask = np.zeros((40, 60), np.float32)
    mask[10:20, 10:30] = 1
    eroded = render(people(), mask=mask)
    assert eroded.sum() == eroded[48].sum() == 8 * 18 and eroded[48, 11, 11] == 1
