"""DEKR's samples: what is cut out of an image, how it is turned, and what of it counts."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from people import drawn_sample, person, write_coco
from places import ROOT

from config import load_config
from config.systems.dekr import DekrAugmentationConfig
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset
from data.datasets.dekr import Augmentation, DekrDataset, crop_matrix, draw_augmentation
from data.people_file import PeopleFile
from data.targets.dekr import render_targets

RECIPE = ROOT / "config" / "dekr_w32_coco.yaml"
COCO17 = load_config(RECIPE).skeleton
LEFT, RIGHT = COCO17.index("left_wrist"), COCO17.index("right_wrist")
SIZE = (160, 200)  # height, width of the pictures that write_coco describes


def samples(folder: Path, *people: list[dict], overrides: tuple[str, ...] = (), picture: np.ndarray | None = None, **more) -> DekrDataset:
    """Of one picture for each list of people, cut to 128 x 128; `picture`: what the first one shows."""
    annotations, images = write_coco(folder, *people, **more)
    if picture is not None:
        cv2.imwrite(str(images / "0.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])
    config = load_config(RECIPE, ["data.input_size=[128, 128]", *overrides])
    build_hdf5(annotations, images, folder / "people.h5", config.skeleton, workers=1)
    return DekrDataset(PeopleFile(folder / "people.h5", config.skeleton), config)


def posed(points: dict[str, tuple[float, float]], **more) -> dict:
    """An annotation of somebody with these keypoints, the others not labelled."""
    keypoints = [v for name in COCO17.dataset for v in ((*points[name], 2) if name in points else (0, 0, 0))]
    return person(0, 0, keypoints=keypoints, num_keypoints=len(points), **more)


def outline(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


# Who is in a sample


def test_one_sample_an_image_with_everybody_in_it(tmp_path):
    crowd = person(90, 90, iscrowd=1)  # though it has keypoints
    found = samples(tmp_path, [person(10, 10), person(80, 70), person(5, 5, visible=0), crowd], [person(40, 40)], [], [person(60, 60)])
    assert len(found) == 3
    joints, sizes = found.joints_and_sizes(0)
    assert (joints.shape, sizes.shape) == ((2, 18, 3), (2,))
    assert sorted(joints[:, 0, 0].tolist()) == [10, 80]
    assert found.joints_and_sizes(2)[0][0, 0].tolist() == [60, 60, 1]


def test_the_centre_is_the_mean_of_the_labelled_keypoints(tmp_path):
    joints, _ = samples(tmp_path, [posed({"nose": (20, 30), "left_hip": (50, 90), "right_hip": (26, 96)})]).joints_and_sizes(0)
    assert joints[0, -1].tolist() == [32, 72, 1]
    assert joints[0, LEFT].tolist() == [0, 0, 0]


def test_hidden_keypoints_are_learnt_too(tmp_path):
    someone = person(10, 10)
    someone["keypoints"][2::3] = [1] * 17
    joints, _ = samples(tmp_path, [someone]).joints_and_sizes(0)
    assert joints[0, :, 2].all()
    assert joints[0, 3, :2].tolist() == [13, 13]


@pytest.mark.parametrize(
    ("overrides", "centres"), [((), [0, 1, 1]), (("targets.min_area=0",), [1, 1, 1]), (("targets.min_area=2e3",), [0, 0, 1])]
)
def test_small_people_have_no_centre(tmp_path, overrides, centres):
    """But keypoints to be found."""
    found = samples(tmp_path, [person(10, 10, area=1023.9), person(40, 40, area=1024), person(80, 80, area=5000)], overrides=overrides)
    joints, _ = found.joints_and_sizes(0)
    assert joints[:, -1, 2].tolist() == centres
    assert joints[:, :-1, 2].all()


def test_sizes_of_people(tmp_path):
    """Width and height of the labelled keypoints' extent; with few of them at least what the area says; never zero."""
    two = {"nose": (20, 30), "left_hip": (50, 130)}
    one = {"nose": (90, 60)}
    people = [posed(two, area=2000), posed(two, area=9000), posed(one, area=1500), posed(one, area=0)]
    assert samples(tmp_path / "ours", people).joints_and_sizes(0)[1].tolist() == [30**2 + 100**2, 18000, 3000, 1]
    faulty = samples(tmp_path / "theirs", people, overrides=("targets.published_faults=true",))
    assert faulty.joints_and_sizes(0)[1].tolist() == [50**2 + 130**2, 50**2 + 130**2, 90**2 + 60**2, 90**2 + 60**2]


