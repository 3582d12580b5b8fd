"""DEKR's network against a plain implementation with one branch after the other, and its initial weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from dekr_networks import Weights, build, published_weights, random_network, saved
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d, deform_conv2d

from models.dekr import deform_conv
from utils.checkpoint import load_weights

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

# A plain implementation on published tensors


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(x, *(w[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))


def adaptive_block(w: Weights, x: Tensor) -> Tensor:
    """Apply one keypoint's block to features (N, C, h, w)."""
    n, _, height, width = x.shape
    matrix = F.conv2d(x, w["transform_matrix_conv.weight"], w["transform_matrix_conv.bias"], padding=1)
    translation = F.conv2d(x, w["translation_conv.weight"], w["translation_conv.bias"], padding=1)
    offset = torch.zeros(n, 18, height, width)
    for point, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        offset[:, 2 * point] = matrix[:, 0] * dy + matrix[:, 1] * dx - dy + translation[:, 0]
        offset[:, 2 * point + 1] = matrix[:, 2] * dy + matrix[:, 3] * dx - dx + translation[:, 1]
    return F.relu(norm(w, "bn", deform_conv2d(x, offset, w["adapt_conv.weight"], padding=1)) + x)


def with_prefix(w: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in w.items() if name.startswith(prefix)}


def plain_heads(w: Weights, branches: list[Tensor], keypoints: int) -> tuple[Tensor, Tensor]:
    """Apply both heads to the backbone's four features, one keypoint's branch after the other."""
    size = branches[0].shape[2:]
    features = torch.cat([F.interpolate(branch, size, mode="bilinear", align_corners=False) for branch in branches], 1)
    heat = F.relu(norm(w, "transition_heatmap.1", F.conv2d(features, w["transition_heatmap.0.weight"])))
    block = with_prefix(w, "head_heatmap.0.0.")
    inner = F.relu(norm(block, "bn1", F.conv2d(heat, block["conv1.weight"], padding=1)))
    heat = F.relu(norm(block, "bn2", F.conv2d(inner, block["conv2.weight"], padding=1)) + heat)
    heat = F.conv2d(heat, w["head_heatmap.1.weight"], w["head_heatmap.1.bias"])
    offset_features = F.relu(norm(w, "transition_offset.1", F.conv2d(features, w["transition_offset.0.weight"])))
    offsets = []
    for k, x in enumerate(offset_features.chunk(keypoints, 1)):
        for block in (0, 1):
            x = adaptive_block(with_prefix(w, f"offset_feature_layers.{k}.{block}."), x)
        offsets.append(F.conv2d(x, w[f"offset_final_layer.{k}.weight"], w[f"offset_final_layer.{k}.bias"]))
    return heat, torch.cat(offsets, 1)


@torch.inference_mode()
def test_grouped_branches_equal_single_ones(tmp_path):
    recipe, keypoints = "w48_crowdpose", 14
    source, network = random_network(recipe=recipe), random_network(recipe=recipe, seed=1)
    weights = published_weights(source)
    load_weights(network, saved(tmp_path / "published.pth", weights))
    image = torch.rand(2, 3, 64, 96)
    heat, offset = network(image)
    assert (heat.shape, offset.shape) == ((2, keypoints + 1, 16, 24), (2, 2 * keypoints, 16, 24))
    rgb = torch.stack([(image[:, 2] - 0.485) / 0.229, (image[:, 1] - 0.456) / 0.224, (image[:, 0] - 0.406) / 0.225], 1)
    expected = plain_heads(weights, network.trunk.forward_features(rgb), keypoints)
    for output, target in zip((heat, offset), expected):
        assert target.std() > 0.1
        torch.testing.assert_close(output, target, rtol=1e-4, atol=1e-4)


# The deformable convolution


