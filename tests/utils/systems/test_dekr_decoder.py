"""DEKR from photographs to people: the network is replaced by one that draws perfect maps of known people."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from dekr_scenes import SceneNetwork, bodies, pair, rendered_maps, scene_image, settings
from people import UPPER_BODY
from torch import Tensor

from config.systems.dekr import DekrConfig
from utils.inference import PoseEstimator
from utils.systems import PosePredictions
from utils.systems.dekr import DekrDecoder, decode, pose_nms, pose_overlaps


def found_in(config: DekrConfig, people: np.ndarray, size: tuple[int, int], **more) -> PosePredictions:
    """Whom the decoder finds where these people are in an image of this size."""
    (answer,) = DekrDecoder(SceneNetwork(config, [people], [size], **more), config)([scene_image(*size)])
    return answer


def assert_are(found: np.ndarray, people: np.ndarray, tolerance: float) -> None:
    """Everybody is found once, every keypoint in its place; found (P, K, 3) in any order."""
    assert found.shape == (*people.shape[:2], 3)
    far = np.linalg.norm(found[:, None, :, :2] - people, axis=3).max(2)  # (found, people)
    assert sorted(far.argmin(1)) == list(range(len(people)))
    assert far.min(1).max() < tolerance, far


# Known people in their places


@pytest.mark.parametrize(
    ("size", "scales", "flip"),
    [
        ((160, 240), "[1]", True),
        ((251, 160), "[0.75, 1]", True),
        ((9, 13), "[0.5, 1, 2]", True),
        ((97, 131), "[0.5, 1, 2]", False),
        ((600, 811), "[1]", False),
    ],
)
def test_known_people_are_found(size, scales, flip):
    config = settings(f"inference.scales={scales}", f"inference.flip={str(flip).lower()}")
    people = pair(config, size)
    keypoints, scores = found_in(config, people, size)
    assert_are(keypoints, people, tolerance=0.2)
    assert (keypoints[..., 2] > 0.75).all() and (keypoints[..., 2] <= 1).all()
    assert scores == pytest.approx(keypoints[..., 2].mean(1))


def test_other_skeletons(tmp_path):
    (tmp_path / "upper_body.yaml").write_text(yaml.safe_dump(UPPER_BODY))
    config = settings(f"skeleton={tmp_path / 'upper_body.yaml'}", "inference.scales=[1, 2]")
    people = pair(config, (160, 240))
    assert people.shape == (2, 3, 2)
    assert_are(found_in(config, people, (160, 240))[0], people, tolerance=0.2)


# Batches


def test_a_batch_of_mixed_sizes_is_as_each_picture_alone():
    config = settings("inference.scales=[0.5, 1]")
    sizes = [(160, 240), (240, 160), (97, 131), (160, 241), (320, 480), (200, 200)]
    people = [pair(config, size) for size in sizes]
    network = SceneNetwork(config, people, sizes)
    decoder, pictures = DekrDecoder(network, config), [scene_image(*size, number) for number, size in enumerate(sizes)]
    together = decoder(pictures)
    assert sorted(shape for shape in network.seen if min(shape[2:]) == 256) == [
        (2, 3, 256, 256), (2, 3, 256, 448), (2, 3, 384, 256), (6, 3, 256, 384),
    ]  # fmt: skip
    for image, (keypoints, scores), known in zip(pictures, together, people):
        (alone, its_scores), = decoder([image])  # fmt: skip
        np.testing.assert_allclose(keypoints, alone, atol=1e-4)
        np.testing.assert_allclose(scores, its_scores, atol=1e-5)
        assert_are(keypoints, known, tolerance=0.3)
    assert decoder([]) == []


@pytest.mark.parametrize("overrides", [[], ["inference.scales=[0.5, 1, 2]", "inference.match=true"]])
def test_where_nobody_is_nobody_is_found(overrides):
    """Empty arrays of the right shapes; in a batch beside somebody too."""
    config = settings(*overrides)
    size = (160, 240)
    people = pair(config, size)
    network = SceneNetwork(config, [people[:0], people], [size, size])
    nobody, somebody = DekrDecoder(network, config)([scene_image(*size, 0), scene_image(*size, 1)])
    keypoints, scores = nobody
    assert (keypoints.shape, scores.shape) == ((0, 17, 3), (0,))
    assert (keypoints.dtype, scores.dtype) == (somebody[0].dtype, somebody[1].dtype)
    assert len(somebody[0]) == 2


# Who counts as one person, and who is reported


def scene(config: DekrConfig, points: np.ndarray, **more) -> tuple[float, Tensor, Tensor]:
    """The maps of people (P, K, 2) in pixels of an input of 256 x 256, which is the picture."""
    return (1.0, *rendered_maps(points / 4, (64, 64), config, **more))


def test_a_person_found_twice_is_reported_once():
    """With the more likely of the two poses: another center lies within the same square, and a center between two pixels has two."""
    config = settings()
    (person,) = bodies(config, (40, 30, 120, 200))
    scale, heatmap, offset = scene(config, person[None])
    y, x = np.unravel_index(heatmap[-1].argmax(), (64, 64))
    heatmap[-1, y + 3, x - 3] = 2
    assert len(decode([(scale, heatmap, offset)], (256, 256), config)[0]) == 1
    shifted = person - person.mean(0) + (130, 130)  # 32.5 map pixels
    heatmap, offset = rendered_maps(shifted[None] / 4, (64, 64), config)
    assert (heatmap[-1] == heatmap[-1].max()).sum() == 4
    assert_are(decode([(1.0, heatmap, offset)], (256, 256), config)[0], shifted[None], tolerance=0.01)


@pytest.mark.parametrize(("overrides", "count"), [([], 2), (["inference.nms_distance=0.2"], 1), (["inference.nms_keypoints=17"], 2)])
def test_how_near_one_person_is(overrides, count):
    """Two people are 0.14 of their diagonal apart."""
    config = settings(*overrides)
    people = bodies(config, (40, 30, 90, 120), (60, 36, 90, 120))
    assert len(decode([scene(config, people)], (256, 256), config)[0]) == count


def test_with_several_scales_people_may_be_a_little_further_apart_and_be_one():
    config = settings("inference.scales=[1, 2]")
    people = bodies(config, (40, 30, 90, 120), (60, 36, 90, 120))
    answers = [scene(config, people), (2.0, *rendered_maps(people / 2, (128, 128), config))]
    assert len(decode(answers, (256, 256), config)[0]) == 1


def test_the_order_of_the_scales_is_nothing_to_the_answer():
    config = settings("inference.scales=[1, 2]")
    people = bodies(config, (10, 20, 60, 90), (100, 20, 60, 90), (180, 120, 60, 90))
    answers = [scene(config, people[:2]), (2.0, *rendered_maps(people[1:] / 2, (128, 128), config))]
    for one, other in zip(decode(answers, (256, 256), config), decode(answers[::-1], (256, 256), config)):
        assert len(one) == 3
        np.testing.assert_array_equal(one, other)


def test_more_people_may_be_asked_for_than_a_map_has_pixels():
    config = settings("data.input_size=[32, 32]", "inference.pad_multiple=32", "inference.max_people=100", "inference.match=true")
    people = bodies(config, (4, 2, 20, 28))
    assert_are(decode([(1.0, *rendered_maps(people / 4, (8, 8), config))], (32, 32), config)[0], people, tolerance=6)


@pytest.mark.parametrize(("keypoints", "same"), [(8, False), (9, True)])
def test_more_than_half_of_the_keypoints_make_a_person(keypoints, same):
    """Of seventeen. How near they must be, each pose's own size says."""
    large = torch.linspace(0, 200, 17)[:, None].repeat(1, 2)  # a diagonal of 283 pixels, of which 0.05 are 14
    other = large.clone()
    other[:keypoints, 0] += 13
    other[keypoints:, 0] += 15.5
    poses = torch.stack([large, other])[None]
    assert pose_overlaps(poses, settings().inference)[0].tolist() == [[True, same], [same, True]]
    small = large / 8 + 5  # 35 pixels, 1.8
    nearly = large.clone()
    nearly[:12] = small[:12] + 3
    assert pose_overlaps(torch.stack([nearly, small])[None], settings().inference)[0].tolist() == [[True, True], [False, True]]


