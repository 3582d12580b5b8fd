"""Photometric augmentation: the sampled parameters, their frequency, and their effect on an image."""

import numpy as np
import pytest

from config.systems.augment import AugmentationConfig
from data.augment import OcclusionPatch, PhotometricParams, apply_occlusion, apply_photometric, motion_blur_kernel, sample_photometric

DEFAULTS = PhotometricParams()


def sampled(probability: float, count: int = 600) -> list[PhotometricParams]:
    settings, rng = AugmentationConfig(**{f"{key}_probability": probability for key in DEFAULTS._fields}), np.random.default_rng(1)
    return [sample_photometric(rng, settings) for _ in range(count)]


def random_image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (96, 128, 3), np.uint8)


def changed(image: np.ndarray, **params) -> np.ndarray:
    return apply_photometric(image, PhotometricParams(**params))


def test_each_change_is_sampled_as_often_as_its_probability():
    rng, params = np.random.default_rng(0), sampled(0.3)
    assert sample_photometric(rng, AugmentationConfig()) == DEFAULTS
    assert rng.random() == np.random.default_rng(0).random(), "a probability of 0 samples no random number"
    for key in DEFAULTS._fields:
        assert np.mean([getattr(one, key) != getattr(DEFAULTS, key) for one in params]) == pytest.approx(0.3, abs=0.06), key


def test_values_stay_in_their_limits_and_reach_them():
    params = sampled(1)
    values = {name: np.array([getattr(one, name) for one in params]) for name in ("gamma", "contrast", "cast", "blur", "jpeg")}
    columns = {"hsv": ("hue", "saturation", "value"), "motion": ("length", "angle"), "noise": ("noise", "offset")}
    for name, names in columns.items():
        values |= zip(names, np.array([getattr(one, name) for one in params]).T)
    values["sides"] = np.array([one.occlusion.sides for one in params])
    limits = {"gamma": (0.6, 1.7), "contrast": (0.6, 1.5), "cast": (0.75, 1.25), "blur": (0.5, 2), "noise": (2, 12), "jpeg": (20, 70)}
    limits |= {"hue": (-10, 10), "saturation": (-20, 60), "value": (-20, 40), "length": (3, 9), "angle": (0, 180), "sides": (0.1, 0.5)}
    for name, (low, high) in limits.items():
        edge = 0.05 * (high - low)
        assert low <= values[name].min() < low + edge and high - edge < values[name].max() <= high, name
    assert np.median(values["gamma"]) == pytest.approx((0.6 * 1.7) ** 0.5, rel=0.1)  # the middle of the logarithms
    assert np.mean([one.occlusion.color is None for one in params]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "params",
    [
        {"hsv": (5, 30, 20)}, {"gamma": 0.7}, {"contrast": 1.4}, {"cast": (1.2, 1, 0.8)}, {"grey": True}, {"blur": 1.5},
        {"motion": (7, 30)}, {"noise": (9, 0.4)}, {"jpeg": 20},
    ],
    ids=lambda params: next(iter(params)),
)  # fmt: skip
def test_each_parameter_changes_a_copy_of_the_image(params):
    image = random_image()
    result = changed(image, **params)
    assert np.array_equal(image, random_image())
    assert result.shape == image.shape and result.dtype == np.uint8
    assert np.abs(result.astype(int) - image).mean() > 2


def test_colors_change_as_their_parameters_say():
    red, image = np.full((2, 2, 3), (0, 0, 250), np.uint8), np.zeros((2, 2, 3), np.uint8)
    for hsv, expected in (((60, 0, 0), [0, 250, 0]), ((-60, 0, 0), [250, 0, 0]), ((0, 0, 40), [0, 0, 255])):
        assert changed(red, hsv=hsv)[0, 0].tolist() == expected, "hue wraps around, value stops"
    image[0], image[1] = 64, 192
    assert changed(image, gamma=0.5)[:, 0, 0].tolist() == np.round((np.array([64, 192]) / 255) ** 0.5 * 255).tolist()
    assert changed(image, contrast=1.5)[:, 0, 0].tolist() == [32, 224]
    assert changed(image, contrast=3.0)[:, 0, 0].tolist() == [0, 255], "values are clipped and do not wrap around"
    assert changed(image, cast=(0.5, 1.0, 1.25))[1, 0].tolist() == [96, 192, 240]
    assert np.ptp(changed(random_image(), grey=True), axis=2).max() == 0


def test_noise_has_its_standard_deviation_and_differs_by_offset():
    flat = np.full((96, 128, 3), 120, np.uint8)
    one, two = (changed(flat, noise=(10, offset)).astype(float) - 120 for offset in (0.2, 0.7))
    assert one.std() == pytest.approx(10, rel=0.05) and abs(one.mean()) < 0.3
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05
    large = np.full((900, 1100, 3), 9, np.uint8)  # more than the noise bank
    assert changed(large, noise=(5, 1.0)).shape == large.shape


def test_motion_blurs_along_its_direction_alone():
    for degrees, extent in ((0, [0, 6]), (90, [6, 0])):
        kernel = motion_blur_kernel(7, degrees)
        assert kernel.sum() == pytest.approx(1)
        assert np.ptp(np.nonzero(kernel > 0.02), axis=1).tolist() == extent
    diagonal = motion_blur_kernel(9, 45) > 0.05
    assert diagonal.sum() in (5, 6, 7) and np.trace(diagonal[::-1]) == diagonal.sum()  # counterclockwise, as angles are counted


def occluded(*patch, labeled: bool = True, enlarged: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a random image and the mask of all people after a patch over a person on the left, or over one outside."""
    image, mask = random_image(), np.zeros((96, 128), np.uint8)
    mask[20:80, 10:50] = 255
    keypoints = np.array([[[20.0, 30.0], [90.0, 9.0], [40.0, 60.0]], [[500.0, 10.0], [0.0, 0.0], [-5.0, 5.0]]])
    visible = np.array([[labeled, False, labeled], [True, False, True]])
    apply_occlusion(image, mask, keypoints, visible, enlarged * np.array([60.0, 9.0]), OcclusionPatch(*patch))
    return image, mask


@pytest.mark.parametrize(("keypoint", "center"), [(0.1, (20, 30)), (0.9, (40, 60))])
def test_a_patch_covers_a_labeled_keypoint_in_the_image(keypoint, center):
    image, mask = occluded(keypoint, (0.5, 0.5), (0, 0, 255), (0.2, 0.3))
    covered = (image == (0, 0, 255)).all(2)
    ys, xs = np.nonzero(covered)
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1) == (12, 18)
    assert (xs.mean() + 0.5, ys.mean() + 0.5) == center
    assert not mask[covered].any() and (mask > 0).sum() == 60 * 40 - 12 * 18
    assert np.array_equal((image != random_image()).any(2), covered)


def test_a_patch_shows_another_part_of_the_image_but_no_person_and_needs_a_keypoint():
    image, _ = occluded(0.1, (0.999, 0.0), None, (0.2, 0.2))
    assert np.array_equal(image[24:36, 14:26], random_image()[0:12, 116:128])
    image, _ = occluded(0.1, (0.2, 0.5), None, (0.2, 0.2))
    assert np.ptp(image[24:36, 14:26].reshape(-1, 3), axis=0).max() == 0
    patch = 0.1, (0.0, 0.0), (1, 2, 3), (0.5, 0.5)
    assert np.array_equal(occluded(*patch, labeled=False)[0], random_image())
    assert (occluded(*patch, enlarged=100)[0][:70, :80] == (1, 2, 3)).all(), "as large as the image"
