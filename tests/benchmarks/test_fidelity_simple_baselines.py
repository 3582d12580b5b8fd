"""Simple Baselines' published networks, loss, samples, decoding and OKS NMS, against reference numbers that lie beside the project."""

from __future__ import annotations

import json

import pytest

from benchmarks import fidelity_simple_baselines
from benchmarks.reference import SHARED, check
from models import build_model
from models.simple_baselines import from_published

NETWORKS = fidelity_simple_baselines.NETWORKS
needs_reference = pytest.mark.skipif(
    not (SHARED / "fixtures").is_dir(), reason="no reference numbers: there is no folder shared/fixtures beside the project"
)


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_answer_as_the_published_ones_from_published_checkpoints(name):
    check(fidelity_simple_baselines.network_differences(SHARED, (name,)), places=1)


@needs_reference
@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_name_stands_for_one_tensor_here(name):
    recipe, skeleton = NETWORKS[name]
    ours = build_model(fidelity_simple_baselines.config_of(recipe, f"skeleton={skeleton}")).state_dict()
    published = json.loads((SHARED / "fixtures" / f"simple_baseline_{name}_state_dict.json").read_text())
    assert {from_published(theirs): shape for theirs, shape in published.items()} == {name: list(t.shape) for name, t in ours.items()}


@needs_reference
def test_loss_and_decoding_are_the_published_ones():
    check(fidelity_simple_baselines.loss_and_decoding_differences(SHARED), places=3)


@needs_reference
def test_samples_are_cut_and_drawn_as_published():
    check(fidelity_simple_baselines.sample_differences(SHARED), places=8 * 7)


@needs_reference
def test_people_are_scored_and_left_out_as_published():
    check(fidelity_simple_baselines.nms_differences(SHARED), places=4 * 2)
