"""Simple Baselines' network: what it takes and gives, and weights of every origin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from places import ROOT
from torch import nn
from torchvision.models import resnet

from config import UserError, load_config
from models import build_model
from models.simple_baselines import SimpleBaselines
from utils.checkpoint import init_weights, load_backbone, load_weights

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"


def network(*overrides: str) -> SimpleBaselines:
    torch.manual_seed(0)
    return build_model(load_config(RECIPE, overrides)).eval()


def small(*overrides: str) -> SimpleBaselines:
    return network("model.depth=10", "model.deconv_channels=16", *overrides)


def lively(model: nn.Module) -> nn.Module:
    """With weights that let an input be seen at the output."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return model


@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_maps_are_a_quarter_of_the_input(depth):
    with torch.inference_mode():
        assert network(f"model.depth={depth}", "model.deconv_channels=16")(torch.rand(2, 3, 64, 96)).shape == (2, 17, 16, 24)


def test_channels_are_in_the_order_that_is_configured():
    """Both networks of the same weights: RGB's mean and deviation go with BGR's channels as published, and with RGB's."""
    bgr, rgb = lively(small()), lively(small("model.channel_order=rgb"))
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        for model, seen in ((bgr, images), (rgb, images.flip(1))):
            expected = model.final_layer(model.deconv_layers(model.trunk((seen - mean) / std)))
            torch.testing.assert_close(model(images), expected)
        assert not torch.allclose(bgr(images), rgb(images), rtol=1e-2)


def test_caffes_bottlenecks_have_their_stride_in_front():
    for style, expected in (("pytorch", ((1, 1), (2, 2))), ("caffe", ((2, 2), (1, 1)))):
        block = network(f"model.style={style}", "model.deconv_channels=16").trunk.layer3[0]
        assert (block.conv1.stride, block.conv2.stride) == expected
    with pytest.raises(UserError, match="has no bottlenecks"):
        load_config(RECIPE, ["model.style=caffe", "model.depth=34"])


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_published_files_load(tmp_path, prefix, wrapped):
    model, other = lively(small()), small()
    weights = {prefix + name.removeprefix("trunk."): tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 140} if wrapped else weights, tmp_path / "published.pth")
    load_weights(other, tmp_path / "published.pth")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(images), other(images))


def test_imagenets_weights_fill_the_trunk(tmp_path):
    torch.manual_seed(2)
    source = resnet.resnet18()
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    model = network("model.depth=18", "model.deconv_channels=16")
    before = model.deconv_layers[0].weight.clone()
    taken, others = load_backbone(model, tmp_path / "resnet18.pth")
    assert all(name.startswith("trunk.") for name in taken)
    assert {name.partition(".")[0] for name in others} == {"deconv_layers", "final_layer"}
    assert torch.equal(model.trunk.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    assert torch.equal(model.deconv_layers[0].weight, before)
    with pytest.raises(UserError, match="does not fit the network's trunk"):
        load_backbone(network("model.depth=34"), tmp_path / "resnet18.pth")


def test_another_skeleton_takes_all_but_the_last_layer(tmp_path):
    path: Path = tmp_path / "coco.pth"
    torch.save(small().state_dict(), path)
    _, fresh = init_weights(small("skeleton=mpii"), path)
    assert fresh == ["final_layer.weight", "final_layer.bias"]


def test_new_layers_begin_small():
    model = small()
    for layer in (model.deconv_layers[0], model.deconv_layers[6], model.final_layer):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert not model.final_layer.bias.any()
