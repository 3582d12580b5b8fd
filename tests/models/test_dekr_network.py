"""DEKR's network against its branches written out one by one, and as it is before any training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from dekr_networks import Weights, build, lively, published_weights, saved
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d, deform_conv2d

from models.dekr import deform_conv
from utils.checkpoint import load_weights

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

# Written out plainly, from published tensors


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(x, *(w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def adaptive_block(w: Weights, x: Tensor) -> Tensor:
    """One keypoint's, on features (N, C, h, w)."""
    n, _, height, width = x.shape
    matrix = F.conv2d(x, w["transform_matrix_conv.weight"], w["transform_matrix_conv.bias"], padding=1)
    moved = F.conv2d(x, w["translation_conv.weight"], w["translation_conv.bias"], padding=1)
    offset = torch.zeros(n, 18, height, width)
    for tap, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        offset[:, 2 * tap] = matrix[:, 0] * dy + matrix[:, 1] * dx - dy + moved[:, 0]
        offset[:, 2 * tap + 1] = matrix[:, 2] * dy + matrix[:, 3] * dx - dx + moved[:, 1]
    return F.relu(norm(w, "bn", deform_conv2d(x, offset, w["adapt_conv.weight"], padding=1)) + x)


def part(w: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in w.items() if name.startswith(prefix)}


def by_hand(w: Weights, branches: list[Tensor], keypoints: int) -> tuple[Tensor, Tensor]:
    """Both heads on the trunk's four features; one keypoint's branch after the other."""
    size = branches[0].shape[2:]
    features = torch.cat([F.interpolate(branch, size, mode="bilinear", align_corners=False) for branch in branches], 1)
    heat = F.relu(norm(w, "transition_heatmap.1", F.conv2d(features, w["transition_heatmap.0.weight"])))
    block = part(w, "head_heatmap.0.0.")
    inner = F.relu(norm(block, "bn1", F.conv2d(heat, block["conv1.weight"], padding=1)))
    heat = F.relu(norm(block, "bn2", F.conv2d(inner, block["conv2.weight"], padding=1)) + heat)
    heat = F.conv2d(heat, w["head_heatmap.1.weight"], w["head_heatmap.1.bias"])
    everyone = F.relu(norm(w, "transition_offset.1", F.conv2d(features, w["transition_offset.0.weight"])))
    offsets = []
    for k, x in enumerate(everyone.chunk(keypoints, 1)):
        for block in (0, 1):
            x = adaptive_block(part(w, f"offset_feature_layers.{k}.{block}."), x)
        offsets.append(F.conv2d(x, w[f"offset_final_layer.{k}.weight"], w[f"offset_final_layer.{k}.bias"]))
    return heat, torch.cat(offsets, 1)


@pytest.mark.parametrize(("recipe", "keypoints"), [("w48_crowdpose", 14)])
@torch.inference_mode()
def test_the_branches_together_answer_as_each_alone(tmp_path, recipe, keypoints):
    given, network = lively(recipe=recipe), lively(recipe=recipe, seed=1)
    weights = published_weights(given)
    load_weights(network, saved(tmp_path / "published.pth", weights))
    image = torch.rand(2, 3, 64, 96)
    heat, offset = network(image)
    assert (heat.shape, offset.shape) == ((2, keypoints + 1, 16, 24), (2, 2 * keypoints, 16, 24))
    rgb = torch.stack([(image[:, 2] - 0.485) / 0.229, (image[:, 1] - 0.456) / 0.224, (image[:, 0] - 0.406) / 0.225], 1)
    expected = by_hand(weights, network.trunk.forward_features(rgb), keypoints)
    for answer, wanted in zip((heat, offset), expected):
        assert wanted.std() > 0.1
        torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)


# The deformed convolution


def shifted_taps(g: torch.Generator, height: int, width: int, keypoints: int = 3) -> Tensor:
    """Places (2, K, taps, 2, h, w) of which many lie between pixels, some on them, at the borders, over them and far outside."""
    places = torch.randn(2, keypoints, 9, 2, height, width, generator=g) * 2
    places[:, :, 2] = places[:, :, 2].round()
    places[:, :, 5] = places[:, :, 5].round() + 0.5
    places[:, :, 7] *= 50
    return places


def kernel_answer(features: Tensor, places: Tensor, weight: Tensor) -> Tensor:
    """By torchvision's kernel, which wants places from those of the plain grid."""
    grid = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2))[:, :, None, None].to(features.device)
    offset = (places - grid).flatten(2, 3)
    parts = zip(features.chunk(places.shape[1], 1), offset.unbind(1), weight.chunk(places.shape[1]))
    return torch.cat([deform_conv2d(x, of_branch, w, padding=1) for x, of_branch, w in parts], 1)


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def check_deformed(change: Callable[[Tensor], Tensor], size: tuple[int, int], device: str) -> None:
    """Value and gradients of `deformed`, its features changed to another memory format, against the kernel's."""
    g = torch.Generator().manual_seed(0)
    features, weight = torch.randn(2, 12, *size, generator=g), torch.randn(12, 4, 3, 3, generator=g)
    given = [features, shifted_taps(g, *size), weight]
    conv = DeformConv2d(12, 12, 3, padding=1, groups=3, bias=False).to(device)
    outcomes = []
    for ours in (True, False):
        x, places, weight = (tensor.clone().to(device).requires_grad_() for tensor in given)
        if ours:
            conv.weight = nn.Parameter(weight.detach())
            answer, weight = deform_conv(change(x), places, conv), conv.weight
        else:
            answer = kernel_answer(x, places, weight)
        (answer * torch.linspace(-1, 1, answer.numel(), device=device).view(answer.shape)).sum().backward()
        outcomes.append((answer.detach(), x.grad, places.grad, weight.grad))
    for name, found, expected in zip(("answer", "features", "places", "weight"), *outcomes):
        away = (found - expected).abs()
        if name == "places":  # on a pixel's very place the slope is that to the left or to the right
            whole = given[1].to(device) == given[1].to(device).round()
            away = torch.where(whole, 0, away)
        assert away.max() < 1e-3 * expected.abs().max(), name


@pytest.mark.parametrize("change", [torch.clone, channels_last], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("size", [(9, 7), (1, 6)])
def test_sampling_is_the_deformable_kernel(size, change):
    check_deformed(change, size, "cpu")


@GPU
def test_a_gpu_takes_the_same_taps():
    check_deformed(channels_last, (9, 7), "cuda")


# Fresh weights


def test_at_first_nothing_is_deformed():
    """All taps of a convolution see the pixel itself: an adaptive block starts as a 1 x 1 convolution."""
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


def test_every_parameter_learns_in_training():
    network = lively().train()
    sum(maps.square().sum() for maps in network(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())
