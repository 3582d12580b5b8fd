"""Conv-BN fusion keeps the outputs of every system's network and removes the batch norms."""

from __future__ import annotations

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

RECIPES = {
    "simplepose_coco_512": ["model.stages=2", "model.channels=16", "model.channels_increase=8"],
    "dekr_w32_coco": SMALL_DEKR,
    "simple_baselines_r50_256x192": ["model.depth=10", "model.deconv_channels=16"],
}


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def randomized(network: nn.Module) -> nn.Module:
    randomize_weights(network.eval().state_dict(), seed=0)
    return network


def outputs(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        output = network.predict(images)
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize("recipe", RECIPES)
def test_fusion_keeps_the_outputs(recipe):
    network = randomized(build_model(load_config(ROOT / "config" / f"{recipe}.yaml", RECIPES[recipe])))
    images = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(1))
    before, norm_count = outputs(network, images), norms(network)
    fuse_conv_bn(network)
    for output, expected in zip(outputs(network, images), before, strict=True):
        assert expected.std() > 1e-3
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert norm_count > 2
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
    network, images = randomized(NormsFirst()), torch.rand(1, 3, 8, 8)
    before = outputs(network, images)
    fuse_conv_bn(network)
    assert torch.equal(outputs(network, images)[0], before[0])
    assert norms(network) == 3
