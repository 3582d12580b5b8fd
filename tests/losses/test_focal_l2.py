"""SimplePose's loss against its formula."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from config import load_config
from losses import build_loss

RECIPE = "config/simplepose_coco_512.yaml"


def example() -> tuple[list[list[Tensor]], Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    predictions = [[torch.rand(2, 50, 16 // 2**i, 16 // 2**i, generator=g) * 2 - 0.5 for i in range(5)] for _ in range(2)]
    heatmaps = torch.rand(2, 50, 16, 16, generator=g) ** 4
    return predictions, heatmaps, (torch.rand(2, 1, 16, 16, generator=g) > 0.3).float()


@pytest.mark.parametrize(("gamma", "alpha", "beta"), [(0, 0, 0), (1.5, 0.05, 0.1)])
def test_terms_and_sum_follow_the_formula(gamma, alpha, beta):
    predictions, heatmaps, mask = example()
    focal = [f"loss.gamma={gamma}", f"loss.alpha={alpha}", f"loss.beta={beta}"] if gamma else ["loss.focal=false"]
    loss = build_loss(load_config(RECIPE, focal))
    channel = torch.ones(50).index_fill(0, torch.arange(30, 48), 3.0)
    channel[48] = 0.1
    weights, expected = [0.1, 0.2, 0.4, 1.6, 6.4], []
    for stage in predictions:
        for w, s in zip(weights, stage):
            t = F.adaptive_avg_pool2d(heatmaps, s.shape[2:])
            m = F.interpolate(mask, s.shape[2:], mode="bilinear")
            m = m * (m >= 0.5) * channel[:, None, None]
            q = torch.where(t >= 0.01, s - alpha, 1 - s - beta)
            expected.append(w / sum(weights) * float(((s - t) ** 2 * (1 - q).abs() ** gamma * m).double().sum()) / 2 / len(heatmaps))
    assert loss.terms(predictions, heatmaps, mask).flatten().tolist() == pytest.approx(expected, rel=1e-5)
    assert loss(predictions, heatmaps, mask).item() == pytest.approx(sum(expected), rel=1e-5)
    assert loss.term_name(1, 4) == "stage 1, scale 4"
    assert loss([[(100 * s).half() for s in stage] for stage in predictions], heatmaps, mask).isfinite(), "no overflow"


def test_channel_mask_excludes_channels_of_a_sample():
    loss, (predictions, heatmaps, mask) = build_loss(load_config(RECIPE)), example()
    channel_mask = torch.ones(2, 50)
    channel_mask[0, 35], channel_mask[1, 3] = 0, 0
    changed = [[s.clone() for s in stage] for stage in predictions]
    for s in (s for stage in changed for s in stage):
        s[0, 35], s[1, 3] = 7, 8
    expected = loss(predictions, heatmaps, mask, channel_mask)
    assert loss(changed, heatmaps, mask, channel_mask) == expected < loss(predictions, heatmaps, mask) < loss(changed, heatmaps, mask)
    assert loss(predictions, heatmaps, mask, torch.ones(2, 50)) == loss(predictions, heatmaps, mask)


def test_a_target_equal_to_the_foreground_limit_is_foreground():
    """Limb targets have limb_floor, which equals loss.foreground, in the box around a limb."""
    loss = build_loss(load_config(RECIPE, ["loss.gamma=2", "loss.alpha=0.1", "loss.scale_weights=[1, 0, 0, 0, 0]"]))
    predictions = [[torch.full((1, 50, 16 // 2**i, 16 // 2**i), 0.5) for i in range(5)]]
    heatmaps, mask = torch.full((1, 50, 16, 16), 0.01), torch.ones(1, 1, 16, 16)
    expected = (30 + 3 * 18 + 0.1 + 1) * 16**2 * (0.5 - 0.01) ** 2 * (1 - (0.5 - 0.1)) ** 2
    assert loss(predictions, heatmaps, mask).item() == pytest.approx(expected, rel=1e-5)
