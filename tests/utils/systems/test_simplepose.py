"""SimplePose's decoder with fixed functions as networks, whose outputs are known exactly."""

import math

import cv2
import numpy as np
import pytest
import torch
from places import ROOT
from standing import people as standing
from torch import Tensor, nn
from torch.nn import functional as F

from config import Config, load_config
from data.targets import render_targets
from utils.preprocess.simplepose import resized_size
from utils.systems.simplepose import SimplePoseDecoder, assign_on_device

STRIDE = 4
# The published channel order of a flipped image; the code derives it from the skeleton's names.
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 12, 13, 14, 9, 10, 11, 18, 19, 20, 15, 16, 17, 22, 21, 25, 26, 23, 24, 28, 27, 29]
FLIP += [30 + channel for channel in (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16, 18, 19)]
FEW = "data.input_size=[128, 128]", "assignment.max_peaks=4"


def settings(*overrides: str) -> Config:
    return load_config(ROOT / "config" / "simplepose_coco_512.yaml", overrides)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise would give thousands of candidates."""
    return cv2.GaussianBlur(random_image(height, width, seed), (0, 0), 9)


def flip_maps(maps: Tensor) -> Tensor:
    """Turn the maps (C, h, w) of an image into those of its flipped image."""
    return maps.flip(2)[FLIP]


class CellNetwork(nn.Module):
    """images (N, 3, H, W) -> (N, 50, H / 4, W / 4): each channel weights the left and right halves of each 4 x 4 cell differently."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.rand(len(FLIP), 6, generator=torch.Generator().manual_seed(0)))
        self.input_shapes: list[tuple[int, ...]] = []

    def predict(self, images: Tensor) -> Tensor:
        self.input_shapes.append(tuple(images.shape))
        halves = F.avg_pool2d(images, (STRIDE, STRIDE // 2))
        return torch.einsum("nihw,ci->nchw", torch.cat([halves[..., 0::2], halves[..., 1::2]], 1), self.weights)


class MeanNetwork(CellNetwork):
    """Each channel is the mean of blue over the cell."""

    def predict(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(images[:, :1], STRIDE).expand(-1, len(FLIP), -1, -1)


def predict_one(network: nn.Module, image: np.ndarray, config: Config) -> tuple[Tensor, tuple[float, float]]:
    decoder = SimplePoseDecoder(network, config)
    return decoder.forward(decoder.preprocess([image]))[0][:2]


@torch.no_grad()
def expected_maps(network: nn.Module, image: np.ndarray) -> Tensor:
    """Run an image of the network's size: pad right and below with 128, scale to [0, 1], remove the padding."""
    height, width = image.shape[:2]
    padded = np.full((math.ceil(height / 64) * 64, math.ceil(width / 64) * 64, 3), 128, np.uint8)
    padded[:height, :width] = image
    maps = network.predict(torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)))
    return maps[0, :, : math.ceil(height / STRIDE), : math.ceil(width / STRIDE)]


def test_flip_test_averages_with_left_and_right_channels_swapped():
    network, image = CellNetwork(), random_image(512, 384)
    expected = (expected_maps(network, image) + flip_maps(expected_maps(network, image[:, ::-1]))) / 2
    maps, _ = predict_one(network, image, settings())
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(maps, expected_maps(network, image), atol=1e-2)


# Padding and size


@pytest.mark.parametrize("width", [500, 65])
def test_padding_does_not_change_the_maps(width):
    network, image = CellNetwork(), random_image(512, width)
    maps, _ = predict_one(network, image, settings())
    assert maps.shape == (50, 128, math.ceil(width / STRIDE))
    assert torch.equal(maps, predict_one(network, image, settings("inference.pad_multiple=320"))[0])
    black, _ = predict_one(network, image, settings("inference.pad_value=0"))
    whole = width // STRIDE  # a cell on the border contains padding
    assert torch.equal(maps[..., :whole], black[..., :whole])


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [
        (427, 640, 3, (1536, 2302)),
        (100, 1000, 1, (380, 3800)),
        (480, 640, 10, (2600, 3467)),
        (1, 6000, 1, (1, 3800)),
        (6000, 1, 1, (512, 1)),
    ],
)
def test_images_are_resized_to_the_input_height_of_at_most_2600_x_3800(height, width, scale, expected):
    assert resized_size(height, width, scale, settings()) == expected


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 1), (1, 6000), (641, 427)], ids=str)
def test_images_of_any_size_are_decoded_and_covered_by_the_maps(height, width):
    image, config = smooth_image(height, width), settings()
    maps, (sx, sy) = predict_one(CellNetwork(), image, config)
    run_height, run_width = resized_size(height, width, 1, config)
    assert maps.shape == (50, math.ceil(run_height / STRIDE), math.ceil(run_width / STRIDE))
    assert width <= maps.shape[2] * sx < width + sx + 1e-6
    assert height <= maps.shape[1] * sy < height + sy + 1e-6
    several = settings("inference.scales=[0.5, 1, 1.5]", "inference.rotations=[0, 20]", *FEW)
    ((keypoints, scores),) = SimplePoseDecoder(CellNetwork(), several)([image])
    assert keypoints.shape == (len(scores), 18, 3)
    assert np.isfinite(keypoints).all() and np.isfinite(scores).all()


