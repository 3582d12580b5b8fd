"""Simple Baselines from boxes to people: a network that draws the maps of known people wherever it is shown them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import yaml
from people import UPPER_BODY
from places import ROOT
from torch import Tensor, nn

from config import UserError, load_config
from config.systems.simple_baselines import SimpleBaselinesConfig
from utils.inference import PoseEstimator
from utils.systems.simple_baselines import (
    SimpleBaselinesDecoder,
    average_flip,
    decode,
    person_scores,
    valid_boxes,
)

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"
SIGMA = 2.0
STRIDE = 4
NUMBER_STEP = 8  # gray levels of red between one picture and the next


def settings(*overrides: str) -> SimpleBaselinesConfig:
    return load_config(RECIPE, ["data.input_size=[128, 96]", *overrides])


def picture(height: int, width: int, number: int = 0) -> np.ndarray:
    """Blue grows from left to right and green from top to bottom, so that a crop says where it is from; red tells the number."""
    image = np.zeros((height, width, 3))
    image[..., 0], image[..., 1] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    image[..., 2] = 255 - NUMBER_STEP * number
    return np.floor(image + np.random.default_rng(0).uniform(size=image.shape)).clip(0, 255).astype(np.uint8)


class KnowingNetwork(nn.Module):
    """Draws a bell at each keypoint of whoever stands nearest to the middle of a crop of a `picture`, or of its mirror image.

    scenes: of each picture, by its number, people (P, K, 2) in its pixels, and its height and width. strength: of the bells, or of each
    keypoint's (K,).
    """

    def __init__(self, config: SimpleBaselinesConfig, *scenes: tuple[np.ndarray, tuple[int, int]], strength: float | np.ndarray = 1.0):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.flip, self.scenes, self.strength = config.skeleton.flip_keypoints, scenes, np.reshape(strength, (-1, 1, 1))
        self.batches: list[int] = []
        self.mixed: list[bool] = []  # whether half precision was on

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        self.mixed.append(torch.is_autocast_enabled("cpu"))
        return torch.stack([self._maps(image) for image in images.double().numpy()])

    def predict(self, images: Tensor) -> Tensor:
        return self(images)

    def _maps(self, image: np.ndarray) -> Tensor:
        _, h, w = image.shape
        people, (height, width) = self.scenes[round((1 - image[2].max()) * 255 / NUMBER_STEP)]
        y, x = np.nonzero(image[2] > image[2].max() - 0.5 / 255)
        where = np.column_stack([x, y, np.ones(len(x))])
        seen = np.column_stack([image[0, y, x] * (width - 1), image[1, y, x] * (height - 1)])
        affine = np.linalg.lstsq(where, seen, rcond=None)[0]  # (3, 2) from input pixels to the picture's
        found = (people - affine[2]) @ np.linalg.inv(affine[:2])
        away = np.square(found.mean(1) - (w / 2, h / 2)).sum(1)
        at = found[away.argmin()] / STRIDE
        at = at[self.flip] if affine[0, 0] < 0 else at
        j, i = np.arange(w // STRIDE), np.arange(h // STRIDE)[:, None]
        squared = (j - at[:, 0, None, None]) ** 2 + (i - at[:, 1, None, None]) ** 2
        return torch.from_numpy(self.strength * np.exp(-squared / (2 * SIGMA**2))).float()


def points_in(x: float, y: float, width: float, height: float, keypoints: int = 17, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((x, y), (x + width, y + height), (keypoints, 2))


def alone(points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """A scene of one person."""
    return points[None], size


def map_pixel(box: Sequence[float]) -> float:
    """How large a pixel of the map is in the picture."""
    return 1.25 * max(box[2], box[3] * 0.75) / (96 / STRIDE)


BOXES = {
    "whole": (40, 30, 60, 100), "wide": (33.3, 21.7, 90.4, 51.9), "small": (100, 90, 17, 23), "right": (150, 60, 90, 90),
    "above": (20, -50, 71.5, 110.3), "all": (-10, -10, 220, 257),
}  # fmt: skip


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_known_people_are_found(box):
    """With the mirror image an eighth of a map's pixel to the right: half of what its column is moved too far."""
    size = (237, 199)
    points = points_in(*box)
    for flip, moved in ((False, 0), (True, 1 / 8)):
        config = settings(f"inference.flip={str(flip).lower()}")
        decoder = SimpleBaselinesDecoder(KnowingNetwork(config, alone(points, size)), config)
        ((keypoints, scores),) = decoder([picture(*size)], [np.array([box])])
        assert keypoints.shape == (1, 17, 3) and keypoints.dtype == np.float32
        expected = points + (moved * map_pixel(box), 0)
        np.testing.assert_allclose(keypoints[0, :, :2], expected, atol=0.03 * map_pixel(box) + 0.05)
        assert (keypoints[..., 2] > 0.85).all() and (keypoints[..., 2] <= 1).all()
        assert scores[0] == pytest.approx(keypoints[0, :, 2].mean(), rel=1e-5)


