"""CrowdPose's annotation files: how they are recognized, people's areas, and the crowd index."""

import json

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
SKELETON = load_skeleton("crowdpose")


@pytest.fixture
def crowded(annotations, tmp_path):
    return crowd_file(annotations, tmp_path / "crowded.json")


def test_areas_are_those_of_crowdposes_evaluation(crowded, images, tmp_path):
    """The file's own areas are ignored; a person without keypoints may have no box."""
    content = json.loads(crowded.read_text())
    boxes = np.array([annotation["bbox"] for annotation in content["annotations"]])
    for annotation in content["annotations"][::2]:
        annotation["area"] = 7
    unlabeled = {"id": 10**6, "image_id": content["images"][-1]["id"], "category_id": 1, "keypoints": [0] * 42}
    crowded.write_text(json.dumps({**content, "annotations": [*content["annotations"], unlabeled]}))
    build_hdf5(crowded, images, tmp_path / "out.h5", SKELETON, workers=1)
    people = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    np.testing.assert_allclose(people.areas, [*(0.53 * boxes[:, 2] * boxes[:, 3]), 0], rtol=1e-6)


@pytest.mark.skipif(not CROWDPOSE.is_dir(), reason="no photographs: there is no folder shared/data/crowdpose beside")
def test_real_files_have_these_people(tmp_path):
    built = build_hdf5(CROWDPOSE / "test_crowdpose.json", CROWDPOSE, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, built.people, built.skipped, built.boxed) == (2, 4, [], [])
    people = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    assert people.labeled.all() and sorted(people.num_labeled.tolist()) == [0, 7, 12, 14, 14]
    assert people.joints(np.array([0]))[0, SKELETON.index("head")].tolist() in ([351, 163, 0], [256, 27, 0])


@pytest.mark.parametrize("value", ["0.3", float("nan"), True, None])
def test_a_crowd_index_must_be_a_finite_number(crowded, value):
    content = json.loads(crowded.read_text())
    content["images"][1]["crowdIndex"] = value
    crowded.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{crowded}: image 2 \(000000000002.jpg\): its 'crowdIndex' is {value!r}, expected a number"):
        load_annotations(crowded)
