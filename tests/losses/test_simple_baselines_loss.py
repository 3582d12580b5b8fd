"""Simple Baselines' loss against its formula."""

from __future__ import annotations

import pytest
import torch
from places import ROOT

from config import load_config
from losses import build_loss

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    weight = (torch.rand(3, 17, 1, generator=g) > 0.3).float()
    return torch.rand(3, 17, 8, 6, generator=g), torch.rand(3, 17, 8, 6, generator=g), weight


def test_formula():
    heatmaps, target, weight = example()
    loss = build_loss(load_config(RECIPE))
    of_keypoints = [0.5 * float(((heatmaps[:, k] - target[:, k]) * weight[:, k, :, None]).double().square().mean()) for k in range(17)]
    assert loss(heatmaps, target, weight).item() == pytest.approx(sum(of_keypoints) / 17, rel=1e-6)
    parts = loss.terms(heatmaps, target, weight)
    assert parts.tolist() == pytest.approx([one / 17 for one in of_keypoints], rel=1e-6)
    assert loss.term_name(3) == "left_ear"


def test_what_is_not_labelled_teaches_nothing():
    heatmaps, target, weight = example()
    heatmaps.requires_grad_()
    build_loss(load_config(RECIPE))(heatmaps, target, weight).backward()
    assert ((heatmaps.grad != 0).flatten(2).any(2) == (weight[..., 0] > 0)).all()


def test_half_precision_is_summed_in_single():
    heatmaps, target, weight = example()
    loss = build_loss(load_config(RECIPE))
    half = loss(heatmaps.bfloat16(), target, weight)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss(heatmaps.bfloat16().float(), target, weight).item(), rel=1e-6)


def test_two_pixels_by_hand():
    """Of one image and 17 keypoints, two of which are wrong, by 0.5 in both pixels; one of them is not labelled."""
    heatmaps, weight = torch.zeros(1, 17, 2, 1), torch.ones(1, 17, 1)
    heatmaps[0, 4:6], weight[0, 5] = 0.5, 0
    assert build_loss(load_config(RECIPE))(heatmaps, torch.zeros(1, 17, 2, 1), weight).item() == pytest.approx(0.5 * 0.5**2 / 17)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_answers_count_as_their_values_do(precision):
    """Though their squares are beyond what such a number can be, and targets between those that it can."""
    heatmaps, target, weight = example()
    half, loss = (1000 * heatmaps).to(precision), build_loss(load_config(RECIPE))
    torch.testing.assert_close(loss.terms(half, target, weight).double(), loss.terms(half.double(), target, weight), rtol=1e-5, atol=0)
    near = target.to(precision)
    torch.testing.assert_close(loss.terms(near, target, weight).double(), loss.terms(near.double(), target, weight), rtol=1e-4, atol=0)