def test_somebody_of_one_keypoint_is_learnt_from(tmp_path):
    """The offsets' weight is that of the area, in map pixels' own proportion."""
    found = samples(tmp_path, [posed({"nose": (100, 80)}, area=3000)])
    _, heatmap, weight, offset, offset_weight = drawn_sample(found, found.config, 0)
    for tensor in (heatmap, weight, offset, offset_weight):
        assert tensor.isfinite().all()
    (worth,) = set(offset_weight[offset_weight > 0].tolist())
    assert worth == pytest.approx(1 / math.sqrt(2 * 3000 * (128 / 160) ** 2))
    assert (offset_weight > 0).sum() == 2 * 64


@pytest.mark.parametrize("scale", [0.75, 1, 1.5])
def test_sizes_grow_as_the_picture_does(tmp_path, scale):
    found = samples(tmp_path, [posed({"nose": (20, 30), "left_hip": (50, 130)})])
    _, _, joints, sizes = found.crop(0, Augmentation(scale=scale, rotation=20))
    moved = 4 * (joints[0, 0, :2] - joints[0, COCO17.index("left_hip"), :2])
    assert sizes[0] == pytest.approx(np.square(moved).sum(), rel=1e-6)


# What is cut out

AUGMENTATIONS = [
    Augmentation(rotation, scale, shift, flip)
    for rotation, scale, shift, flip in product((0, 30, -17.3), (0.75, 1, 1.4), ((0, 0), (14, -9)), (False, True))
]


def middle(channel: np.ndarray) -> np.ndarray:
    """x, y of the middle of what is bright."""
    light = channel.astype(float).clip(40) - 40
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def test_what_is_drawn_in_the_picture_stays_under_its_joints_and_mask(tmp_path):
    """Red on the left wrist, green on the right one, blue wherever the loss counts: however the picture is turned.

    The map's pixel stands on every fourth one of the input, in a mirrored input on the last of every four.
    """
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    points = {"left_wrist": (121.0, 63.0), "right_wrist": (88.0, 91.0)}
    picture = np.zeros((*SIZE, 3))
    for channel, name in ((2, "left_wrist"), (1, "right_wrist")):
        picture[..., channel] = 255 * np.exp(-((x - points[name][0]) ** 2 + (y - points[name][1]) ** 2) / (2 * 3**2))
    picture[..., 0] = 255
    picture[50:120, 20:60, 0] = picture[100:150, 130:170, 0] = 0
    people = [
        posed(points, segmentation=outline(85, 60, 40, 35)),
        person(20, 50, visible=0, segmentation=outline(20, 50, 40, 70)),
        person(130, 100, iscrowd=1, segmentation=outline(130, 100, 40, 50)),
    ]
    found = samples(tmp_path, people, picture=np.rint(picture).astype(np.uint8))
    for augmentation in AUGMENTATIONS:
        image, mask, joints, _ = found.crop(0, augmentation)
        assert (image.shape, mask.shape, joints.shape) == ((128, 128, 3), (32, 32), (1, 18, 3)), augmentation
        first = 3 if augmentation.flip else 0
        for channel, k in ((2, RIGHT), (1, LEFT)) if augmentation.flip else ((2, LEFT), (1, RIGHT)):
            assert 4 * joints[0, k, :2] + (first, 0) == pytest.approx(middle(image[..., channel]), abs=0.3), augmentation
            assert joints[0, k, 2] == 1
        counts = image[::4, first::4, 0]
        assert (mask == (counts > 127))[np.abs(counts - 127.5) > 64].all(), augmentation
        assert 50 < (~mask).sum() < 700
        assert joints[0, -1, :2] == pytest.approx(joints[0, [LEFT, RIGHT], :2].mean(0)), augmentation
        unlabelled = np.delete(joints[0, :-1], [LEFT, RIGHT], 0)
        assert not unlabelled.any(), augmentation