def sampling_locations(g: torch.Generator, height: int, width: int, keypoints: int = 3) -> Tensor:
    """Return (2, K, points, 2, h, w), between pixels, on pixels, at the borders and far outside."""
    locations = torch.randn(2, keypoints, 9, 2, height, width, generator=g) * 2
    locations[:, :, 2] = locations[:, :, 2].round()
    locations[:, :, 5] = locations[:, :, 5].round() + 0.5
    locations[:, :, 7] *= 50
    return locations


def torchvision_deform_conv(features: Tensor, locations: Tensor, weight: Tensor) -> Tensor:
    """Run torchvision's kernel, one group after the other."""
    grid = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2))[:, :, None, None].to(features.device)
    offset = (locations - grid).flatten(2, 3)
    groups = zip(features.chunk(locations.shape[1], 1), offset.unbind(1), weight.chunk(locations.shape[1]))
    return torch.cat([deform_conv2d(x, of_group, w, padding=1) for x, of_group, w in groups], 1)


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def check_deform_conv(change: Callable[[Tensor], Tensor], size: tuple[int, int], device: str) -> None:
    """Compare output and gradients of `deform_conv` with torchvision's, for features in the memory format of `change`."""
    g = torch.Generator().manual_seed(0)
    features, weight = torch.randn(2, 12, *size, generator=g), torch.randn(12, 4, 3, 3, generator=g)
    inputs = [features, sampling_locations(g, *size), weight]
    conv = DeformConv2d(12, 12, 3, padding=1, groups=3, bias=False).to(device)
    results = []
    for own in (True, False):
        x, locations, weight = (tensor.clone().to(device).requires_grad_() for tensor in inputs)
        if own:
            conv.weight = nn.Parameter(weight.detach())
            output, weight = deform_conv(change(x), locations, conv), conv.weight
        else:
            output = torchvision_deform_conv(x, locations, weight)
        (output * torch.linspace(-1, 1, output.numel(), device=device).view(output.shape)).sum().backward()
        results.append((output.detach(), x.grad, locations.grad, weight.grad))
    for name, actual, expected in zip(("output", "features", "locations", "weight"), *results):
        difference = (actual - expected).abs()
        if name == "locations":  # exactly on a pixel, the gradient may be that of either side
            on_pixel = inputs[1].to(device) == inputs[1].to(device).round()
            difference = torch.where(on_pixel, 0, difference)
        assert difference.max() < 1e-3 * expected.abs().max(), name


@pytest.mark.parametrize("change", [torch.clone, channels_last], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("size", [(9, 7), (1, 6)])
def test_deform_conv_equals_torchvisions_kernel(size, change):
    check_deform_conv(change, size, "cpu")


@GPU
def test_deform_conv_on_a_gpu_equals_torchvisions_kernel():
    check_deform_conv(channels_last, (9, 7), "cuda")


# Initial weights


def test_initial_kernel_points_lie_on_the_pixel():
    """So an adaptive block starts as a 1 x 1 convolution."""
    network = build()
    features = torch.rand(1, 51, 6, 8)
    for block in network.offset_blocks:
        assert not any(tensor.any() for layer in (block.matrix, block.translation) for tensor in layer.parameters())
        assert not block._sampling_locations(features).any()
        expected = F.conv2d(features, block.conv.weight.sum((2, 3), keepdim=True), groups=17)
        torch.testing.assert_close(deform_conv(features, block._sampling_locations(features), block.conv), expected, rtol=1e-4, atol=1e-6)


def test_initial_values():
    network = build("model.width=16", "model.heat_channels=32", "model.offset_channels=15")
    deforming = [layer for block in network.offset_blocks for layer in (block.matrix, block.translation)]
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, DeformConv2d)) and m not in deforming]
    assert len(convolutions) > 30
    for conv in convolutions:
        assert conv.weight.std().item() == pytest.approx(0.001, rel=0.2) and conv.weight.mean().abs() < 2e-4
        assert conv.bias is None or not conv.bias.any()


def test_every_parameter_gets_a_gradient():
    network = random_network().train()
    sum(maps.square().sum() for maps in network(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())
