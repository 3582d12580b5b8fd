"""SimplePose's samples: who is a main person, what is cut out around one, and what of it counts."""

import numpy as np
import pytest
import torch
from people import BEYOND_PAPER, SKELETON, build, drawn_sample, person, read_back

from config import load_config
from config.skeleton import UNLABELLED
from config.systems.simplepose import SimplePoseConfig
from data.datasets.simplepose import SimplePoseDataset, chosen_joint, loss_masks
from data.targets import render_targets
from data.transforms import Augmentation, Look, Patch
from losses import build_loss

RECIPE = "config/simplepose_coco_512.yaml"
CONFIG = load_config(RECIPE)


def samples(folder, config: SimplePoseConfig = CONFIG) -> SimplePoseDataset:
    return SimplePoseDataset(read_back(folder), config)


# Main persons


def test_main_people_are_labelled_large_and_apart(tmp_path):
    wide = {"bbox": [0, 0, 100, 50]}
    build(
        tmp_path,
        [
            person(0, 0, **wide, area=5000),
            person(200, 0, 100, visible=4),  # four keypoints are too few
            person(0, 0, 20, area=400),
            person(25, 0, bbox=[25, 0, 100, 50]),  # within 0.3 of the first one's width
            person(31, 0, bbox=[31, 0, 100, 50]),
        ],
        [person(0, 0)],  # another image has its own
    )
    assert samples(tmp_path).main.tolist() == [0, 4, 5]
    assert samples(tmp_path).image_of.tolist() == [0, 0, 1]


def test_crowds_are_no_main_people_and_in_no_sample(tmp_path):
    """Though a file of one's own gives them keypoints, and whatever their box is."""
    build(tmp_path, [person(10, 10, iscrowd=1), person(100, 60)])
    assert samples(tmp_path).main.tolist() == [1]
    assert len(samples(tmp_path).joints_and_box(0)[0]) == 1


def test_people_without_a_box_are_no_main_people(tmp_path):
    """There would be nothing to cut out: a crop has the box's height."""
    boxes = ([0, 0, 0, 0], [20, 20, 30, 0], [50, 50, 0, 60])
    build(tmp_path, *[[person(20, 20, bbox=box)] for box in boxes], [person(20, 20, bbox=[0, 0, 0, 0]), person(100, 60)])
    assert samples(tmp_path).main.tolist() == [4]


def test_a_small_data_set_asks_for_as_large_a_part_of_its_keypoints(tmp_path):
    """Not for all of them: where feet are often hidden, few people would be left."""
    names = ["left_eye", "right_eye", "nose", "left_ear"]
    build(tmp_path, [person(20, 20, visible=2), person(100, 60, visible=1)], names=names)
    assert samples(tmp_path).main.tolist() == [0]


def test_main_person_comes_first_then_the_others(tmp_path):
    build(tmp_path, [person(10, 10), person(120, 60, visible=3), person(100, 20), person(5, 5, visible=0)])
    found = samples(tmp_path)
    assert len(found) == 2
    joints, box = found.joints_and_box(1)
    assert box.tolist() == [100, 20, 60, 60]
    assert joints[:, SKELETON.index("nose"), 0].tolist() == [100, 10, 120]


# What is cut out


def test_validation_samples_are_only_cropped(tmp_path):
    build(tmp_path, [person(10, 10)])
    found = samples(tmp_path)
    image, joints, miss, everyone = found.crop(0, Augmentation())
    chw, heatmaps, mask, known = drawn_sample(found, CONFIG, 0)
    assert np.array_equal(np.rint(chw.numpy() * 255).transpose(1, 2, 0), image)
    assert np.array_equal(heatmaps.numpy(), render_targets(joints, everyone.astype(np.float32) / 255, CONFIG))
    assert np.array_equal(mask.numpy()[0], miss.astype(np.float32) / 255)
    assert known.all()


def drawn_with(tmp_path, *overrides: str) -> np.ndarray:
    """The image (64, 64, 3) uint8 of a sample with chance left to one thing only."""
    still = ["rotation=0", "scale_probability=0", "shift=0", "flip_probability=0", "hsv_probability=0"]
    settings = [f"augmentation.{setting}" for setting in (*still, *overrides)]
    build(tmp_path, [person(40, 40, 100)])
    found = samples(tmp_path, load_config(RECIPE, ["data.input_size=[64, 64]", *settings]))
    return found.get(0, np.random.default_rng(3))[0].numpy().astype(int)


def test_colours_are_jittered(tmp_path):
    plain = drawn_with(tmp_path)
    jittered = drawn_with(tmp_path, "hsv_probability=1", "hue=[0, 0]", "saturation=[0, 0]", "value=[40, 40]")
    assert np.mean(jittered.max(2) - plain.max(2)) == pytest.approx(40, rel=0.3)  # HSV's value is the largest of the three


@pytest.mark.parametrize("setting", ["rotation=40", "shift=9", "flip_probability=1", "scale=[1.3, 1.3]"])
def test_everything_else_is_augmented_too(tmp_path, setting):
    more = ["scale_probability=1"] if "scale" in setting else []
    assert np.abs(drawn_with(tmp_path, setting, *more) - drawn_with(tmp_path)).max() > 12


@pytest.mark.parametrize("key", BEYOND_PAPER)
def test_what_the_paper_has_not_can_be_switched_on(tmp_path, key):
    assert np.abs(drawn_with(tmp_path, f"{key}_probability=1") - drawn_with(tmp_path)).max() > 4