def test_the_matrix_by_hand():
    """From a picture 200 wide and 100 high; turned against the clock on the screen, as published."""
    corner_and_middle = np.array([[0, 0, 1], [100, 50, 1], [110, 50, 1], [100, 60, 1]])
    whole = crop_matrix((100, 200), Augmentation(), 50)
    assert (corner_and_middle @ whole.T).tolist() == [[-25, 0], [25, 25], [30, 25], [25, 30]]
    half = crop_matrix((100, 200), Augmentation(scale=0.5, shift=(10, -5)), 50)
    assert (corner_and_middle @ half.T).tolist() == [[-85, -20], [15, 30], [25, 30], [15, 40]]
    turned = crop_matrix((100, 200), Augmentation(rotation=90), 50)
    np.testing.assert_allclose(corner_and_middle[1:] @ turned.T, [[25, 25], [25, 20], [30, 25]], atol=1e-9)


def test_chance_keeps_within_its_limits():
    settings = DekrAugmentationConfig(rotation=25, scale=(0.8, 1.4), shift=50, flip_probability=0.3)
    rng, short_side = np.random.default_rng(0), 120
    drawn = [draw_augmentation(rng, settings, short_side) for _ in range(3000)]
    rotations, scales = np.array([a.rotation for a in drawn]), np.array([a.scale for a in drawn])
    assert (rotations.min(), rotations.max()) == pytest.approx((-25, 25), abs=0.5)
    assert (scales.min(), scales.max()) == pytest.approx((0.8, 1.4), abs=0.01)
    assert np.mean([a.flip for a in drawn]) == pytest.approx(0.3, abs=0.03)
    shifts = np.array([a.shift for a in drawn])
    most = np.floor(50 * short_side / 200 * scales)
    assert shifts.dtype.kind == "i"
    assert (np.abs(shifts) <= most[:, None]).all()
    for reached in ((shifts == most[:, None]), (shifts == -most[:, None])):
        assert reached.any(0).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1


def test_without_chance_nothing_is_augmented():
    still = DekrAugmentationConfig(rotation=0, scale=(1, 1), shift=0, flip_probability=0)
    assert draw_augmentation(np.random.default_rng(0), still, 500) == Augmentation()


# The sample


def test_validation_samples_are_the_pictures_middle(tmp_path):
    found = samples(tmp_path, [person(50, 60)], overrides=("data.input_size=[160, 160]",))
    image, heatmap, weight, offset, offset_weight = (tensor.numpy() for tensor in drawn_sample(found, found.config, 0))
    photograph = found.people.image(0)[:, 20:180]  # as wide as high
    assert image.dtype == np.float32
    assert np.array_equal(np.rint(image.transpose(1, 2, 0) * 255), photograph)  # BGR, as OpenCV reads it
    cut, mask, joints, sizes = found.crop(0, Augmentation())
    assert np.array_equal(cut, photograph) and mask.all()
    assert joints[0, 0].tolist() == [(50 - 20) / 4, 60 / 4, 1]
    expected = render_targets(joints, sizes, (40, 40), found.config)
    assert all(map(np.array_equal, (heatmap, weight, offset, offset_weight), expected))
    assert all(map(np.array_equal, drawn_sample(found, found.config, 0), (image, heatmap, weight, offset, offset_weight)))


