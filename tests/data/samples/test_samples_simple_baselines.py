"""Simple Baselines' samples: what is drawn in a picture stays under its joints, whoever is cut out and however."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from people import build, person
from places import ROOT

from config import load_config
from config.systems.simple_baselines import SimpleBaselinesConfig
from data.people_file import PeopleFile
from data.samples.simple_baselines import (
    PADDING,
    Augmentation,
    SimpleBaselinesSamples,
    centre_and_size,
    clean_boxes,
    crop_matrix,
    draw_augmentation,
)

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"


def config(*overrides: str) -> SimpleBaselinesConfig:
    return load_config(RECIPE, overrides)


def samples_of(folder: Path, *people: list[dict], overrides: tuple[str, ...] = ()) -> SimpleBaselinesSamples:
    build(folder, *people)
    settings = config(*overrides)
    return SimpleBaselinesSamples(PeopleFile(folder / "out.h5", settings.skeleton), settings)


def test_one_for_everybody_with_a_keypoint_and_a_box(tmp_path):
    nobody = person(100, 20, visible=0)
    flat = {**person(160, 20), "bbox": [160, 20, 60, 0]}
    crowd = {**person(20, 100), "iscrowd": 1}
    outside = {**person(200, 100), "bbox": [5000, 100, 60, 60]}
    samples = samples_of(tmp_path, [person(20, 20, visible=1), nobody, flat], [person(30, 30), crowd, outside])
    assert len(samples) == 2
    assert samples.image_of.tolist() == [0, 1]


def test_boxes_are_cut_to_their_images():
    boxes = np.array([[10, 20, 30, 40], [-5, -6, 30, 40], [80, 90, 50, 60], [300, 10, 20, 20], [10, 10, 0, 5]], float)
    cleaned = clean_boxes(boxes, np.array([[100, 90]] * 5))
    np.testing.assert_array_equal(cleaned[:3], [[10, 20, 29, 39], [0, 0, 29, 39], [80, 90, 9, 9]])
    assert (cleaned[3:, 2:].min(1) <= 0).all()


@pytest.mark.parametrize(("box", "size"), [([10, 20, 30, 40], (30, 40)), ([10, 20, 60, 40], (60, 80)), ([10, 20, 15, 40], (30, 40))])
def test_crops_have_the_inputs_shape(box, size):
    centre, crop = centre_and_size(np.array(box, float), (256, 192))
    np.testing.assert_allclose(centre, [box[0] + box[2] / 2, box[1] + box[3] / 2])
    np.testing.assert_allclose(crop, np.multiply(size, PADDING))


def test_the_crop_is_turned_about_its_middle():
    matrix = crop_matrix(np.array([50.0, 60.0]), np.array([48.0, 64.0]), (256, 192), 90.0)
    np.testing.assert_allclose(matrix @ [50, 60, 1], [96, 128])
    np.testing.assert_allclose(matrix @ [60, 60, 1], [96, 128 - 40], atol=1e-9)  # what was to the right is above
    straight = crop_matrix(np.array([50.0, 60.0]), np.array([48.0, 64.0]), (256, 192))
    np.testing.assert_allclose(straight @ [26, 28, 1], [0, 0], atol=1e-9)
    np.testing.assert_allclose(straight @ [74, 92, 1], [192, 256])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "rotation"), [(1.0, 0.0), (0.8, 35.0), (1.3, -70.0)])
def test_a_dot_stays_under_its_joint(tmp_path, scale, rotation, flip):
    samples = samples_of(tmp_path, [person(100, 60, side=90)])
    joints = samples.people.joints(samples.chosen[:1])[0]
    photograph = np.zeros((*samples.people.sizes[0], 3), np.uint8)
    spot = 5  # the left shoulder
    x, y = joints[spot, :2]
    cv2.circle(photograph, (round(float(x)), round(float(y))), 4, (255, 255, 255), -1)
    samples.people.image = lambda number: photograph
    image, points, labelled = samples.crop(0, Augmentation(scale, rotation, flip))
    place = samples.config.skeleton.flip_keypoints.tolist().index(spot) if flip else spot
    assert labelled[place]
    light = np.argwhere(image[..., 0] > 128)
    if not len(light):
        assert not ((points[place] > 0) & (points[place] < image.shape[1::-1])).all()
        pytest.skip("turned out of the crop")
    np.testing.assert_allclose(light.mean(0)[::-1], points[place], atol=2.5)


def test_a_sample_is_what_its_seed_says(tmp_path):
    samples = samples_of(tmp_path, [person(100, 60, side=90)])
    one, same, other = (samples.sample(0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one[0], other[0])
    image, heatmap, weight = samples.sample(0, None)
    assert (image.shape, heatmap.shape, weight.shape) == ((3, 256, 192), (17, 64, 48), (17, 1))
    assert all(map(torch.equal, (image, heatmap, weight), samples.sample(0, None)))
    assert image.min() >= 0 and image.max() <= 1


def test_augmentations_are_within_what_is_configured():
    drawn = [draw_augmentation(np.random.default_rng(seed), config().augmentation) for seed in range(600)]
    scales, rotations = (np.array([getattr(one, name) for one in drawn]) for name in ("scale", "rotation"))
    assert (scales.min(), scales.max()) == (0.7, 1.3)
    assert np.abs(rotations).max() == 80
    assert 0.3 < (rotations == 0).mean() < 0.5
    assert 0.4 < np.mean([one.flip for one in drawn]) < 0.6
