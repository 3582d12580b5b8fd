"""Simple Baselines' network: what it takes and gives, and weights of every origin."""

from __future__ import annotations

import pytest
import torch
from places import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet

from config import UserError, load_config
from models import build_model
from models.simple_baselines import SimpleBaselines, from_published
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


def by_hand(weights: dict[str, Tensor], images: Tensor, trunk: resnet.ResNet) -> Tensor:
    """From published tensors: torchvision's whole ResNet up to its pooling, and what comes after it."""
    assert trunk.load_state_dict(weights, strict=False).missing_keys == ["fc.weight", "fc.bias"]
    features: list[Tensor] = []
    trunk.eval().layer4.register_forward_hook(lambda layer, given, answer: features.append(answer))
    trunk((images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None])
    (x,) = features
    for number in (0, 3, 6):
        x = F.conv_transpose2d(x, weights[f"deconv_layers.{number}.weight"], stride=2, padding=1)
        norm = (weights[f"deconv_layers.{number + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        x = F.relu(F.batch_norm(x, *norm))
    return F.conv2d(x, weights["final_layer.weight"], weights["final_layer.bias"])


@pytest.mark.parametrize(("depth", "style"), [(18, "pytorch"), (50, "caffe")])
def test_the_network_by_hand(depth, style):
    model = lively(network(f"model.depth={depth}", f"model.style={style}", "model.deconv_channels=16"))
    for name, tensor in model.state_dict().items():  # numbers that batch norm makes something of
        if name.endswith(("running_mean", "bias", "running_var", "1.weight")) and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith(("var", "weight")) else -0.5))
    weights = {name.removeprefix("trunk."): tensor for name, tensor in model.state_dict().items()}
    trunk, images = getattr(resnet, f"resnet{depth}")(), torch.rand(1, 3, 64, 96)
    for stage in (trunk.layer2, trunk.layer3, trunk.layer4) if style == "caffe" else ():
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    with torch.inference_mode():
        expected = by_hand(weights, images, trunk)
        assert expected.std() > 0.1
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [34, 50])
def test_the_trunk_is_torchvisions(depth):
    """Tensor for tensor, as files of ImageNet weights have it; the classifier is not needed."""
    with torch.device("meta"):
        theirs, ours = getattr(resnet, f"resnet{depth}")().state_dict(), network(f"model.depth={depth}").trunk.state_dict()
    named = {from_published(f"{prefix}{name}"): tensor.shape for name, tensor in theirs.items() for prefix in ("", "module.")}
    assert named.pop(None)
    assert named == {f"trunk.{name}": tensor.shape for name, tensor in ours.items()}
    for name in named:
        assert from_published(name) == from_published(f"module.{name}") == name


def test_every_parameter_learns():
    model = lively(small()).train()
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("wrapped", [False, True])
def test_published_files_load(tmp_path, wrapped):
    model, other = lively(small()), small()
    weights = {"module." + name.removeprefix("trunk."): tensor for name, tensor in model.state_dict().items()}
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
    given, model, path = lively(small()), small("skeleton=mpii"), tmp_path / "coco.pth"
    torch.save(given.state_dict(), path)
    taken, fresh = init_weights(model, path)
    assert fresh == ["final_layer.weight", "final_layer.bias"]
    assert all(torch.equal(model.state_dict()[name], given.state_dict()[name]) for name in taken)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 16, 16, 16)


def test_new_layers_begin_small():
    model = small()
    for layer in (model.deconv_layers[0], model.deconv_layers[6], model.final_layer):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert not model.final_layer.bias.any()
