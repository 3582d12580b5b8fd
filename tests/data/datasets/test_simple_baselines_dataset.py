"""Simple Baselines' samples: what is drawn in a picture stays under its joints, whoever is cut out and however."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from people import NAMES, build, drawn_sample, person
from places import ROOT

from config import load_config
from config.systems.simple_baselines import SimpleBaselinesConfig
from data.datasets.simple_baselines import (
    PADDING,
    Augmentation,
    SimpleBaselinesDataset,
    centre_and_size,
    clean_boxes,
    crop_matrix,
    draw_augmentation,
)
from data.people_file import PeopleFile
from data.targets.simple_baselines import render_targets

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"


def config(*overrides: str) -> SimpleBaselinesConfig:
    return load_config(RECIPE, overrides)


def samples_of(folder: Path, *people: list[dict], overrides: tuple[str, ...] = ()) -> SimpleBaselinesDataset:
    build(folder, *people)
    settings = config(*overrides)
    return SimpleBaselinesDataset(PeopleFile(folder / "out.h5", settings.skeleton), settings)


def test_one_for_everybody_with_a_keypoint_and_a_box(tmp_path):
    nobody = person(100, 20, visible=0)
    flat = {**person(160, 20), "bbox": [160, 20, 60, 0]}
    crowd = {**person(20, 100), "iscrowd": 1}
    outside = {**person(200, 100), "bbox": [5000, 100, 60, 60]}
    samples = samples_of(tmp_path, [person(20, 20, visible=1), nobody, flat], [person(30, 30), crowd, outside])
    assert len(samples) == 2
    assert samples.image_of.tolist() == [0, 1]


def test_crops_are_of_each_ones_own_picture(tmp_path):
    """Though there are more people than pictures; each picture has a grey of its own."""
    samples = samples_of(tmp_path, [person(20, 20), person(90, 40), person(30, 70)], [], [person(60, 50)])
    assert samples.image_of.tolist() == [0, 0, 0, 1]  # a picture of nobody is not in the file
    samples.people.image = lambda number: np.full((160, 200, 3), 50 + 100 * number, np.uint8)
    for index, grey in enumerate((50, 50, 50, 150)):
        image, points, _ = samples.crop(index, Augmentation())
        joints = samples.people.joints(samples.chosen[index : index + 1])[0, :, :2]
        ratio = np.linalg.norm(points[0] - points[-1]) / np.linalg.norm(joints[0] - joints[-1])
        assert ratio == pytest.approx(192 / (59 * 1.25), rel=1e-6)  # 60 x 60 pixels, cut as published
        column, row = np.rint(points[0]).astype(int)
        assert (image[row, column] == grey).all()


def test_hidden_keypoints_are_learnt_and_others_not(tmp_path):
    someone = person(60, 40, visible=9)
    someone["keypoints"][2:15:3] = [1] * 5
    samples = samples_of(tmp_path, [someone])
    _, heatmap, weight = drawn_sample(samples, samples.config, 0)
    assert weight[:, 0].tolist() == [1] * 9 + [0] * 8
    assert heatmap.flatten(1).any(1).tolist() == [True] * 9 + [False] * 8


def test_boxes_may_be_left_as_they_are(tmp_path):
    """MPII's are: a crop about a person who is half outside stands beside the picture."""
    people = [person(150, 100, bbox=[140, 90, 120, 60])]
    cut, whole = (samples_of(tmp_path, people, overrides=(f"data.clean_boxes={clean}",)) for clean in ("true", "false"))
    assert cut.boxes.tolist() == [[140, 90, 59, 59]]
    assert whole.boxes.tolist() == [[140, 90, 120, 60]]
    assert cut.boxes.dtype == whole.boxes.dtype == float


def test_validation_samples_are_the_crop_itself(tmp_path):
    """In BGR from 0 to 1, with the maps of its joints."""
    samples = samples_of(tmp_path, [person(60, 40)])
    image, points, labelled = samples.crop(0, Augmentation())
    pixels, heatmap, weight = drawn_sample(samples, samples.config, 0)
    assert pixels.dtype == torch.float32
    assert np.array_equal(np.rint(pixels.numpy().transpose(1, 2, 0) * 255), image)
    expected = render_targets(points, labelled, (256, 192), samples.config)
    assert all(map(np.array_equal, (heatmap, weight), expected))


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


def test_the_crop_is_the_box_and_a_quarter():
    assert PADDING == 1.25
    _, crop = centre_and_size(np.array([10.0, 20, 48, 64]), (256, 192))
    assert crop.tolist() == [60, 80]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "rotation"), [(1.0, 0.0), (0.8, 35.0), (1.3, -70.0)])
