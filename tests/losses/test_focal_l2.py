"""The loss against its formula, written out for one pixel at a time in double precision."""

import pytest
import torch
from torch.nn import functional as F

from config import load_config
from losses import build_loss

RECIPE = "config/simplepose_coco_512.yaml"


def example(seed: int = 0, batch: int = 2) -> tuple[list[list[torch.Tensor]], torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    predictions = [[torch.rand(batch, 50, 16 // 2**i, 16 // 2**i, generator=g) * 2 - 0.5 for i in range(5)] for _ in range(2)]
    heatmaps = torch.rand(batch, 50, 16, 16, generator=g) ** 4
    return predictions, heatmaps, (torch.rand(batch, 1, 16, 16, generator=g) > 0.3).float()


@pytest.mark.parametrize(("gamma", "alpha", "beta"), [(1, 0, 0), (2, 0, 0), (2, 0.1, 0.02), (1.5, 0.05, 0.1)])
def test_formula(gamma, alpha, beta):
    predictions, heatmaps, mask = example()
    loss = build_loss(load_config(RECIPE, [f"loss.gamma={gamma}", f"loss.alpha={alpha}", f"loss.beta={beta}"]))
    channel = torch.ones(50).index_fill(0, torch.arange(30, 48), 3.0)
    channel[48] = 0.1
    weights, total = [0.1, 0.2, 0.4, 1.6, 6.4], 0.0
    for stage in predictions:
        for w, s in zip(weights, stage):
            t = F.adaptive_avg_pool2d(heatmaps, s.shape[2:])
            m = F.interpolate(mask, s.shape[2:], mode="bilinear")
            m = m * (m >= 0.5) * channel[:, None, None]
            q = torch.where(t >= 0.01, s - alpha, 1 - s - beta)
            total += w / sum(weights) * float(((s - t) ** 2 * (1 - q).abs() ** gamma * m).double().sum()) / 2 / len(heatmaps)
    assert loss(predictions, heatmaps, mask).item() == pytest.approx(total, rel=1e-5)


def test_plain_l2_and_parts():
    predictions, heatmaps, mask = example()
    loss = build_loss(load_config(RECIPE, ["loss.focal=false"]))
    parts = loss.terms(predictions, heatmaps, mask)
    assert parts.shape == (2, 5)
    assert parts.sum().item() == pytest.approx(loss(predictions, heatmaps, mask).item())
    assert loss.term_name(1, 4) == "stage 1, scale 4"
    assert loss([[t.clone() for t in scales] for scales in predictions[:1]], heatmaps, torch.zeros_like(mask)).item() == 0


def test_batch_is_averaged_not_summed():
    predictions, heatmaps, mask = example()
    loss = build_loss(load_config(RECIPE))
    twice = [[torch.cat([s, s]) for s in stage] for stage in predictions]
    again = loss(twice, torch.cat([heatmaps] * 2), torch.cat([mask] * 2))
    assert again.item() == pytest.approx(loss(predictions, heatmaps, mask).item(), rel=1e-5)


def test_half_precision_answers_do_not_overflow():
    predictions, heatmaps, mask = example()
    loss = build_loss(load_config(RECIPE))
    half = [[(100 * s).half() for s in stage] for stage in predictions]
    assert torch.isfinite(loss(half, heatmaps, mask))


def test_a_target_of_just_the_limit_is_foreground():
    """Such is the box around a limb: drawn with limb_floor, which is loss.foreground."""
    loss = build_loss(load_config(RECIPE, ["loss.gamma=2", "loss.alpha=0.1", "loss.scale_weights=[1, 0, 0, 0, 0]"]))
    predictions = [[torch.full((1, 50, 16 // 2**i, 16 // 2**i), 0.5) for i in range(5)]]
    heatmaps, mask = torch.full((1, 50, 16, 16), 0.01), torch.ones(1, 1, 16, 16)
    expected = (30 + 3 * 18 + 0.1 + 1) * 16**2 * (0.5 - 0.01) ** 2 * (1 - (0.5 - 0.1)) ** 2
    assert loss(predictions, heatmaps, mask).item() == pytest.approx(expected, rel=1e-5)
