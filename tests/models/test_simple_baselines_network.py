"""Simple Baselines' network, and its published and ImageNet weights."""

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


def randomize(model: nn.Module) -> nn.Module:
    """Set random weights under which outputs depend on inputs."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return model


def test_channel_order_is_configured():
    """As published, BGR channels are normalized with RGB's mean and std."""
    bgr, rgb = randomize(small()), randomize(small("model.channel_order=rgb"))
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        for model, seen in ((bgr, images), (rgb, images.flip(1))):
            expected = model.final_layer(model.deconv_layers(model.trunk((seen - mean) / std)))
            torch.testing.assert_close(model(images), expected)
        assert not torch.allclose(bgr(images), rgb(images), rtol=1e-2)


def plain_forward(weights: dict[str, Tensor], images: Tensor, trunk: resnet.ResNet) -> Tensor:
    """Run torchvision's ResNet up to its pooling, then the published layers."""
    assert trunk.load_state_dict(weights, strict=False).missing_keys == ["fc.weight", "fc.bias"]
    features: list[Tensor] = []
    trunk.eval().layer4.register_forward_hook(lambda layer, inputs, output: features.append(output))
    trunk((images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None])
    (x,) = features
    for number in (0, 3, 6):
        x = F.conv_transpose2d(x, weights[f"deconv_layers.{number}.weight"], stride=2, padding=1)
        norm = (weights[f"deconv_layers.{number + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        x = F.relu(F.batch_norm(x, *norm))
    return F.conv2d(x, weights["final_layer.weight"], weights["final_layer.bias"])


@pytest.mark.parametrize(("depth", "style"), [(18, "pytorch"), (50, "caffe")])
def test_the_network_equals_a_plain_implementation(depth, style):
    model = randomize(network(f"model.depth={depth}", f"model.style={style}", "model.deconv_channels=16"))
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_mean", "bias", "running_var", "1.weight")) and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith(("var", "weight")) else -0.5))
    weights = {name.removeprefix("trunk."): tensor for name, tensor in model.state_dict().items()}
    trunk, images = getattr(resnet, f"resnet{depth}")(), torch.rand(1, 3, 64, 96)
    for stage in (trunk.layer2, trunk.layer3, trunk.layer4) if style == "caffe" else ():
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    with torch.inference_mode():
        expected = plain_forward(weights, images, trunk)
        assert expected.std() > 0.1
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [34, 50])
def test_backbone_keys_are_torchvisions(depth):
    with torch.device("meta"):
        theirs, ours = getattr(resnet, f"resnet{depth}")().state_dict(), network(f"model.depth={depth}").trunk.state_dict()
    named = {from_published(f"{prefix}{name}"): tensor.shape for name, tensor in theirs.items() for prefix in ("", "module.")}
    assert named.pop(None)
    assert named == {f"trunk.{name}": tensor.shape for name, tensor in ours.items()}
    for name in named:
        assert from_published(name) == from_published(f"module.{name}") == name


def test_every_parameter_gets_a_gradient():
    model = randomize(small()).train()
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("wrapped", [False, True])
def test_published_files_load(tmp_path, wrapped):
    model, other = randomize(small()), small()
    weights = {"module." + name.removeprefix("trunk."): tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 140} if wrapped else weights, tmp_path / "published.pth")
    load_weights(other, tmp_path / "published.pth")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(images), other(images))


def test_imagenet_weights_fill_the_backbone(tmp_path):
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


def test_another_skeleton_initializes_only_the_last_layer_newly(tmp_path):
    source, model, path = randomize(small()), small("skeleton=mpii"), tmp_path / "coco.pth"
    torch.save(source.state_dict(), path)
    taken, fresh = init_weights(model, path)
    assert fresh == ["final_layer.weight", "final_layer.bias"]
    assert all(torch.equal(model.state_dict()[name], source.state_dict()[name]) for name in taken)
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 16, 16, 16)


def test_initial_values():
    model = small()
    for layer in (model.deconv_layers[0], model.deconv_layers[6], model.final_layer):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert not model.final_layer.bias.any()
