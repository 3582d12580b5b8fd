"""The published network, loss and training samples, against reference numbers that lie beside the project."""

from __future__ import annotations

import json

import pytest

from benchmarks.fidelity_simplepose import CONFIG, loss_differences, network_differences, sample_differences
from benchmarks.reference import SHARED, check
from config import load_config
from models import build_model
from models.imhn import from_published

needs_reference = pytest.mark.skipif(
    not (SHARED / "fixtures").is_dir(), reason="no reference numbers: there is no folder shared/fixtures beside the project"
)


@pytest.fixture(scope="module")
def network():
    return build_model(load_config(CONFIG))


def test_the_network_has_the_published_size(network):
    assert sum(p.numel() for p in network.parameters()) == 128_998_760


@needs_reference
@pytest.mark.slow
def test_network_answers_as_the_published_one_from_a_published_checkpoint():
    check(network_differences(SHARED), places=2 * 5)


@needs_reference
def test_every_published_name_stands_for_one_tensor_here(network):
    shapes = json.loads((SHARED / "fixtures" / "simplepose_state_dict.json").read_text())
    ours = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert {from_published(name): shape for name, shape in shapes.items()} == ours
    assert len(shapes) == len(ours) == 1848


@needs_reference
def test_losses_have_the_published_values():
    check(loss_differences(SHARED), places=4)


@needs_reference
def test_samples_are_cut_and_drawn_as_published():
    check(sample_differences(SHARED), places=4 * 11)
