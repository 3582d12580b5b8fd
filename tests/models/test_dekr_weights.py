"""DEKR's weights: from published files, for another skeleton, and its trunk from ImageNet's."""

from __future__ import annotations

import pytest
import timm
import torch
from dekr_networks import RECIPES, build, equal, lively, published_weights, saved
from safetensors.torch import save_file
from timm.models.hrnet import HighResolutionNet

from config import UserError, load_config
from models import build_model, checkpoint_keys_of, hub
from models.dekr import DEKR, from_published
from utils.checkpoint import init_weights, load_backbone, load_weights

# Names and files


@pytest.mark.parametrize("recipe", ["w32_coco", "w48_crowdpose"])
def test_names_come_back_and_our_own_stay(recipe):
    network = build(recipe=recipe)
    for name in network.state_dict():
        assert from_published(name) == from_published(f"module.{name}") == name
    ours = {from_published(name) for name in published_weights(network)} - {None}
    assert {name.partition("[")[0] for name in ours} == set(network.state_dict())


@pytest.mark.parametrize("form", ["plain", "state_dict"])
def test_a_published_file_loads_whole(tmp_path, form):
    given, network = lively(), lively(seed=1)
    weights = published_weights(given)
    if form != "plain":
        weights = {f"module.{name}": tensor for name, tensor in weights.items()}
    load_weights(network, saved(tmp_path / "pose_dekr.pth", {"state_dict": weights, "epoch": 3} if form == "state_dict" else weights))
    assert equal(network, given)


def test_a_published_file_without_a_branch_is_refused(tmp_path):
    network = lively(seed=1)
    weights = published_weights(lively())
    for name in [name for name in weights if name.startswith(("offset_feature_layers.4.", "offset_final_layer.4."))]:
        del weights[name]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights(network, saved(tmp_path / "half.pth", weights))
    assert str(error.value).startswith(f"checkpoint {tmp_path / 'half.pth'}: does not fit the configured network: ")
    assert "offset_blocks.0.matrix.weight (64, 3, 3, 3) for (68, 3, 3, 3)" in str(error.value) and "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    weights = published_weights(lively())
    weights["offset_feature_layers.3.1.adapt_conv.weight"] = torch.zeros(3, 3, 5, 5)
    with pytest.raises(UserError, match=r"odd\.pth: parts of a tensor do not fit together: .+") as error:
        load_weights(build(), saved(tmp_path / "odd.pth", weights))
    assert "\n" not in str(error.value)


def test_another_skeleton_takes_the_trunk_and_draws_what_depends_on_it(tmp_path):
    path = saved(tmp_path / "coco.pth", published_weights(lively()))
    given, network = lively(), lively(recipe="w32_crowdpose", seed=1)
    drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken, fresh = init_weights(network, path)
    state, of_coco = network.state_dict(), given.state_dict()
    assert set(taken) | set(fresh) == set(state) and not set(taken) & set(fresh)
    assert {name for name in state if of_coco[name].shape != state[name].shape} == set(fresh)
    assert all(name.startswith(("heat_out.", "offset_")) for name in fresh)
    assert {name.split(".")[0] for name in taken if not name.endswith("tracked")} == {"trunk", "heat_in", "heat_block"}
    assert all(torch.equal(state[name], of_coco[name]) for name in taken)
    assert all(torch.equal(state[name], drawn[name]) for name in fresh)
    assert init_weights(lively(seed=1), path)[1] == []


# The trunk from ImageNet


def classifier(width: int = 4) -> HighResolutionNet:
    """timm's HRNet of the small networks' size, with its classifier, another value in every place."""
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


def assert_has_trunk_of(network: DEKR, given: HighResolutionNet) -> None:
    """All of it: the features are those of the classifier before its head."""
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        x = given.act2(given.bn2(given.conv2(given.act1(given.bn1(given.conv1(image))))))
        for answer, expected in zip(network.trunk.forward_features(image), given.stages(x)):
            assert expected.std() > 0
            torch.testing.assert_close(answer, expected)


def test_a_classifiers_file_fills_the_trunk(tmp_path):
    given, network = classifier(), lively()
    weights = given.state_dict()
    heads = {name.split(".")[0] for name in weights} - {name.split(".")[0] for name in network.trunk.state_dict()}
    assert heads == {"incre_modules", "downsamp_modules", "final_layer", "classifier"}
    drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    path = saved(tmp_path / "hrnet.pth", {f"module.{name}": tensor for name, tensor in weights.items()})
    taken, fresh = load_backbone(network, path)
    assert set(taken) == {name for name in drawn if name.startswith("trunk.")}
    assert set(fresh) == set(drawn) - set(taken)
    assert all(torch.equal(network.state_dict()[name], drawn[name]) for name in fresh)
    assert_has_trunk_of(network, given)


def test_a_whole_pose_network_lends_its_trunk_too(tmp_path):
    given, network = lively(), lively(recipe="w32_crowdpose", seed=1)
    load_backbone(network, saved(tmp_path / "pose.pth", published_weights(given)))
    assert equal(network.trunk, given.trunk) and not equal(network.heat_block, given.heat_block)


def test_another_width_is_refused(tmp_path):
    path = saved(tmp_path / "hrnet.pth", classifier(width=8).state_dict())
    with pytest.raises(UserError, match=r"model\.backbone .*hrnet\.pth: does not fit the network's trunk: \d+ tensors of another shape"):
        load_backbone(build(), path)


def test_the_published_trunk_is_imagenets():
    """Tensor for tensor, that of the network whose weights can be downloaded."""
    with torch.device("meta"):
        theirs = timm.create_model("hrnet_w32").state_dict()
        ours = build_model(load_config(RECIPES["w32_coco"]))
    wanted = {name: tensor.shape for name, tensor in ours.trunk.state_dict().items()}
    kept = {from_published(name): tensor.shape for name, tensor in theirs.items()}
    del kept[None]
    assert kept == {f"trunk.{name}": shape for name, shape in wanted.items()}
    assert all(checkpoint_keys_of(ours).is_backbone(name) for name in kept)


@pytest.mark.parametrize("cached", [False, True])
def test_weights_that_can_be_downloaded(monkeypatch, tmp_path, cached):
    """Asked for by the network's width; a file that is there already is not asked for again."""
    given, asked = classifier(), []
    save_file(given.state_dict(), tmp_path / "model.safetensors")

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *where: str(tmp_path / where[1]) if cached else None)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: asked.append(url))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    network = build()
    load_backbone(network, "timm")
    assert_has_trunk_of(network, given)
    where = ("timm/hrnet_w4.ms_in1k", "model.safetensors")
    assert cached == (asked == []) and (cached or asked[1:] == [where])


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
