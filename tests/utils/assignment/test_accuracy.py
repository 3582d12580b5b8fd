"""Recall and precision of keypoints on degraded maps. The limits are 0.01 below today's values: a loss of 0.02 fails."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from places import ROOT, SHARED
from standing import people

from config import Config, load_config
from config.skeleton import UNLABELED
from data.targets import render_targets
from utils.assignment import assign_people

ORACLE = SHARED / "oracle" / "oracle.py"
HEIGHT, WIDTH = 512, 704  # network input
FRAMES, PEOPLE = 8, 7


def crowd(rng: np.random.Generator, config: Config) -> np.ndarray:
    """Return (P, K, 3) keypoints of people in many poses at random positions, some in front of others."""
    heights = rng.uniform(0.4, 0.7, PEOPLE) * HEIGHT
    x, y = rng.uniform(0, WIDTH, PEOPLE), rng.uniform(0, 1, PEOPLE)
    joints = people(config, *zip(x, y * (HEIGHT - heights), heights))
    joints[..., 0] += (joints[..., 0] - x[:, None]) * rng.uniform(-2, 0.5, (PEOPLE, 1))  # broad, narrow, mirrored
    joints[..., :2] += rng.normal(0, 0.03, (*joints.shape[:2], 2)) * heights[:, None, None]
    joints[rng.random(joints.shape[:2]) < 0.1, 2] = UNLABELED
    joints[(joints[..., 0] < 0) | (joints[..., 0] > WIDTH - 1), 2] = UNLABELED
    return joints


def recalled(predicted: np.ndarray, joints: np.ndarray) -> int:
    """Count the labeled keypoints that each person's best prediction has within 4 input pixels; a prediction counts once."""
    near = np.hypot(*np.moveaxis(predicted[None, ..., :2] - joints[:, None, :, :2], -1, 0)) < 4
    hits = (near & (predicted[None, ..., 2] > 0) & (joints[..., 2] != UNLABELED)[:, None]).sum(2)
    total = 0
    while hits.size and hits.max() > 0:
        person, match = np.unravel_index(hits.argmax(), hits.shape)
        total += int(hits[person, match])
        hits[person], hits[:, match] = 0, 0
    return total


def degraded_maps(rng: np.random.Generator, joints: np.ndarray, config: Config) -> np.ndarray:
    """Return maps (C, h, w): one keypoint in 20 has no peak; uneven strength of peaks and limbs; false peaks, blur and noise."""
    size = HEIGHT // config.targets.stride, WIDTH // config.targets.stride
    mask_miss = np.zeros(size, np.float32)
    missed = joints.copy()
    missed[rng.random(joints.shape[:2]) < 0.05, 2] = UNLABELED
    maps, keypoints = render_targets(joints, mask_miss, config), config.channels.keypoints
    maps[keypoints] = render_targets(missed, mask_miss, config)[keypoints]
    strength = cv2.resize(rng.uniform(0.3, 1, (len(maps), 4, 5)).astype(np.float32).transpose(1, 2, 0), size[::-1]).transpose(2, 0, 1)
    maps *= strength
    y, x = np.mgrid[: size[0], : size[1]]
    for channel in range(keypoints.start, keypoints.stop):
        if rng.random() < 0.4:
            center, height = rng.uniform((0, 0), size), rng.uniform(0.15, 0.5)
            maps[channel] = np.maximum(maps[channel], height * np.exp(-((y - center[0]) ** 2 + (x - center[1]) ** 2) / (2 * 2.25**2)))
    maps = np.stack([cv2.GaussianBlur(each, (0, 0), 0.7) for each in maps])
    return (maps + rng.normal(0, 0.02, maps.shape)).astype(np.float32)


def test_keypoints_of_degraded_maps():
    config = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
    hits = labeled = predicted = 0
    for frame in range(FRAMES):
        rng = np.random.default_rng([7, frame])
        joints = crowd(rng, config)
        keypoints, _ = assign_people(degraded_maps(rng, joints, config), config.skeleton, config.assignment, (HEIGHT, WIDTH), (4.0, 4.0))
        hits += recalled(keypoints, joints)
        labeled += int((joints[..., 2] != UNLABELED).sum())
        predicted += int((keypoints[..., 2] > 0).sum())
    assert hits / labeled > 0.945  # 0.956
    assert hits / predicted > 0.9  # 0.911


def test_accuracy_on_coco_people(monkeypatch):
    if not ORACLE.exists():
        pytest.skip(f"no decoder benchmark on COCO people: no file {ORACLE}")
    monkeypatch.syspath_prepend(ORACLE.parent)
    monkeypatch.chdir(ROOT)
    import oracle

    perfect, degraded = (oracle.run(oracle.project_assigner(), 20, seed)["AP"] for seed in (None, 5))
    assert perfect > 0.97  # 0.977
    assert degraded > 0.965  # 0.973
