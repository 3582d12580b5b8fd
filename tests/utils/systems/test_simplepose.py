"""From a photograph to maps, exactly: the network is replaced by fixed functions whose answers can be worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from fixed_networks import FLIP, STRIDE, EvenHandedNetwork, FixedNetwork, MeanNetwork, mirrored, photograph, settings
from standing import STANDING
from torch import Tensor, nn

from config import Config
from data.targets import render_targets
from utils.systems.simplepose import SimplePoseDecoder, assign_on_device, resized_size
from utils.systems.simplepose import predict_maps as predict_maps_of_batch


def predict_maps(network: nn.Module, picture: np.ndarray, config: Config) -> tuple[Tensor, tuple[float, float]]:
    """Of a batch of one."""
    return predict_maps_of_batch(network, [picture], config)[0]


def estimate_people(network: nn.Module, picture: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    return SimplePoseDecoder(network, config)([picture])[0]


def by_hand(network: nn.Module, picture: np.ndarray, multiple: int = 64) -> Tensor:
    """One run of a picture of the right size: pad right and below with 128, scale to 0..1, cut the padding off."""
    height, width = picture.shape[:2]
    padded = np.full((math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple, 3), 128, np.uint8)
    padded[:height, :width] = picture
    images = torch.from_numpy(padded.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))
    with torch.no_grad():
        return network(images)[-1][0][0, :, : math.ceil(height / STRIDE), : math.ceil(width / STRIDE)]


# Flip


def test_maps_are_the_mean_of_the_picture_and_its_mirror_image():
    network, picture = FixedNetwork(), photograph(512, 384)
    expected = (by_hand(network, picture) + mirrored(by_hand(network, picture[:, ::-1]))) / 2
    maps, _ = predict_maps(network, picture, settings())
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(maps, by_hand(network, picture), atol=1e-2)


# Padding and size


@pytest.mark.parametrize(("height", "width"), [(512, 500), (512, 65)])
def test_the_padded_strip_changes_nothing(height, width):
    network, picture = FixedNetwork(), photograph(height, width)
    maps, _ = predict_maps(network, picture, settings())
    assert maps.shape == (50, 128, math.ceil(width / STRIDE))
    wider, _ = predict_maps(network, picture, settings("inference.pad_multiple=320"))
    assert torch.equal(maps, wider)
    black, _ = predict_maps(network, picture, settings("inference.pad_value=0"))
    whole = width // STRIDE  # a last cell that hangs over the border sees the padding
    assert torch.equal(maps[..., :whole], black[..., :whole])


def test_pictures_are_padded_to_whole_multiples():
    network = FixedNetwork()
    predict_maps(network, photograph(512, 513), settings())
    predict_maps(network, photograph(512, 512), settings())
    assert network.seen == [(2, 3, 512, 576), (2, 3, 512, 512)]


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [
        (480, 640, 1, (512, 683)),
        (427, 640, 3, (1536, 2302)),
        (100, 1000, 1, (380, 3800)),  # not over 2600 x 3800
        (480, 640, 10, (2600, 3467)),
        (1, 6000, 1, (1, 3800)),
        (6000, 1, 1, (512, 1)),
    ],
)
def test_pictures_are_resized_to_the_input_height(height, width, scale, expected):
    assert resized_size(height, width, scale, settings()) == expected


SIZES = [(1, 1), (3, 1), (1, 6000), (6000, 1), (641, 427)]


@pytest.mark.parametrize(("height", "width"), SIZES, ids=lambda side: str(side))
def test_any_size_works(height, width):
    config = settings()
    picture = photograph(height, width)
    maps, (sx, sy) = predict_maps(EvenHandedNetwork(), picture, config)
    assert torch.isfinite(maps).all()
    run_height, run_width = resized_size(height, width, 1, config)
    assert maps.shape == (50, math.ceil(run_height / STRIDE), math.ceil(run_width / STRIDE))
    # the grid covers the image, and no more than one cell on top of it
    assert width <= maps.shape[2] * sx < width + sx + 1e-6
    assert height <= maps.shape[1] * sy < height + sy + 1e-6


@pytest.mark.parametrize(("height", "width"), SIZES[:3], ids=lambda side: str(side))
def test_any_size_works_with_scales_rotations_and_people(height, width):
    config = settings("inference.scales=[0.5, 1, 1.5]", "inference.rotations=[0, 20]", "data.input_size=[128, 128]")
    # Noise would be thousands of candidates; smooth pictures are what assignment is for.
    picture = cv2.GaussianBlur(photograph(height, width), (0, 0), 9)
    keypoints, scores = estimate_people(EvenHandedNetwork(), picture, config)
    assert keypoints.shape[1:] == (18, 3) and len(keypoints) == len(scores)
    assert np.isfinite(keypoints).all() and np.isfinite(scores).all()


# Scales


@pytest.mark.parametrize("size", [(512, 500), (333, 217)])
def test_a_scale_search_over_one_equals_a_single_run(size):
    network, picture = FixedNetwork(), photograph(*size)
    height, width = resized_size(*size, 1, settings())
    resized = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    search, map_to_image = predict_maps(network, picture, settings("inference.scales=[1]", "inference.flip=false"))
    torch.testing.assert_close(search, by_hand(network, resized), rtol=0, atol=1e-6)
    assert map_to_image == (STRIDE * size[1] / width, STRIDE * size[0] / height)


def ramp(height: int, width: int, slope: tuple[float, float]) -> np.ndarray:
    """A picture that brightens evenly, in gray levels per pixel down and across."""
    y, x = np.mgrid[:height, :width]
    levels = np.rint(20 + slope[0] * y + slope[1] * x)
    assert levels.min() >= 0 and levels.max() <= 255
    return np.repeat(levels[..., None].astype(np.uint8), 3, 2)


@pytest.mark.parametrize(
    ("size", "slope", "scales"),
    [((301, 403), (0.2, 0.35), [2, 1, 0.5]), ((403, 301), (0.35, 0.2), [0.75, 1.25]), ((301, 403), (-0.06, 0.5), [3])],
)
def test_every_scale_puts_the_answer_in_its_place(size, slope, scales):
    """An evenly brightening picture does so at every scale: each map pixel must hold the brightness where it lies in the image."""
    picture = ramp(*size, slope)
    config = settings(f"inference.scales={scales}", "data.input_size=[256, 256]")
    maps, (sx, sy) = predict_maps(MeanNetwork(), picture, config)
    y, x = np.mgrid[: maps.shape[1], : maps.shape[2]]
    expected = 20 + slope[0] * ((y + 0.5) * sy - 0.5) + slope[1] * ((x + 0.5) * sx - 0.5)
    inside = slice(12, -12)  # at the borders, a cell sees the padding and a cubic has no neighbors
    difference = (maps[0].numpy() * 255 - expected)[inside, inside]
    # Gray levels are whole numbers, above and below the true one. An answer half a map pixel off would be 0.2 to 0.6 off in the mean.
    assert abs(difference.mean()) < 0.1
    assert np.abs(difference).max() < 0.6


def test_scales_are_averaged_with_equal_weights():
    """One run at each scale: on plain pictures a network that answers with its input's height gives the mean height."""

    class HeightNetwork(MeanNetwork):
        def forward(self, images: Tensor) -> list[list[Tensor]]:
            n, _, height, width = images.shape
            return [[torch.full((n, len(FLIP), height // STRIDE, width // STRIDE), float(height))]]

    config = settings("inference.scales=[0.5, 1, 1.5, 2, 3]", "data.input_size=[128, 128]")
    maps, _ = predict_maps(HeightNetwork(), photograph(100, 120), config)
    assert maps.shape == (50, 96, math.ceil(round(120 * 3.84) / STRIDE))
    torch.testing.assert_close(maps, torch.full_like(maps, 128 * (0.5 + 1 + 1.5 + 2 + 3) / 5))


# Batches


def test_pictures_of_a_batch_do_not_matter_to_each_other():
    """Of several sizes, with everything that can be searched."""
    config = settings("inference.scales=[0.5, 1]", "inference.rotations=[0, 20]", "data.input_size=[128, 128]")
    network = FixedNetwork()
    pictures = [photograph(*size, seed) for seed, size in enumerate([(100, 120), (120, 100), (100, 120), (100, 125), (1, 1)])]
    together = predict_maps_of_batch(network, pictures, config)
    for picture, (maps, scale) in zip(pictures, together):
        alone, its_scale = predict_maps(network, picture, config)
        assert scale == its_scale
        torch.testing.assert_close(maps, alone, rtol=0, atol=1e-6)


def test_pictures_padded_to_one_size_are_run_together():
    network = FixedNetwork()
    predict_maps_of_batch(network, [photograph(512, 500), photograph(512, 300), photograph(256, 256)], settings())
    assert sorted(network.seen) == [(2, 3, 512, 320), (4, 3, 512, 512)]
    assert predict_maps_of_batch(network, [], settings()) == []


def test_a_device_finds_the_same_people_in_a_batch():
    config = settings("data.input_size=[128, 128]", "assignment.max_peaks=4")
    pictures = [cv2.GaussianBlur(photograph(*size, seed), (0, 0), 9) for seed, size in enumerate([(128, 160), (128, 96), (128, 160)])]
    answers = predict_maps_of_batch(EvenHandedNetwork(), pictures, config)
    on_device = assign_on_device(answers, config)
    for (keypoints, scores), (expected, expected_scores) in zip(on_device, SimplePoseDecoder(EvenHandedNetwork(), config)(pictures)):
        assert len(expected)
        np.testing.assert_allclose(keypoints, expected, atol=1e-3)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


# Rotation


@pytest.mark.parametrize("degree", [-35, 90])
@pytest.mark.parametrize(("height", "width"), [(256, 384), (384, 256)])
def test_a_rotation_search_turns_the_answer_back_into_its_place(degree, height, width):
    """On pictures that are not square too, where a center with its sides swapped would be off."""
    center = np.array([width / 2 + 40.3, height / 2 - 30.6])
    y, x = np.mgrid[:height, :width]
    spot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 9**2))
    picture = np.repeat(np.rint(255 * spot)[..., None].astype(np.uint8), 3, 2)
    config = settings(f"data.input_size=[{height}, {height}]", f"inference.rotations=[{degree}]", "inference.pad_value=0")
    maps, (sx, sy) = predict_maps(MeanNetwork(), picture, config)
    response = maps[0].clamp(min=0.05).double() - 0.05
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in response.shape), indexing="ij")
    found = [float((response * places).sum() / response.sum()) for places in (columns, rows)]
    assert [(found[0] + 0.5) * sx - 0.5, (found[1] + 0.5) * sy - 0.5] == pytest.approx(center.tolist(), abs=0.1)
    assert maps.max() == pytest.approx(0.97, abs=0.03)


