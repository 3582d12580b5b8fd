"""Photometric augmentation: the sampled parameters, their frequency, and their effect on an image."""

import numpy as np
import pytest

from config.systems.augment import AugmentationConfig
from data.augment import (
    OcclusionPatch,
    PhotometricParams,
    apply_occlusion,
    apply_photometric,
    jitter_hsv,
    motion_blur_kernel,
    sample_photometric,
)

KEYS = tuple(key.removesuffix("_probability") for key in AugmentationConfig.model_fields if key.endswith("_probability"))[1:]
NAMES = {"occlusion": "patch", "cast": "color_cast", "grey": "gray"}  # fields whose names differ from their keys
DEFAULTS = PhotometricParams()


def sampled(probability: float, count: int = 600) -> list[PhotometricParams]:
    settings, rng = AugmentationConfig(**{f"{key}_probability": probability for key in KEYS}), np.random.default_rng(1)
    return [sample_photometric(rng, settings) for _ in range(count)]


def random_image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (96, 128, 3), np.uint8)


def test_a_probability_of_0_samples_no_random_number():
    rng = np.random.default_rng(0)
    assert sample_photometric(rng, AugmentationConfig()) == DEFAULTS
    assert rng.random() == np.random.default_rng(0).random()


def test_each_change_is_sampled_as_often_as_its_probability():
    params = sampled(0.3)
    for key in KEYS:
        name = NAMES.get(key, key)
        changed = [getattr(one, name) != getattr(DEFAULTS, name) for one in params]
        assert np.mean(changed) == pytest.approx(0.3, abs=0.06), key


def test_values_stay_in_their_limits_and_reach_them():
    params = sampled(1)
    limits = {"gamma": (0.6, 1.7), "contrast": (0.6, 1.5), "blur": (0.5, 2), "noise": (2, 12), "jpeg": (20, 70)}
    values = {name: np.array([getattr(one, name) for one in params]) for name in limits}
    hsv, motion = np.array([one.hsv for one in params]), np.array([one.motion for one in params])
    sides = np.array([one.patch.sides for one in params])
    values |= {"hue": hsv[:, 0], "saturation": hsv[:, 1], "value": hsv[:, 2], "length": motion[:, 0], "angle": motion[:, 1], "sides": sides}
    values["cast"] = np.array([one.color_cast for one in params])
    limits |= {"hue": (-10, 10), "saturation": (-20, 60), "value": (-20, 40), "length": (3, 9), "angle": (0, 180), "sides": (0.1, 0.5)}
    limits["cast"] = 0.75, 1.25
    for name, (low, high) in limits.items():
        edge = 0.05 * (high - low)
        assert low <= values[name].min() < low + edge and high - edge < values[name].max() <= high, name
    assert np.median(values["gamma"]) == pytest.approx((0.6 * 1.7) ** 0.5, rel=0.1)  # the middle of the logarithms
    assert np.mean([one.patch.color is None for one in params]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"hsv": (5, 30, 20)}, {"gamma": 0.7}, {"contrast": 1.4}, {"color_cast": (1.2, 1, 0.8)}, {"gray": True}, {"blur": 1.5},
        {"motion": (7, 30)}, {"noise": 9, "noise_offset": 0.4}, {"jpeg": 20},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_each_parameter_changes_a_copy_of_the_image(changes):
    image = random_image()
    before = image.copy()
    changed = apply_photometric(image, PhotometricParams(**changes))
    assert np.array_equal(image, before)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert np.abs(changed.astype(int) - image).mean() > 2


def test_hue_wraps_around_and_value_stops():
    red = np.full((2, 2, 3), (0, 0, 250), np.uint8)
    assert jitter_hsv(red, 60, 0, 0)[0, 0].tolist() == [0, 250, 0]
    assert jitter_hsv(red, -60, 0, 0)[0, 0].tolist() == [250, 0, 0]
    assert jitter_hsv(red, 0, 0, 40)[0, 0].tolist() == [0, 0, 255]


