"""DEKR's network inputs and flip test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dekr_scenes import scene_image, settings
from torch import Tensor, nn

from utils.systems.dekr import DekrDecoder, as_input, input_matrix, input_size, predict_with_flip


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((640, 480), 2, (1408, 1024)),  # 682.7, up to a multiple of 64
        ((480, 640), 0.55, (281, 387)),  # 281.6 x 387.2, rounded down
        ((512, 576), 1, (512, 576)),  # already multiples
        ((512, 577), 1, (512, 640)),
    ],
)
def test_short_side_is_configured_and_long_side_is_rounded_up(size, scale, expected):
    assert input_size(size, scale, settings("data.input_size=[512, 512]")) == expected


def test_the_image_is_centered_in_the_input():
    assert input_matrix((480, 640), (512, 704)) == pytest.approx(np.array([[512 / 480, 0, 352 - 320 * 512 / 480], [0, 512 / 480, 0]]))
    assert input_matrix((641, 481), (704, 512))[:, 2] == pytest.approx([256 - 241 * 512 / 481, 352 - 321 * 512 / 481])
    config = settings("inference.pad_multiple=32")
    image = np.full((100, 130, 3), 200, np.uint8)
    ((padded,),) = [as_input([image], 0.75, config)]  # 192 x 264, padded to 288 on the right
    assert padded.shape == (192, 288, 3)
    assert not padded[:, 264:].any()
    assert (padded[5:-5, 10:-34] == 200).all()
    image[:, 65:] = 100
    assert len(np.unique(as_input([image], 2, config)[0, 100])) > 3  # interpolated


class HalvesNetwork(nn.Module):
    """Another random linear function of the 4 x 4 cell for each channel."""

    def __init__(self, keypoints: int):
        super().__init__()
        torch.manual_seed(0)
        self.heat, self.offset = nn.Conv2d(3, keypoints + 1, 4, 4), nn.Conv2d(3, 2 * keypoints, 4, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.heat(images), self.offset(images)

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self(images)


@torch.inference_mode()
def test_flip_test_averages_absolute_positions_as_published():
    """With x = w - x - 1 and keypoints swapped, for a flipped image that is shifted left by three columns."""
    config = settings()
    network, image = HalvesNetwork(17), torch.rand(1, 3, 32, 48)
    flipped = image.numpy()[..., ::-1].copy()
    flipped[..., :-3] = flipped[..., 3:].copy()
    pixel = np.stack(np.meshgrid(np.arange(12), np.arange(8)))
    (heat, offset), (flipped_heat, flipped_offset) = ([t[0].numpy() for t in network(torch.as_tensor(x))] for x in (image, flipped))
    partner = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    straight, back = (pixel - maps.reshape(17, 2, 8, 12) for maps in (offset, flipped_offset))
    back = back[partner][..., ::-1].copy()
    back[:, 0] = 12 - back[:, 0] - 1
    expected_heat = (heat + flipped_heat[[*partner, 17]][..., ::-1]) / 2
    averaged_heat, averaged_offset = predict_with_flip(network, image.clone(), config)
    np.testing.assert_allclose(averaged_heat[0], expected_heat, atol=1e-5)
    np.testing.assert_allclose(pixel - averaged_offset[0].numpy().reshape(17, 2, 8, 12), (straight + back) / 2, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_maps_are_the_network_outputs_without_padding(precision):
    """At scale 0.75 the input is 264 wide and padded to 288; half precision only if configured."""
    config = settings("inference.scales=[0.75, 1]", "inference.flip=false", "inference.pad_multiple=32", f"inference.precision={precision}")
    network, image = HalvesNetwork(17), scene_image(100, 130)
    decoder = DekrDecoder(network, config)
    _, maps = decoder.forward(decoder.preprocess([image]))
    assert [(scale, heat.shape, offset.shape) for scale, heat, offset in maps] == [
        (0.75, (1, 18, 48, 66), (1, 34, 48, 66)),
        (1, (1, 18, 64, 88), (1, 34, 64, 88)),
    ]
    padded = torch.from_numpy(as_input([image], 0.75, config)).permute(0, 3, 1, 2) / 255
    exact = all(torch.equal(output, expected[..., :66]) for output, expected in zip(maps[0][1:], network(padded)))
    assert exact == (precision == "float32")
    assert all(output.dtype == torch.float32 for output in maps[0][1:])
