"""Simple Baselines' samples: the cropped boxes, and image and keypoints augmented together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from people import NAMES, build, person, rendered_sample, spot, spot_center
from places import ROOT

from config import load_config
from data.augment import Augmentation
from data.datasets.simple_baselines import SimpleBaselinesDataset, clean_boxes, sample_augmentation
from data.hdf5 import TrainingHDF5
from data.targets.simple_baselines import render_targets
from data.transforms import center_and_crop_size

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"


def dataset(folder: Path, *people: list[dict], overrides: tuple[str, ...] = ()) -> SimpleBaselinesDataset:
    build(folder, *people)
    config = load_config(RECIPE, overrides)
    return SimpleBaselinesDataset(TrainingHDF5(folder / "out.h5", config.skeleton), config)


def test_a_sample_is_a_person_with_a_keypoint_and_a_box_in_its_own_image(tmp_path):
    outside = person(200, 100, bbox=[5000, 100, 60, 60])
    found = dataset(tmp_path, [person(20, 20), person(100, 20, visible=0)], [], [person(30, 30), person(20, 100, iscrowd=1), outside])
    assert [found.image_id(n) for n in range(len(found))] == [0, 2]
    found.people.image_to_warp = lambda number, matrix: (np.full((160, 200, 3), 50 + 50 * number, np.uint8), matrix)
    scale = 192 / (59 * 1.25)  # 60 x 60 pixels, clipped as published
    for index, gray in enumerate((50, 100)):
        sample = found.crop(index, Augmentation())
        assert sample.keypoints[0].tolist() == pytest.approx([96 - 29.5 * scale, 128 - 29.5 * scale], rel=1e-6)
        assert (sample.image[128, 96] == gray).all()


def test_occluded_keypoints_count_and_unlabeled_ones_do_not(tmp_path):
    someone = person(60, 40, visible=9)
    someone["keypoints"][2:15:3] = [1] * 5
    found = dataset(tmp_path, [someone])
    sample, (image, targets) = found.get(0, None), rendered_sample(found, found.config, 0)
    assert sample.labeled.tolist() == [True] * 9 + [False] * 8
    assert torch.equal((image * 255).round().permute(1, 2, 0), sample.image.float())
    expected = render_targets(sample.keypoints.numpy(), sample.labeled.numpy(), (256, 192), found.config)
    assert all(map(np.array_equal, targets, expected))


def test_boxes_are_clipped_to_their_images_if_configured(tmp_path):
    """MPII's are not: the crop of a person half outside reaches beyond the image."""
    boxes = np.array([[10, 20, 30, 40], [-5, -6, 30, 40], [80, 90, 50, 60], [300, 10, 20, 20], [10, 10, 0, 5]], float)
    cleaned = clean_boxes(boxes, np.array([[100, 90]] * 5))
    np.testing.assert_array_equal(cleaned[:3], [[10, 20, 29, 39], [0, 0, 29, 39], [80, 90, 9, 9]])
    assert (cleaned[3:, 2:].min(1) <= 0).all()
    people = [person(150, 100, bbox=[140, 90, 120, 60])]
    clipped, whole = (dataset(tmp_path, people, overrides=(f"data.clean_boxes={clean}",)) for clean in ("true", "false"))
    assert (clipped.boxes.tolist(), whole.boxes.tolist()) == ([[140, 90, 59, 59]], [[140, 90, 120, 60]])


@pytest.mark.parametrize(("box", "size"), [([10, 20, 30, 40], (30, 40)), ([10, 20, 60, 40], (60, 80)), ([10, 20, 15, 40], (30, 40))])
def test_a_crop_is_the_box_in_the_inputs_aspect_and_a_quarter_larger(box, size):
    center, crop_size = center_and_crop_size(np.array(box, float), (256, 192))
    assert center.tolist() == [box[0] + box[2] / 2, box[1] + box[3] / 2]
    assert crop_size.tolist() == [1.25 * side for side in size]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "rotation"), [(1.0, 0.0), (0.8, 35.0), (1.3, -70.0)])
def test_image_and_keypoints_are_augmented_together(tmp_path, scale, rotation, flip):
    """Each wrist has its own color; left and right are swapped in a flipped image."""
    someone, spots = person(100, 60, side=70, visible=11), {"left_wrist": (121.0, 83.0), "right_wrist": (138.0, 101.0)}
    for name, (x, y) in spots.items():
        first = 3 * NAMES.index(name)
        someone["keypoints"][first : first + 3] = [x, y, 2]
    someone["keypoints"][3 * NAMES.index("left_elbow") + 2] = 0
    red, green = (spot(*point) for point in spots.values())
    found = dataset(tmp_path, [someone])
    found.people.image_to_warp = lambda number, matrix: (np.dstack([0 * red, green, red]), matrix)
    sample, index = found.crop(0, Augmentation(rotation, scale, flip=flip)), found.config.skeleton.index
    assert sample.image.shape == (256, 192, 3)
    for channel, name in zip((2, 1), ("right_wrist", "left_wrist") if flip else ("left_wrist", "right_wrist")):
        center = spot_center(sample.image[..., channel].numpy())
        assert sample.keypoints[index(name)].numpy() == pytest.approx(center, abs=0.3)
    unlabeled = {index(name) for name in (*NAMES[11:], "right_elbow" if flip else "left_elbow")}
    assert set(np.flatnonzero(~sample.labeled)) == unlabeled
    wrists = sample.keypoints[index("left_wrist")] - sample.keypoints[index("right_wrist")]
    assert wrists.norm() == pytest.approx(np.hypot(17, 18) * 192 / (69 * 1.25 * scale))


def test_augmentations_keep_to_their_limits():
    overrides = ["augmentation.flip_probability=0.3", "augmentation.grey_probability=1"]
    settings, rng = load_config(RECIPE, overrides).augmentation, np.random.default_rng(0)
    sampled = [sample_augmentation(rng, settings) for _ in range(3000)]
    scales, rotations = (np.array([getattr(one, name) for one in sampled]) for name in ("scale", "rotation"))
    assert (scales.min(), scales.max()) == (0.7, 1.3)
    assert np.abs(rotations).max() == 80 and rotations[rotations != 0].std() == pytest.approx(38, abs=3)
    assert (rotations == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert np.mean([one.flip for one in sampled]) == pytest.approx(0.3, abs=0.03) and all(one.photometric.grey for one in sampled)
    inside = np.abs(scales - 1) < 0.29
    assert scales[inside].std() == pytest.approx(0.54 * 0.3, abs=0.02)  # a normal distribution clipped at one standard deviation
