"""Targets of batches equal those of each sample alone, on every device, in every precision and system."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from people import CPU, build, person, rendered_sample
from places import ROOT

from config import load_config
from data.datasets import build_dataset, collate
from data.hdf5 import TrainingHDF5
from data.targets import render_batch

RECIPES = ("simplepose_coco_512", "dekr_w32_coco", "simple_baselines_r50_256x192")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(params=RECIPES, scope="module")
def config(request):
    side = "256, 192" if "256x192" in request.param else "192, 192"
    return load_config(ROOT / "config" / f"{request.param}.yaml", [f"data.input_size=[{side}]"])


@pytest.fixture(scope="module")
def dataset(config, tmp_path_factory):
    """Images with one to four people, some unlabeled."""
    folder, crowd = tmp_path_factory.mktemp("batch"), person(20, 20, iscrowd=1)
    build(folder, [person(30, 20), person(70, 40), person(90, 10, visible=3), person(10, 60)], [person(50, 30)], [person(0, 0), crowd])
    return build_dataset(TrainingHDF5(folder / "out.h5", config.skeleton), config)


@pytest.fixture(scope="module")
def batch(dataset) -> NamedTuple:
    return collate([dataset.get(n, np.random.default_rng(n)) for n in range(len(dataset))])


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_rendered_as_its_samples_alone(config, dataset, batch, device):
    """Without the padding, and without mixed precision."""
    with torch.autocast(device, torch.bfloat16):
        together = render_batch(batch, config, torch.device(device))
    for n in range(len(dataset)):
        alone = rendered_sample(dataset, config, n, np.random.default_rng(n))[1]
        assert together._fields == alone._fields
        for target, single in zip(together, alone):
            assert (target.device.type, target[n].shape, target.dtype) == (device, single.shape, single.dtype)
            assert (target[n].cpu().float() - single.float()).abs().max() <= (0 if device == "cpu" else 1e-5)
    assert together[0].sum(0).gt(0).any(-1).any(-1).all()  # no map is empty


def test_a_batch_without_people_has_empty_finite_targets(config, batch):
    none = {name: getattr(batch, name)[:, :0] for name in batch.per_person} or {"labeled": batch.labeled & False}
    targets = render_batch(batch._replace(**none), config, CPU)
    assert all(target.isfinite().all() for target in targets)
    assert not (targets[0][:, config.channels.keypoints] if hasattr(config, "channels") else targets[0]).any()
