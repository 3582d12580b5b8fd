"""SimplePose's samples: main people, the crop around one, and the pixels and channels that count."""

import numpy as np
import pytest
import torch
from people import SKELETON, build, person, read_back, rendered_sample

from config import load_config
from data.augment import Augmentation
from data.datasets import build_dataset, collate
from data.datasets.simplepose import SimplePoseDataset, keypoint_center, sample_augmentation
from data.hdf5 import TrainingHDF5
from data.targets import render_batch, render_targets
from losses import build_loss

RECIPE = "config/simplepose_coco_512.yaml"
CONFIG = load_config(RECIPE, ["data.input_size=[128, 128]"])
NOSE = SKELETON.index("nose")
SCALE = 0.6 * 127 / 60  # a box of 60 pixels becomes 0.6 of the input's height


def dataset(folder, *people: list[dict], config=CONFIG, **more) -> SimplePoseDataset:
    build(folder, *people, **more)
    return SimplePoseDataset(read_back(folder), config)


def test_main_people_are_labeled_large_and_apart(tmp_path):
    found = dataset(
        tmp_path,
        [
            person(0, 0, bbox=[0, 0, 100, 50], area=5000),
            person(200, 0, 100, visible=4),  # four keypoints are too few
            person(0, 0, 20, area=400),
            person(25, 0, bbox=[25, 0, 100, 50]),  # within 0.3 of the first one's width
            person(31, 0, bbox=[31, 0, 100, 50]),
        ],
        [person(0, 0)],  # another image has its own
        [person(10, 10, iscrowd=1), person(120, 60)],  # a crowd region, though it has keypoints
        *[[person(20, 20, bbox=box)] for box in ([0, 0, 0, 0], [20, 20, 30, 0])],  # their outlines have boxes
    )
    assert found.main.tolist() == [0, 4, 5, 7, 8, 9]
    assert [found.image_id(n) for n in range(4)] == [0, 0, 1, 2]
    assert len(found.get(3, None).keypoints) == 1


def test_images_without_people_are_samples_on_request(tmp_path):
    config = load_config(RECIPE, ["data.input_size=[128, 128]", "data.negatives=true"])
    found = dataset(tmp_path, [person(10, 10)], [], [person(40, 40)], config=config)
    assert [found.image_id(n) for n in range(len(found))] == [0, 2, 1]
    samples = [found.get(2, np.random.default_rng(seed)) for seed in range(8)]
    assert all(sample.image.float().std() > 0 and (sample.mask_miss == 255).all() and not sample.mask_all.any() for sample in samples)
    assert not render_batch(collate(samples), config, torch.device("cpu")).heatmaps.any()


def test_a_data_set_of_few_keypoints_needs_the_same_fraction_of_them(tmp_path):
    """Requiring all would drop most people if feet are often occluded."""
    names = ["left_eye", "right_eye", "nose", "left_ear"]
    people = [{**one, "keypoints": one["keypoints"][:12]} for one in (person(20, 20, visible=2), person(100, 60, visible=1))]
    assert dataset(tmp_path, people, names=names).main.tolist() == [0]


def test_the_main_person_comes_first_then_all_others_with_a_keypoint(tmp_path):
    found = dataset(tmp_path, [person(10, 10), person(120, 60, visible=3), person(100, 20), person(5, 5, visible=0)])
    assert len(found) == 2
    sample = found.crop(1, Augmentation())
    expected = np.array([[100, 20], [10, 10], [120, 60]]) - (130, 50)
    np.testing.assert_allclose(sample.keypoints[:, NOSE], SCALE * expected + 63.5, rtol=1e-5)
    assert sample.labeled.sum(1).tolist() == [18, 18, 3]


def test_a_person_takes_its_part_of_the_height_of_a_crop_that_is_no_square(tmp_path):
    sample = dataset(tmp_path, [person(100, 20)], config=load_config(RECIPE, ["data.input_size=[128, 256]"])).get(0, None)
    np.testing.assert_allclose(sample.keypoints[0, NOSE], [SCALE * (100 - 130) + 127.5, SCALE * (20 - 50) + 63.5], rtol=1e-5)


def test_left_and_right_are_swapped_in_a_flipped_sample(tmp_path):
    someone = person(40, 40)
    someone["keypoints"][3 * 9 : 3 * 10] = [0, 0, 0]  # no left wrist
    found = dataset(tmp_path, [someone])
    plain, flipped = (found.crop(0, Augmentation(flip=flip)) for flip in (False, True))
    for one, other in ((flipped.image, plain.image), (flipped.mask_all, plain.mask_all)):
        assert (one.int() - other.flip(1).int()).abs().float().mean() < 1
    left, right = SKELETON.index("Lwri"), SKELETON.index("Rwri")
    assert not flipped.labeled[0, right] and flipped.labeled[0, left]
    x, y = plain.keypoints[0, right].tolist()
    assert flipped.keypoints[0, left].tolist() == pytest.approx([127 - x, y], abs=1e-4)


