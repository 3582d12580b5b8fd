"""Keypoint assignment recovers rendered people, for any skeleton, in crowds and with missing peaks."""

import numpy as np
import pytest
import torch
from devices import DEVICES
from places import ROOT
from standing import people

from config import Config, UserError, load_config
from config.skeleton import Skeleton
from config.systems.simplepose import SimplePoseConfig
from data.targets import render_targets
from utils.assignment import assign_people, limbs
from utils.assignment.torch_heatmaps import assign_people_batch

HEIGHT, WIDTH = 256, 384  # network input
CONFIG = load_config(ROOT / "config" / "simplepose_coco_512.yaml")
INDEX = {name: n for n, name in enumerate(CONFIG.skeleton.keypoints)}


def standing(*positions: tuple[float, float, float]) -> np.ndarray:
    return people(CONFIG, *positions)


def render(joints: np.ndarray, config: Config = CONFIG) -> np.ndarray:
    return render_targets(joints, np.zeros((HEIGHT // 4, WIDTH // 4), np.float32), config)


def assign(maps: np.ndarray, config: Config = CONFIG, scale: tuple[float, float] = (4.0, 4.0)) -> tuple[np.ndarray, np.ndarray]:
    return assign_people(maps, config.skeleton, config.assignment, image_size=(HEIGHT, WIDTH), map_to_image=scale)


def assign_together(batch: np.ndarray, scales: list[tuple[float, float]], device: str = "cpu") -> list[tuple[np.ndarray, np.ndarray]]:
    return assign_people_batch(torch.from_numpy(batch.copy()).to(device), CONFIG.skeleton, CONFIG.assignment, scales)


def same_people(predicted: np.ndarray, expected: np.ndarray, tolerance: float):
    """Each expected person is predicted once, with all labeled keypoints within `tolerance` pixels."""
    assert len(predicted) == len(expected)
    for person in expected:
        labeled = person[:, 2] == 1
        distances = np.hypot(*np.moveaxis(predicted[:, labeled, :2] - person[labeled, :2], -1, 0))
        distances[predicted[:, labeled, 2] == 0] = np.inf
        assert distances.max(1).min() < tolerance


def test_sub_pixel_positions_in_a_stretched_image():
    joints = standing((190.3, 9.7, 221.0))
    keypoints, scores = assign(render(joints), scale=(3.0, 5.0))
    expected = joints.copy()
    expected[..., :2] = (joints[..., :2] + 0.5) * (3 / 4, 5 / 4) - 0.5
    same_people(keypoints, expected, 0.02)
    assert keypoints.dtype == scores.dtype == np.float32
    assert 0.9 < scores[0] <= 1


BESIDE = (60, 10, 200), (180, 30, 210), (300, 20, 180)
OCCLUDED = (150, 10, 200), (190, 25, 210), (215, 40, 170)


@pytest.mark.parametrize(("positions", "tolerance"), [(BESIDE, 0.1), (OCCLUDED, 1)])
def test_people_beside_and_in_front_of_each_other(positions, tolerance):
    joints = standing(*positions)
    maps = render(joints)
    same_people(assign(maps)[0], joints, tolerance)
    for whole, without_mask_and_maximum in zip(assign(maps), assign(maps[:-2])):
        np.testing.assert_array_equal(whole, without_mask_and_maximum)


def test_people_who_share_a_keypoint():
    joints = standing((130, 10, 220), (215, 10, 220))
    joints[1, INDEX["Rwri"], :2] = joints[0, INDEX["Rwri"], :2] + (1, 0.5)
    keypoints, _ = assign(render(joints))
    assert len(keypoints) == 2
    assert (keypoints[..., 2] > 0).sum() >= 35


def test_a_wrist_without_an_elbow_joins_its_person_and_missed_peaks_follow_from_limbs():
    joints = standing((90, 10, 220), (280, 20, 220))
    maps = render(joints)
    for name in ("Relb", "Lsho", "Rkne"):
        maps[CONFIG.skeleton.num_limbs + INDEX[name]] = 0
    same_people(assign(maps)[0], joints, 4.0)  # one map pixel
    joints[0, INDEX["Relb"], 2] = joints[1, INDEX["Lelb"], 2] = 2
    same_people(assign(render(joints))[0], joints, 0.1)


def test_of_two_peaks_in_one_blob_the_higher_one_is_the_keypoint():
    joints = standing((100, 10, 220))
    elbow, wrist = INDEX["Relb"], INDEX["Rwri"]
    doubled = joints.copy()
    doubled[..., 2] = 2  # a second, lower peak on the forearm
    doubled[0, wrist] = *(0.6 * joints[0, elbow, :2] + 0.4 * joints[0, wrist, :2]), 1
    maps = render(joints)
    maps[30 + wrist] = np.maximum(maps[30 + wrist], 0.4 * render(doubled)[30 + wrist])
    below = np.arange(HEIGHT // 4) * 4 + 1.5 > doubled[0, wrist, 1] + 4
    maps[CONFIG.skeleton.limbs.index(("Relb", "Rwri")), below] *= 0.6  # the limb alone favors the lower one
    keypoints, _ = assign(maps)
    assert np.hypot(*(keypoints[0, wrist, :2] - joints[0, wrist, :2])) < 1


def test_people_of_two_keypoints_one_and_none():
    joints = standing((40, 10, 100), (340, 10, 100))
    joints[..., 2] = 2
    joints[0, INDEX["Lank"], 2] = 1
    joints[1, [INDEX["Relb"], INDEX["Rwri"]], 2] = 1
    keypoints, scores = assign(render(joints))
    same_people(keypoints, joints, 0.1)
    assert scores[0] > scores[1]
    assert [result.shape for result in assign(np.zeros((50, 64, 96), np.float32))] == [(0, 18, 3), (0,)]


def assert_refused(maps: np.ndarray, message: str) -> None:
    """Alone and in a batch."""
    for refused in (lambda: assign(maps), lambda: assign_together(maps[None], [(4.0, 4.0)])):
        with pytest.raises(UserError, match=message):
            refused()


@pytest.mark.parametrize(("channel", "value"), [(3, np.nan), (3, -np.inf), (40, np.nan), (40, np.inf), (slice(30), np.inf)])
def test_maps_that_are_not_finite_are_refused(channel, value):
    maps = render(standing((100, 10, 220)))
    maps[channel][maps[channel] > 0.3] = value
    assert_refused(maps, "NaN or infinite")


@pytest.mark.parametrize("shape", [(47, 64, 96), (51, 64, 96), (64, 96), (1, 50, 64, 96)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]):
    assert_refused(np.zeros(shape, np.float32), "needs 50 channels")


@pytest.mark.parametrize("few_pairs", [0, 10**9])
def test_a_crowd_alone_and_in_a_batch(few_pairs: int, monkeypatch):
    """The coarse scores of many pairs lose no person, and other images of the batch change nothing."""
    joints = standing(*[(30 + 66 * (n % 5), 5 + 125 * (n // 5), 110) for n in range(10)])
    maps = render(joints)
    monkeypatch.setattr(limbs, "FEW_PAIRS", few_pairs)
    keypoints, _ = assign(maps)
    same_people(keypoints, joints, 0.5)
    together = assign_together(np.stack([np.zeros_like(maps), maps, maps[:, :, ::-1]]), [(4.0, 4.0)] * 3)
    assert [len(scores) for _, scores in together] == [0, 10, 10]
    np.testing.assert_allclose(together[1][0], keypoints, atol=1e-3)


def other_skeleton(skeleton: Skeleton, keep: list[str]) -> Skeleton:
    """Return part of a skeleton, with keypoints and limbs in another order and some limbs reversed."""
    rng = np.random.default_rng(2)
    limbs = [limb for limb in skeleton.limbs if set(limb) <= set(keep)]
    values = skeleton.model_dump() | {
        "name": "other",
        "keypoints": rng.permutation(keep).tolist(),
        "limbs": [limbs[i] if rng.random() < 0.5 else limbs[i][::-1] for i in rng.permutation(len(limbs))],
        "flip_pairs": [pair for pair in skeleton.flip_pairs if set(pair) <= set(keep)],
        "sigmas": {name: skeleton.sigmas[name] for name in keep},
        "dataset": {name: own for name, own in skeleton.dataset.items() if own in keep},
        "midpoints": {name: ends for name, ends in skeleton.midpoints.items() if name in keep},
        "drawn": (),
    }
    return Skeleton.model_validate(values)


@pytest.mark.parametrize("without", [set(), {"neck"}, {"neck", "nose", "Reye", "Leye", "Rear", "Lear", "Rhip", "Lhip"}, "limbs"])
def test_any_skeleton(without: set[str] | str):
    keep = [name for name in CONFIG.skeleton.keypoints if name not in without]
    skeleton = other_skeleton(CONFIG.skeleton, keep)
    other = SimplePoseConfig(skeleton=skeleton.model_copy(update={"limbs": ()}) if without == "limbs" else skeleton)
    joints = people(other, (80, 10, 200), (270, 30, 210))[: 1 if without == "limbs" else 2]
    keypoints, _ = assign(render(joints, other), other)
    if "Rhip" in keep and without != "limbs":
        same_people(keypoints, joints, 0.1)
    else:  # without hips and a neck, or limbs, only the distance connects the parts of a body
        assert (keypoints[..., 2] > 0).sum() == joints.shape[0] * joints.shape[1]


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_on_a_device_gives_the_same_people(device):
    rng = np.random.default_rng(3)
    crowd = standing((150, 10, 100), (190, 5, 90), (210, 120, 110), (260, 100, 140))
    batch = np.stack([render(joints) for joints in (standing(*BESIDE), crowd[:0], standing(*OCCLUDED[:2]), crowd)])
    batch[3, 30 + INDEX["Relb"]] = 0
    batch[2:] += rng.normal(0, 0.005, batch[2:].shape).astype(np.float32)
    scales = [(4.0, 4.0), (3.5, 3.0), (2.0, 2.5), (4.0, 4.0)]
    for maps, scale, (keypoints, scores) in zip(batch, scales, assign_together(batch, scales, device)):
        alone = assign(maps, scale=scale)
        np.testing.assert_allclose(keypoints, alone[0], atol=1e-3)
        np.testing.assert_allclose(scores, alone[1], atol=1e-5)
