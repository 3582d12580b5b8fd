"""A published checkpoint's tensors tell its recipe; a file of no recipe is refused."""

from __future__ import annotations

import json

import pytest
import torch
from places import ROOT, SHARED

from config import UserError, load_config
from models import published_recipe
from utils.checkpoint import config_for

DEKR_RECIPES = sorted((ROOT / "config").glob("dekr_w*.yaml"))


@pytest.mark.parametrize("recipe", DEKR_RECIPES, ids=lambda path: path.stem)
def test_a_published_checkpoint_of_dekr_has_its_recipe(tmp_path, recipe):
    config, path = load_config(recipe), tmp_path / "pose_dekr.pth"
    last = torch.zeros(config.skeleton.num_keypoints + 1, config.model.heat_channels, 1, 1)
    weights = {"conv1.weight": torch.zeros(64, 3, 3, 3), "head_heatmap.1.weight": last}
    for prefix in ("", "module."):
        torch.save({prefix + name: tensor for name, tensor in weights.items()}, path)
        assert config_for(path) == config
    assert config_for(path, overrides=["inference.flip=false"]).inference.flip is False


@pytest.mark.parametrize("recipe", ["dekr_w32_coco", "dekr_w48_coco", "dekr_w32_crowdpose", "simplepose"])
def test_the_tensors_of_the_published_networks_tell_their_recipe(recipe):
    path = SHARED / "fixtures" / f"{recipe}_state_dict.json"
    if not path.is_file():
        pytest.skip(f"no names of the published tensors: there is no shared/fixtures/{path.name}")
    weights = {name: torch.empty(shape, device="meta") for name, shape in json.loads(path.read_text()).items()}
    assert published_recipe(weights) == ("simplepose_coco_512" if recipe == "simplepose" else recipe)


@pytest.mark.parametrize(
    "weights",
    [
        {"head_heatmap.1.weight": torch.zeros(22, 32, 1, 1)},
        {"head_heatmap.1.weight": torch.zeros(())},
        {"conv1.weight": torch.zeros(64, 3, 3, 3), "classifier.weight": torch.zeros(1000, 2048)},
        {"l1.weight": torch.zeros(256, 74)},
    ],
    ids=["dekr of another skeleton", "a number", "hrnet", "rescoring network"],
)
def test_a_checkpoint_of_no_recipe_needs_a_configuration(tmp_path, weights):
    path, recipe = tmp_path / "odd.pth", ROOT / "config" / "simplepose_coco_512.yaml"
    torch.save(weights, path)
    with pytest.raises(UserError, match=r"odd\.pth: holds no configuration and is no known published checkpoint; .*--config"):
        config_for(path)
    assert config_for(path, recipe) == load_config(recipe)
