"""Which recipe a published checkpoint was trained with is told by its tensors; a file that is none of them is refused in a line."""

from __future__ import annotations

import json

import pytest
import torch
from places import ROOT, SHARED

from config import load_config
from models import published_recipe
from utils.checkpoint import config_for

PUBLISHED = ROOT / "config" / "simplepose_coco_512.yaml"
DEKR_RECIPES = sorted((ROOT / "config").glob("dekr_w*.yaml"))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("recipe", DEKR_RECIPES, ids=lambda path: path.stem)
def test_a_published_checkpoint_of_dekr_has_its_recipe(tmp_path, recipe, prefix):
    config = load_config(recipe)
    last = torch.zeros(config.skeleton.num_keypoints + 1, config.model.heat_channels, 1, 1)
    weights = {"conv1.weight": torch.zeros(64, 3, 3, 3), "head_heatmap.1.weight": last}
    torch.save({prefix + name: tensor for name, tensor in weights.items()}, tmp_path / "pose_dekr.pth")
    assert config_for(tmp_path / "pose_dekr.pth") == config
    assert config_for(tmp_path / "pose_dekr.pth", overrides=["inference.flip=false"]).inference.flip is False


@pytest.mark.parametrize("recipe", ["dekr_w32_coco", "dekr_w48_coco", "dekr_w32_crowdpose", "simplepose"])
def test_the_tensors_of_the_published_networks_say_which_they_are(recipe):
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
def test_a_checkpoint_of_no_recipe_is_one_line(fails, images, tmp_path, weights):
    torch.save(weights, tmp_path / "odd.pth")
    said = fails("demo_image.py", "--input", images, "--checkpoint", tmp_path / "odd.pth", "--output", tmp_path / "out")
    assert "odd.pth: holds no configuration and is no published one that is known; give one with --config" in said
    assert config_for(tmp_path / "odd.pth", PUBLISHED) == load_config(PUBLISHED)
