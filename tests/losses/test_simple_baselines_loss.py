"""Simple Baselines' loss against its formula."""

import pytest
import torch
from places import ROOT

from config import load_config
from losses import build_loss

LOSS = build_loss(load_config(ROOT / "config" / "simple_baselines_r50_256x192.yaml"))


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    weight = (torch.rand(3, 17, 1, generator=g) > 0.3).float()
    return torch.rand(3, 17, 8, 6, generator=g), torch.rand(3, 17, 8, 6, generator=g), weight


def test_terms_and_sum_follow_the_formula():
    heatmaps, target, weight = example()
    terms = [0.5 * float(((heatmaps[:, k] - target[:, k]) * weight[:, k, :, None]).double().square().mean()) / 17 for k in range(17)]
    assert LOSS.terms(heatmaps, target, weight).tolist() == pytest.approx(terms, rel=1e-6)
    assert LOSS(heatmaps, target, weight).item() == pytest.approx(sum(terms), rel=1e-6)
    assert LOSS.term_name(3) == "left_ear"


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_are_summed_in_single(precision):
    """Their squares are beyond the range of half precision, and the targets between its numbers."""
    heatmaps, target, weight = example()
    for half, rtol in (((1000 * heatmaps).to(precision), 1e-5), (target.to(precision), 1e-4)):
        terms = LOSS.terms(half, target, weight)
        assert terms.dtype == torch.float32
        torch.testing.assert_close(terms.double(), LOSS.terms(half.double(), target, weight), rtol=rtol, atol=0)