# Scales and rotations


def test_one_scale_without_flip_is_one_run():
    size = 333, 217
    network, image = CellNetwork(), random_image(*size)
    height, width = resized_size(*size, 1, settings())
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    maps, map_to_image = predict_one(network, image, settings("inference.scales=[1]", "inference.flip=false"))
    torch.testing.assert_close(maps, expected_maps(network, resized), rtol=0, atol=1e-6)
    assert map_to_image == (STRIDE * size[1] / width, STRIDE * size[0] / height)


@pytest.mark.parametrize(
    ("size", "slope", "scales"),
    [((301, 403), (0.2, 0.35), [2, 1, 0.5]), ((403, 301), (0.35, 0.2), [0.75, 1.25]), ((301, 403), (-0.06, 0.5), [3])],
)
def test_every_scale_is_aligned_with_the_image(size, slope, scales):
    """On a gray ramp, each map pixel must hold the gray level at its position in the image."""
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.repeat(np.rint(20 + slope[0] * y + slope[1] * x)[..., None].astype(np.uint8), 3, 2)
    config = settings(f"inference.scales={scales}", "data.input_size=[256, 256]")
    maps, (sx, sy) = predict_one(MeanNetwork(), image, config)
    y, x = np.mgrid[: maps.shape[1], : maps.shape[2]]
    expected = 20 + slope[0] * ((y + 0.5) * sy - 0.5) + slope[1] * ((x + 0.5) * sx - 0.5)
    inside = slice(12, -12)  # border cells contain padding
    difference = (maps[0].numpy() * 255 - expected)[inside, inside]
    # Gray levels are rounded. Half a map pixel would change the mean by 0.2 to 0.6.
    assert abs(difference.mean()) < 0.1
    assert np.abs(difference).max() < 0.6