# People


class SceneNetwork(nn.Module):
    """Knows one scene and its mirror image, wherever the padding is: the perfect network.

    Pictures of the scene are red all over, and green at their right-hand border; their blue tells which way round the scene is.
    """

    def __init__(self, scene: Tensor, mirror_image: Tensor):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.scene, self.mirror_image = scene, mirror_image

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        return [[torch.stack([self._maps(image) for image in images])]]

    def predict(self, images: Tensor) -> Tensor:
        return self(images)[-1][0]

    def _maps(self, image: Tensor) -> Tensor:
        columns = (image[2, 0] > 0.9).nonzero()[:, 0]
        turned = image[1, 0, columns[0]] > 0.9  # green marks the right-hand border
        picture = image.flip(2) if turned else image
        blue = picture[0, 0]
        maps = self.scene if blue[0] < blue[len(columns) - 1] else self.mirror_image
        return mirrored(maps) if turned else maps


def scene_picture(height: int, width: int) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)
    picture[..., 2] = 255
    return picture


def marked(picture: np.ndarray) -> np.ndarray:
    """The picture with its right-hand border in green."""
    picture = picture.copy()
    picture[:, -4:, 1] = 255
    return picture


@pytest.mark.parametrize(("size", "tolerance"), [((256, 300), 0.01), ((311, 407), 1.5)])
def test_a_picture_mirrored_by_hand_gives_mirrored_people(size, tolerance):
    """Exact where the image is a whole number of cells wide; else the two pictures are sampled at other places, a part of a cell apart."""
    config = settings("data.input_size=[256, 256]")
    skeleton, (height, width) = config.skeleton, size
    body = np.array([STANDING[name] for name in skeleton.keypoints], float) * height * 0.4
    people = np.stack([body * 1.3 + (width * 0.3, height * 0.2), body + (width * 0.7, height * 0.35)])
    in_mirror = people[:, skeleton.flip_keypoints] * (-1, 1) + (width - 1, 0)

    run_height, run_width = resized_size(height, width, 1, config)
    padded = math.ceil(run_height / 64) * 64 // STRIDE, math.ceil(run_width / 64) * 64 // STRIDE

    def perfect_maps(points: np.ndarray) -> Tensor:
        joints = (points + 0.5) * (run_width / width, run_height / height) - 0.5
        visible = np.ones((*joints.shape[:2], 1))
        return torch.from_numpy(render_targets(np.concatenate([joints, visible], 2), np.zeros(padded, np.float32), config))

    network = SceneNetwork(perfect_maps(people), perfect_maps(in_mirror))
    picture = scene_picture(height, width)
    found, scores = estimate_people(network, marked(picture), config)
    found_in_mirror, mirror_scores = estimate_people(network, marked(picture[:, ::-1]), config)

    assert len(found) == len(found_in_mirror) == 2
    found = found[np.argsort(found[:, skeleton.index("neck"), 0])]
    found_in_mirror = found_in_mirror[np.argsort(-found_in_mirror[:, skeleton.index("neck"), 0])]
    assert (found[..., 2] > 0).all() and (found_in_mirror[..., 2] > 0).all()
    back = found_in_mirror[:, skeleton.flip_keypoints, :2] * (-1, 1) + (width - 1, 0)
    np.testing.assert_allclose(back, found[..., :2], atol=tolerance)
    np.testing.assert_allclose(np.sort(mirror_scores), np.sort(scores), atol=0.05)
    np.testing.assert_allclose(found[..., :2], people, atol=2)
