"""DEKR's samples: the crop, its augmentation, and the pixels and channels that count."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from people import build, person, rendered_sample, spot, spot_center
from places import ROOT

from config import load_config
from config.load import parse_config
from config.systems.dekr import DekrAugmentationConfig
from data.augment import Augmentation
from data.datasets import collate
from data.datasets.dekr import DekrDataset, sample_augmentation
from data.hdf5 import TrainingHDF5
from data.targets import render_batch

RECIPE = ROOT / "config" / "dekr_w32_coco.yaml"
COCO17 = load_config(RECIPE).skeleton
LEFT, RIGHT = COCO17.index("left_wrist"), COCO17.index("right_wrist")


def dataset(folder: Path, *people: list[dict], overrides: tuple[str, ...] = (), **more) -> DekrDataset:
    """Return the samples of one image for each list of people, cropped to 128 x 128."""
    build(folder, *people, **more)
    config = load_config(RECIPE, ["data.input_size=[128, 128]", *overrides])
    return DekrDataset(TrainingHDF5(folder / "out.h5", config.skeleton), config)


def posed(points: dict[str, tuple[float, float]], **more) -> dict:
    """Return an annotation with these keypoints, the others unlabeled."""
    keypoints = [v for name in COCO17.dataset for v in ((*points[name], 2) if name in points else (0, 0, 0))]
    return person(0, 0, keypoints=keypoints, num_keypoints=len(points), **more)


def polygon(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def test_a_sample_is_an_image_with_all_people_who_have_a_keypoint(tmp_path):
    crowd = person(90, 90, iscrowd=1)  # though it has keypoints
    occluded = person(80, 70)
    occluded["keypoints"][2::3] = [1] * 17
    found = dataset(tmp_path, [person(10, 10), occluded, person(5, 5, visible=0), crowd], [person(40, 40)], [], [person(60, 60)])
    assert [found.image_id(n) for n in range(len(found))] == [0, 1, 3]
    points, labeled, person_area = found.annotated(0)
    assert (points.shape, labeled.shape, person_area.shape) == ((2, 18, 2), (2, 18), (2,))
    assert points[:, 3].tolist() == [[13, 13], [83, 73]] and labeled.all()
    assert found.annotated(2)[0][0, 0].tolist() == [60, 60]


def test_map_pixels_stand_where_the_network_has_them(tmp_path):
    """MoveNet's in the middle of their input pixels, also in a flipped image."""
    people, middle = [posed({"nose": (20, 30), "left_hip": (50, 90)})], "model={name: movenet}"
    published, of_movenet = (dataset(tmp_path / name, people, overrides=more) for name, more in (("a", ()), ("b", (middle,))))
    x, y = published.crop(0, Augmentation()).keypoints[0, 0]
    assert of_movenet.crop(0, Augmentation()).keypoints[0, 0].tolist() == [x - 0.5, y - 0.5]
    assert of_movenet.crop(0, Augmentation(flip=True)).keypoints[0, 0].tolist() == [32 - 1 - (x - 0.5), y - 0.5]


def test_images_without_people_are_samples_on_request(tmp_path):
    found = dataset(tmp_path, [person(10, 10)], [], [person(40, 40)], [], overrides=("data.negatives=true",))
    assert [found.image_id(n) for n in range(len(found))] == [0, 2, 1, 3]
    samples = [found.get(n, np.random.default_rng(seed)) for n in (2, 3) for seed in range(4)]
    assert all(sample.mask_miss.any() and len(sample.keypoints) == 0 for sample in samples)
    heatmaps = render_batch(collate(samples), found.config, torch.device("cpu")).heatmap
    assert len(heatmaps) == 8 and not heatmaps.any()


