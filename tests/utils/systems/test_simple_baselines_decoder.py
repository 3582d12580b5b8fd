"""Simple Baselines' decoder on the exact heatmaps of known people."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from places import ROOT
from scenes import located, scene_image
from torch import Tensor, nn

from config import load_config
from config.systems.simple_baselines import SimpleBaselinesConfig
from utils.predictions import PosePredictions
from utils.preprocess.simple_baselines import person_scores, valid_boxes
from utils.systems.simple_baselines import SimpleBaselinesDecoder, average_flip, decode

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"
SIGMA = 2.0
STRIDE = 4
BOX, SIZE = (40, 30, 60, 100), (240, 200)


def settings(*overrides: str) -> SimpleBaselinesConfig:
    return load_config(RECIPE, ["data.input_size=[128, 96]", *overrides])


def gaussians(points: np.ndarray, height: int = 32, width: int = 24) -> np.ndarray:
    """Return heatmaps (K, height, width) of points (K, 2)."""
    x, y = np.array(points).T[..., None, None]
    return np.exp(-((np.arange(width) - x) ** 2 + (np.arange(height)[:, None] - y) ** 2) / (2 * SIGMA**2))


class SceneNetwork(nn.Module):
    """Locate a crop of a `scene_image`, flipped or not, and return the exact heatmaps of the person nearest to the crop's center.

    scenes: poses (P, K, 2) in image pixels, and the image's height and width. strength: the maximum value, of all or of each keypoint (K,).
    """

    def __init__(self, config: SimpleBaselinesConfig, *scenes: tuple[np.ndarray, tuple[int, int]], strength: float | np.ndarray = 1.0):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.flip, self.scenes, self.strength = config.skeleton.flip_keypoints, scenes, np.reshape(strength, (-1, 1, 1))
        self.batch_sizes: list[int] = []
        self.autocast: list[bool] = []

    def predict(self, images: Tensor) -> Tensor:
        self.batch_sizes.append(len(images))
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        return torch.stack([self._maps(image) for image in images.double().numpy()])

    def _maps(self, image: np.ndarray) -> Tensor:
        _, h, w = image.shape
        number, scale, shift = located(image * 255, [size for _, size in self.scenes])
        in_crop = (self.scenes[number][0] - shift) / scale
        points = in_crop[np.square(in_crop.mean(1) - (w / 2, h / 2)).sum(1).argmin()] / STRIDE
        points = points[self.flip] if scale[0] < 0 else points
        return torch.from_numpy(self.strength * gaussians(points, h // STRIDE, w // STRIDE)).float()


def pose_in(box: Sequence[float], keypoints: int = 17, seed: int = 0) -> np.ndarray:
    x, y, width, height = box
    return np.random.default_rng(seed).uniform((x, y), (x + width, y + height), (keypoints, 2))


def predict(config: SimpleBaselinesConfig, poses: np.ndarray, boxes: Sequence, size: tuple[int, int] = SIZE, **options) -> PosePredictions:
    (predictions,) = SimpleBaselinesDecoder(SceneNetwork(config, (poses, size), **options), config)([scene_image(*size)], [np.array(boxes)])
    return predictions


def map_pixel(box: Sequence[float]) -> float:
    """Return the size of a heatmap pixel in image pixels."""
    return 1.25 * max(box[2], box[3] * 0.75) / (96 / STRIDE)


@pytest.mark.parametrize("box", [BOX, (33.3, 21.7, 90.4, 51.9), (20, -50, 71.5, 110.3), (-10, -10, 220, 257)])
@pytest.mark.parametrize("skeleton", ["coco17", "mpii"])
def test_keypoints_are_decoded_in_any_box(box, skeleton):
    """The published flip test shifts keypoints right by 1/8 heatmap pixel: half of what its column shift is too far."""
    for flip, shift, scales in ((False, 0, [1]), (True, 1 / 8, [1]), (False, 0, [1.1]), (False, 0, [1, 1.1])):
        precision = "bfloat16" if 1.1 in scales else "float32"  # of the network alone
        keys = f"inference.flip={str(flip).lower()}", f"inference.scales={scales}", f"inference.precision={precision}"
        config = settings(f"skeleton={skeleton}", *keys)
        pose = pose_in(box, config.skeleton.num_keypoints)
        keypoints, scores = predict(config, pose[None], [box], (237, 199))
        assert keypoints.shape == (1, len(pose), 3) and keypoints.dtype == np.float32
        accuracy = (0.03 if scales == [1] else 0.06) * map_pixel(box) + 0.05  # heatmaps of another scale are interpolated
        np.testing.assert_allclose(keypoints[0, :, :2], pose + (shift * map_pixel(box), 0), atol=accuracy)
        assert (keypoints[..., 2] > 0.85).all() and (keypoints[..., 2] <= 1).all()
        assert scores[0] == pytest.approx(keypoints[0, :, 2].mean(), rel=1e-5)


def test_flip_test_swaps_partners_and_shifts_by_a_column():
    config = settings()
    straight, flipped = torch.rand(2, 17, 32, 24), torch.rand(2, 17, 32, 24)
    averaged = average_flip(torch.cat([straight, flipped]), config)
    for k, partner in enumerate(config.skeleton.flip_keypoints.tolist()):
        back = flipped[:, partner].flip(2)
        torch.testing.assert_close(averaged[:, k, :, 1:], (straight[:, k, :, 1:] + back[..., :-1]) / 2)
        torch.testing.assert_close(averaged[:, k, :, 0], (straight[:, k, :, 0] + back[..., 0]) / 2)


def test_a_batch_equals_single_images():
    """Images of several sizes, with no box, one, or more boxes than one batch of the network."""
    config, rng = settings("inference.flip=false"), np.random.default_rng(1)
    sizes, counts = [(240, 200), (97, 131), (200, 241), (160, 160)], (0, 1, 70, 3)
    scenes = [(pose_in((0.3 * w, 0.3 * h, 0.4 * w, 0.4 * h), seed=n)[None], (h, w)) for n, (h, w) in enumerate(sizes)]
    decoder = SimpleBaselinesDecoder(SceneNetwork(config, *scenes), config)
    images, boxes = [scene_image(*size, number) for number, size in enumerate(sizes)], []
    for (height, width), count in zip(sizes, counts):
        low, high = rng.uniform(0, 0.2, (count, 2)) * (width, height), rng.uniform(0.8, 1, (count, 2)) * (width, height)
        boxes.append(np.column_stack([low, high - low, rng.uniform(0.3, 1, count)]))
    together = decoder(images, boxes)
    assert decoder.network.batch_sizes == [64, 10]
    for image, of_image, (poses, _), (keypoints, scores) in zip(images, boxes, scenes, together):
        ((single, single_scores),) = decoder([image], [of_image])
        np.testing.assert_array_equal(keypoints, single)
        np.testing.assert_array_equal(scores, single_scores)
        assert (keypoints.shape[1:], keypoints.dtype, scores.dtype) == ((17, 3), np.float32, np.float64)
        assert (np.diff(scores) <= 0).all()
        if len(of_image):
            np.testing.assert_allclose(keypoints[0, :, :2], poses[0], atol=0.5)
    assert decoder([], []) == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_batch_size_and_precision_are_configured(precision):
    config = settings("inference.crops=5", f"inference.precision={precision}")
    network = SceneNetwork(config, (pose_in(BOX)[None], SIZE))
    SimpleBaselinesDecoder(network, config)([scene_image(*SIZE)], [np.array([BOX] * 11)])
    assert network.batch_sizes == [10, 10, 2]  # with the flipped crops
    assert set(network.autocast) == {precision == "bfloat16"}


def test_oks_nms_uses_the_mean_area_of_the_crops():
    boxes = np.array([[40, 30, 60, 100, 0.9], [47, 34, 66, 110, 0.5]])
    poses = np.stack([pose_in(BOX), pose_in(BOX) + (10, 9)])
    area = np.mean([np.square(map_pixel(box) * 24) * 4 / 3 for box in boxes[:, :4]])
    sigmas = np.array([settings().skeleton.sigmas[name] for name in settings().skeleton.keypoints])
    oks = np.exp(-(10**2 + 9**2) / (2 * area * np.square(2 * sigmas))).mean()
    assert 0.3 < oks < 0.7
    for threshold, count in ((oks - 0.01, 1), (oks + 0.01, 2)):
        config = settings("inference.flip=false", f"inference.nms_threshold={threshold}")
        keypoints, scores = people = predict(config, poses, boxes[::-1])
        np.testing.assert_array_equal(people.boxes, boxes[:count, :4])
        np.testing.assert_allclose(keypoints[..., :2], poses[:count], atol=0.2)
        assert scores == pytest.approx(boxes[:count, 4], rel=0.06)


def test_keypoints_of_no_positive_value_are_missing_and_low_ones_do_not_count():
    strength = np.ones(17)
    strength[[2, 5, 7, 11]] = 0, -0.5, 0.1, 0.3
    for threshold in (0.2, 0.5, 0):
        config = settings("inference.flip=false", f"inference.keypoint_threshold={threshold}")
        (keypoints,), scores = predict(config, pose_in(BOX)[None], [[*BOX, 0.8]], strength=strength)
        assert np.flatnonzero(~keypoints.any(1)).tolist() == [2, 5]
        assert keypoints[[7, 11], 2] == pytest.approx([0.1, 0.3], rel=0.1)
        assert scores[0] == pytest.approx(0.8 * keypoints[strength > threshold, 2].mean(), rel=1e-5)
    np.testing.assert_allclose(person_scores(np.array([[0.9, 0.5, 0.2, 0.1], [0.2, 0.1, 0, -1]]), np.array([0.5, 0.8]), 0.2), [0.35, 0])


def test_boxes_without_area_in_the_image_are_ignored():
    boxes = np.array([[10, 10, 20, 20], [300, 10, 20, 20], [10, -30, 20, 30], [10, 10, 0, 20], [10, 10, 20, -1], [-15, -15, 20, 20]])
    for scores in ([], [np.full(6, 0.5)]):
        valid = [[*boxes[n], 0.5 if scores else 1] for n in (0, 5)]
        np.testing.assert_array_equal(valid_boxes(np.column_stack([boxes, *scores]), (100, 200)), valid)


# Subpixel maxima


@pytest.mark.parametrize(
    ("subpixel", "moved"),
    [
        (  # exact for a Gaussian, along borders too
            "parabola",
            {(10.3, 14.8): (10.3, 14.8), (5.5, 20.49): (5.5, 20.49), (1.2, 2.0): (1.2, 2.0), (22.4, 29.6): (22.4, 29.6)}
            | {(0.3, 14.3): (0, 14.3), (22.8, 9.8): (23, 9.8), (10.3, 0.2): (10.3, 0), (5.4, 30.7): (5.4, 31), (21.6, 30.3): (21.6, 30.3)},
        ),
        (  # as published: towards the higher neighbor where 1 < p < size - 1, for both coordinates
            "quarter",
            {(10.3, 14.8): (10.25, 14.75), (2.2, 10.2): (2.25, 10.25), (1.2, 10.2): (1, 10), (21.8, 10.2): (21.75, 10.25)}
            | {(22.2, 10.2): (22.25, 10.25), (22.6, 10.2): (23, 10), (10.2, 30.2): (10.25, 30.25), (10.2, 30.6): (10, 31)}
            | {(10.2, 1.2): (10, 1)},
        ),
        (  # as in MMPose: each axis on its own, if the other's coordinate is not 0
            "quarter_by_axis",
            {(10.3, 14.8): (10.25, 14.75), (1.2, 10.2): (1, 10.25), (22.6, 10.2): (23, 10.25), (10.2, 30.6): (10.25, 31)}
            | {(10.2, 1.2): (10.25, 1), (10.2, 0.2): (10, 0), (0.2, 10.2): (0, 10)},
        ),
    ],
)
def test_maxima_are_decoded_between_pixels_and_the_crop_width_scales_both_axes(subpixel, moved):
    decoded = decode(gaussians(list(moved))[None], np.array([[100.0, 50.0]]), np.array([[48.0, 1.0]]), subpixel)
    np.testing.assert_allclose(decoded[0, :, :2], 2 * (np.array(list(moved.values())) - (12, 16)) + (100, 50), atol=2e-3)


@pytest.mark.parametrize("subpixel", ["parabola", "quarter", "quarter_by_axis"])
@pytest.mark.parametrize("size", [(7, 5), (10, 12), (1, 1)])
def test_the_first_maximum_is_decoded_in_maps_of_any_size(size, subpixel):
    noise, (height, width) = torch.rand(2, 5, *size, generator=torch.Generator().manual_seed(0)), size
    centers, sizes = np.tile([width / 2, height / 2], (2, 1)), np.tile([width, height], (2, 1)).astype(float)
    for maps in (noise, (noise * 4).round(), noise - 1, noise.double().numpy(), noise.bfloat16(), noise * 0):
        decoded = decode(maps, centers, sizes, subpixel)
        assert decoded.dtype == np.float32
        values = torch.as_tensor(maps).float().flatten(2).numpy()
        np.testing.assert_array_equal(decoded[..., 2], values.max(2))
        assert np.abs(decoded[..., 0] - values.argmax(2) % width).max() < 0.501
        assert np.abs(decoded[..., 1] - values.argmax(2) // width).max() < 0.501


@pytest.mark.parametrize("subpixel", ["parabola", "quarter", "quarter_by_axis"])
def test_isolated_corner_and_negative_maxima_are_not_shifted(subpixel):
    maps = torch.zeros(1, 4, 8, 8)
    maps[0, 1] -= 1
    maps[0, :2, 3, 5], maps[0, 2, 0, 7] = 0.7, 0.5
    maps[0, 2, 0, 6], maps[0, 2, 1, 7] = 0.4, 0.3
    maps[0, 3], maps[0, 3, 4, 4], maps[0, 3, 4, 5] = -2, -0.5, -0.6
    decoded = decode(maps, np.array([[4.0, 4.0]]), np.array([[8.0, 8.0]]), subpixel)
    assert decoded[0, :, :2].tolist() == [[5, 3], [5, 3], [7, 0], [4, 4]]
