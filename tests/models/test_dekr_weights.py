"""DEKR's weights: published files, another skeleton, and ImageNet's for the backbone."""

from __future__ import annotations

import pytest
import timm
import torch
from dekr_networks import RECIPES, build, equal, published_weights, random_network, saved
from safetensors.torch import save_file
from timm.models.hrnet import HighResolutionNet

from config import UserError, load_config
from models import build_model, checkpoint_keys_of, hub
from models.dekr import DEKR, from_published
from utils.checkpoint import init_weights, load_backbone, load_weights

# Published files


@pytest.mark.parametrize("recipe", ["w32_coco", "w48_crowdpose"])
def test_published_keys_are_converted_and_own_keys_stay(recipe):
    network = build(recipe=recipe)
    for name in network.state_dict():
        assert from_published(name) == from_published(f"module.{name}") == name
    own = {from_published(name) for name in published_weights(network)} - {None}
    assert {name.partition("[")[0] for name in own} == set(network.state_dict())


@pytest.mark.parametrize("form", ["plain", "state_dict"])
def test_a_published_file_fills_every_tensor(tmp_path, form):
    source, network = random_network(), random_network(seed=1)
    weights = published_weights(source)
    if form != "plain":
        weights = {f"module.{name}": tensor for name, tensor in weights.items()}
    load_weights(network, saved(tmp_path / "pose_dekr.pth", {"state_dict": weights, "epoch": 3} if form == "state_dict" else weights))
    assert equal(network, source)


def test_a_published_file_without_a_branch_is_refused(tmp_path):
    network = random_network(seed=1)
    weights = published_weights(random_network())
    for name in [name for name in weights if name.startswith(("offset_feature_layers.4.", "offset_final_layer.4."))]:
        del weights[name]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(network, saved(tmp_path / "half.pth", weights))
    assert str(error.value).startswith(f"checkpoint {tmp_path / 'half.pth'}: does not fit the configured network: ")
    assert "offset_blocks.0.matrix.weight (64, 3, 3, 3) for (68, 3, 3, 3)" in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_branches_of_different_shapes_are_refused(tmp_path):
    weights = published_weights(random_network())
    weights["offset_feature_layers.3.1.adapt_conv.weight"] = torch.zeros(3, 3, 5, 5)
    with pytest.raises(UserError, match=r"odd\.pth: parts of a tensor do not fit together: .+") as error:
        load_weights(build(), saved(tmp_path / "odd.pth", weights))
    assert "\n" not in str(error.value)


def test_another_skeleton_initializes_only_its_output_layers_newly(tmp_path):
    path = saved(tmp_path / "coco.pth", published_weights(random_network()))
    source, network = random_network(), random_network(recipe="w32_crowdpose", seed=1)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken, fresh = init_weights(network, path)
    state, of_coco = network.state_dict(), source.state_dict()
    assert set(taken) | set(fresh) == set(state) and not set(taken) & set(fresh)
    assert {name for name in state if of_coco[name].shape != state[name].shape} == set(fresh)
    assert all(name.startswith(("heat_out.", "offset_")) for name in fresh)
    assert {name.split(".")[0] for name in taken if not name.endswith("tracked")} == {"trunk", "heat_in", "heat_block"}
    assert all(torch.equal(state[name], of_coco[name]) for name in taken)
    assert all(torch.equal(state[name], initial[name]) for name in fresh)
    assert init_weights(random_network(seed=1), path)[1] == []


# ImageNet weights for the backbone


def classifier(width: int = 4) -> HighResolutionNet:
    """Return a small HRNet of timm with its classifier and random weights."""
    stages = {"stem_width": 8, "stage1": stage(1, 1, "BOTTLENECK", (8,))}
    stages |= {f"stage{n}": stage(n, modules, "BASIC", [width * 2**b for b in range(n)]) for n, modules in ((2, 1), (3, 2), (4, 1))}
    network, g = HighResolutionNet(stages).eval(), torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():
        if not name.endswith("tracked"):
            tensor.copy_(torch.rand(tensor.shape, generator=g) * (1 if tensor.ndim == 1 else 1 / tensor[0].numel()) + 0.01)
    return network


