"""Augmentation moves image, masks and joints together."""

import cv2
import numpy as np
import pytest
from people import BEYOND_PAPER

from config import load_config
from data.transforms import (
    IMAGE_BORDER,
    Augmentation,
    Look,
    Patch,
    affine_matrix,
    at_map_size,
    changed_look,
    crop_matrix,
    draw_augmentation,
    jitter_hsv,
    occlude,
    streak,
    transform_points,
    warp_image,
    warp_image_and_mask,
    warp_mask,
)

RECIPE = "config/simplepose_coco_512.yaml"
CONFIG = load_config(RECIPE)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degree", [0.0, 33.0])
def test_image_mask_and_joints_move_together(flip, degree):
    image, mask = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), np.uint8)
    image[118:123, 208:213], mask[118:123, 208:213] = 255, 255
    matrix = affine_matrix((200, 150), 250 / 512, flip, degree, (12, -7), 1.1, CONFIG)
    x, y = transform_points(np.array([210.0, 120.0]), matrix)
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


def test_a_crop_is_rotated_about_its_middle():
    matrix = crop_matrix(np.array([50.0, 60.0]), 48.0, (256, 192), 90.0)
    np.testing.assert_allclose(matrix @ [50, 60, 1], [96, 128])
    np.testing.assert_allclose(matrix @ [60, 60, 1], [96, 128 - 40], atol=1e-9)  # what was to the right is above
    straight = crop_matrix(np.array([50.0, 60.0]), 48.0, (256, 192))
    np.testing.assert_allclose(straight @ [26, 28, 1], [0, 0], atol=1e-9)
    np.testing.assert_allclose(straight @ [74, 92, 1], [192, 256])


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


# What photographs are like beyond the paper


def draws(probability: float, keys: tuple[str, ...] = BEYOND_PAPER) -> list[Augmentation]:
    config = load_config(RECIPE, [f"augmentation.{key}_probability={probability}" for key in keys])
    return [draw_augmentation(np.random.default_rng([1, i]), config.augmentation) for i in range(1500)]


def noise_image(low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(3).integers(low, high, (96, 128, 3), np.uint8)


def test_nothing_of_it_is_on_and_all_else_is_drawn_as_without_it():
    """The published recipe's draws, number for number."""
    plain, varied = draws(0), draws(1)
    assert all(draw.look == Look() and draw.joint is None for draw in plain)
    for key in ("flip", "degree", "shift", "hsv"):
        assert [getattr(draw, key) for draw in plain] == [getattr(draw, key) for draw in varied]
    first = np.random.default_rng([1, 0])
    assert plain[0].degree == first.uniform(-40, 40)
    assert [draw.scale for draw in draws(1, BEYOND_PAPER[1:])] == [draw.scale for draw in plain]


def test_each_is_drawn_as_often_and_as_much_as_it_says():
    found = draws(0.3)
    kinds = {
        "patch": lambda look: look.patch is not None,
        "gamma": lambda look: look.gamma != 1,
        "contrast": lambda look: look.contrast != 1,
        "cast": lambda look: look.cast != (1, 1, 1),
        "grey": lambda look: look.grey,
        "blur": lambda look: look.blur,
        "motion": lambda look: look.motion[0],
        "noise": lambda look: look.noise,
        "jpeg": lambda look: look.jpeg,
    }
    for name, there in kinds.items():
        assert 0.25 < np.mean([bool(there(draw.look)) for draw in found]) < 0.35, name
    assert 0.25 < np.mean([draw.joint is not None for draw in found]) < 0.35
    looks = [draw.look for draw in draws(1)]
    for name, low, high in (("gamma", 0.6, 1.7), ("contrast", 0.6, 1.5), ("blur", 0.5, 2), ("noise", 2, 12), ("jpeg", 20, 70)):
        values = np.array([getattr(look, name) for look in looks])
        edge = 0.05 * (high - low)
        assert low <= values.min() < low + edge and high - edge < values.max() <= high, name
    scales = np.array([draw.scale for draw in draws(1)])
    assert 0.25 <= scales.min() < 0.26 and 1.95 < scales.max() <= 2
    assert np.median(scales) == pytest.approx(0.25 * 8**0.5, rel=0.1), "as many above as below the middle of the logarithms"


def test_no_look_is_the_same_image():
    image = noise_image()
    assert changed_look(image, Look()) is image


@pytest.mark.parametrize(
    "look",
    [
        Look(gamma=0.7), Look(contrast=1.4), Look(cast=(1.2, 1, 0.8)), Look(grey=True), Look(blur=1.5), Look(motion=(7, 30)),
        Look(noise=9, grain=0.4), Look(jpeg=20),
    ],
    ids=lambda look: next(key for key, value in vars(look).items() if value != getattr(Look(), key)),
)  # fmt: skip
def test_a_look_changes_a_copy(look):
    image = noise_image()
    before = image.copy()
    changed = changed_look(image, look)
    assert np.array_equal(image, before)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).mean() > 2