@pytest.mark.parametrize("recipe", ["quickstart", "dekr_quickstart"])
def test_the_loss_counts_the_channels_of_the_labeled_side_in_flipped_samples(tmp_path, recipe):
    names = ["nose", "right_shoulder", "right_wrist", "right_hip", "right_knee", "right_ankle"]
    build(tmp_path, [person(10, 10, keypoints=[v for k in range(6) for v in (20 + 9 * k, 30, 2)], num_keypoints=6)], names=names)
    config = load_config(f"config/{recipe}.yaml")
    samples = build_dataset(TrainingHDF5(tmp_path / "out.h5", config.skeleton), config)
    for flip in (False, True):
        sample, skeleton = samples.crop(0, Augmentation(flip=flip)), config.skeleton
        of_keypoints = config.channels.keypoints if recipe == "quickstart" else slice(0, skeleton.num_keypoints)
        assert torch.equal(sample.channel_mask[of_keypoints], sample.labeled[0, : skeleton.num_keypoints])
        limbs = [sample.labeled[0, ends].all().item() for ends in skeleton.limb_ends]
        assert recipe != "quickstart" or sample.channel_mask[config.channels.limbs].tolist() == limbs


def test_targets_are_those_of_the_crop(tmp_path):
    found = dataset(tmp_path, [person(10, 10, visible=12)])
    sample, (image, targets) = found.crop(0, Augmentation()), rendered_sample(found, CONFIG, 0)
    assert torch.equal((image * 255).round().permute(1, 2, 0), sample.image.float())
    joints = np.concatenate([sample.keypoints, np.where(sample.labeled, 1, 2)[..., None]], 2)
    assert np.array_equal(targets.heatmaps, render_targets(joints, sample.mask_all.numpy().astype(np.float32) / 255, CONFIG))
    assert torch.equal(targets.mask_miss[0], sample.mask_miss / 255) and targets.channel_mask.all()


def test_augmentations_keep_to_their_limits():
    sampled = [sample_augmentation(np.random.default_rng([1, i]), CONFIG.augmentation) for i in range(1000)]
    degrees, scales, shifts = (np.array([getattr(one, key) for one in sampled]) for key in ("rotation", "scale", "shift"))
    assert (degrees.min(), degrees.max()) == pytest.approx((-40, 40), abs=1) and np.abs(degrees).max() <= 40
    assert (scales.min(), scales.max()) == pytest.approx((0.7, 1.3), abs=0.01) and 0.15 < (scales == 1).mean() < 0.25
    assert (shifts.min(), shifts.max()) == (-50, 50)
    assert np.mean([one.flip for one in sampled]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([any(one.photometric.hsv) for one in sampled]) == pytest.approx(0.2, abs=0.05)


def test_a_crop_can_be_around_a_labeled_keypoint_half_of_the_time_in_the_upper_quarter(tmp_path):
    sample = dataset(tmp_path, [person(40, 40, 100, visible=9)]).crop(0, Augmentation(center_keypoint=0.5))
    assert ((sample.keypoints[0] - 63.5).norm(dim=1) < 1e-3)[sample.labeled[0]].sum() == 1
    points = np.random.default_rng(0).uniform(0, 100, (8, 2))
    chosen = [keypoint_center(points, choice)[1] for choice in np.arange(1000) / 1000]
    assert set(chosen) == set(points[:, 1])
    assert np.mean(np.array(chosen) <= np.sort(points[:, 1])[1]) == pytest.approx(0.5, abs=0.01)


def test_the_loss_ignores_people_without_keypoints_and_crowds_except_for_people_annotated_in_them(tmp_path):
    """It counts outside the image, where no person is."""
    unlabeled, crowd = person(150, 90, 40, visible=0), person(50, 0, 70, visible=0, iscrowd=1)
    found = dataset(tmp_path, [person(0, 0), crowd, unlabeled])
    sample, targets = found.crop(0, Augmentation(scale=0.35)), rendered_sample(found, CONFIG, 0)[1]
    for x, y, counted, is_person in ((55, 30, 1, 1), (100, 30, 0, 1), (170, 110, 0, 1), (150, 40, 1, 0), (-40, -40, 1, 0)):
        row, column = (int((0.35 * SCALE * (v - 30) + 63.5) / 4) for v in (y, x))
        assert (sample.mask_miss[row, column] / 255, sample.mask_all[row, column] / 255) == (counted, is_person), (x, y)
    assert (targets.mask_miss[0, :6] == 1).all() and not targets.heatmaps[CONFIG.channels.person, :6].any()


def test_channels_that_the_data_set_does_not_annotate_get_no_gradient(tmp_path):
    """Keypoints, limbs with such an end, the maximum over all keypoints, and the person mask without segmentations."""
    names = ["left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist"]
    someone = {**person(10, 10), "keypoints": [v for k in range(5) for v in (20 + 5 * k, 30, 2)], "segmentation": []}
    targets = rendered_sample(dataset(tmp_path, [someone], names=names), CONFIG, 0)[1]
    channels, skeleton, annotated = CONFIG.channels, CONFIG.skeleton, targets.channel_mask
    labeled = {"Lsho", "Rsho", "Lelb", "Relb", "Lwri", "neck"}
    assert {name for name, present in zip(skeleton.keypoints, annotated[channels.keypoints]) if present} == labeled
    assert annotated[channels.limbs].tolist() == [set(limb) <= labeled for limb in skeleton.limbs]
    assert not annotated[channels.person] and not annotated[channels.keypoint_maximum]
    predictions = [[torch.rand(1, channels.count, 32 // 2**i, 32 // 2**i, requires_grad=True) for i in range(5)]]
    build_loss(CONFIG)(predictions, **{name: target[None] for name, target in targets._asdict().items()}).backward()
    for scale in predictions[0]:
        assert torch.equal(scale.grad[0].flatten(1).any(1), annotated)