def test_a_crop_can_be_around_a_joint(tmp_path):
    """Of those labelled, in the half of all cases one of the highest quarter."""
    build(tmp_path, [person(40, 40, 100, visible=9)])
    found = samples(tmp_path)
    middles = [found.crop(0, Augmentation(joint=choice))[1][0] for choice in (0, 0.5, 0.999)]
    (nearest,) = {joints[np.hypot(*(joints[:, :2] - 255.5).T) < 1e-3].shape for joints in middles}
    assert nearest == (1, 3)
    joints = found.joints_and_box(0)[0][0]
    labelled = np.sort(joints[joints[:, 2] != UNLABELLED, 1])
    choices = [chosen_joint(joints, choice)[1] for choice in np.arange(1000) / 1000]
    assert set(choices) == set(labelled)
    assert np.mean(np.array(choices) <= labelled[len(labelled) // 4]) == pytest.approx(0.5, abs=0.1)


def test_what_is_covered_stays_labelled_and_is_nobodys_pixels(tmp_path):
    build(tmp_path, [person(40, 40, 100)])
    found = samples(tmp_path, load_config(RECIPE, ["data.input_size=[128, 128]"]))
    patch = Patch(0.5, (0.6, 0.6), (0.0, 0.0), (255, 0, 255))
    plain, covered = (found.crop(0, Augmentation(look=look)) for look in (Look(), Look(patch=patch)))
    assert (covered[0] == (255, 0, 255)).all(2).sum() > 20**2
    assert np.array_equal(covered[1], plain[1]) and np.array_equal(covered[2], plain[2])
    assert covered[3].sum() < 0.85 * plain[3].sum()


def test_outside_the_picture_loss_counts_and_nobody_is(tmp_path):
    """The border is known to hold nobody: mask_miss is 1 there, and the person mask 0."""
    build(tmp_path, [person(0, 0, 40), person(30, 10, 20, visible=0)])
    _, maps, (miss,), _ = drawn_sample(samples(tmp_path), CONFIG, 0)
    assert (miss[:24] == 1).all() and (miss[:, :24] == 1).all()
    assert not maps[CONFIG.channels.person, :24].any()
    assert miss.min() == 0  # over the person without keypoints


def test_mask_miss_leaves_out_crowds_but_for_known_people():
    def mask(*columns):
        return np.isin(np.arange(6), columns)

    people, unlabelled, crowd = mask(1, 2), mask(2), mask(2, 3, 1)
    left_out, everyone = loss_masks(people, unlabelled, crowd)
    assert left_out.tolist() == [False, False, True, True, False, False]
    assert everyone.tolist() == [False, True, True, True, False, False]
    packed = loss_masks(*map(np.packbits, (people, unlabelled, crowd)))
    assert [np.unpackbits(bits)[:6].tolist() for bits in packed] == [left_out.tolist(), everyone.tolist()]


# Data sets that label only some keypoints


def test_what_the_data_set_does_not_label_is_not_counted(tmp_path):
    """Neither keypoints, nor limbs with such an end, nor the maximum over all; and without outlines no person mask."""
    names = ["left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist"]
    someone = {**person(10, 10), "keypoints": [v for k in range(5) for v in (20 + 5 * k, 30, 2)], "segmentation": []}
    build(tmp_path, [someone], names=names)
    small = load_config(RECIPE, ["data.input_size=[64, 64]"])
    image, heatmaps, miss, known = drawn_sample(samples(tmp_path, small), small, 0)
    channels, skeleton = small.channels, small.skeleton
    labelled = {"Lsho", "Rsho", "Lelb", "Relb", "Lwri", "neck"}
    assert {name for name, there in zip(skeleton.keypoints, known[channels.keypoints]) if there} == labelled
    assert {limb for limb, there in zip(skeleton.limbs, known[channels.limbs]) if there} == {
        limb for limb in skeleton.limbs if set(limb) <= labelled
    }
    assert not known[channels.person] and not known[channels.keypoint_maximum]
    loss = build_loss(small)
    predictions = [[torch.rand(1, channels.count, 16 // 2**i, 16 // 2**i, requires_grad=True) for i in range(5)] for _ in range(2)]
    loss(predictions, heatmaps[None], miss[None], known[None]).backward()
    for scales in predictions:
        for scale in scales:
            assert torch.equal(scale.grad[0].flatten(1).any(1), known)


def test_samples_of_several_data_sets_share_a_batch():
    """Each with its own channels: the loss is that of each one alone."""
    loss, channels = build_loss(CONFIG), CONFIG.channels.count
    g = torch.Generator().manual_seed(0)
    predictions = [[torch.rand(2, channels, 16 // 2**i, 16 // 2**i, generator=g) for i in range(5)]]
    heatmaps, miss = torch.rand(2, channels, 16, 16, generator=g), torch.ones(2, 1, 16, 16)
    known = torch.rand(2, channels, generator=g) > 0.5
    together = loss(predictions, heatmaps, miss, known)
    alone = [loss([[s[n : n + 1] for s in predictions[0]]], heatmaps[n : n + 1], miss[n : n + 1], known[n : n + 1]) for n in range(2)]
    assert together.item() == pytest.approx(sum(alone).item() / 2, rel=1e-5)
    everything = loss(predictions, heatmaps, miss, torch.ones_like(known))
    assert everything.item() == pytest.approx(loss(predictions, heatmaps, miss).item(), rel=1e-6)