def test_centers_and_areas_follow_from_the_labeled_keypoints(tmp_path):
    """A small person has no center. The area is the keypoints' extent, and at least twice the annotated area."""
    two, one = {"nose": (20, 30), "left_hip": (50, 130)}, {"nose": (90, 60)}
    people = [posed(two, area=1024), posed(two, area=9000), posed(one, area=1023.9), posed(one, area=40)]
    found = dataset(tmp_path, people)
    points, labeled, areas = found.annotated(0)
    assert points[:, -1].tolist() == [[35, 80], [35, 80], [90, 60], [90, 60]]
    assert labeled[:, -1].tolist() == [1, 1, 0, 0] and labeled[:, :-1].sum(1).tolist() == [2, 2, 1, 1]
    assert areas.tolist() == pytest.approx([30**2 + 100**2, 18000, 2047.8, 80])
    sample = found.crop(0, Augmentation(flip=True))
    assert torch.allclose(sample.keypoints[0, -1], sample.keypoints[0, :-1][sample.labeled[0, :-1]].mean(0))
    assert not sample.keypoints[~sample.labeled].any()
    published = dataset(tmp_path, people, overrides=("targets.published_faults=true", "targets.min_area=0")).annotated(0)
    # As published, the extent reaches to the corner: the row of the center is still 0, 0
    assert published[2].tolist() == [50**2 + 130**2, 50**2 + 130**2, 90**2 + 60**2, 90**2 + 60**2] and published[1][:, -1].all()


def test_image_keypoints_mask_and_area_are_augmented_together(tmp_path):
    """Red marks the left wrist, green the right one, blue the pixels where the loss counts.

    A map pixel is the first of four input pixels, and the last of four in a flipped image.
    """
    points = {"left_wrist": (121.0, 63.0), "right_wrist": (88.0, 91.0)}
    red, green = (spot(*points[name]) for name in ("left_wrist", "right_wrist"))
    blue = np.full_like(red, 255)
    blue[50:120, 20:60] = blue[100:150, 130:170] = 0
    people = [
        posed(points, area=50, segmentation=polygon(85, 60, 40, 35)),
        person(20, 50, visible=0, segmentation=polygon(20, 50, 40, 70)),
        person(130, 100, iscrowd=1, segmentation=polygon(130, 100, 40, 50)),
    ]
    found = dataset(tmp_path, people, overrides=("targets.min_area=0",))
    found.people.image_to_warp = lambda number, matrix: (np.dstack([blue, green, red]), matrix)
    for rotation, scale, shift, flip in product((0, -17.3), (0.75, 1.4), ((0, 0), (14, -9)), (False, True)):
        sample = found.crop(0, Augmentation(rotation, scale, shift, flip))
        image, mask, keypoints = (tensor.numpy() for tensor in (sample.image, sample.mask_miss, sample.keypoints))
        assert (image.shape, mask.shape, keypoints.shape) == ((128, 128, 3), (32, 32), (1, 18, 2))
        first = 3 if flip else 0
        for channel, k in ((2, RIGHT), (1, LEFT)) if flip else ((2, LEFT), (1, RIGHT)):
            assert 4 * keypoints[0, k] + (first, 0) == pytest.approx(spot_center(image[..., channel]), abs=0.3)
        assert np.flatnonzero(sample.labeled[0]).tolist() == [LEFT, RIGHT, 17]
        counts = image[::4, first::4, 0]
        assert (mask == (counts > 127))[np.abs(counts - 127.5) > 64].all() and 50 < (~mask).sum() < 700
        assert sample.person_area[0] == pytest.approx(16 * np.square(keypoints[0, LEFT] - keypoints[0, RIGHT]).sum())


def test_augmentations_keep_to_their_limits_and_reach_them():
    settings = DekrAugmentationConfig(rotation=25, scale=(0.8, 1.4), shift=50, flip_probability=0.3, grey_probability=1)
    rng, short_side = np.random.default_rng(0), 120
    sampled = [sample_augmentation(rng, settings, short_side) for _ in range(3000)]
    rotations, scales, shifts = (np.array([getattr(a, name) for a in sampled]) for name in ("rotation", "scale", "shift"))
    assert (rotations.min(), rotations.max()) == pytest.approx((-25, 25), abs=0.5)
    assert (scales.min(), scales.max()) == pytest.approx((0.8, 1.4), abs=0.01)
    assert np.mean([a.flip for a in sampled]) == pytest.approx(0.3, abs=0.03) and all(a.photometric.grey for a in sampled)
    most = np.floor(50 * short_side / 200 * scales)
    assert (np.abs(shifts) <= most[:, None]).all()
    assert (shifts == most[:, None]).any(0).all() and (shifts == -most[:, None]).any(0).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1


