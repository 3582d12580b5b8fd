"""DEKR's weights of published files, and ImageNet's for the backbone. tests/fidelity loads whole published files."""

import pytest
import timm
import torch
from dekr_networks import RECIPES, build, published_weights, random_network, saved
from random_weights import equal

from config import UserError, load_config
from models import build_model, dekr
from models.dekr import DEKR
from utils.checkpoint import init_weights, load_backbone, load_weights


def test_published_keys_become_own_keys():
    """tests/fidelity loads all of them, where there are reference numbers."""
    for published, own in {
        "stage2.0.branches.1.0.conv1.weight": "trunk.stage2.0.branches.1.0.conv1.weight",
        "transition_heatmap.0.weight": "heat_in.0.weight",
        "head_heatmap.0.0.conv1.weight": "heat_block.conv1.weight",
        "head_heatmap.1.bias": "heat_out.bias",
        "transition_offset.1.weight": "offset_in.1.weight",
        "offset_feature_layers.16.1.transform_matrix_conv.bias": "offset_blocks.1.matrix.bias[16]",
        "offset_feature_layers.0.1.translation_conv.weight": "offset_blocks.1.translation.weight[0]",
        "offset_feature_layers.2.0.adapt_conv.weight": "offset_blocks.0.conv.weight[2]",
        "offset_feature_layers.2.0.bn.running_var": "offset_blocks.0.norm.running_var[2]",
        "offset_feature_layers.2.0.regular_matrix": None,
        "offset_final_layer.3.weight": "offset_out.weight[3]",
    }.items():
        assert DEKR.convert_key(f"module.{published}") == DEKR.convert_key(published) == own


def test_branches_that_are_missing_or_of_another_shape_are_refused(tmp_path):
    network, weights = random_network(seed=1), published_weights(random_network())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    odd = weights | {"offset_feature_layers.3.1.conv.weight": torch.zeros(3, 3, 5, 5)}
    fewer = {name: tensor for name, tensor in weights.items() if not name.startswith("offset_feature_layers.4.")}
    with pytest.raises(UserError, match=r"odd\.pth: parts of a tensor do not fit together: .+") as error:
        load_weights(network, saved(tmp_path / "odd.pth", odd))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"offset_blocks\.0\.matrix\.weight \(64, 3, 3, 3\) for \(68, 3, 3, 3\)"):
        load_weights(network, saved(tmp_path / "fewer.pth", fewer))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_another_skeleton_initializes_only_its_output_layers_newly(tmp_path):
    source, network = random_network(), random_network(recipe="w32_crowdpose", seed=1)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    taken, fresh = init_weights(network, saved(tmp_path / "coco.pth", published_weights(source)))
    state, of_coco = network.state_dict(), source.state_dict()
    assert {name for name in state if of_coco[name].shape != state[name].shape} == set(fresh)
    assert set(taken) == set(state) - set(fresh)
    assert {name.split(".")[0] for name in taken if not name.endswith("tracked")} == {"trunk", "heat_in", "heat_block"}
    assert all(torch.equal(state[name], (of_coco if name in taken else initial)[name]) for name in state)


# Weights for the backbone


def test_backbone_keys_are_those_of_the_downloaded_weights():
    with torch.device("meta"):
        timm_weights = timm.create_model("hrnet_w32").state_dict()
        own = build_model(load_config(RECIPES["w32_coco"]))
    converted = {DEKR.convert_key(name): tensor.shape for name, tensor in timm_weights.items()}
    del converted[None]  # the classifier's
    assert converted == {f"trunk.{name}": tensor.shape for name, tensor in own.trunk.state_dict().items()}
    assert all(DEKR.is_backbone(name) for name in converted)


def test_a_pose_checkpoint_fills_the_backbone_only(tmp_path):
    source, network = random_network(), random_network(recipe="w32_crowdpose", seed=1)
    path = saved(tmp_path / "pose.pth", published_weights(source))
    taken, fresh = load_backbone(network, path)
    assert equal(network.trunk, source.trunk) and not equal(network.heat_block, source.heat_block)
    assert set(taken) == {name for name in network.state_dict() if name.startswith("trunk.")} == set(network.state_dict()) - set(fresh)
    with pytest.raises(UserError, match=r"model\.backbone .*pose\.pth: does not fit the network's backbone: \d+ tensors of another shape"):
        load_backbone(build("model.width=8"), path)


def test_weights_are_downloaded_by_width(monkeypatch, tmp_path):
    source, network, asked = random_network(), random_network(seed=1), []
    monkeypatch.setattr(dekr, "hub_file", asked.append)
    monkeypatch.setattr(dekr, "load_file", lambda path: source.trunk.state_dict())
    load_backbone(network, "timm")
    assert equal(network.trunk, source.trunk) and asked == ["timm/hrnet_w4.ms_in1k"]
