"""DEKR's published networks, loss, samples, decoding and rescoring, against reference numbers that lie beside the project."""

from __future__ import annotations

import json

import pytest

from benchmarks import fidelity_dekr
from benchmarks.reference import SHARED, check
from models import build_model
from models.dekr import from_published

needs_reference = pytest.mark.skipif(
    not (SHARED / "fixtures").is_dir(), reason="no reference numbers: there is no folder shared/fixtures beside the project"
)


@pytest.mark.parametrize(("name", "parameters"), [("w32_coco", 29_561_182), ("w48_coco", 65_684_590), ("w32_crowdpose", 29_522_071)])
def test_the_networks_have_the_published_sizes(name, parameters):
    assert sum(p.numel() for p in build_model(fidelity_dekr.config_of(name)).parameters()) == parameters


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(("name", "places"), [("w32_coco", 4), ("w48_coco", 2), ("w32_crowdpose", 2)])
def test_networks_answer_as_the_published_ones_from_published_checkpoints(name, places):
    check(fidelity_dekr.network_differences(SHARED, (name,)), places)


@needs_reference
@pytest.mark.parametrize(("name", "count"), [("w32_coco", 2264), ("w48_coco", 2264), ("w32_crowdpose", 2192)])
def test_every_tensor_here_is_made_of_published_ones(name, count):
    """Those of all the keypoints' branches are one here, and a few of them say nothing."""
    published = json.loads((SHARED / "fixtures" / f"dekr_{name}_state_dict.json").read_text())
    assert len(published) == count
    sizes: dict[str, int] = {}
    for theirs, shape in published.items():
        ours = from_published(theirs)
        if ours is None:
            assert "regular_matrix" in theirs or "num_batches_tracked" in theirs
        else:
            whole, _, part = ours.partition("[")
            sizes[whole] = sizes.get(whole, 0) + (shape[0] if part else 0)
    wanted = build_model(fidelity_dekr.config_of(name)).state_dict()
    assert sizes.keys() == wanted.keys()
    assert all(rows in (0, len(wanted[name])) for name, rows in sizes.items() if wanted[name].ndim)


@needs_reference
def test_targets_and_losses_are_the_published_ones():
    check(fidelity_dekr.loss_and_target_differences(SHARED), places=4 + 2)


@needs_reference
def test_samples_are_cut_as_published():
    check(fidelity_dekr.sample_differences(SHARED), places=4 * 6)


@needs_reference
def test_people_are_read_as_published():
    check(fidelity_dekr.decoding_differences(SHARED), places=2 * (1 + 2 * 3))


@needs_reference
def test_poses_are_rescored_as_published():
    check(fidelity_dekr.rescoring_differences(SHARED), places=2 * 2)
