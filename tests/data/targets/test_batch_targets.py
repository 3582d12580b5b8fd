"""Samples of all systems: occluded alike, and rendered in a batch as alone, on every device and in every precision."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from devices import DEVICES
from people import CPU, build, person, rendered_sample
from places import ROOT

from config import load_config
from data.augment import Augmentation, OcclusionPatch, PhotometricParams
from data.datasets import build_dataset, collate
from data.hdf5 import TrainingHDF5
from data.targets import render_batch

RECIPES = ("simplepose_coco_512", "dekr_w32_coco", "simple_baselines_r50_256x192")


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


def test_photometric_augmentation_changes_the_image_alone(config, dataset):
    """A patch has its size in heights of the person's box, of 60 pixels here, lies over a keypoint, and is no person."""
    patch = OcclusionPatch(0.5, (0.0, 0.0), (255, 0, 255), (0.5, 0.25))
    params = PhotometricParams(), PhotometricParams(occlusion=patch), PhotometricParams(grey=True)
    plain, occluded, gray = (dataset.crop(0, Augmentation(flip=True, photometric=one)) for one in params)
    keypoints = plain.keypoints.double() if config.system != "dekr" else 4 * plain.keypoints + torch.tensor([3, 0])
    person = keypoints.reshape(-1, *keypoints.shape[-2:])[0]  # keypoint k at (x + k, y + k) in the image
    box = 60 / 16 * float(np.ptp(person[:, 1]))
    rows, columns = np.nonzero((occluded.image.numpy() == (255, 0, 255)).all(2))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == pytest.approx((0.5 * box, 0.25 * box), rel=0.03)
    assert (keypoints - torch.tensor([columns.mean(), rows.mean()])).norm(dim=-1).min() < 2
    same = {name: torch.equal(getattr(occluded, name), getattr(plain, name)) for name in plain._fields}
    assert {name for name in same if not same[name]} == {"image", "mask_all"} & set(same)
    if "mask_all" in same:  # at a quarter of the size
        assert int(plain.mask_all.sum()) - int(occluded.mask_all.sum()) == pytest.approx(255 * len(rows) / 16, rel=0.05)
    assert np.ptp(gray.image.numpy(), axis=2).max() == 0
