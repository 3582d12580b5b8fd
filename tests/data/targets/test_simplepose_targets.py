"""SimplePose's targets against their definition, one pixel at a time."""

import math

import numpy as np
import pytest

from config import load_config
from data.targets import render_targets

CONFIG = load_config("config/simplepose_coco_512.yaml")
SKELETON = CONFIG.skeleton


def people(*keypoints: dict[str, tuple[float, float]]) -> np.ndarray:
    """Return (P, 18, 3) joints; keypoints without a name here are unlabeled."""
    joints = np.zeros((len(keypoints), 18, 3), np.float32)
    joints[..., 2] = 2
    for person, named in zip(joints, keypoints):
        for name, (x, y) in named.items():
            person[SKELETON.index(name)] = x, y, 1
    return joints


def render(joints: np.ndarray, size: tuple[int, int] = (40, 60), mask: np.ndarray | None = None) -> np.ndarray:
    return render_targets(joints, np.zeros(size, np.float32) if mask is None else mask, CONFIG)


def by_definition(joints: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the same maps, one pixel at a time."""
    maps = np.zeros((50, height, width))
    radius = math.ceil(math.sqrt(-2 * 81 * math.log(0.015)) / 4)
    for i in range(height):
        for j in range(width):
            px, py = 4 * j + 1.5, 4 * i + 1.5
            for k in range(18):
                for x, y, v in joints[:, k].astype(float):
                    if v != 2 and abs(j - round(x / 4)) <= radius and abs(i - round(y / 4)) <= radius:
                        maps[30 + k, i, j] = max(maps[30 + k, i, j], math.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * 81)))
            for l, (a, b) in enumerate(SKELETON.limb_ends):
                values = []
                for (x1, y1, v1), (x2, y2, v2) in zip(joints[:, a].astype(float), joints[:, b].astype(float)):
                    length = math.hypot(x2 - x1, y2 - y1)
                    if v1 == 2 or v2 == 2 or length == 0:
                        continue
                    inside_x = round((min(x1, x2) - 4) / 4) <= j <= round((max(x1, x2) + 4) / 4)
                    inside_y = round((min(y1, y2) - 4) / 4) <= i <= round((max(y1, y2) + 4) / 4)
                    if inside_x and inside_y:
                        d = ((x2 - x1) * (y1 - py) - (x1 - px) * (y2 - y1)) / length
                        response = math.exp(-(d**2) / (2 * 49))
                        values.append(response if response > 0.015 else 0.01)
                if values:
                    maps[l, i, j] = sum(values) / len(values)
    maps[49] = maps[30:48].max(0)
    return maps


def test_targets_agree_with_their_definition():
    rng = np.random.default_rng(0)
    joints = np.zeros((3, 18, 3), np.float32)
    joints[..., 0], joints[..., 1] = rng.uniform(-30, 90, (3, 18)), rng.uniform(-30, 70, (3, 18))
    joints[..., 2] = rng.choice([0, 1, 2], (3, 18), p=[0.2, 0.6, 0.2])
    assert np.abs(render(joints, (12, 15)) - by_definition(joints, 12, 15)).max() < 1e-5


@pytest.mark.parametrize("position", [(-500.0, 20.0), (1e5, 20.0), (20.0, -500.0), (-30.0, 1e6)])
def test_joints_far_outside_render_nothing(position):
    assert not render(people({"nose": position})).any()
    assert render(people({"nose": position, "neck": (50, 50)}))[30:].sum() > 0


def test_no_people_and_a_limb_of_no_length_render_nothing():
    assert not render(people()).any()
    assert not render(people({"nose": (30, 30), "neck": (30, 30)}))[:30].any()


def test_the_person_mask_is_eroded():
    mask = np.zeros((40, 60), np.float32)
    mask[10:20, 10:30] = 1
    eroded = render(people(), mask=mask)[48]
    assert eroded.sum() == 8 * 18 and eroded[11, 11] == 1
