"""The recipe of a published checkpoint is known by its tensors."""

from __future__ import annotations

import pytest
import torch
from places import ROOT

from config import load_config
from models import build_model, published_recipe


@pytest.mark.parametrize("name", ["simplepose_coco_512", "dekr_w32_crowdpose", "dekr_w48_coco"])
def test_published_networks_have_their_recipes(name):
    with torch.device("meta"):
        network = build_model(load_config(ROOT / "config" / f"{name}.yaml"))
    assert published_recipe(network.state_dict()) == name
