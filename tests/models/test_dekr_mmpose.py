"""DEKR's checkpoints of MMPose: what is refused, and the rescoring network in them. tests/fidelity loads whole ones."""

import pytest
import torch
from dekr_networks import RECIPES, build, random_network, saved
from random_weights import equal

from config import UserError
from models.dekr_rescoring import RescoringNet
from utils.checkpoint import config_for, init_weights, load_weights
from utils.systems.dekr import DekrDecoder, save_rescoring

HEATMAP = "head.heatmap_conv_layers.2.bias"


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ({"keypoint_head.offset_conv_layers.0.0.conv.weight": torch.zeros(1)}, "a DEKR network of MMPose 0.x"),
        ({HEATMAP: torch.zeros(18), "head.displacement_conv_layers.1.transform_matrix_conv.bias": torch.zeros(7)}, ""),
        ({HEATMAP: torch.zeros(18), "head.rescore_net.l1.weight": torch.zeros(74)}, ""),
    ],
)
def test_files_of_mmpose_0_and_odd_shapes_are_refused_in_one_line(weights, problem, tmp_path):
    path = saved(tmp_path / "odd.pth", {"state_dict": weights})
    for read in (config_for, lambda path: load_weights(build(), path)):
        with pytest.raises(UserError, match=rf"odd\.pth: cannot be converted: {problem}.+") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_the_rescoring_network_of_a_checkpoint_ranks_people_unless_configured_otherwise(tmp_path):
    source, network = random_network(), build()
    source.rescoring = RescoringNet(source.skeleton)
    path = saved(tmp_path / "with.pth", {"weights": source.state_dict()})
    load_weights(network, path)
    assert network.rescoring.of_heatmaps and equal(network, source)
    config = config_for(path, RECIPES["w32_coco"])
    assert equal(DekrDecoder(network, config).rescoring, source.rescoring)
    named = tmp_path / "rescore.pth"
    save_rescoring(named, RescoringNet(config.skeleton), config.skeleton)
    of_file = DekrDecoder(network, config_for(path, RECIPES["w32_coco"], [f"inference.rescore={named}"])).rescoring
    assert not of_file.of_heatmaps and not equal(of_file, source.rescoring)
    assert DekrDecoder(network, config_for(path, RECIPES["w32_coco"], ["inference.own_rescoring=false"])).rescoring is None
    init_weights(fresh := build(), path)  # its predictions of OKS are not for a network that is trained on
    assert fresh.rescoring is None and equal(fresh, random_network())
    load_weights(network, saved(tmp_path / "without.pth", fresh.state_dict()))
    assert network.rescoring is None