def test_other_skeletons(tmp_path):
    (tmp_path / "upper_body.yaml").write_text(yaml.safe_dump(UPPER_BODY))
    config = settings(f"skeleton={tmp_path / 'upper_body.yaml'}")
    box, size = (40, 30, 60, 100), (240, 200)
    points = points_in(*box, 3)
    ((found, _),) = SimpleBaselinesDecoder(KnowingNetwork(config, alone(points, size)), config)([picture(*size)], [np.array([box])])
    assert found.shape == (1, 3, 3)
    np.testing.assert_allclose(found[0, :, :2], points + (map_pixel(box) / 8, 0), atol=0.1)


def test_a_mirrored_answer_is_turned_back_and_moved_a_column():
    config = settings()
    straight, mirrored = torch.rand(2, 17, 32, 24), torch.rand(2, 17, 32, 24)
    averaged = average_flip(torch.cat([straight, mirrored]), config)
    for k, partner in enumerate(config.skeleton.flip_keypoints.tolist()):
        back = mirrored[:, partner].flip(2)
        torch.testing.assert_close(averaged[:, k, :, 1:], (straight[:, k, :, 1:] + back[..., :-1]) / 2)
        torch.testing.assert_close(averaged[:, k, :, 0], (straight[:, k, :, 0] + back[..., 0]) / 2)


def test_many_boxes_of_many_pictures_are_as_one_by_one():
    """Of several sizes, with more boxes than are run together, and with none."""
    config, rng = settings("inference.flip=false"), np.random.default_rng(1)
    sizes, counts = [(240, 200), (97, 131), (200, 241), (160, 160)], (0, 1, 70, 3)
    scenes = [alone(points_in(0.3 * w, 0.3 * h, 0.4 * w, 0.4 * h, seed=n), (h, w)) for n, (h, w) in enumerate(sizes)]
    network = KnowingNetwork(config, *scenes)
    decoder, pictures = SimpleBaselinesDecoder(network, config), [picture(*size, number) for number, size in enumerate(sizes)]
    boxes = []
    for (height, width), count in zip(sizes, counts):
        low, high = rng.uniform(0, 0.2, (count, 2)) * (width, height), rng.uniform(0.8, 1, (count, 2)) * (width, height)
        boxes.append(np.column_stack([low, high - low, rng.uniform(0.3, 1, count)]))
    together = decoder(pictures, boxes)
    assert network.batches == [64, 10]
    nobody, somebody = together[0], together[1]
    assert (nobody[0].shape, nobody[1].shape) == ((0, 17, 3), (0,))
    assert (nobody[0].dtype, nobody[1].dtype) == (somebody[0].dtype, somebody[1].dtype)
    for image, of_image, (people, _), (keypoints, scores) in zip(pictures, boxes, scenes, together):
        ((one_by_one, their_scores),) = decoder([image], [of_image])
        np.testing.assert_array_equal(keypoints, one_by_one)
        np.testing.assert_array_equal(scores, their_scores)
        assert (np.diff(scores) <= 0).all()
        if len(of_image):
            np.testing.assert_allclose(keypoints[0, :, :2], people[0], atol=0.5)
    assert decoder([], []) == []
    assert [len(scores) for _, scores in decoder(pictures[:2], [np.zeros((0, 4))] * 2)] == [0, 0]


def test_what_is_run_together_is_configured():
    config, size = settings("inference.crops=5"), (240, 200)
    network = KnowingNetwork(config, alone(points_in(40, 30, 60, 100), size))
    SimpleBaselinesDecoder(network, config)([picture(*size)], [np.array([[40, 30, 60, 100]] * 11)])
    assert network.batches == [10, 10, 2]  # with their mirror images


@pytest.mark.parametrize(("precision", "mixed"), [("float32", False), ("bfloat16", True)])
def test_precision_is_the_networks(precision, mixed):
    config, size = settings(f"inference.precision={precision}"), (240, 200)
    network = KnowingNetwork(config, alone(points_in(40, 30, 60, 100), size))
    SimpleBaselinesDecoder(network, config)([picture(*size)], [np.array([[40, 30, 60, 100]])])
    assert network.mixed == [mixed]