def test_a_dot_stays_under_its_joint(tmp_path, scale, rotation, flip):
    """However the crop is enlarged, turned and mirrored; of the two wrists each has a colour of its own."""
    someone = person(100, 60, side=70)
    places = {"left_wrist": (121.0, 83.0), "right_wrist": (138.0, 101.0)}
    for name, (x, y) in places.items():
        first = 3 * NAMES.index(name)
        someone["keypoints"][first : first + 3] = [x, y, 2]
    samples = samples_of(tmp_path, [someone])
    y, x = np.mgrid[: samples.people.sizes[0, 0], : samples.people.sizes[0, 1]]
    photograph = np.zeros((*x.shape, 3), np.uint8)
    for channel, name in ((2, "left_wrist"), (1, "right_wrist")):
        squared = (x - places[name][0]) ** 2 + (y - places[name][1]) ** 2
        photograph[..., channel] = np.rint(255 * np.exp(-squared / (2 * 3**2)))
    samples.people.image = lambda number: photograph
    image, points, labelled = samples.crop(0, Augmentation(scale, rotation, flip))
    assert image.shape == (256, 192, 3) and labelled.all()
    names = ("right_wrist", "left_wrist") if flip else ("left_wrist", "right_wrist")
    for channel, name in zip((2, 1), names):
        light = image[..., channel].astype(float)
        down, across = np.mgrid[:256, :192]
        middle = np.array([(light * across).sum(), (light * down).sum()]) / light.sum()
        assert points[samples.config.skeleton.index(name)] == pytest.approx(middle, abs=0.3)


@pytest.mark.parametrize("flip", [False, True])
def test_joints_are_those_of_the_mirror_image_in_a_larger_and_turned_crop(tmp_path, flip):
    """By hand; left keypoints become right ones, with whether they are labelled."""
    someone = person(100, 60, side=70)
    first = 3 * NAMES.index("left_wrist")
    someone["keypoints"][first : first + 3] = [0, 0, 0]
    samples = samples_of(tmp_path, [someone])
    _, points, labelled = samples.crop(0, Augmentation(1.2, 35.0, flip))
    joints, middle = samples.people.joints(samples.chosen[:1])[0, :, :2].astype(float), [134.5, 94.5]
    names = list(samples.config.skeleton.keypoints)
    if flip:
        joints[:, 0], middle[0] = 199 - joints[:, 0], 199 - middle[0]
        swapped = {"left": "right", "right": "left"}
        names = ["_".join(swapped.get(word, word) for word in name.split("_")) for name in names]
    away = (joints - middle) * 192 / (69 * 1.25 * 1.2)
    turn = np.radians(35)
    expected = [away @ (np.cos(turn), np.sin(turn)) + 96, away @ (-np.sin(turn), np.cos(turn)) + 128]
    order = [names.index(name) for name in samples.config.skeleton.keypoints]
    lacking = samples.config.skeleton.index("right_wrist" if flip else "left_wrist")
    assert np.flatnonzero(~labelled).tolist() == [lacking]
    np.testing.assert_allclose(points[labelled], np.transpose(expected)[order][labelled], rtol=1e-5)


def test_a_sample_is_what_its_seed_says(tmp_path):
    samples = samples_of(tmp_path, [person(100, 60, side=90)])
    one, same, other = (samples.get(0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one[0], other[0])
    image, heatmap, weight = drawn_sample(samples, samples.config, 0)
    assert (image.shape, heatmap.shape, weight.shape) == ((3, 256, 192), (17, 64, 48), (17, 1))
    assert all(map(torch.equal, (image, heatmap, weight), drawn_sample(samples, samples.config, 0)))
    assert image.min() >= 0 and image.max() <= 1


def test_augmentations_are_within_what_is_configured():
    settings, rng = config("augmentation.flip_probability=0.3").augmentation, np.random.default_rng(0)
    drawn = [draw_augmentation(rng, settings) for _ in range(3000)]
    scales, rotations = (np.array([getattr(one, name) for one in drawn]) for name in ("scale", "rotation"))
    assert (scales.min(), scales.max()) == (0.7, 1.3)
    assert np.abs(rotations).max() == 80
    assert (rotations == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert np.mean([one.flip for one in drawn]) == pytest.approx(0.3, abs=0.03)
    inside = np.abs(scales - 1) < 0.29
    assert scales[inside].std() == pytest.approx(0.54 * 0.3, abs=0.02)  # of a bell that is cut at its own deviation


def test_without_chance_nothing_is_augmented():
    still = config("augmentation.scale=0", "augmentation.rotation=0", "augmentation.flip_probability=0").augmentation
    assert draw_augmentation(np.random.default_rng(0), still) == Augmentation()
