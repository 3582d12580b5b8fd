"""The photos from which the reference samples were made: their annotations and their training HDF5."""

import json
from pathlib import Path

import pytest
from places import SHARED

from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5

ANNOTATIONS = SHARED / "data" / "coco_mini" / "annotations" / "person_keypoints_train2017.json"


@pytest.fixture(scope="session")
def coco_mini_annotations(shared) -> dict:
    return json.loads(ANNOTATIONS.read_text())


@pytest.fixture(scope="session")
def coco_mini_hdf5(shared, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coco_mini") / "train.h5"
    build_hdf5(ANNOTATIONS, ANNOTATIONS.parents[1] / "train2017", path, load_skeleton("coco"), workers=1)
    return path