def test_validation_samples_are_the_images_middle(tmp_path):
    found = dataset(tmp_path, [person(50, 60)], overrides=("data.input_size=[160, 160]",))
    sample = found.get(0, None)
    assert torch.equal(sample.image, torch.from_numpy(found.people.image(0)[:, 20:180]))
    assert sample.keypoints[0, 0].tolist() == [7.5, 15] and sample.mask_miss.all()


@pytest.mark.parametrize("segmented", ["all", "crowd", "none"])
def test_people_without_keypoints_and_crowds_have_no_weight_in_any_heatmap(tmp_path, segmented):
    """Also where they overlap with a labeled person, as published. PoseTrack18 has segmentations of ignore regions, but not of people."""
    unlabeled, crowd = (40, 40, 50, 60), (120, 20, 40, 30)  # x, y, width, height
    hidden = [
        person(*box[:2], visible=0, bbox=box, iscrowd=iscrowd, segmentation=polygon(*box) if segmented in kinds else [])
        for box, iscrowd, kinds in ((unlabeled, 0, ["all"]), (crowd, 1, ["all", "crowd"]))
    ]
    found = dataset(tmp_path, [person(50, 50, segmentation=polygon(50, 50, 60, 60) if segmented == "all" else []), *hidden])
    assert found.people.outlines == (segmented == "all")
    weight = rendered_sample(found, found.config, 0)[1].weight
    assert not weight[:, 8:20, 5:14].any()  # x 40 to 90, y 40 to 100: (x - 20) / 5 and y / 5 in map pixels
    assert not weight[:, 5:9, 21:27].any()
    assert weight[:, 24:].all() and weight[:, :3].all() and weight[:, :, 29:].all()


def test_annotated_people_in_a_crowd_region_count(tmp_path):
    """Where not all people of an image are labeled, one crowd region covers it."""
    of_person = person(50, 50, bbox=(40, 40, 40, 40), segmentation=polygon(40, 40, 40, 40))
    region = person(0, 0, visible=0, iscrowd=1, bbox=(0, 0, 200, 150), segmentation=polygon(0, 0, 200, 150))
    mask = dataset(tmp_path, [of_person, region]).crop(0, Augmentation()).mask_miss
    assert mask[12, 8] and not mask[20, 20]  # in map pixels, as below


def test_crowdpose_has_no_mask(tmp_path):
    """As published: the loss also counts outside the image."""
    people = [person(50, 50), person(40, 40, visible=0), person(90, 90, iscrowd=1)]
    assert dataset(tmp_path, people, overrides=("targets.mask_ignored=false",)).crop(0, Augmentation(30, 1.5)).mask_miss.all()
    crowdpose = load_config(RECIPE.with_name("dekr_w32_crowdpose.yaml"))
    stored = crowdpose.model_dump(mode="json")
    assert not stored["targets"].pop("mask_ignored")  # as configurations were stored before the key existed
    assert parse_config(stored, "stored") == crowdpose and load_config(RECIPE).targets.mask_ignored


def test_keypoints_that_the_data_set_does_not_annotate_have_no_weight(tmp_path):
    """Their heatmaps and offsets have none; the centers' heatmap has."""
    names = ["left_wrist", "nose", "right_wrist"]
    annotation = {**person(50, 50), "keypoints": [60, 60, 2, 90, 70, 2, 100, 120, 2], "num_keypoints": 3}
    found = dataset(tmp_path, [annotation], names=names)
    targets = rendered_sample(found, found.config, 0)[1]
    annotated = np.isin(np.arange(18), [COCO17.index(name) for name in names] + [17])
    for maps, expected in ((targets.weight, annotated), (targets.heatmap, annotated), (targets.offset_weight.view(17, -1), annotated[:17])):
        assert maps.flatten(1).any(1).tolist() == expected.tolist()
