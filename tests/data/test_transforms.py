"""Warps move image, mask and keypoints together."""

import cv2
import numpy as np
import pytest

from config import load_config
from data.datasets.simplepose import IMAGE_BORDER
from data.transforms import affine_matrix, crop_matrix, to_map_size, warp_image, warp_mask

CONFIG = load_config("config/simplepose_coco_512.yaml")


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("degree", "shift", "scale"), [(0, (0, 0), 1), (0, (12, 0), 1), (0, (0, -7), 1), (0, (0, 0), 1.25), (30, (3, 5), 0.8)]
)
def test_the_affine_is_rotation_scale_flip_and_shift_about_the_person(flip, degree, shift, scale):
    matrix = affine_matrix((200, 150), 250 / 512, flip, degree, shift, scale, CONFIG)
    cos, sin = np.cos(np.radians(degree)), np.sin(np.radians(degree))
    for point in ([200, 150], [210, 150], [200, 170], [-30, 400]):
        x, y = np.subtract(point, (200, 150))
        x, y = np.array([cos * x + sin * y, -sin * x + cos * y]) * scale * 0.6 / (250 / 512 * 512 / 511)
        expected = (-x if flip else x) + 255.5 + shift[0], y + 255.5 + shift[1]
        assert matrix @ [*point, 1] == pytest.approx(expected, abs=1e-9)


def test_a_crop_is_rotated_about_its_middle():
    matrix = crop_matrix(np.array([50.0, 60.0]), 48.0, (256, 192), 90.0)
    np.testing.assert_allclose(matrix @ [50, 60, 1], [96, 128])
    np.testing.assert_allclose(matrix @ [60, 60, 1], [96, 128 - 40], atol=1e-9)  # points to the right move up
    upright = crop_matrix(np.array([50.0, 60.0]), 48.0, (256, 192))
    np.testing.assert_allclose(upright @ [26, 28, 1], [0, 0], atol=1e-9)
    np.testing.assert_allclose(upright @ [74, 92, 1], [192, 256])


@pytest.mark.parametrize("seed", range(4))
def test_masks_are_warped_as_by_opencv_on_the_whole_mask(seed):
    """Alone and with its image, cut off by the crop, and outside of it."""
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(0, 256, (90, 120, 3), np.uint8), np.zeros((90, 120), np.uint8)
    for _ in range(seed):
        y, x = rng.integers(0, (80, 110))
        mask[y : y + rng.integers(1, 30), x : x + rng.integers(1, 40)] = 255
    for _ in range(8):
        center, scale = rng.uniform(-20, 140, 2), rng.uniform(0.05, 1.5)
        matrix = affine_matrix(center, scale, bool(rng.random() < 0.5), rng.uniform(-180, 180), (0, 0), 1.0, CONFIG)
        expected = cv2.warpAffine(mask, matrix, (64, 48))
        assert np.array_equal(warp_mask(mask, matrix, (48, 64), 4), to_map_size(expected, 4))
        together = warp_image(image, mask, matrix, (48, 64), IMAGE_BORDER)
        assert np.array_equal(together[0], cv2.warpAffine(image, matrix, (64, 48), borderValue=IMAGE_BORDER))
        assert np.array_equal(together[1], expected)