def test_gamma_contrast_cast_and_gray():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0], image[1] = 64, 192
    for changes, expected in (
        ({"gamma": 0.5}, np.round((np.array([64, 192]) / 255) ** 0.5 * 255).tolist()),
        ({"contrast": 1.5}, [32, 224]),
        ({"contrast": 3.0}, [0, 255]),  # values are clipped and do not wrap around
    ):
        assert apply_photometric(image, PhotometricParams(**changes))[:, 0, 0].tolist() == expected
    assert apply_photometric(image, PhotometricParams(color_cast=(0.5, 1.0, 1.25)))[1, 0].tolist() == [96, 192, 240]
    assert np.ptp(apply_photometric(random_image(), PhotometricParams(gray=True)), axis=2).max() == 0


def test_noise_has_its_standard_deviation_and_differs_by_offset():
    flat = np.full((96, 128, 3), 120, np.uint8)
    one, two, again = (apply_photometric(flat, PhotometricParams(noise=10, noise_offset=n)).astype(float) - 120 for n in (0.2, 0.7, 0.2))
    assert one.std() == pytest.approx(10, rel=0.05) and abs(one.mean()) < 0.3
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05
    assert np.array_equal(one, again)
    large = np.full((900, 1100, 3), 9, np.uint8)  # more than the noise bank
    assert apply_photometric(large, PhotometricParams(noise=5, noise_offset=1.0)).shape == large.shape


def test_motion_blurs_along_its_direction_alone():
    for degrees, extent in ((0, [0, 6]), (90, [6, 0])):
        kernel = motion_blur_kernel(7, degrees)
        assert kernel.sum() == pytest.approx(1)
        assert np.ptp(np.nonzero(kernel > 0.02), axis=1).tolist() == extent
    diagonal = motion_blur_kernel(9, 45) > 0.05
    assert diagonal.sum() in (5, 6, 7) and np.trace(diagonal[::-1]) == diagonal.sum()  # counterclockwise, as angles are counted


def scene() -> tuple[np.ndarray, ...]:
    """Return an image, the mask of all people, and keypoints, labeled and heights of a person on the left and one outside."""
    mask = np.zeros((96, 128), np.uint8)
    mask[20:80, 10:50] = 255
    keypoints = np.array([[[20.0, 30.0], [90.0, 9.0], [40.0, 60.0]], [[500.0, 10.0], [0.0, 0.0], [-5.0, 5.0]]])
    return random_image(), mask, keypoints, np.array([[True, False, True], [True, False, True]]), np.array([60.0, 9.0])


@pytest.mark.parametrize(("keypoint", "center"), [(0.1, (20, 30)), (0.9, (40, 60))])
def test_a_patch_covers_a_labeled_keypoint_in_the_image(keypoint, center):
    image, mask, *people = scene()
    before = image.copy()
    apply_occlusion(image, mask, *people, OcclusionPatch(keypoint, (0.2, 0.3), (0.5, 0.5), (0, 0, 255)))
    covered = (image == (0, 0, 255)).all(2)
    ys, xs = np.nonzero(covered)
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (12, 18)
    assert (xs.mean() + 0.5, ys.mean() + 0.5) == center
    assert not mask[covered].any() and (mask > 0).sum() == 60 * 40 - 12 * 18
    assert np.array_equal((image != before).any(2), covered)


def test_a_patch_shows_another_part_of_the_image_but_no_person():
    image, mask, *people = scene()
    before = image.copy()
    apply_occlusion(image, mask, *people, OcclusionPatch(0.1, (0.2, 0.2), (0.999, 0.0), None))
    assert np.array_equal(image[24:36, 14:26], before[0:12, 116:128])
    image, mask, *people = scene()
    apply_occlusion(image, mask, *people, OcclusionPatch(0.1, (0.2, 0.2), (0.2, 0.5), None))
    assert np.ptp(image[24:36, 14:26].reshape(-1, 3), axis=0).max() == 0


def test_a_patch_may_be_as_large_as_the_image_and_needs_a_keypoint_in_it():
    image, mask, keypoints, labeled, heights = scene()
    before = image.copy()
    patch = OcclusionPatch(0.1, (0.5, 0.5), (0.0, 0.0), (1, 2, 3))
    apply_occlusion(image, mask, keypoints[1:], labeled[1:], heights[1:], patch)
    assert np.array_equal(image, before)
    apply_occlusion(image, mask, keypoints, labeled, 100 * heights, patch)
    assert (image[:70, :80] == (1, 2, 3)).all()
