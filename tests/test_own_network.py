"""The network that comes with the project: the file itself."""

from __future__ import annotations

import torch
from places import ROOT
from safetensors import safe_open

from config import load_config
from data.images import read_image
from utils.bundled_model import bundled_checkpoint
from utils.checkpoint import config_for, load_network
from utils.inference import PoseEstimator

LARGEST = 7e6  # bytes: two for each weight, and what it says of itself
RECIPE = ROOT / "config" / "simplepose_small.yaml"


def test_it_is_the_compact_recipes_in_float16():
    path = bundled_checkpoint()
    assert path.stat().st_size < LARGEST
    config, recipe = config_for(path), load_config(RECIPE)
    assert (config.system, config.model, config.skeleton) == (recipe.system, recipe.model, recipe.skeleton)
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("front.stem.conv.weight").dtype == torch.float16
    weights = load_network(config, path, "cpu").state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_it_says_nothing_of_the_machine_that_it_was_trained_on():
    data = config_for(bundled_checkpoint()).data
    assert not any(path.is_absolute() for path in (*data.train_files, *data.val_files))


def test_it_finds_people_in_photographs(shared):
    """Whom anybody would see."""
    estimator, photographs = PoseEstimator(device="cpu"), sorted((shared / "data" / "media").glob("*.jpg"))
    found = [estimator(read_image(path))[1] for path in photographs]
    assert sum(len(scores) > 0 and scores.max() > 0.2 for scores in found) >= 0.8 * len(photographs) > 0
