"""Recall and precision of keypoints on degraded maps. The limits are 0.01 below today's values: a loss of 0.02 fails."""

import cv2
import numpy as np
import pytest
from places import ROOT, SHARED
from scipy.optimize import linear_sum_assignment
from standing import people

from config import load_config
from config.skeleton import UNLABELED
from data.targets import render_targets
from utils.assignment import assign_people

ORACLE = SHARED / "oracle" / "oracle.py"
HEIGHT, WIDTH = 512, 704  # network input
FRAMES, PEOPLE = 8, 7
CONFIG = load_config(ROOT / "config" / "simplepose_coco_512.yaml")


def crowd(rng: np.random.Generator) -> np.ndarray:
    """Return (P, K, 3) keypoints of people in many poses at random positions, some in front of others."""
    heights = rng.uniform(0.4, 0.7, PEOPLE) * HEIGHT
    x, y = rng.uniform(0, WIDTH, PEOPLE), rng.uniform(0, 1, PEOPLE)
    joints = people(CONFIG, *zip(x, y * (HEIGHT - heights), heights))
    joints[..., 0] += (joints[..., 0] - x[:, None]) * rng.uniform(-2, 0.5, (PEOPLE, 1))  # broad, narrow, mirrored
    joints[..., :2] += rng.normal(0, 0.03, (*joints.shape[:2], 2)) * heights[:, None, None]
    joints[(rng.random(joints.shape[:2]) < 0.1) | (joints[..., 0] < 0) | (joints[..., 0] > WIDTH - 1), 2] = UNLABELED
    return joints


def degraded_maps(rng: np.random.Generator, joints: np.ndarray) -> np.ndarray:
    """Return maps (C, h, w): one keypoint in 20 has no peak; uneven strength of peaks and limbs; false peaks, blur and noise."""
    size = HEIGHT // CONFIG.targets.stride, WIDTH // CONFIG.targets.stride
    mask_miss, keypoints, missed = np.zeros(size, np.float32), CONFIG.channels.keypoints, joints.copy()
    missed[rng.random(joints.shape[:2]) < 0.05, 2] = UNLABELED
    maps = render_targets(joints, mask_miss, CONFIG)
    maps[keypoints] = render_targets(missed, mask_miss, CONFIG)[keypoints]
    strength = rng.uniform(0.3, 1, (4, 5, len(maps))).astype(np.float32)
    maps *= cv2.resize(strength, size[::-1]).transpose(2, 0, 1)
    y, x = np.mgrid[: size[0], : size[1]]
    for channel in range(keypoints.start, keypoints.stop):
        if rng.random() < 0.4:
            center, height = rng.uniform((0, 0), size), rng.uniform(0.15, 0.5)
            maps[channel] = np.maximum(maps[channel], height * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * 2.25**2)))
    maps = np.stack([cv2.GaussianBlur(each, (0, 0), 0.7) for each in maps])
    return (maps + rng.normal(0, 0.02, maps.shape)).astype(np.float32)


def test_keypoints_of_degraded_maps():
    """Each person is matched with one prediction; a keypoint is found within 4 input pixels."""
    hits = labeled = predicted = 0
    for frame in range(FRAMES):
        rng = np.random.default_rng([7, frame])
        joints = crowd(rng)
        keypoints, _ = assign_people(degraded_maps(rng, joints), CONFIG.skeleton, CONFIG.assignment, (HEIGHT, WIDTH), (4.0, 4.0))
        near = np.hypot(*np.moveaxis(keypoints[None, ..., :2] - joints[:, None, :, :2], -1, 0)) < 4
        own = (near & (keypoints[None, ..., 2] > 0) & (joints[..., 2] != UNLABELED)[:, None]).sum(2)
        hits += own[linear_sum_assignment(-own)].sum()
        labeled += int((joints[..., 2] != UNLABELED).sum())
        predicted += int((keypoints[..., 2] > 0).sum())
    assert hits / labeled > 0.945  # 0.956
    assert hits / predicted > 0.9  # 0.911


@pytest.mark.skipif(not ORACLE.exists(), reason=f"no decoder benchmark on COCO people: no file {ORACLE}")
def test_accuracy_on_coco_people(monkeypatch):
    monkeypatch.syspath_prepend(ORACLE.parent)
    monkeypatch.chdir(ROOT)
    import oracle

    perfect, degraded = (oracle.run(oracle.project_assigner(), 20, seed)["AP"] for seed in (None, 5))
    assert perfect > 0.97  # 0.977
    assert degraded > 0.965  # 0.973
