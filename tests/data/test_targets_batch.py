"""Targets of whole batches, as the trainer has them drawn: those of each sample alone, wherever and in whatever precision it works."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from people import CPU, build, drawn_sample, person
from places import ROOT

from config import load_config
from data.datasets import build_dataset, collate
from data.people_file import PeopleFile
from data.targets import targets_of

RECIPES = ("simplepose_coco_512", "dekr_w32_coco", "simple_baselines_r50_256x192")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(params=RECIPES)
def config(request):
    side = "256, 192" if "256x192" in request.param else "192, 192"
    return load_config(ROOT / "config" / f"{request.param}.yaml", [f"data.input_size=[{side}]"])


@pytest.fixture
def samples(config, tmp_path):
    """Of pictures with one to four people, some hidden or not labelled."""
    crowd = person(20, 20, iscrowd=1)
    build(tmp_path, [person(30, 20), person(70, 40), person(90, 10, visible=3), person(10, 60)], [person(50, 30)], [person(0, 0), crowd])
    return build_dataset(PeopleFile(tmp_path / "out.h5", config.skeleton), config)


def some(samples) -> list[tuple[torch.Tensor, ...]]:
    return [samples.get(n, np.random.default_rng(n)) for n in range(len(samples))]


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_drawn_as_its_samples_alone(config, samples, device):
    together = targets_of(config)(config, torch.device(device), *collate(some(samples))[1:])
    for n in range(len(samples)):
        alone = drawn_sample(samples, config, n, np.random.default_rng(n))[1:]
        for target, its in zip(together, alone, strict=True):
            assert (target.device.type, target[n].shape, target.dtype) == (device, its.shape, its.dtype)
            assert (target[n].cpu().float() - its.float()).abs().max() <= (0 if device == "cpu" else 1e-5)
    assert together[0].sum(0).gt(0).any(-1).any(-1).all()  # every map has something on it


def test_mixed_precision_draws_the_same(config, samples):
    batch = collate(some(samples))[1:]
    plain = targets_of(config)(config, CPU, *batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = targets_of(config)(config, CPU, *batch)
    assert all(map(torch.equal, plain, mixed))


def test_those_that_fill_a_batch_up_are_nobody(config, samples):
    """Samples of few people are as if they had been alone, whoever is in the others."""
    one, several = samples.get(len(samples) - 1, None), samples.get(0, None)
    with_others = targets_of(config)(config, CPU, *collate([one, several])[1:])
    alone = targets_of(config)(config, CPU, *collate([one])[1:])
    assert all(torch.equal(both[:1], single) for both, single in zip(with_others, alone))


def test_a_batch_keeps_what_the_samples_are():
    whole, people = torch.arange(6).reshape(2, 3), [torch.ones(n, 2) for n in (1, 3)]
    stacked, filled = collate([(whole, people[0]), (whole + 1, people[1])])
    assert stacked.tolist() == [whole.tolist(), (whole + 1).tolist()]
    assert filled.tolist() == [[[1, 1], [0, 0], [0, 0]], [[1, 1]] * 3]


def test_nobody_in_any_of_the_samples(config, samples):
    image, *annotated = collate(some(samples)[:2])
    targets = targets_of(config)(config, CPU, annotated[0] * 0, *annotated[1:])
    assert all(target.isfinite().all() for target in targets)
    heat = targets[0][:, config.channels.keypoints] if hasattr(config, "channels") else targets[0]
    assert not heat.any()