def stage(branches: int, modules: int, block: str, channels: list[int] | tuple[int, ...]) -> dict:
    blocks = {"num_modules": modules, "num_branches": branches, "block_type": block, "num_blocks": (1,) * branches}
    return {**blocks, "num_channels": tuple(channels), "fuse_method": "SUM"}


def assert_same_backbone(network: DEKR, source: HighResolutionNet) -> None:
    """The features equal those of the classifier before its head."""
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        x = source.act2(source.bn2(source.conv2(source.act1(source.bn1(source.conv1(image))))))
        for features, expected in zip(network.trunk.forward_features(image), source.stages(x)):
            assert expected.std() > 0
            torch.testing.assert_close(features, expected)


def test_imagenet_weights_fill_the_backbone(tmp_path):
    source, network = classifier(), random_network()
    weights = source.state_dict()
    heads = {name.split(".")[0] for name in weights} - {name.split(".")[0] for name in network.trunk.state_dict()}
    assert heads == {"incre_modules", "downsamp_modules", "final_layer", "classifier"}
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = saved(tmp_path / "hrnet.pth", {f"module.{name}": tensor for name, tensor in weights.items()})
    taken, fresh = load_backbone(network, path)
    assert set(taken) == {name for name in initial if name.startswith("trunk.")}
    assert set(fresh) == set(initial) - set(taken)
    assert all(torch.equal(network.state_dict()[name], initial[name]) for name in fresh)
    assert_same_backbone(network, source)


def test_a_pose_checkpoint_fills_the_backbone(tmp_path):
    source, network = random_network(), random_network(recipe="w32_crowdpose", seed=1)
    load_backbone(network, saved(tmp_path / "pose.pth", published_weights(source)))
    assert equal(network.trunk, source.trunk) and not equal(network.heat_block, source.heat_block)


def test_a_backbone_of_another_width_is_refused(tmp_path):
    path = saved(tmp_path / "hrnet.pth", classifier(width=8).state_dict())
    with pytest.raises(UserError, match=r"model\.backbone .*hrnet\.pth: does not fit the network's trunk: \d+ tensors of another shape"):
        load_backbone(build(), path)


def test_backbone_keys_are_those_of_the_downloaded_weights():
    with torch.device("meta"):
        timm_weights = timm.create_model("hrnet_w32").state_dict()
        own = build_model(load_config(RECIPES["w32_coco"]))
    backbone = {name: tensor.shape for name, tensor in own.trunk.state_dict().items()}
    converted = {from_published(name): tensor.shape for name, tensor in timm_weights.items()}
    del converted[None]
    assert converted == {f"trunk.{name}": shape for name, shape in backbone.items()}
    assert all(checkpoint_keys_of(own).is_backbone(name) for name in converted)


@pytest.mark.parametrize("cached", [False, True])
def test_weights_are_downloaded_once_by_width(monkeypatch, tmp_path, cached):
    source, requests = classifier(), []
    save_file(source.state_dict(), tmp_path / "model.safetensors")

    def download(repository: str, name: str) -> str:
        requests.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: str(tmp_path / where[1]) if cached else None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: requests.append(url))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    network = build()
    load_backbone(network, "timm")
    assert_same_backbone(network, source)
    where = ("timm/hrnet_w4.ms_in1k", "model.safetensors")
    assert cached == (requests == []) and (cached or requests[1:] == [where])


@pytest.mark.parametrize("error", [ConnectionError("no route to host\nsecond line"), TimeoutError()])
def test_a_failed_download_is_one_line_without_retries(monkeypatch, error):
    def fail(url: str) -> None:
        raise error

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", fail)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *where: pytest.fail("retried without a connection"))
    with pytest.raises(UserError) as caught:
        load_backbone(build(), "timm")
    reason = (str(error) or type(error).__name__).splitlines()[0]
    assert str(caught.value).startswith(f"model.backbone timm: timm/hrnet_w4.ms_in1k cannot be downloaded ({reason}); ")
