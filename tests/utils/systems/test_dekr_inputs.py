"""DEKR's way into the network: inputs of every size, and the mirror image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dekr_scenes import scene_image, settings
from torch import Tensor, nn

from utils.systems.dekr import as_input, input_matrix, input_size, predict_maps, predict_with_flip


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((480, 640), 1, (512, 704)),  # 682.7, up to a multiple of 64
        ((640, 480), 2, (1408, 1024)),
        ((480, 640), 0.55, (281, 387)),  # 281.6 x 387.2: parts of pixels are left out
        ((512, 576), 1, (512, 576)),  # as many already
        ((512, 577), 1, (512, 640)),
        ((3, 2), 1, (768, 512)),
    ],
)
def test_input_sizes(size, scale, expected):
    assert input_size(size, scale, settings("data.input_size=[512, 512]")) == expected


def test_the_input_is_the_picture_with_its_middle_in_the_middle():
    assert input_matrix((480, 640), (512, 704)) == pytest.approx(np.array([[512 / 480, 0, 352 - 320 * 512 / 480], [0, 512 / 480, 0]]))
    assert input_matrix((641, 481), (704, 512))[:, 2] == pytest.approx([256 - 241 * 512 / 481, 352 - 321 * 512 / 481])
    config = settings("inference.pad_multiple=32")
    image = np.full((100, 130, 3), 200, np.uint8)
    ((padded,),) = [as_input([image], 0.75, config)]  # 192 x 264: to 288, for the network's sake, on the right
    assert padded.shape == (192, 288, 3)
    assert not padded[:, 264:].any()
    assert (padded[5:-5, 10:-34] == 200).all()
    image[:, 65:] = 100
    assert len(np.unique(as_input([image], 2, config)[0, 100])) > 3  # from one pixel to the next by steps


# The mirror image


class HalvesNetwork(nn.Module):
    """Another random linear function of the 4 x 4 cell for each channel: no side is favoured, none is like another."""

    def __init__(self, keypoints: int):
        super().__init__()
        torch.manual_seed(0)
        self.heat, self.offset = nn.Conv2d(3, keypoints + 1, 4, 4), nn.Conv2d(3, 2 * keypoints, 4, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.heat(images), self.offset(images)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self(images)


@torch.inference_mode()
def test_the_mirror_images_answer_is_averaged_in_as_published():
    """By absolute positions w - x - 1, keypoints swapped, of a mirror image that was moved left by three columns."""
    config = settings()
    network, image = HalvesNetwork(17), torch.rand(1, 3, 32, 48)
    mirrored = image.numpy()[..., ::-1].copy()
    mirrored[..., :-3] = mirrored[..., 3:].copy()
    pixel = np.stack(np.meshgrid(np.arange(12), np.arange(8)))
    (heat, offset), (other_heat, other_offset) = ([t[0].numpy() for t in network(torch.as_tensor(x))] for x in (image, mirrored))
    partner = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    straight, turned = (pixel - maps.reshape(17, 2, 8, 12) for maps in (offset, other_offset))
    turned = turned[partner][..., ::-1].copy()
    turned[:, 0] = 12 - turned[:, 0] - 1
    expected_heat = (heat + other_heat[[*partner, 17]][..., ::-1]) / 2
    found_heat, found_offset = predict_with_flip(network, image.clone(), config)
    np.testing.assert_allclose(found_heat[0], expected_heat, atol=1e-5)
    np.testing.assert_allclose(pixel - found_offset[0].numpy().reshape(17, 2, 8, 12), (straight + turned) / 2, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_maps_are_the_networks_without_the_padding(precision):
    """At 0.75 the input is 264 wide, and run with 288; in half precision only where that is asked for."""
    config = settings("inference.scales=[0.75, 1]", "inference.flip=false", "inference.pad_multiple=32", f"inference.precision={precision}")
    network, image = HalvesNetwork(17), scene_image(100, 130)
    maps = predict_maps(network, [image], config)
    assert [(scale, heat.shape, offset.shape) for scale, heat, offset in maps] == [
        (0.75, (1, 18, 48, 66), (1, 34, 48, 66)),
        (1, (1, 18, 64, 88), (1, 34, 64, 88)),
    ]
    padded = torch.from_numpy(as_input([image], 0.75, config)).permute(0, 3, 1, 2) / 255
    exact = all(torch.equal(found, answer[..., :66]) for found, answer in zip(maps[0][1:], network(padded)))
    assert exact == (precision == "float32")
    assert all(found.dtype == torch.float32 for found in maps[0][1:])
