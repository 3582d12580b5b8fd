"""CrowdPose's annotation files: how they are recognized, people's areas, and the crowd index."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from people import crowd_file
from places import SHARED

from config import UserError
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations
from data.hdf5 import TrainingHDF5

CROWDPOSE = SHARED / "data" / "crowdpose"
needs_crowdpose = pytest.mark.skipif(not CROWDPOSE.is_dir(), reason="no photographs: there is no folder shared/data/crowdpose beside")


@pytest.fixture
def crowded(annotations, tmp_path):
    return crowd_file(annotations, tmp_path / "crowded.json")


def test_files_with_a_crowd_index_are_crowdposes(annotations, crowded):
    assert load_annotations(crowded).dataset["format"] == "crowdpose"
    plain = load_annotations(annotations)
    assert plain.dataset["format"] == "coco"
    assert plain.dataset["annotations"] == json.loads(annotations.read_text())["annotations"]


def test_areas_are_those_of_crowdposes_evaluation(crowded, images, tmp_path):
    """The file's own areas are ignored; a person without keypoints may have no box."""
    content = json.loads(crowded.read_text())
    boxes = np.array([annotation["bbox"] for annotation in content["annotations"]])
    for annotation in content["annotations"][::2]:
        annotation["area"] = 7
    unlabeled = {"id": 10**6, "image_id": content["images"][-1]["id"], "category_id": 1, "keypoints": [0] * 42}
    crowded.write_text(json.dumps({**content, "annotations": [*content["annotations"], unlabeled]}))
    build_hdf5(crowded, images, tmp_path / "out.h5", load_skeleton("crowdpose"), workers=1)
    people = TrainingHDF5(tmp_path / "out.h5", load_skeleton("crowdpose"))
    assert people.labeled.all()
    np.testing.assert_allclose(people.areas, [*(0.53 * boxes[:, 2] * boxes[:, 3]), 0], rtol=1e-6)


@needs_crowdpose
def test_real_files_have_these_people(tmp_path):
    skeleton = load_skeleton("crowdpose")
    built = build_hdf5(CROWDPOSE / "test_crowdpose.json", CROWDPOSE, tmp_path / "out.h5", skeleton, workers=1)
    assert (built.images, built.people, built.skipped, built.boxed) == (2, 4, [], [])
    people = TrainingHDF5(tmp_path / "out.h5", skeleton)
    assert sorted(people.num_labeled.tolist()) == [0, 7, 12, 14, 14]
    np.testing.assert_allclose(people.areas, 0.53 * people.boxes[:, 2] * people.boxes[:, 3], rtol=1e-6)
    assert people.joints(np.array([0]))[0, skeleton.index("head")].tolist() in ([351, 163, 0], [256, 27, 0])
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file.attrs["keypoints"]) == list(skeleton.dataset)


@pytest.mark.parametrize("value", ["0.3", float("nan"), True, "missing"])
def test_a_crowd_index_must_be_a_finite_number(crowded, value):
    content = json.loads(crowded.read_text())
    content["images"][1]["crowdIndex"] = value
    problem = f"its 'crowdIndex' is {value!r}; expected a finite number"
    if value == "missing":
        del content["images"][1]["crowdIndex"]
        problem = "it has no 'crowdIndex', as others have"
    crowded.write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        load_annotations(crowded)
    assert f"annotation file {crowded}: image 2 (000000000002.jpg): {problem}" in str(error.value)