def test_scales_are_averaged_with_equal_weights():
    class HeightNetwork(CellNetwork):
        """Each value is the input's height."""

        def predict(self, images: Tensor) -> Tensor:
            n, _, height, width = images.shape
            return torch.full((n, len(FLIP), height // STRIDE, width // STRIDE), float(height))

    config = settings("inference.scales=[0.5, 1, 1.5, 2, 3]", *FEW)
    maps, _ = predict_one(HeightNetwork(), random_image(100, 120), config)
    assert maps.shape == (50, 96, math.ceil(round(120 * 3.84) / STRIDE))
    torch.testing.assert_close(maps, torch.full_like(maps, 128 * (0.5 + 1 + 1.5 + 2 + 3) / 5))


@pytest.mark.parametrize(("degree", "height", "width"), [(-35, 256, 384), (90, 384, 256)])
def test_rotated_maps_are_rotated_back_into_place(degree, height, width):
    center = np.array([width / 2 + 40.3, height / 2 - 30.6])
    y, x = np.mgrid[:height, :width]
    spot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 9**2))
    image = np.repeat(np.rint(255 * spot)[..., None].astype(np.uint8), 3, 2)
    config = settings(f"data.input_size=[{height}, {height}]", f"inference.rotations=[{degree}]", "inference.pad_value=0")
    maps, (sx, sy) = predict_one(MeanNetwork(), image, config)
    weights = maps[0].clamp(min=0.05).double() - 0.05
    y, x = torch.meshgrid(*(torch.arange(n) for n in weights.shape), indexing="ij")
    x, y = (float((weights * axis).sum() / weights.sum()) for axis in (x, y))
    assert [(x + 0.5) * sx - 0.5, (y + 0.5) * sy - 0.5] == pytest.approx(center.tolist(), abs=0.1)
    assert maps.max() == pytest.approx(0.97, abs=0.03)


# Batches


def assert_same(predictions: list, expected: list) -> None:
    for people, others in zip(predictions, expected, strict=True):
        for one, other, tolerance in zip(people, others, (1e-3, 1e-5)):  # keypoints, scores
            np.testing.assert_allclose(one, other, atol=tolerance)


def test_a_batch_equals_single_images():
    sizes = [(100, 120), (120, 100), (100, 120), (100, 125), (1, 1)]
    images = [smooth_image(*size, seed) for seed, size in enumerate(sizes)]
    decoder = SimplePoseDecoder(CellNetwork(), settings("inference.scales=[0.5, 1]", "inference.rotations=[0, 20]", *FEW))
    assert_same(decoder(images), [decoder([image])[0] for image in images])
    assert decoder([]) == []


def test_images_of_one_padded_size_run_together_also_through_assignment_on_the_device():
    decoder = SimplePoseDecoder(CellNetwork(), settings(*FEW))
    images = [smooth_image(128, 125), smooth_image(128, 70), smooth_image(64, 64), smooth_image(128, 129)]
    decoder(images)
    assert sorted(decoder.network.input_shapes) == [(2, 3, 128, 192), (6, 3, 128, 128)]
    maps = decoder.forward(decoder.preprocess(images[:3]))
    expected = decoder.decode(maps)
    assert all(len(scores) for _, scores in expected)
    assert_same(assign_on_device(maps, decoder.config), expected)


# People


@pytest.mark.parametrize(("height", "width"), [(256, 300), (311, 407)])
def test_exact_maps_give_the_people_of_the_image(height, width):
    config = settings("data.input_size=[256, 256]")
    people = standing(config, (width * 0.3, height * 0.2, height * 0.52), (width * 0.7, height * 0.35, height * 0.4))
    run_height, run_width = resized_size(height, width, 1, config)
    map_size = math.ceil(run_height / 64) * 64 // STRIDE, math.ceil(run_width / 64) * 64 // STRIDE
    joints = people.copy()
    joints[..., :2] = (people[..., :2] + 0.5) * (run_width / width, run_height / height) - 0.5
    maps = torch.from_numpy(render_targets(joints, np.zeros(map_size, np.float32), config))

    class ExactNetwork(CellNetwork):
        def predict(self, images: Tensor) -> Tensor:
            return torch.stack([maps, flip_maps(maps)])

    ((keypoints, _),) = SimplePoseDecoder(ExactNetwork(), config)([random_image(height, width)])
    keypoints = keypoints[np.argsort(keypoints[:, config.skeleton.index("neck"), 0])]
    assert (keypoints[..., 2] > 0).all()
    np.testing.assert_allclose(keypoints[..., :2], people[..., :2], atol=2)
