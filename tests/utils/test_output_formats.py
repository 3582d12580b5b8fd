"""People as other programs take them."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import PurePath
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile

from config import UserError
from config.load import load_skeleton
from data.formats.posetrack import KEYPOINTS as POSETRACK
from utils.output_formats import (
    COCO,
    OPENPOSE,
    image_ids,
    posetrack_image_id,
    posetrack_image_name,
    round_keypoints,
    to_coco,
    to_csv,
    to_openpose,
    to_posetrack,
    to_supervision,
)

COCO_18, COCO_17, CROWDPOSE = (load_skeleton(name) for name in ("coco", "coco17", "crowdpose"))


def somebody(skeleton, score: float = 0.4321) -> np.ndarray:
    """(1, K, 3): the keypoint that the data set has at place d is at (10 d, 5 d); those that it has not are missing."""
    person = np.zeros((1, skeleton.num_keypoints, 3), np.float32)
    for place, name in enumerate(skeleton.dataset.values()):
        person[0, skeleton.index(name)] = [10 * place, 5 * place, score]
    return person


def test_a_small_score_is_not_written_as_missing():
    values = round_keypoints(np.array([[1.234, 5.678, 1e-6], [0, 0, 0], [1, 2, 0.98765]]))
    np.testing.assert_allclose(values, [[1.23, 5.68, 1e-4], [0, 0, 0], [1, 2, 0.9877]], atol=1e-4)
    assert values[0, 2] > 0


def test_coco_results_are_in_the_data_sets_order_and_pycocotools_reads_them(tmp_path):
    for skeleton in (COCO_18, COCO_17):
        (result,) = to_coco(7, somebody(skeleton), np.array([0.5]), skeleton)
        assert (result["image_id"], result["category_id"], result["score"]) == (7, 1, 0.5)
        found = np.reshape(result["keypoints"], (17, 3))
        np.testing.assert_allclose(found, [[10 * d, 5 * d, 0.4321] for d in range(17)])
    truth = {"images": [{"id": 7}], "annotations": [], "categories": [{"id": 1, "name": "person", "keypoints": list(COCO)}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    assert CocoFile(str(tmp_path / "truth.json")).loadRes([result]).anns[1]["score"] == 0.5
    assert to_coco(7, np.zeros((1, 18, 3)), np.array([0.5]), COCO_18) == []


def test_numbers_of_images():
    assert image_ids(["COCO_val2014_000000000192.jpg", "000000000139.png"]) == [192, 139]
    assert image_ids(["a/001.jpg", "b/001.jpg"]) == [0, 1], "the same number twice"
    assert image_ids(["beach.jpg", "dance 12.jpg"]) == [0, 1]
    assert image_ids([0, 1, 2]) == [0, 1, 2]
    assert image_ids([]) == []


def test_openpose_order_where_the_names_fit():
    """Of a skeleton with a neck, and of one without, whose neck is between the shoulders."""
    with_neck = somebody(COCO_18)
    with_neck[0, COCO_18.index("neck")] = [333, 444, 0.9]
    for skeleton, person, neck in ((COCO_18, with_neck, (333, 444, 0.9)), (COCO_17, somebody(COCO_17), (55, 27.5, 0.4321))):
        written = to_openpose(person, skeleton)
        values = np.reshape(written["people"][0]["pose_keypoints_2d"], (18, 3))
        assert written["keypoints"] == list(OPENPOSE["COCO_18"])
        np.testing.assert_allclose(values[1], neck, atol=1e-4)
        for name in ("nose", "right_wrist", "left_ankle", "left_ear"):
            place = COCO.index(name)
            np.testing.assert_allclose(values[OPENPOSE["COCO_18"].index(name)], [10 * place, 5 * place, 0.4321], atol=1e-4)


def test_openposes_25_have_a_middle_of_the_hips_and_no_feet():
    person = somebody(COCO_17)
    values = np.reshape(to_openpose(person, COCO_17, "BODY_25")["people"][0]["pose_keypoints_2d"], (25, 3))
    np.testing.assert_allclose(values[8], [115, 57.5, 0.4321], atol=1e-4)
    assert not values[19:].any()
    person[0, COCO_17.index(COCO_17.dataset["left_hip"])] = 0
    values = np.reshape(to_openpose(person, COCO_17, "BODY_25")["people"][0]["pose_keypoints_2d"], (25, 3))
    assert not values[8].any(), "half of a middle is none"


def test_openpose_of_another_skeleton_keeps_its_own_order_and_says_so():
    written = to_openpose(somebody(CROWDPOSE), CROWDPOSE, ids=np.array([3]))
    assert written["keypoints"] == list(CROWDPOSE.keypoints)
    assert written["people"][0]["person_id"] == [3]
    np.testing.assert_allclose(np.reshape(written["people"][0]["pose_keypoints_2d"], (-1, 3)), round_keypoints(somebody(CROWDPOSE)[0]))


def test_a_table_that_a_spreadsheet_reads():
    person = somebody(COCO_18)
    text = to_csv([('a "b", c.jpg', person, np.array([0.5]), None), (1, person, np.array([0.25]), np.array([4]))], COCO_18)
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["image"], first["person"], first["id"], first["score"]) == ('a "b", c.jpg', "0", "", "0.5")
    assert (first["Lwri_x"], first["Lwri_y"], first["Lwri_score"]) == ("90.0", "45.0", "0.4321")
    assert first["neck_x"] == first["neck_score"] == ""
    assert (second["image"], second["id"]) == ("1", "4")


def before_029(xy, class_id=None, confidence=None, data=None):
    return SimpleNamespace(xy=xy, class_id=class_id, of_keypoints=confidence, data=data)


def since_029(xy, class_id=None, keypoint_confidence=None, detection_confidence=None, visible=None, data=None):
    return SimpleNamespace(xy=xy, class_id=class_id, of_keypoints=keypoint_confidence, data=data)


@pytest.mark.parametrize("signature", [before_029, since_029])
def test_supervision(monkeypatch, signature):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=signature))
    people = to_supervision(somebody(COCO_18), np.array([0.5]), COCO_18, np.array([3]))
    assert (people.xy.shape, people.of_keypoints.shape, people.class_id.tolist()) == ((1, 18, 2), (1, 18), [0])
    assert people.of_keypoints[0, COCO_18.index("nose")] == np.float32(0.4321)
    assert (people.data["score"].tolist(), people.data["id"].tolist()) == ([0.5], [3])
    assert to_supervision(np.zeros((0, 18, 3)), np.zeros(0), COCO_18).xy.shape == (0, 18, 2)


def test_without_supervision_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        to_supervision(somebody(COCO_18), np.array([0.5]), COCO_18)


# PoseTrack18


def test_posetrack_json_has_the_tracked_people_of_each_frame():
    skeleton = load_skeleton("posetrack18")
    keypoints = np.zeros((3, 17, 3))
    keypoints[:, 6] = [[16, 32, 0.9], [17.123, 33, 0.4], [1, 1, 0.1]]
    frames = [(PurePath("images/val/000012_x/000004.jpg"), keypoints, np.array([4, 0, -1])),
              (PurePath("images/val/000012_x/000005.jpg"), keypoints[:0], np.zeros(0, int))]  # fmt: skip
    result = to_posetrack(frames, skeleton)
    assert result["categories"][0]["keypoints"] == list(POSETRACK)
    assert [(image["id"], image["file_name"]) for image in result["images"]] == [
        (10000120004, "images/val/000012_x/000004.jpg"), (10000120005, "images/val/000012_x/000005.jpg")]  # fmt: skip
    people = result["annotations"]
    assert [(p["id"], p["image_id"], p["track_id"]) for p in people] == [(0, 10000120004, 4), (1, 10000120004, 0)], "-1: no track"
    first, second = people
    assert first["keypoints"][18:21] == [16, 32, 1] and first["scores"][6] == 0.9
    assert second["keypoints"][18:21] == [17.12, 33, 1]
    assert len(first["keypoints"]) == 51 and not any(first["keypoints"][:18] + first["keypoints"][21:])
    assert json.loads(json.dumps(result)) == result


def test_posetrack_json_of_another_skeleton_has_the_keypoints_that_both_have():
    keypoints = np.zeros((1, 18, 3))
    keypoints[0, COCO_18.index("Lwri")] = 5, 6, 0.5
    keypoints[0, COCO_18.index("Leye")] = 7, 8, 0.5
    (found,) = to_posetrack([(PurePath("a/b.jpg"), keypoints, np.array([0]))], COCO_18)["annotations"]
    place = POSETRACK.index("left_wrist")
    assert found["keypoints"][3 * place : 3 * place + 3] == [5, 6, 1]
    assert sum(score > 0 for score in found["scores"]) == 1


def test_posetrack_names_are_relative_to_the_root_and_ids_follow_from_them(tmp_path):
    name = posetrack_image_name(tmp_path / "images" / "val" / "012834_mpii_test" / "000042.jpg")
    assert name.as_posix() == "images/val/012834_mpii_test/000042.jpg"
    assert posetrack_image_id(name, 7) == 10128340042
    assert posetrack_image_name(tmp_path / "walk" / "2.jpg").as_posix() == "walk/2.jpg"
    assert posetrack_image_id(PurePath("walk/frame.jpg"), 3) == 10**10 + 3
