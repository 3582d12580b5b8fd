"""Networks that a checkpoint fills are built without initial weights."""

from __future__ import annotations

import pytest
import torch
from places import ROOT

from config import load_config
from models import build_model
from models.skip_init import SkipInit
from utils.checkpoint import load_network, save_checkpoint


@pytest.mark.parametrize("name", ["quickstart", "dekr_quickstart", "simple_baselines_quickstart"])
def test_a_loaded_network_equals_the_saved_one(name, tmp_path):
    config = load_config(ROOT / "config" / f"{name}.yaml")
    network = build_model(config)
    save_checkpoint(tmp_path / "network.pth", weights=network.state_dict())
    loaded = load_network(config, tmp_path / "network.pth", "cpu")
    for kind in ("named_parameters", "named_buffers"):  # buffers include those that no checkpoint holds
        actual, expected = dict(getattr(loaded, kind)()), dict(getattr(network, kind)())
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[key], expected[key]) for key in actual)


def test_nothing_is_initialized_within_the_block():
    generator = torch.get_rng_state()
    with SkipInit():
        build_model(load_config(ROOT / "config" / "quickstart.yaml"))
    assert torch.equal(torch.get_rng_state(), generator)
