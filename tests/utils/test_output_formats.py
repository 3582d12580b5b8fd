"""Predictions in the formats of other programs."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import PurePath
from types import SimpleNamespace

import numpy as np
import pytest

from config import UserError
from config.load import load_skeleton
from data.formats.coco import indexed
from data.formats.posetrack import KEYPOINTS as POSETRACK
from utils.output_formats import (
    OPENPOSE,
    image_ids,
    posetrack_image_name,
    round_keypoints,
    to_coco,
    to_csv,
    to_openpose,
    to_posetrack,
    to_supervision,
)

COCO_18, COCO_17, CROWDPOSE = (load_skeleton(name) for name in ("coco", "coco17", "crowdpose"))
COCO = list(COCO_17.dataset)


def one_person(skeleton) -> np.ndarray:
    """Return (1, K, 3): the data set's keypoint d is at (10 d, 5 d); those that it lacks are missing."""
    person = np.zeros((1, skeleton.num_keypoints, 3), np.float32)
    for d, name in enumerate(skeleton.dataset.values()):
        person[0, skeleton.index(name)] = [10 * d, 5 * d, 0.4321]
    return person


def openpose(person: np.ndarray, skeleton, *layout: str) -> np.ndarray:
    """Return the one person's keypoints (J, 3) in OpenPose's JSON."""
    (written,) = to_openpose(person, skeleton, *layout)["people"]
    return np.reshape(written["pose_keypoints_2d"], (-1, 3))


def test_a_small_score_is_not_written_as_missing():
    values = round_keypoints(np.array([[1.234, 5.678, 1e-6], [0, 0, 0], [1, 2, 0.98768]]))
    np.testing.assert_allclose(values, [[1.23, 5.68, 1e-4], [0, 0, 0], [1, 2, 0.9877]], atol=1e-9)


def test_coco_results_are_in_the_data_sets_order_and_pycocotools_reads_them():
    for skeleton in (COCO_18, COCO_17):
        (result,) = to_coco(7, one_person(skeleton), np.array([0.5]), skeleton)
        assert (result["image_id"], result["category_id"], result["score"]) == (7, 1, 0.5)
        np.testing.assert_allclose(np.reshape(result["keypoints"], (17, 3)), [[10 * d, 5 * d, 0.4321] for d in range(17)])
    truth = indexed({"images": [{"id": 7}], "annotations": [], "categories": [{"id": 1, "name": "person", "keypoints": COCO}]})
    assert truth.loadRes([result]).anns[1]["score"] == 0.5
    assert to_coco(7, np.zeros((1, 18, 3)), np.array([0.5]), COCO_18) == []


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["COCO_val2014_000000000192.jpg", "000000000139.png"], [192, 139]),
        (["a/001.jpg", "b/001.jpg"], [0, 1]),  # the same number twice
        (["beach.jpg", "dance 12.jpg"], [0, 1]),
        ([0, 1, 2], [0, 1, 2]),
    ],
)
def test_image_ids_are_the_numbers_in_the_names_where_all_differ(names, ids):
    assert image_ids(names) == ids


def test_openpose_orders_have_neck_and_mid_hip_and_no_feet():
    """The neck is the skeleton's own, or the midpoint of the shoulders."""
    with_neck = one_person(COCO_18)
    with_neck[0, COCO_18.index("neck")] = [333, 444, 0.9]
    for skeleton, person, neck in ((COCO_18, with_neck, (333, 444, 0.9)), (COCO_17, one_person(COCO_17), (55, 27.5, 0.4321))):
        expected = [neck if name == "neck" else (10 * COCO.index(name), 5 * COCO.index(name), 0.4321) for name in OPENPOSE["COCO_18"]]
        np.testing.assert_allclose(openpose(person, skeleton), expected, atol=1e-4)
    values = openpose(person, COCO_17, "BODY_25")
    np.testing.assert_allclose(values[[7, 8, 9]], [(90, 45, 0.4321), (115, 57.5, 0.4321), (120, 60, 0.4321)], atol=1e-4)  # wrist, hips
    assert not values[19:].any()
    person[0, COCO_17.index(COCO_17.dataset["left_hip"])] = 0
    assert not openpose(person, COCO_17, "BODY_25")[8].any(), "half of a midpoint is none"


