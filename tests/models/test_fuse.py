"""Conv-BN fusion keeps the outputs of every system's network and removes the batch norms."""

import pytest
import torch
from dekr_networks import SMALL as SMALL_DEKR
from places import ROOT
from random_weights import randomize_weights
from timm.layers import BatchNormAct2d
from torch import nn

from config import load_config
from models import build_model
from models.fuse import fuse_conv_bn
from utils.export import PredictModule

RECIPES = {
    "simplepose_coco_512": ["model.stages=2", "model.channels=16", "model.channels_increase=8"],
    "dekr_w32_coco": SMALL_DEKR,
    "simple_baselines_r50_256x192": ["model.depth=10", "model.deconv_channels=16"],
}


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def outputs_before_and_after(network: nn.Module, size: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Fuse a network with random weights; return pairs of its outputs before and after."""
    randomize_weights(network.eval().state_dict(), seed=0)
    predict, images = PredictModule(network), torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = predict(images)
        fuse_conv_bn(network)
        return list(zip(before, predict(images), strict=True))


@pytest.mark.parametrize("recipe", RECIPES)
def test_fusion_keeps_the_outputs(recipe):
    network = build_model(load_config(ROOT / "config" / f"{recipe}.yaml", RECIPES[recipe]))
    assert norms(network) > 2
    for expected, output in outputs_before_and_after(network, (64, 128)):
        assert expected.std() > 1e-3
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert norms(network) == (2 if recipe == "dekr_w32_coco" else 0)  # after the deformable convolutions


class NormsFirst(nn.Module):
    """bn1 comes before conv1; timm's norm has an activation inside."""

    def __init__(self):
        super().__init__()
        self.bn1, self.conv1, self.conv2 = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.other = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), BatchNormAct2d(3))

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.conv2(self.conv1(self.bn1(x))))


def test_norms_that_do_not_follow_a_convolution_stay():
    network = NormsFirst()
    ((before, after),) = outputs_before_and_after(network, (8, 8))
    assert torch.equal(after, before) and norms(network) == 3
