"""DEKR's loss against its formula, written out for one pixel at a time in double precision."""

import pytest
import torch
from places import ROOT
from torch import Tensor

from config import load_config
from losses import build_loss

RECIPE = ROOT / "config" / "dekr_w32_coco.yaml"
Example = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]


def example(batch: int = 2) -> Example:
    """What a network for 3 keypoints might answer on maps of 5 x 6 pixels, and what it should have; offsets count at few pixels."""
    g = torch.Generator().manual_seed(0)
    found = torch.rand(batch, 4, 5, 6, generator=g), torch.randn(batch, 6, 5, 6, generator=g)
    heatmap, weight = torch.rand(2, batch, 4, 5, 6, generator=g)
    offset, offset_weight = torch.randn(2, batch, 6, 5, 6, generator=g)
    return found, (heatmap, weight, offset, (offset_weight - 0.7).clamp(min=0))


def smooth_l1(error: float, beta: float) -> float:
    return error**2 / (2 * beta) if abs(error) < beta else abs(error) - beta / 2


@pytest.mark.parametrize(
    ("overrides", "factors", "beta"),
    [([], (1, 0.03), 1 / 9), (["loss.heatmap_weight=2", "loss.offset_weight=0.5", "loss.beta=0.8"], (2, 0.5), 0.8)],
)
def test_formula(overrides, factors, beta):
    """Both kinds of errors, below and above beta, are among the example's."""
    (found, moved), (heatmap, weight, offset, offset_weight) = example()
    loss = build_loss(load_config(RECIPE, overrides))
    heat = sum((p - t) ** 2 * w for p, t, w in zip(*(x.double().flatten().tolist() for x in (found, heatmap, weight)))) / found.numel()
    errors, weights = (moved - offset).double().flatten().tolist(), offset_weight.double().flatten().tolist()
    counted = [smooth_l1(error, beta) * w for error, w in zip(errors, weights) if w > 0]
    assert 20 < len(counted) < len(weights) / 2
    expected = [factors[0] * heat, factors[1] * sum(counted) / len(counted)]
    targets = heatmap, weight, offset, offset_weight
    assert loss.terms((found, moved), *targets).tolist() == pytest.approx(expected, rel=1e-5)
    assert loss((found, moved), *targets).item() == pytest.approx(sum(expected), rel=1e-5)
    assert [loss.term_name(part) for part in range(2)] == ["heatmaps", "offsets"]


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_where_nobody_is_there_are_no_offsets_to_learn(precision):
    (found, moved), (heatmap, weight, offset, offset_weight) = example()
    found, moved = found.to(precision).requires_grad_(), moved.to(precision).requires_grad_()
    heat, offsets = build_loss(load_config(RECIPE)).terms((found, moved), heatmap, weight, offset, torch.zeros_like(offset_weight))
    assert offsets.item() == 0 < heat.item()
    (heat + offsets).backward()
    assert not moved.grad.any()
    assert found.grad.isfinite().all() and found.grad.any()


def test_half_precision_answers_count_as_their_values_do():
    """Though their squares, and sums over pixels, are beyond what such a number can be."""
    outputs, targets = example()
    loss = build_loss(load_config(RECIPE))
    for precision in (torch.float16, torch.bfloat16):
        half = tuple((1000 * maps).to(precision) for maps in outputs)
        exact = loss.terms(tuple(maps.double() for maps in half), *targets)
        counted = loss.terms(half, *targets)
        assert counted.dtype == torch.float32
        torch.testing.assert_close(counted.double(), exact, rtol=1e-5, atol=0)


def test_an_image_without_anybody_leaves_its_share_of_the_offsets_to_the_others():
    """The offsets' mean is over the pixels that count in the whole batch, the heatmaps' over all."""
    outputs, targets = example()
    loss = build_loss(load_config(RECIPE))
    alone = loss.terms(tuple(maps[:1] for maps in outputs), *(target[:1] for target in targets))
    targets[3][1] = 0
    together = loss.terms(outputs, *targets)
    other = loss.terms(tuple(maps[1:] for maps in outputs), *(target[1:] for target in targets))
    assert together[1].item() == pytest.approx(alone[1].item(), rel=1e-5)
    assert together[0].item() == pytest.approx((alone[0] + other[0]).item() / 2, rel=1e-5)
