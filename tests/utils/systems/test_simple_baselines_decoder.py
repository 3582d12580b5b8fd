"""Simple Baselines from boxes to people: a network that draws the maps of known people wherever it is shown them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from places import ROOT
from torch import Tensor, nn

from config import load_config
from config.systems.simple_baselines import STRIDE, SimpleBaselinesConfig
from utils.inference import PoseEstimator
from utils.systems.simple_baselines import (
    SimpleBaselinesDecoder,
    cut,
    decode,
    person_scores,
    usable_boxes,
    with_mirror_averaged,
)

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"
SIGMA = 2.0


def settings(*overrides: str) -> SimpleBaselinesConfig:
    return load_config(RECIPE, ["data.input_size=[128, 96]", *overrides])


def picture(height: int, width: int) -> np.ndarray:
    """Blue grows from left to right and green from top to bottom, so that a crop says where it is from; red is full inside."""
    image = np.zeros((height, width, 3))
    image[..., 0], image[..., 1] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    image[..., 2] = 255
    return np.floor(image + np.random.default_rng(0).uniform(size=image.shape)).clip(0, 255).astype(np.uint8)


class KnowingNetwork(nn.Module):
    """Draws a bell at each of the points (K, 2) of one `picture` of this size, wherever a crop of it, or its mirror image, shows them."""

    def __init__(self, config: SimpleBaselinesConfig, points: np.ndarray, size: tuple[int, int], strength: float = 1.0):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.flip, self.points, self.size, self.strength = config.skeleton.flip_keypoints, points, size, strength
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return torch.stack([self._maps(image) for image in images.numpy()])

    def _maps(self, image: np.ndarray) -> Tensor:
        _, h, w = image.shape
        y, x = np.nonzero(image[2] > 0.99)
        where = np.column_stack([x, y, np.ones(len(x))])
        seen = np.column_stack([image[0, y, x] * (self.size[1] - 1), image[1, y, x] * (self.size[0] - 1)])
        affine = np.linalg.lstsq(where, seen, rcond=None)[0]  # (3, 2) from input pixels to the picture's
        mirrored = affine[0, 0] < 0
        at = (self.points - affine[2]) @ np.linalg.inv(affine[:2])
        at = at[self.flip] if mirrored else at
        at = at / STRIDE
        j, i = np.arange(w // STRIDE), np.arange(h // STRIDE)[:, None]
        squared = (j - at[:, 0, None, None]) ** 2 + (i - at[:, 1, None, None]) ** 2
        return torch.from_numpy(self.strength * np.exp(-squared / (2 * SIGMA**2))).float()


def points_in(x: float, y: float, width: float, height: float, keypoints: int = 17) -> np.ndarray:
    return np.random.default_rng(0).uniform((x, y), (x + width, y + height), (keypoints, 2))


@pytest.mark.parametrize("box", [(40, 30, 60, 100), (33.3, 21.7, 90.4, 51.9), (100, 90, 17, 23)])
def test_known_people_are_found(box):
    config, size = settings("inference.flip=false"), (240, 200)
    points = points_in(*box)
    ((keypoints, scores),) = SimpleBaselinesDecoder(KnowingNetwork(config, points, size), config)([picture(*size)], [np.array([box])])
    pixel = 1.25 * max(box[2], box[3] * 0.75) / (96 / STRIDE)  # of a map, in the picture
    np.testing.assert_allclose(keypoints[0, :, :2], points, atol=0.06 * pixel + 0.3)
    assert scores[0] == pytest.approx(keypoints[0, :, 2].mean(), rel=1e-5)


def test_a_mirrored_answer_is_turned_back_and_moved_a_column():
    config = settings()
    straight, mirrored = torch.rand(2, 17, 32, 24), torch.rand(2, 17, 32, 24)
    averaged = with_mirror_averaged(torch.cat([straight, mirrored]), config)
    for k, partner in enumerate(config.skeleton.flip_keypoints.tolist()):
        back = mirrored[:, partner].flip(2)
        torch.testing.assert_close(averaged[:, k, :, 1:], (straight[:, k, :, 1:] + back[..., :-1]) / 2)
        torch.testing.assert_close(averaged[:, k, :, 0], (straight[:, k, :, 0] + back[..., 0]) / 2)


def test_with_flip_the_mirror_images_are_run_too():
    points, size = points_in(40, 30, 60, 100), (240, 200)
    for flip, batches in (("true", [2]), ("false", [1])):
        config = settings(f"inference.flip={flip}")
        network = KnowingNetwork(config, points, size)
        SimpleBaselinesDecoder(network, config)([picture(*size)], [np.array([[40, 30, 60, 100]])])
        assert network.batches == batches


def test_many_boxes_of_many_pictures_are_as_one_by_one():
    config, size = settings("inference.flip=false", "inference.crops=5"), (240, 200)
    network = KnowingNetwork(config, points_in(60, 60, 80, 100), size)
    decoder, rng = SimpleBaselinesDecoder(network, config), np.random.default_rng(1)
    boxes = [np.column_stack([rng.uniform(20, 80, (n, 2)), rng.uniform(60, 120, (n, 2)), rng.uniform(0.3, 1, n)]) for n in (0, 1, 8, 3)]
    together = decoder([picture(*size)] * 4, boxes)
    assert max(network.batches) == 5
    assert together[0][0].shape == (0, 17, 3) and together[0][1].shape == (0,)
    for of_image, (keypoints, scores) in zip(boxes, together):
        ((alone, alone_scores),) = decoder([picture(*size)], [of_image])
        np.testing.assert_array_equal(keypoints, alone)
        np.testing.assert_array_equal(scores, alone_scores)
        assert (np.diff(scores) <= 0).all()


def test_of_several_boxes_of_one_person_the_best_is_kept():
    config, size = settings("inference.flip=false"), (240, 200)
    decoder = SimpleBaselinesDecoder(KnowingNetwork(config, points_in(40, 30, 60, 100), size), config)
    boxes = np.array([[40, 30, 60, 100, 0.5], [38, 29, 63, 101, 0.9], [41, 31, 58, 99, 0.7]])
    ((keypoints, scores),) = decoder([picture(*size)], [boxes])
    assert len(keypoints) == 1
    assert scores[0] == pytest.approx(0.9 * keypoints[0, :, 2].mean(), rel=1e-4)


def test_what_has_no_response_is_missing_and_scores_nothing():
    config, size = settings("inference.flip=false"), (240, 200)
    decoder = SimpleBaselinesDecoder(KnowingNetwork(config, points_in(40, 30, 60, 100), size, strength=-1.0), config)
    ((keypoints, scores),) = decoder([picture(*size)], [np.array([[40, 30, 60, 100]])])
    assert not keypoints.any() and scores.tolist() == [0]


def test_each_crop_is_of_its_own_picture():
    pictures = [np.full((50 + n, 60, 3), 10 * n, np.uint8) for n in range(4)]
    image_of = np.array([2, 0, 3, 3])
    crops = cut(pictures, image_of, np.full((4, 2), 25.0), np.full((4, 2), 20.0), (32, 24))
    assert crops.shape == (4, 32, 24, 3)
    assert (crops == 10 * image_of[:, None, None, None]).all()


def test_boxes_that_show_nothing_are_left_out():
    boxes = np.array([[10, 10, 20, 20], [300, 10, 20, 20], [10, -30, 20, 30], [10, 10, 0, 20], [10, 10, 20, -1], [-15, -15, 20, 20]])
    usable = usable_boxes(boxes, (100, 200))
    np.testing.assert_array_equal(usable, [[10, 10, 20, 20, 1], [-15, -15, 20, 20, 1]])
    np.testing.assert_array_equal(usable_boxes(np.column_stack([boxes, np.full(6, 0.5)]), (100, 200))[:, 4], [0.5, 0.5])
    assert usable_boxes(np.zeros((0, 4)), (100, 200)).shape == (0, 5)
    assert usable_boxes([], (100, 200)).shape == (0, 5)


def test_scores_are_of_the_keypoints_over_the_threshold():
    responses = np.array([[0.9, 0.5, 0.2, 0.1], [0.2, 0.1, 0, -1]])
    np.testing.assert_allclose(person_scores(responses, np.array([0.5, 0.8]), 0.2), [0.35, 0])


# Where a map is highest


def bells(places: Sequence[tuple[float, float]], height: int = 32, width: int = 24) -> Tensor:
    x, y = np.array(places).T[..., None, None]
    squared = (np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2
    return torch.from_numpy(np.exp(-squared / (2 * SIGMA**2))).float()[None]


def test_the_parabola_finds_the_middle_of_a_bell():
    places = [(10.3, 14.8), (5.5, 20.49), (1.2, 2.0), (22.4, 29.6), (12, 12)]
    found = decode(bells(places), np.array([[12.0, 16.0]]), np.array([[24.0, 32.0]]), "parabola")
    np.testing.assert_allclose(found[0, :, :2], places, atol=1e-3)


def test_a_quarter_of_a_pixel_as_published():
    """Towards the higher neighbour, but not beside the border."""
    places = [(10.3, 14.8), (9.7, 15.2), (1.2, 14.8), (10.3, 1.2)]
    found = decode(bells(places), np.array([[12.0, 16.0]]), np.array([[24.0, 32.0]]))
    np.testing.assert_allclose(found[0, :, :2], [(10.25, 14.75), (9.75, 15.25), (1, 15), (10, 1)], atol=1e-5)


@pytest.mark.parametrize("size", [(64, 48), (8, 8), (96, 72)])
def test_the_highest_pixel_is_found_in_maps_of_any_size(size):
    maps = torch.rand(6, 5, *size, generator=torch.Generator().manual_seed(0))
    height, width = size
    found = decode(maps, np.tile([width / 2, height / 2], (6, 1)), np.tile([width, height], (6, 1)).astype(float))
    response, place = maps.flatten(2).max(2)
    np.testing.assert_array_equal(found[..., 2], response)
    np.testing.assert_allclose(found[..., 0], place % width, atol=0.2501)
    np.testing.assert_allclose(found[..., 1], place // width, atol=0.2501)


def test_only_the_width_of_the_crop_decides_the_scale():
    found = decode(bells([(6.0, 8.0)]), np.array([[100.0, 50.0]]), np.array([[48.0, 1.0]]))
    np.testing.assert_allclose(found[0, 0, :2], [100 + 2 * (6 - 12), 50 + 2 * (8 - 16)])


def test_the_estimator_is_told_where_people_are():
    config = settings("model.depth=10", "model.deconv_channels=8")
    estimator = PoseEstimator(config)
    keypoints, scores = estimator(picture(200, 300), np.array([[20, 20, 100, 150], [150, 30, 80, 120]]))
    assert keypoints.shape[1:] == (17, 3) and len(keypoints) == len(scores) <= 2
    people = estimator.batch([picture(200, 300), picture(90, 80)], [np.zeros((0, 4)), np.array([[5, 5, 50, 60, 0.5]])])
    assert [len(scores) for _, scores in people] == [0, 1]