def test_who_is_alike_is_said_by_configuration():
    """Two people near each other: by the OKS of their keypoints with the mean of the enlarged boxes' areas."""
    size, boxes = (240, 200), np.array([[40, 30, 60, 100, 0.9], [47, 34, 66, 110, 0.5]])
    people = np.stack([points_in(40, 30, 60, 100), points_in(40, 30, 60, 100) + (10, 9)])
    area = np.mean([np.square(map_pixel(box) * 24) * 4 / 3 for box in boxes[:, :4]])
    sigmas = np.array([settings().skeleton.sigmas[name] for name in settings().skeleton.keypoints])
    oks = np.exp(-(10**2 + 9**2) / (2 * area * np.square(2 * sigmas))).mean()
    assert 0.3 < oks < 0.7
    for threshold, count in ((oks - 0.01, 1), (oks + 0.01, 2)):
        config = settings("inference.flip=false", f"inference.nms_threshold={threshold}")
        ((keypoints, scores),) = SimpleBaselinesDecoder(KnowingNetwork(config, (people, size)), config)([picture(*size)], [boxes[::-1]])
        np.testing.assert_allclose(keypoints[..., :2], people[:count], atol=0.2)
        assert scores == pytest.approx(boxes[:count, 4], rel=0.06)


def test_keypoints_without_response_are_missing_and_faint_ones_do_not_count():
    strength = np.ones(17)
    strength[[2, 5, 7, 11]] = 0, -0.5, 0.1, 0.3
    size, box = (240, 200), np.array([[40, 30, 60, 100, 0.8]])
    for threshold, counted in ((0.2, strength > 0.2), (0.5, strength > 0.5), (0, strength > 0)):
        config = settings("inference.flip=false", f"inference.keypoint_threshold={threshold}")
        decoder = SimpleBaselinesDecoder(KnowingNetwork(config, alone(points_in(*box[0, :4]), size), strength=strength), config)
        (((keypoints,), scores),) = decoder([picture(*size)], [box])
        assert np.flatnonzero(~keypoints.any(1)).tolist() == [2, 5]
        assert keypoints[[7, 11], 2] == pytest.approx([0.1, 0.3], rel=0.1)
        assert scores[0] == pytest.approx(0.8 * keypoints[counted, 2].mean(), rel=1e-5)


def test_boxes_that_show_nothing_are_left_out():
    boxes = np.array([[10, 10, 20, 20], [300, 10, 20, 20], [10, -30, 20, 30], [10, 10, 0, 20], [10, 10, 20, -1], [-15, -15, 20, 20]])
    usable = valid_boxes(boxes, (100, 200))
    np.testing.assert_array_equal(usable, [[10, 10, 20, 20, 1], [-15, -15, 20, 20, 1]])
    np.testing.assert_array_equal(valid_boxes(np.column_stack([boxes, np.full(6, 0.5)]), (100, 200))[:, 4], [0.5, 0.5])
    assert valid_boxes(np.zeros((0, 4)), (100, 200)).shape == (0, 5)
    assert valid_boxes([], (100, 200)).shape == (0, 5)


def test_scores_are_of_the_keypoints_over_the_threshold():
    responses = np.array([[0.9, 0.5, 0.2, 0.1], [0.2, 0.1, 0, -1]])
    np.testing.assert_allclose(person_scores(responses, np.array([0.5, 0.8]), 0.2), [0.35, 0])


# Where a map is highest


