"""DEKR's deformable convolution against torchvision's, and its initial weights. tests/fidelity compares the whole network."""

import pytest
import torch
from dekr_networks import build
from devices import DEVICES
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d, deform_conv2d

from models.dekr import deform_conv


def sampling_locations(g: torch.Generator, height: int, width: int) -> Tensor:
    """Return (2, 3, points, 2, h, w) for 3 keypoints, between pixels, on pixels, at the borders and far outside."""
    locations = torch.randn(2, 3, 9, 2, height, width, generator=g) * 2
    locations[:, :, 2] = locations[:, :, 2].round()
    locations[:, :, 5] = locations[:, :, 5].round() + 0.5
    locations[:, :, 7] *= 50
    return locations


def torchvision_deform_conv(features: Tensor, locations: Tensor, conv: DeformConv2d) -> Tensor:
    """Run torchvision's kernel, one group after the other."""
    grid = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2))[:, :, None, None].to(features.device)
    groups = zip(features.chunk(3, 1), (locations - grid).flatten(2, 3).unbind(1), conv.weight.chunk(3))
    return torch.cat([deform_conv2d(x, of_group, w, padding=1) for x, of_group, w in groups], 1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(9, 7), (1, 6)])
def test_deform_conv_and_its_gradients_equal_torchvisions_kernel(size, memory_format, device):
    g = torch.Generator().manual_seed(0)
    conv = DeformConv2d(12, 12, 3, padding=1, groups=3, bias=False).to(device)
    inputs = torch.randn(2, 12, *size, generator=g).contiguous(memory_format=memory_format), sampling_locations(g, *size)
    results = []
    for run in (deform_conv, torchvision_deform_conv):
        x, locations = (tensor.clone().to(device).requires_grad_() for tensor in inputs)
        conv.zero_grad()
        output = run(x, locations, conv)
        (output * torch.linspace(-1, 1, output.numel(), device=device).view(output.shape)).sum().backward()
        # Exactly on a pixel, the gradient by location may be that of either side
        by_location = torch.where(locations == locations.round(), 0, locations.grad)
        results.append((output.detach(), x.grad, by_location, conv.weight.grad.clone()))
    for actual, expected in zip(*results):
        assert (actual - expected).abs().max() < 1e-3 * expected.abs().max()


def test_initial_kernel_points_lie_on_the_pixel():
    """So an adaptive block starts as a 1 x 1 convolution."""
    features = torch.rand(1, 51, 6, 8)
    for block in build().offset_blocks:
        assert not any(tensor.any() for layer in (block.matrix, block.translation) for tensor in layer.parameters())
        expected = F.conv2d(features, block.conv.weight.sum((2, 3), keepdim=True), groups=17)
        torch.testing.assert_close(deform_conv(features, block._sampling_locations(features), block.conv), expected, rtol=1e-4, atol=1e-6)


def test_initial_values():
    network = build("model.width=16", "model.heat_channels=32", "model.offset_channels=15")
    deforming = [layer for block in network.offset_blocks for layer in (block.matrix, block.translation)]
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, DeformConv2d)) and m not in deforming]
    assert all(conv.weight.std().item() == pytest.approx(0.001, rel=0.2) for conv in convolutions)
    assert not any(conv.bias.any() for conv in convolutions if conv.bias is not None)
