"""The training HDF5 of the photos from which the reference samples were made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5


@pytest.fixture(scope="session")
def coco_mini(shared) -> Path:
    """The annotation file of the photos."""
    return shared / "data" / "coco_mini" / "annotations" / "person_keypoints_train2017.json"


@pytest.fixture(scope="session")
def coco_mini_annotations(coco_mini) -> dict:
    return json.loads(coco_mini.read_text())


@pytest.fixture(scope="session")
def coco_mini_hdf5(coco_mini, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coco_mini") / "train.h5"
    build_hdf5(coco_mini, coco_mini.parents[1] / "train2017", path, load_skeleton("coco"), workers=1)
    return path