def bells(places: Sequence[tuple[float, float]], height: int = 32, width: int = 24) -> Tensor:
    x, y = np.array(places).T[..., None, None]
    squared = (np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2
    return torch.from_numpy(np.exp(-squared / (2 * SIGMA**2))).float()[None]


@pytest.mark.parametrize("subpixel", ["parabola", "quarter"])
@pytest.mark.parametrize("size", [(64, 48), (7, 5), (10, 12), (1, 1)])
def test_the_highest_pixel_is_found_in_maps_of_any_size(size, subpixel):
    """The first of several that are as high, and where nothing is above 0 too."""
    g, (height, width) = torch.Generator().manual_seed(0), size
    noise = torch.rand(2, 5, *size, generator=g)
    for maps in (noise, (noise * 4).round(), noise - 1, noise.double().numpy(), noise.bfloat16(), noise * 0):
        found = decode(maps, np.tile([width / 2, height / 2], (2, 1)), np.tile([width, height], (2, 1)).astype(float), subpixel)
        assert found.dtype == np.float32
        values = torch.as_tensor(maps).float().flatten(2).numpy()
        np.testing.assert_array_equal(found[..., 2], values.max(2))
        assert np.abs(found[..., 0] - values.argmax(2) % width).max() < 0.501
        assert np.abs(found[..., 1] - values.argmax(2) // width).max() < 0.501
    assert decode(noise[:0], np.zeros((0, 2)), np.zeros((0, 2))).shape == (0, 5, 3)


@pytest.mark.parametrize("subpixel", ["parabola", "quarter"])
def test_a_lone_pixel_is_its_own_middle(subpixel):
    """Beside nothing, and beside less than nothing; one at the border or in a map without response stays where it is."""
    maps = torch.zeros(1, 4, 8, 8)
    maps[0, 1] -= 1
    maps[0, :2, 3, 5], maps[0, 2, 0, 7] = 0.7, 0.5
    maps[0, 2, 0, 6], maps[0, 2, 1, 7] = 0.4, 0.3
    maps[0, 3], maps[0, 3, 4, 4], maps[0, 3, 4, 5] = -2, -0.5, -0.6
    found = decode(maps, np.array([[4.0, 4.0]]), np.array([[8.0, 8.0]]), subpixel)
    assert found[0, :, :2].tolist() == [[5, 3], [5, 3], [7, 0], [4, 4]]


def test_beside_one_border_the_parabola_is_along_it():
    """The other way nothing is known; a pixel further inside, both ways are."""
    places = [(0.3, 14.3), (22.8, 9.8), (10.3, 0.2), (5.4, 30.7), (1.3, 1.4), (21.6, 30.3)]
    expected = [(0, 14.3), (23, 9.8), (10.3, 0), (5.4, 31), (1.3, 1.4), (21.6, 30.3)]
    found = decode(bells(places), np.array([[12.0, 16.0]]), np.array([[24.0, 32.0]]), "parabola")
    np.testing.assert_allclose(found[0, :, :2], expected, atol=1e-3)


def test_a_quarter_ends_at_the_second_pixel_and_at_the_last_but_one():
    """As published: where 1 < p < size - 1, in both directions."""
    places = [(2.2, 10.2), (1.2, 10.2), (21.8, 10.2), (22.2, 10.2), (22.6, 10.2), (10.2, 30.2), (10.2, 30.6), (10.2, 2.2), (10.2, 1.2)]
    expected = [(2.25, 10.25), (1, 10), (21.75, 10.25), (22.25, 10.25), (23, 10), (10.25, 30.25), (10, 31), (10.25, 2.25), (10, 1)]
    found = decode(bells(places), np.array([[12.0, 16.0]]), np.array([[24.0, 32.0]]))
    np.testing.assert_allclose(found[0, :, :2], expected, atol=1e-5)


def test_only_the_width_of_the_crop_decides_the_scale():
    found = decode(bells([(6.0, 8.0)]), np.array([[100.0, 50.0]]), np.array([[48.0, 1.0]]))
    np.testing.assert_allclose(found[0, 0, :2], [100 + 2 * (6 - 12), 50 + 2 * (8 - 16)])


def test_an_estimator_finds_them(monkeypatch):
    """With and without scores of boxes; one that shows nobody of the picture is left out."""
    config, size = settings(), (237, 199)
    people = np.stack([points_in(10, 20, 60, 100), points_in(110, 70, 70, 120, seed=1)])
    monkeypatch.setattr("utils.checkpoint.build_model", lambda config: KnowingNetwork(config, (people, size)))
    estimator, boxes = PoseEstimator(config, device="cpu"), np.array([[110, 70, 70, 120], [199, 10, 20, 20], [10, 20, 60, 100]])
    keypoints, scores = estimator(picture(*size), np.column_stack([boxes, [0.5, 1, 0.9]]))
    expected = [points + (map_pixel(box) / 8, 0) for points, box in zip(people, boxes[::-2])]
    np.testing.assert_allclose(keypoints[..., :2], expected, atol=0.2)
    assert scores == pytest.approx([0.9, 0.5], rel=0.05)
    _, (found, plain) = estimator.batch([picture(*size)] * 2, [np.zeros((0, 4)), boxes[:1]])
    np.testing.assert_allclose(found[0], keypoints[1], atol=1e-3)
    assert plain[0] == pytest.approx(2 * scores[1])


def test_an_estimator_must_be_told_where_people_are():
    estimator = PoseEstimator(settings("model.depth=10", "model.deconv_channels=8"))
    assert estimator.needs_boxes
    with pytest.raises(UserError, match="'simple_baselines' looks at one person at a time and must be told where they are: give boxes"):
        estimator(picture(200, 300))
    estimator.detector = lambda images: [np.array([[20, 20, 100, 150, 0.5]])] * len(images)
    assert [len(scores) for _, scores in estimator.batch([picture(200, 300), picture(90, 80)])] == [1, 1]


def test_pictures_show_what_was_found_and_what_should_be():
    images, found, wanted = torch.zeros(1, 3, 64, 64), torch.zeros(1, 17, 16, 16), torch.zeros(1, 17, 16, 16)
    found[0, 3, 4, 4], wanted[0, 3, 12, 12] = 1, 1
    (shown,) = SimpleBaselinesDecoder(nn.Identity(), settings()).draw(images, found.bfloat16(), wanted)
    assert shown.shape == (64, 192, 3)
    red = shown[..., 2]  # where a map is high
    assert (red[18, 64 + 18] > 50, red[50, 64 + 50] > 50, red[18, 128 + 18] > 50, red[50, 128 + 50] > 50) == (True, False, False, True)
