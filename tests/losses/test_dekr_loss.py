"""DEKR's loss against its formula, written out for one pixel at a time in double precision."""

import pytest
import torch
from places import ROOT
from torch import Tensor

from config import load_config
from losses import build_loss

RECIPE = ROOT / "config" / "dekr_w32_coco.yaml"


def example() -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    """Return outputs for 3 keypoints on maps of 5 x 6 pixels, and targets; offsets count at few pixels."""
    g = torch.Generator().manual_seed(0)
    outputs = torch.rand(2, 4, 5, 6, generator=g), torch.randn(2, 6, 5, 6, generator=g)
    heatmap, weight = torch.rand(2, 2, 4, 5, 6, generator=g)
    offset, offset_weight = torch.randn(2, 2, 6, 5, 6, generator=g)
    return outputs, {"heatmap": heatmap, "weight": weight, "offset": offset, "offset_weight": (offset_weight - 0.7).clamp(min=0)}


def smooth_l1(error: float, beta: float) -> float:
    return error**2 / (2 * beta) if abs(error) < beta else abs(error) - beta / 2


@pytest.mark.parametrize(
    ("overrides", "factors", "beta"),
    [([], (1, 0.03), 1 / 9), (["loss.heatmap_weight=2", "loss.offset_weight=0.5", "loss.beta=0.8"], (2, 0.5), 0.8)],
)
def test_terms_and_sum_follow_the_formula(overrides, factors, beta):
    """Errors below and above beta are among the example's."""
    (heat, moved), targets = example()
    loss = build_loss(load_config(RECIPE, overrides))
    flat = [maps.double().flatten().tolist() for maps in (heat, targets["heatmap"], targets["weight"])]
    heatmap_loss = sum((p - t) ** 2 * w for p, t, w in zip(*flat)) / heat.numel()
    errors, weights = ((moved - targets["offset"]).double(), targets["offset_weight"].double())
    counted = [smooth_l1(error, beta) * w for error, w in zip(errors.flatten().tolist(), weights.flatten().tolist()) if w > 0]
    assert 20 < len(counted) < weights.numel() / 2
    expected = [factors[0] * heatmap_loss, factors[1] * sum(counted) / len(counted)]
    assert loss.terms((heat, moved), **targets).tolist() == pytest.approx(expected, rel=1e-5)
    assert loss((heat, moved), *targets.values()).item() == pytest.approx(sum(expected), rel=1e-5)
    assert [loss.term_name(term) for term in range(2)] == ["heatmaps", "offsets"]
    heatmap_loss, offset_loss = loss.terms((heat, moved), **targets | {"offset_weight": 0 * targets["offset_weight"]})
    assert offset_loss.item() == 0 < heatmap_loss.item(), "a batch without people"


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_are_summed_in_single(precision):
    """Their squares, and sums over pixels, are beyond the range of half precision."""
    outputs, targets = example()
    loss, half = build_loss(load_config(RECIPE)), tuple((1000 * maps).to(precision) for maps in outputs)
    terms = loss.terms(half, **targets)
    assert terms.dtype == torch.float32
    torch.testing.assert_close(terms.double(), loss.terms(tuple(maps.double() for maps in half), **targets), rtol=1e-5, atol=0)