def test_crowds_and_unlabelled_people_have_no_weight(tmp_path):
    """In every heatmap; where they overlap with somebody labelled too, as published."""
    hidden = [
        person(40, 40, visible=0, segmentation=outline(40, 40, 50, 60)),
        person(120, 20, iscrowd=1, segmentation=outline(120, 20, 40, 30)),
    ]
    found = samples(tmp_path, [person(50, 50), *hidden])
    weight = drawn_sample(found, found.config, 0)[2]
    assert not weight[:, 8:20, 5:14].any()  # x 40 to 90, y 40 to 100: (x - 20) / 5 and y / 5 in map pixels
    assert not weight[:, 5:9, 21:27].any()
    assert weight[:, 24:].all() and weight[:, :3].all() and weight[:, :, 29:].all()


def test_without_outlines_everything_counts(tmp_path):
    """As in CrowdPose: also beyond the picture, where nobody is."""
    found = samples(tmp_path, [person(50, 50, segmentation=[]), person(40, 40, visible=0, segmentation=[])])
    assert found.crop(0, Augmentation(scale=1.5, rotation=30))[1].all()
    assert (drawn_sample(found, found.config, 0)[2] >= 0.099).all()


def test_beyond_the_picture_nothing_counts(tmp_path):
    """Where the data set has outlines, as published."""
    mask = samples(tmp_path, [person(50, 50)]).crop(0, Augmentation(scale=1.5))[1]
    assert not mask[:5].any() and not mask[-5:].any() and not mask[:, :2].any()
    assert mask[6:-6, 3:-3].all()


def test_what_the_data_set_does_not_label_has_no_weight(tmp_path):
    """Neither keypoints nor their offsets; centres do."""
    names = ["left_wrist", "nose", "right_wrist"]
    annotation = {**person(50, 50), "keypoints": [60, 60, 2, 90, 70, 2, 100, 120, 2], "num_keypoints": 3}
    found = samples(tmp_path, [annotation], names=names)
    _, heatmap, weight, _, offset_weight = drawn_sample(found, found.config, 0)
    known = np.isin(np.arange(18), [COCO17.index(name) for name in names] + [17])
    assert weight.flatten(1).any(1).tolist() == known.tolist()
    assert weight[known].flatten(1).all()
    assert heatmap.flatten(1).any(1).tolist() == known.tolist()
    assert offset_weight.view(17, -1).any(1).tolist() == known[:17].tolist()


def test_the_same_seed_draws_the_same_sample(tmp_path):
    found = samples(tmp_path, [person(50, 60), person(100, 30)])
    one, again, other = (found.get(0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, again))
    assert not any(map(np.array_equal, one[:3], other[:3]))  # image, joints, sizes
    training, validation = (MixedDataset([found.people.path], found.config, augment) for augment in (True, False))
    first, fixed = training[0, 0], validation[0, 0]
    assert not np.array_equal(training[1, 0][0], first[0])
    assert all(map(np.array_equal, validation[1, 0], fixed))
    assert all(map(np.array_equal, training[0, 0], first))


def test_one_picture_is_left_as_it_was_by_another_sample(tmp_path):
    """Joints are turned in copies of what was annotated."""
    found = samples(tmp_path, [person(50, 60)])
    before = found.get(0, None)
    found.get(0, np.random.default_rng(0))
    assert all(map(np.array_equal, found.get(0, None), before))


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (160, 40)])
def test_pictures_of_any_size(tmp_path, size):
    """Also where they have hardly a pixel."""
    height, width = size
    annotations, images = write_coco(tmp_path, [posed({"nose": (0, 0), "left_ear": (width - 1, height - 1)}, bbox=[0, 0, width, height])])
    cv2.imwrite(str(images / "0.jpg"), np.full((*size, 3), 90, np.uint8))
    annotations.write_text(annotations.read_text().replace('"height": 160, "width": 200', f'"height": {height}, "width": {width}'))
    config = load_config(RECIPE, ["data.input_size=[64, 64]"])
    build_hdf5(annotations, images, tmp_path / "people.h5", config.skeleton, workers=1)
    found = DekrDataset(PeopleFile(tmp_path / "people.h5", config.skeleton), config)
    for rng in (None, *map(np.random.default_rng, range(3))):
        assert all(tensor.isfinite().all() for tensor in found.get(0, rng))
