"""Simple Baselines' network, and its published and ImageNet weights. tests/fidelity compares published networks."""

import pytest
import torch
from places import ROOT
from random_weights import randomize_weights
from torchvision.models import resnet

from config import UserError, load_config
from models import build_model
from models.simple_baselines import SimpleBaselines
from utils.checkpoint import init_weights, load_backbone

RECIPE = ROOT / "config" / "simple_baselines_r50_256x192.yaml"


def network(*overrides: str) -> SimpleBaselines:
    torch.manual_seed(0)
    return build_model(load_config(RECIPE, ["model.deconv_channels=16", *overrides])).eval()


def small(*overrides: str) -> SimpleBaselines:
    """Build a small network with random weights; the initial ones are close to zero."""
    model = network("model.depth=10", *overrides)
    randomize_weights(model.state_dict(), seed=1)
    return model


def test_channel_order_is_configured():
    """As published, BGR channels are normalized with RGB's mean and std."""
    bgr, rgb = small(), small("model.channel_order=rgb")
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        for model, seen in ((bgr, images), (rgb, images.flip(1))):
            expected = model.final_layer(model.deconv_layers(model.trunk((seen - mean) / std)))
            torch.testing.assert_close(model(images), expected)
        assert not torch.allclose(bgr(images), rgb(images), rtol=1e-2)


def test_imagenet_weights_fill_the_backbone(tmp_path):
    source, model = resnet.resnet18(), network("model.depth=18")
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    taken, others = load_backbone(model, tmp_path / "resnet18.pth")
    assert all(name.startswith("trunk.") for name in taken)
    assert {name.partition(".")[0] for name in others} == {"deconv_layers", "final_layer"}
    assert torch.equal(model.trunk.layer4[1].conv2.weight, source.layer4[1].conv2.weight)
    with pytest.raises(UserError, match="does not fit the network's backbone"):
        load_backbone(network("model.depth=34"), tmp_path / "resnet18.pth")


def test_another_skeleton_initializes_only_the_last_layer_newly(tmp_path):
    source, model, path = small(), small("skeleton=mpii"), tmp_path / "coco.pth"
    torch.save(source.state_dict(), path)
    taken, fresh = init_weights(model, path)
    assert fresh == ["final_layer.weight", "final_layer.bias"]
    loaded, expected = model.state_dict(), source.state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in taken)


def test_initial_values():
    model = network("model.depth=10")
    for layer in (model.deconv_layers[0], model.deconv_layers[6], model.final_layer):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert not model.final_layer.bias.any()