def test_tones():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0], image[1] = 64, 192
    assert (changed_look(image, Look(gamma=0.5))[:, 0, 0] == np.round((np.array([64, 192]) / 255) ** 0.5 * 255)).all()
    assert changed_look(image, Look(contrast=1.5))[:, 0, 0].tolist() == [32, 224]
    assert changed_look(image, Look(contrast=3.0))[:, 0, 0].tolist() == [0, 255], "values stop, and do not start again"
    assert changed_look(image, Look(cast=(0.5, 1.0, 1.25)))[1, 0].tolist() == [96, 192, 240]
    assert np.ptp(changed_look(noise_image(), Look(grey=True)), axis=2).max() == 0


def test_noise_is_as_strong_as_it_says_and_another_each_time():
    flat = np.full((96, 128, 3), 120, np.uint8)
    one, two, again = (changed_look(flat, Look(noise=10, grain=grain)).astype(float) - 120 for grain in (0.2, 0.7, 0.2))
    assert one.std() == pytest.approx(10, rel=0.05) and abs(one.mean()) < 0.3
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05
    assert np.array_equal(one, again)


@pytest.mark.parametrize("shape", [(1, 1), (900, 1100)])
def test_noise_for_any_size(shape):
    assert changed_look(np.full((*shape, 3), 9, np.uint8), Look(noise=5, grain=1.0)).shape == (*shape, 3)


@pytest.mark.parametrize(("degrees", "axis"), [(0, 1), (90, 0)])
def test_motion_blurs_along_its_direction_alone(degrees, axis):
    kernel = streak(7, degrees)
    assert kernel.sum() == pytest.approx(1)
    rows, columns = np.nonzero(kernel > 0.02)
    assert (np.ptp(rows), np.ptp(columns))[axis] == 6 and (np.ptp(rows), np.ptp(columns))[1 - axis] == 0
    slanting = streak(9, 45) > 0.05
    assert slanting.sum() in (5, 6, 7) and np.trace(slanting[::-1]) == slanting.sum(), "counted as angles are, against the clock"


def crowd_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with one person of two labelled joints in its left half, the mask, the joints."""
    everyone = np.zeros((96, 128), np.uint8)
    everyone[20:80, 10:50] = 255
    return noise_image(), everyone, np.array([[20.0, 30.0], [40.0, 60.0]])


@pytest.mark.parametrize(("joint", "middle"), [(0.1, (20, 30)), (0.9, (40, 60))])
def test_a_patch_is_on_a_joint_and_as_large_as_it_says(joint, middle):
    image, everyone, joints = crowd_scene()
    before, labelled = image.copy(), joints.copy()
    occlude(image, everyone, joints, 60, Patch(joint, (0.2, 0.3), (0.5, 0.5), (0, 0, 255)))
    ys, xs = np.nonzero((image == (0, 0, 255)).all(2))
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (12, 18)
    assert (xs.mean() + 0.5, ys.mean() + 0.5) == middle
    assert not everyone[ys, xs].any() and (everyone > 0).sum() == 60 * 40 - 12 * 18, "what is in front is nobody's"
    assert np.array_equal(np.argwhere((image != before).any(2)), np.argwhere((image == (0, 0, 255)).all(2)))
    assert np.array_equal(joints, labelled)


def test_a_patch_shows_another_part_of_the_picture_but_nobody():
    image, everyone, joints = crowd_scene()
    before = image.copy()
    occlude(image, everyone, joints, 60, Patch(0.1, (0.2, 0.2), (0.999, 0.0), None))
    assert np.array_equal(image[24:36, 14:26], before[0:12, 116:128])
    image, everyone, joints = crowd_scene()
    occlude(image, everyone, joints, 60, Patch(0.1, (0.2, 0.2), (0.2, 0.5), None))
    assert np.ptp(image[24:36, 14:26].reshape(-1, 3), axis=0).max() == 0


def test_a_patch_needs_a_joint_in_the_picture_and_may_be_as_large_as_that():
    image, everyone, joints = crowd_scene()
    before = image.copy()
    occlude(image, everyone, joints, 1000, Patch(0.1, (0.5, 0.5), (0.0, 0.0), (1, 2, 3)))
    assert (image[:70] == (1, 2, 3)).all(2).any()
    joints[:, 0] = -5
    occlude(before, everyone, joints, 60, Patch(0.1, (0.5, 0.5), (0.0, 0.0), (1, 2, 3)))
    assert not (before == (1, 2, 3)).all(2).any()