def test_openpose_of_another_skeleton_keeps_its_own_order_and_names_it():
    written = to_openpose(one_person(CROWDPOSE), CROWDPOSE, ids=np.array([3]))
    assert written["keypoints"] == list(CROWDPOSE.keypoints)
    assert (written["people"][0]["person_id"], written["people"][0]["hand_right_keypoints_3d"]) == ([3], [])
    np.testing.assert_allclose(openpose(one_person(CROWDPOSE), CROWDPOSE), round_keypoints(one_person(CROWDPOSE)[0]))


def test_csv_leaves_missing_keypoints_empty():
    person = one_person(COCO_18)
    people = [('a "b", c.jpg', person, np.array([0.5]), None), (1, person, np.array([0.25]), np.array([4]))]
    first, second = csv.DictReader(io.StringIO(to_csv(people, COCO_18)))
    assert [first[name] for name in ("image", "person", "id", "score")] == ['a "b", c.jpg', "0", "", "0.5"]
    assert [first[name] for name in ("Lwri_x", "Lwri_y", "Lwri_score", "neck_x", "neck_score")] == ["90.0", "45.0", "0.4321", "", ""]
    assert (second["image"], second["id"]) == ("1", "4")


def before_029(xy, class_id=None, confidence=None, data=None):
    return SimpleNamespace(xy=xy, class_id=class_id, of_keypoints=confidence, data=data)


def since_029(xy, class_id=None, keypoint_confidence=None, detection_confidence=None, visible=None, data=None):
    return SimpleNamespace(xy=xy, class_id=class_id, of_keypoints=keypoint_confidence, data=data)


@pytest.mark.parametrize("signature", [before_029, since_029])
def test_supervision_of_both_signatures(monkeypatch, signature):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=signature))
    people = to_supervision(one_person(COCO_18), np.array([0.5]), COCO_18, np.array([3]))
    assert (people.xy.shape, people.of_keypoints.shape, people.class_id.tolist()) == ((1, 18, 2), (1, 18), [0])
    assert people.of_keypoints[0, COCO_18.index("nose")] == np.float32(0.4321)
    assert (people.data["score"].tolist(), people.data["id"].tolist()) == ([0.5], [3])
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        to_supervision(one_person(COCO_18), np.array([0.5]), COCO_18)


def test_posetrack_json_has_the_tracked_people_of_each_frame(tmp_path):
    """Ids and names follow from the files' paths below the data set's root."""
    keypoints = np.zeros((3, 17, 3))
    keypoints[:, 6] = [[16, 32, 0.9], [17.123, 33, 0.4], [1, 1, 0.1]]
    names = [tmp_path / "images/val/012834_x/000042.jpg", tmp_path / "walk/frame.jpg"]
    people = [(keypoints, np.array([4, 0, -1])), (keypoints[:0], np.zeros(0, int))]
    frames = [(posetrack_image_name(name), *of_frame) for name, of_frame in zip(names, people)]
    result = to_posetrack(frames, load_skeleton("posetrack18"))
    assert result["categories"][0]["keypoints"] == list(POSETRACK)
    images = [(image["id"], image["file_name"]) for image in result["images"]]
    assert images == [(10128340042, "images/val/012834_x/000042.jpg"), (10000000001, "walk/frame.jpg")]
    first, second = people = result["annotations"]
    assert [(p["id"], p["image_id"], p["track_id"]) for p in people] == [(0, 10128340042, 4), (1, 10128340042, 0)], "-1: no track"
    assert (first["keypoints"][18:21], first["scores"][6], second["keypoints"][18:21]) == ([16, 32, 1], 0.9, [17.12, 33, 1])
    assert len(first["keypoints"]) == 51 and not any(first["keypoints"][:18] + first["keypoints"][21:])


def test_posetrack_json_of_another_skeleton_has_the_shared_keypoints():
    keypoints = np.zeros((1, 18, 3))
    keypoints[0, [COCO_18.index("Lwri"), COCO_18.index("Leye")]] = [5, 6, 0.5]
    (person,) = to_posetrack([(PurePath("a/b.jpg"), keypoints, np.array([0]))], COCO_18)["annotations"]
    assert np.flatnonzero(person["scores"]).tolist() == [POSETRACK.index("left_wrist")]
