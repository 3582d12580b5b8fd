"""Augmentation moves image, masks and joints together."""

import cv2
import numpy as np
import pytest

from config import load_config
from data.transforms import (
    IMAGE_BORDER,
    Augmentation,
    affine_matrix,
    at_map_size,
    draw_augmentation,
    jitter_hsv,
    transform_joints,
    warp_image,
    warp_image_and_mask,
    warp_mask,
)

CONFIG = load_config("config/simplepose_coco_512.yaml")


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degree", [0.0, 33.0])
def test_image_mask_and_joints_move_together(flip, degree):
    image, mask = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), np.uint8)
    image[118:123, 208:213], mask[118:123, 208:213] = 255, 255
    matrix = affine_matrix((200, 150), 250 / 512, flip, degree, (12, -7), 1.1, CONFIG)
    joints = np.zeros((1, 18, 3), np.float32)
    joints[:, :, :2] = 210, 120
    x, y = transform_joints(joints, matrix, flip, CONFIG.skeleton)[0, 0, :2]
    warped = warp_image(image, matrix, (512, 512), IMAGE_BORDER)
    ys, xs = np.nonzero((warped == 255).all(2))
    assert abs(xs.mean() - x) < 0.5
    assert abs(ys.mean() - y) < 0.5
    small = warp_mask(mask, matrix, (512, 512), 4)
    ys, xs = np.nonzero(small > 0.5)
    assert abs(4 * xs.mean() + 1.5 - x) < 2
    assert abs(4 * ys.mean() + 1.5 - y) < 2


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("degree", "shift", "scale"), [(0, (0, 0), 1), (0, (12, 0), 1), (0, (0, -7), 1), (0, (0, 0), 1.25), (30, (3, 5), 0.8)]
)
def test_each_part_of_the_affine(flip, degree, shift, scale):
    """Worked out step by step: to the origin, rotate, scale, flip, to the middle plus shift."""
    matrix = affine_matrix((200, 150), 250 / 512, flip, degree, shift, scale, CONFIG)
    cos, sin = np.cos(np.radians(degree)), np.sin(np.radians(degree))
    for point in ([200, 150], [210, 150], [200, 170], [-30, 400]):
        x, y = np.subtract(point, (200, 150))
        x, y = np.array([cos * x + sin * y, -sin * x + cos * y]) * scale * 0.6 / (250 / 512 * 512 / 511)
        expected = (-x if flip else x) + 255.5 + shift[0], y + 255.5 + shift[1]
        assert matrix @ [*point, 1] == pytest.approx(expected, abs=1e-9)


def test_person_becomes_its_usual_size_in_the_middle():
    matrix = affine_matrix((320, 200), 300 / 512, False, 0, (0, 0), 1, CONFIG)
    top, bottom = (matrix @ [320, y, 1] for y in (50, 350))
    assert bottom[1] - top[1] == pytest.approx(0.6 * 511)
    assert (top + bottom) / 2 == pytest.approx([255.5, 255.5])


def test_mirrored_joints_trade_places():
    joints = np.arange(18 * 3, dtype=np.float32).reshape(1, 18, 3)
    matrix = np.array([[-1.0, 0, 99], [0, 1, 0]])
    moved = transform_joints(joints, matrix, True, CONFIG.skeleton)
    left, right = CONFIG.skeleton.index("Lwri"), CONFIG.skeleton.index("Rwri")
    assert moved[0, left].tolist() == [99 - joints[0, right, 0], joints[0, right, 1], joints[0, right, 2]]


def test_augmentation_stays_in_its_bounds_and_uses_them():
    draws = [draw_augmentation(np.random.default_rng([1, i]), CONFIG.augmentation) for i in range(2000)]
    assert {d.flip for d in draws} == {True, False}
    degrees, scales, shifts = (np.array([getattr(d, key) for d in draws]) for key in ("degree", "scale", "shift"))
    assert -40 <= degrees.min() < -38
    assert 38 < degrees.max() <= 40
    assert 0.7 <= scales.min() < 0.72
    assert 1.28 < scales.max() <= 1.3
    assert 0.15 < (scales == 1).mean() < 0.25
    assert (shifts.min(), shifts.max()) == (-50, 50)
    jittered = np.array([d.hsv for d in draws if any(d.hsv)])
    assert 0.15 < len(jittered) / 2000 < 0.25
    assert (jittered.min(0) >= [-10, -20, -20]).all()
    assert (jittered.max(0) <= [10, 60, 40]).all()


def test_no_augmentation_is_the_default():
    assert Augmentation() == Augmentation(False, 0.0, (0, 0), 1.0, (0, 0, 0))


def test_hue_turns_round_and_value_stops():
    red = np.full((2, 2, 3), (0, 0, 250), np.uint8)
    assert jitter_hsv(red, 60, 0, 0)[0, 0].tolist() == [0, 250, 0]
    assert jitter_hsv(red, -60, 0, 0)[0, 0].tolist() == [250, 0, 0]
    assert jitter_hsv(red, 0, 0, 40)[0, 0].tolist() == [0, 0, 255]
    assert jitter_hsv(red, 0, 0, 0) is red


@pytest.mark.parametrize("seed", range(6))
def test_only_what_a_mask_reaches_is_computed_and_that_is_all_there_is(seed):
    """As OpenCV warps all of it; alone as well as with its image, whatever is cut off, nothing of it in the crop included."""
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(0, 256, (90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    for _ in range(seed):
        y, x = rng.integers(0, (80, 110))
        mask[y : y + rng.integers(1, 30), x : x + rng.integers(1, 40)] = 255
    for _ in range(8):
        centre, scale = rng.uniform(-20, 140, 2), rng.uniform(0.05, 1.5)
        matrix = affine_matrix(centre, scale, bool(rng.random() < 0.5), rng.uniform(-180, 180), (0, 0), 1.0, CONFIG)
        expected = cv2.warpAffine(mask, matrix, (64, 48))
        assert np.array_equal(warp_mask(mask, matrix, (48, 64), 4), at_map_size(expected, 4))
        together = warp_image_and_mask(image, mask, matrix, (48, 64), IMAGE_BORDER)
        assert np.array_equal(together[0], warp_image(image, matrix, (48, 64), IMAGE_BORDER))
        assert np.array_equal(together[1], expected)
