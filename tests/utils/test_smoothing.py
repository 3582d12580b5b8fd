"""Smoothing of tracked people: less noise, little lag, and nothing that drags."""

import numpy as np
import pytest

from config.load import load_skeleton
from utils.predictions import PosePredictions
from utils.smoothing import PoseSmoother

SKELETON = load_skeleton("coco17")
HEIGHT = 300  # pixels, of the person's longer side without the margin of its box
POSE = np.stack([np.linspace(-40, 40, 17) * (-1) ** np.arange(17), np.linspace(0, HEIGHT, 17), np.ones(17)], 1)


def smoothed(frames: np.ndarray, rate: float = 30, ids: tuple[int, ...] = (0,)) -> np.ndarray:
    """Return the frames (F, 17, 3) of one person after smoothing."""
    smoother = PoseSmoother()
    people = (PosePredictions(np.repeat(frame[None], len(ids), 0), np.ones(len(ids)), SKELETON, ids=np.array(ids)) for frame in frames)
    return np.array([smoother(p, number / rate).keypoints[0] for number, p in enumerate(people)])


def still(count: int) -> np.ndarray:
    return np.repeat(POSE[None], count, 0)


@pytest.mark.parametrize("scale", [0.1, 1, 10])
def test_noise_of_a_still_person_shrinks_at_any_resolution(scale):
    noise = np.random.default_rng(0).normal(0, 0.01 * HEIGHT, (90, 17, 2))
    frames = still(90)
    frames[..., :2] += noise
    left = smoothed(frames * [scale, scale, 1]) / [scale, scale, 1] - POSE
    jitter, before = (np.diff(positions, axis=0)[30:].std() for positions in (left[..., :2], noise))
    assert left[30:, :, :2].std() < 0.65 * noise.std()
    assert jitter < 0.45 * before


@pytest.mark.parametrize("rate", [10, 30, 120])
def test_fast_motion_lags_by_less_than_two_percent_of_the_person(rate):
    """A hand moves by a person's height in a third of a second."""
    frames = still(rate)
    frames[:, 9, 0] += 3 * HEIGHT * np.clip(np.arange(rate) / rate - 0.2, 0, 0.35)
    behind = np.abs(smoothed(frames, rate) - frames)[..., 0]
    moving = np.arange(rate) / rate > 0.4
    assert behind[moving, 9].max() < 0.02 * HEIGHT
    assert behind[:, :9].max() < 0.02 * HEIGHT, "the others, and the box, are not moved"


def test_frame_times_decide_how_much_a_position_counts():
    frames = still(2)
    frames[1, :, 0] += 3
    slow, fast = (smoothed(frames, rate)[1, 0, 0] - POSE[0, 0] for rate in (2, 60))
    assert 0 < fast < 0.7 < 1.5 < slow < 3


def test_a_keypoint_or_person_who_was_absent_starts_anew():
    frames = still(4)
    frames[2:, :, :2] += 50
    frames[1, 9] = 0
    result = smoothed(frames)
    assert result[1, 9].tolist() == [0, 0, 0]
    assert result[2, 9].tolist() == frames[2, 9].tolist(), "no drag from the position of before"
    assert result[2, 8, 0] < frames[2, 8, 0] - 1, "the others are smoothed"
    smoother, empty = PoseSmoother(), np.zeros((0, 17, 3))
    for number, keypoints in enumerate([frames[:1], empty, frames[2:3]]):
        people = smoother(PosePredictions(keypoints, np.ones(len(keypoints)), SKELETON, ids=np.zeros(len(keypoints), int)), number / 30)
    np.testing.assert_array_equal(people.keypoints, frames[2:3])


def test_boxes_are_smoothed_and_people_without_a_track_stay():
    jump = PosePredictions(POSE[None], np.ones(1), SKELETON, ids=np.zeros(1, int))
    smoother = PoseSmoother()
    smoother(jump, 0.0)
    moved = PosePredictions(np.stack([POSE + [2, 0, 0], POSE]), np.ones(2), SKELETON, ids=np.array([0, -1]))
    people = smoother(moved, 0.0)  # the same time once more: taken for a thirtieth of a second
    shift = people.boxes[0] - jump.boxes[0]
    assert 0 < shift[0] < 1.5
    np.testing.assert_allclose(shift, [shift[0], 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(people.keypoints[0, :, 0] - POSE[:, 0], shift[0])
    np.testing.assert_array_equal(people.keypoints[1], moved.keypoints[1])
    np.testing.assert_array_equal(people.boxes[1], moved.boxes[1])
    assert moved.keypoints[0, 0, 0] == POSE[0, 0] + 2, "the input is not changed"