def test_a_person_that_is_kept_already_is_not_kept_again():
    """Nor is one that would be worse than it, and like it; who is no one's like stays, and where nobody is nobody is taken."""
    near = np.eye(5, dtype=bool)
    near[0, 1] = near[1, 0] = near[2, 1] = near[3, 4] = True
    near[3, 3] = False  # all keypoints in one place: less than no distance is asked for
    heat, there = np.array([0.5, 0.9, 0.8, 0.3, 0.7]), np.array([True, True, True, True, False])
    assert pose_nms(near, heat, there, 30).tolist() == [1, 3]
    assert pose_nms(near, heat, there, 1).tolist() == [1]
    assert pose_nms(near, heat, ~there, 30).tolist() == [4]
    assert pose_nms(near, heat, there & False, 30).tolist() == []
    near[:] = np.eye(5)
    assert sorted(pose_nms(near, heat, there, 2).tolist()) == [1, 2]


def test_at_most_so_many_people_the_best_ones():
    config = settings("inference.max_people=2")
    people = bodies(config, (10, 20, 60, 90), (100, 20, 60, 90), (180, 20, 60, 90), (60, 140, 60, 90))
    strengths = [0.3, 0.9, 0.6, 0.5]
    found, scores = decode([scene(config, people, strengths=strengths)], (256, 256), config)
    assert_are(found, people[[1, 2]], tolerance=0.01)
    assert len(decode([scene(settings(), people, strengths=strengths)], (256, 256), settings())[0]) == 4
    several = settings("inference.max_people=2", "inference.scales=[1, 2]")
    answers = [scene(several, people, strengths=strengths)]
    answers.append((2.0, *rendered_maps(people[[3, 0]] / 2, (128, 128), several)))  # two more, whom only this scale shows
    found, scores = decode(answers, (256, 256), several)
    assert len(found) == 2


