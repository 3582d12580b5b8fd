"""Simple Baselines on timm's backbones, with random weights."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from config import Config, UserError
from config.load import parse_config
from models import build_model, simple_baselines_timm
from utils.checkpoint import load_backbone, load_weights


def config(name: str) -> Config:
    """Return a configuration for a backbone of timm."""
    model = {"name": "timm", "backbone_name": name, "deconv_channels": 8}
    return parse_config({"system": "simple_baselines", "skeleton": "coco17", "data": {"input_size": [64, 96]}, "model": model}, "test")


@pytest.mark.parametrize(("name", "deconvolutions"), [("lcnet_050", 3), ("swin_tiny_patch4_window7_224", 3), ("test_vit", 2)])
def test_every_backbone_gives_heatmaps_at_stride_4(name, deconvolutions):
    network = build_model(config(name)).eval()
    with torch.inference_mode():
        assert network.predict(torch.rand(2, 3, 64, 96)).shape == (2, 17, 16, 24)
    assert sum(isinstance(layer, torch.nn.ConvTranspose2d) for layer in network.deconv_layers) == deconvolutions


def test_images_are_normalized_as_the_backbone_needs():
    network, backbone = build_model(config("lcnet_050")).eval(), timm.create_model("lcnet_050", features_only=True).eval()
    backbone.load_state_dict(network.trunk.backbone.state_dict())
    images, pretrained = torch.rand(1, 3, 64, 64), timm.get_pretrained_cfg("lcnet_050")
    mean, std = (torch.tensor(values)[:, None, None] for values in (pretrained.mean, pretrained.std))
    with torch.inference_mode():
        features = backbone((images.flip(1) - mean) / std)[-1]
        torch.testing.assert_close(network.trunk(network.normalize(images)), features)


def test_imagenet_weights_are_downloaded_only_on_request(monkeypatch, tmp_path):
    classifier = timm.create_model("lcnet_050")
    save_file(classifier.state_dict(), tmp_path / "model.safetensors")
    requests = []
    monkeypatch.setattr(simple_baselines_timm, "hub_file", lambda name: requests.append(name) or tmp_path / "model.safetensors")
    network = build_model(config("lcnet_050"))
    assert not requests
    taken, fresh = load_backbone(network, "timm")
    assert requests == ["timm/lcnet_050.ra2_in1k"]
    assert all(name.startswith("trunk.") for name in taken) and not any(name.startswith("trunk.") for name in fresh)
    assert torch.equal(network.trunk.backbone.conv_stem.weight, classifier.conv_stem.weight)
    torch.save(network.state_dict(), tmp_path / "ours.pth")
    load_weights(build_model(config("lcnet_050")), tmp_path / "ours.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lcnet_53", "no backbone 'lcnet_53' .* mean 'lcnet_150'"),
        ("nonsense!", "features_only"),
        ("lcnet_035", "timm has no weights of lcnet_035"),
    ],
)
def test_an_unknown_backbone_or_one_without_weights_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        load_backbone(build_model(config(name)), "timm")
