"""Predictions in the formats of other programs."""

import csv
import io
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
import pytest

from config.load import load_skeleton
from data.formats.posetrack import KEYPOINTS as POSETRACK
from utils.output_formats import OPENPOSE, image_ids, posetrack_image_name, to_csv, to_mot, to_openpose, to_posetrack, to_yolo
from utils.predictions import PosePredictions, round_keypoints

COCO_18, COCO_17, CROWDPOSE = (load_skeleton(name) for name in ("coco", "coco17", "crowdpose"))
COCO = list(COCO_17.dataset)


BOX = [1.234, -2.5, 30, 40]


def one_person(skeleton, score: float = 0.5, ids: Sequence[int] | None = None) -> PosePredictions:
    """Return a person whose keypoint d, in the data set's order, is at (10 d, 5 d); those that the data set lacks are missing."""
    keypoints = np.zeros((1, skeleton.num_keypoints, 3), np.float32)
    for d, name in enumerate(skeleton.dataset.values()):
        keypoints[0, skeleton.index(name)] = [10 * d, 5 * d, 0.4321]
    return PosePredictions(keypoints, np.array([score]), skeleton, np.array([BOX]), None if ids is None else np.array(ids))


def openpose(person: PosePredictions, *layout: str) -> np.ndarray:
    """Return the one person's keypoints (J, 3) in OpenPose's JSON."""
    (written,) = to_openpose(person, *layout)["people"]
    return np.reshape(written["pose_keypoints_2d"], (-1, 3))


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
    with_neck.keypoints[0, COCO_18.index("neck")] = [333, 444, 0.9]
    person = one_person(COCO_17)
    for one, neck in ((with_neck, (333, 444, 0.9)), (person, (55, 27.5, 0.4321))):
        expected = [neck if name == "neck" else (10 * COCO.index(name), 5 * COCO.index(name), 0.4321) for name in OPENPOSE["COCO_18"]]
        np.testing.assert_allclose(openpose(one), expected, atol=1e-4)
    values = openpose(person, "BODY_25")
    np.testing.assert_allclose(values[[7, 8, 9]], [(90, 45, 0.4321), (115, 57.5, 0.4321), (120, 60, 0.4321)], atol=1e-4)  # wrist, hips
    assert not values[19:].any()
    person.keypoints[0, COCO_17.index(COCO_17.dataset["left_hip"])] = 0
    assert not openpose(person, "BODY_25")[8].any(), "half of a midpoint is none"
    for skeleton, keypoints in ((COCO_17, OPENPOSE["BODY_25"]), (CROWDPOSE, CROWDPOSE.keypoints)):
        assert to_openpose(one_person(skeleton).select(slice(0)), "BODY_25") == {"version": 1.3, "people": [], "keypoints": list(keypoints)}


def test_openpose_of_another_skeleton_keeps_its_own_order_and_names_it():
    person = one_person(CROWDPOSE, ids=[3])
    written = to_openpose(person)
    assert written["keypoints"] == list(CROWDPOSE.keypoints)
    assert (written["people"][0]["person_id"], written["people"][0]["hand_right_keypoints_3d"]) == ([3], [])
    np.testing.assert_allclose(openpose(person), round_keypoints(person.keypoints[0]))


def test_csv_leaves_missing_keypoints_empty():
    people = [('a "b", c.jpg', one_person(COCO_18)), (1, one_person(COCO_18, ids=[4]))]
    first, second = csv.DictReader(io.StringIO(to_csv(people, COCO_18)))
    assert [first[name] for name in ("image", "person", "id", "score")] == ['a "b", c.jpg', "0", "", "0.5"]
    assert [first[f"box_{name}"] for name in ("x", "y", "width", "height")] == ["1.23", "-2.5", "30.0", "40.0"]
    assert [first[name] for name in ("Lwri_x", "Lwri_y", "Lwri_score", "neck_x", "neck_score")] == ["90.0", "45.0", "0.4321", "", ""]
    assert (second["image"], second["id"]) == ("1", "4")


def test_posetrack_json_has_the_tracked_people_of_each_frame(tmp_path):
    """Ids and names follow from the files' paths below the data set's root."""
    keypoints = np.zeros((3, 17, 3))
    keypoints[:, 6] = [[16, 32, 0.9], [17.123, 33, 0.4], [1, 1, 0.1]]
    names = [tmp_path / "images/val/012834_x/000042.jpg", tmp_path / "walk/frame.jpg"]
    skeleton = load_skeleton("posetrack18")
    people = PosePredictions(keypoints, np.ones(3), skeleton, np.tile(BOX, (3, 1)), np.array([4, 0, -1]))
    frames = [(posetrack_image_name(name), of_frame) for name, of_frame in zip(names, (people, people.select(np.zeros(3, bool))))]
    result = to_posetrack(frames, skeleton)
    assert result["categories"][0]["keypoints"] == list(POSETRACK)
    images = [(image["id"], image["file_name"]) for image in result["images"]]
    assert images == [(10128340042, "images/val/012834_x/000042.jpg"), (10000000001, "walk/frame.jpg")]
    first, second = people = result["annotations"]
    assert [(p["id"], p["image_id"], p["track_id"]) for p in people] == [(0, 10128340042, 4), (1, 10128340042, 0)], "-1: no track"
    assert (first["keypoints"][18:21], first["scores"][6], second["keypoints"][18:21]) == ([16, 32, 1], 0.9, [17.12, 33, 1])
    assert first["bbox"] == [1.23, -2.5, 30, 40]
    assert len(first["keypoints"]) == 51 and not any(first["keypoints"][:18] + first["keypoints"][21:])


def test_posetrack_json_of_another_skeleton_has_the_shared_keypoints():
    keypoints = np.zeros((1, 18, 3))
    keypoints[0, [COCO_18.index("Lwri"), COCO_18.index("Leye")]] = [5, 6, 0.5]
    people = PosePredictions(keypoints, np.ones(1), COCO_18, ids=np.array([0]))
    (person,) = to_posetrack([(PurePath("a/b.jpg"), people)], COCO_18)["annotations"]
    assert np.flatnonzero(person["scores"]).tolist() == [POSETRACK.index("left_wrist")]


def test_yolo_has_the_data_sets_order_and_fractions_of_the_image():
    """The box is the part in the image, and a missing keypoint 0 0 0."""
    person = one_person(COCO_18)
    person.keypoints[0, COCO_18.index("Lsho")] = 0
    lines = to_yolo(person, (50, 200)).splitlines()
    (label, *box), keypoints = np.split(np.array(lines[0].split(), float), [5])
    assert (len(lines), label) == (1, 0)
    np.testing.assert_allclose(box, [16.234 / 200, 18.75 / 50, 30 / 200, 37.5 / 50], atol=1e-6)
    expected = [(10 * d / 200, 5 * d / 50, 0.4321) if name != "left_shoulder" else (0, 0, 0) for d, name in enumerate(COCO)]
    np.testing.assert_allclose(keypoints.reshape(-1, 3), expected, atol=1e-6)
    assert to_yolo(person.select(np.zeros(1, bool)), (50, 200)) == ""


def test_mot_has_a_line_for_each_person_of_a_track():
    people = [one_person(COCO_17, 0.71239, ids=[4]), one_person(COCO_17, ids=[-1]), one_person(COCO_17, ids=[0])]
    assert to_mot(enumerate(people, start=1)) == "1,4,1.23,-2.5,30.0,40.0,0.7124,-1,-1,-1\n3,0,1.23,-2.5,30.0,40.0,0.5,-1,-1,-1\n"