def test_faint_centers_are_nobody():
    people = bodies(settings(), (10, 20, 60, 90), (100, 20, 60, 90))
    for threshold, count in ((0.01, 2), (0.3, 1), (0.95, 0)):
        config = settings(f"inference.centre_threshold={threshold}")
        found, _ = decode([scene(config, people, strengths=[0.2, 0.9])], (256, 256), config)
        assert len(found) == count
    exactly = settings("inference.centre_threshold=0.25")
    scale, heatmap, offset = scene(exactly, people)
    heatmap[-1] = (heatmap[-1] == heatmap[-1].max()) * 0.25
    assert len(decode([(scale, heatmap, offset)], (256, 256), exactly)[0]) == 0  # above, not at
    assert len(decode([(scale, heatmap * 1.01, offset)], (256, 256), exactly)[0]) == 1


@pytest.mark.parametrize(
    ("size", "apart", "count"),
    [((200, 200), 1, 1), ((200, 200), 2, 2), ((220, 190), 2, 1), ((300, 300), 3, 2), ((310, 300), 3, 1), ((310, 300), 4, 2)],
)
def test_centers_are_maxima_of_a_larger_square_in_larger_maps(size, apart, count):
    config = settings("inference.nms_keypoints=17")
    heatmap, offset = torch.zeros(18, *size), torch.randn(34, *size, generator=torch.Generator().manual_seed(0)) * 20
    heatmap[-1, 30, 30], heatmap[-1, 30, 30 + apart] = 0.9, 0.8
    assert len(decode([(1.0, heatmap, offset)], (4 * size[0], 4 * size[1]), config)[0]) == count


def test_scores_are_the_centers_heat_times_the_keypoints():
    """Best first, whatever the order of the centers."""
    config, size = settings("inference.flip=false", "data.input_size=[256, 256]"), (256, 256)
    people = np.round(bodies(config, (8, 16, 88, 96), (140, 16, 88, 96), (60, 140, 88, 96)) / 4) * 4
    strengths = [0.5, 0.9, 0.7]
    keypoints, scores = found_in(config, people, size, strengths=strengths)
    assert list(scores) == sorted(scores, reverse=True)
    assert_are(keypoints[:1], people[1:2], 0.2)
    scale, heatmap, offset = scene(config, people, strengths=strengths)
    heatmap[-1] *= 0.5
    halved, _ = decode([(scale, heatmap, offset)], size, config)
    whole, _ = decode([scene(config, people, strengths=strengths)], size, config)
    np.testing.assert_allclose(halved[..., 2], whole[..., 2] / 2, rtol=1e-5)
    assert whole[..., 2].max(1) == pytest.approx(
        np.square([0.5, 0.9, 0.7])[np.linalg.norm(whole[:, None, 0, :2] - people[:, 0], axis=2).argmin(1)], rel=0.06
    )


def test_other_scales_are_brought_to_a_part_of_the_first_ones_best():
    """Somebody whom scale 2 alone shows, in heat of another order of magnitude, is worth 0.9 of the best, as configured."""
    people = bodies(settings(), (10, 20, 60, 90), (130, 100, 100, 120))
    for decay in (0.9, 0.5):
        config = settings("inference.scales=[1, 2]", f"inference.scale_decay={decay}")
        one, two = rendered_maps(people[:1] / 4, (64, 64), config), rendered_maps(people[1:] / 2, (128, 128), config)
        two[0][-1] *= 0.05
        found, scores = decode([(1.0, *one), (2.0, *two)], (256, 256), config)
        assert_are(found, people, tolerance=0.01)
        first = int(np.linalg.norm(found[:, 0, :2] - people[0, 0], axis=1).argmin())
        # Each one's keypoints are warm at one scale of two
        assert scores[first] == pytest.approx(0.5, abs=0.04)
        assert scores[1 - first] == pytest.approx(0.5 * decay, abs=0.04)


# Everything together


def test_an_estimator_finds_them(monkeypatch):
    config, size = settings("inference.scales=[0.5, 1]"), (160, 240)
    people = pair(config, size)
    monkeypatch.setattr("utils.checkpoint.build_model", lambda config: SceneNetwork(config, [people], [size]))
    estimator = PoseEstimator(config, device="cpu")
    keypoints, scores = estimator(scene_image(*size))
    assert_are(keypoints, people, tolerance=0.2)
    assert np.array_equal(estimator.batch([scene_image(*size)] * 2, [np.zeros((0, 4))] * 2)[1][0], keypoints)  # boxes are not asked for
    assert len(scores) == 2
