"""The people of one image: unpacking, selection, boxes, drawing, and their formats."""

import json
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from config import UserError
from config.load import load_skeleton
from data.formats.coco import indexed
from utils.predictions import PosePredictions, round_keypoints

COCO_18, COCO_17 = load_skeleton("coco"), load_skeleton("coco17")


def three_people(**more) -> PosePredictions:
    """Two people with two keypoints, one with a single one; missing keypoints are 0, 0, 0."""
    keypoints = np.zeros((3, 17, 3), np.float32)
    keypoints[0, :2] = [[100, 50, 0.9], [120, 90, 0.1]]
    keypoints[1, 15:] = [[-10, 10, 1], [30, 10, 1]]
    keypoints[2, 4] = [7, 8, 0.5]
    return PosePredictions(keypoints, np.array([0.9, 0.8, 0.3]), COCO_17, **more)


def test_people_unpack_as_keypoints_and_scores_and_their_number_is_the_length():
    people = three_people()
    keypoints, scores = people
    assert (keypoints is people[0] is people.keypoints, scores is people[1] is people.scores) == (True, True)
    assert (len(people), people.names[:2], len(people.names)) == (3, ("nose", "left_eye"), 17)
    assert "3 people, 17 keypoints" in repr(pickle.loads(pickle.dumps(people)))


def test_boxes_are_x_y_width_height_and_surround_the_present_keypoints():
    """The margin is a tenth of the longer side; a single keypoint has no extent."""
    np.testing.assert_allclose(three_people().boxes, [[96, 46, 28, 48], [-14, 6, 48, 8], [7, 8, 0, 0]], rtol=1e-6)
    none = three_people().select(np.zeros(3, bool))
    assert (len(none), PosePredictions(*none, COCO_17).boxes.shape) == (0, (0, 4))


def test_selected_people_keep_their_boxes_and_ids():
    boxes = np.arange(12).reshape(3, 4)
    chosen = three_people(boxes=boxes, ids=np.array([5, -1, 2])).select(np.array([True, False, True]))
    assert (chosen.scores.tolist(), chosen.boxes.tolist(), chosen.ids.tolist()) == ([0.9, 0.3], boxes[[0, 2]].tolist(), [5, 2])
    assert chosen.keypoints[1, 4].tolist() == [7, 8, 0.5]
    assert three_people().select(np.array([1])).ids is None


def test_people_are_drawn_in_the_channels_order_of_the_image(tmp_path):
    """A left keypoint is orange, a right one blue, on a gray image of any kind; the image itself does not change."""
    keypoints, orange = np.zeros((1, 17, 3), np.float32), [255, 130, 0]
    keypoints[0, COCO_17.index("left_wrist")] = [20, 10, 1]
    gray, people = np.full((30, 40, 3), 90, np.uint8), PosePredictions(keypoints, np.ones(1), COCO_17)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    for image in (gray, tmp_path / "gray.png", str(tmp_path / "gray.png")):
        assert people.draw(image)[10, 20].tolist() == orange[::-1]
    people.color = "rgb"
    assert people.draw(gray)[10, 20].tolist() == orange
    drawn = people.draw(Image.fromarray(gray[..., 0]))
    assert (drawn.mode, drawn.size, list(drawn.getpixel((20, 10)))) == ("RGB", (40, 30), orange)
    assert (gray == 90).all()
    with pytest.raises(UserError, match="expected"):
        people.draw(None)


def test_a_small_score_is_not_written_as_missing():
    values = round_keypoints(np.array([[1.234, 5.678, 1e-6], [0, 0, 0], [1, 2, 0.98768]]))
    np.testing.assert_allclose(values, [[1.23, 5.68, 1e-4], [0, 0, 0], [1, 2, 0.9877]], atol=1e-9)


def test_json_has_names_scores_boxes_and_the_ids_of_tracked_people():
    people = three_people(boxes=np.array([[1.234, -2.5, 30, 40]] * 3))
    written = json.loads(json.dumps(people.to_json()))
    assert (written["keypoints"], len(written["people"])) == (list(COCO_17.keypoints), 3)
    first = written["people"][0]
    assert (set(first), first["score"], first["box"], first["keypoints"][1]) == (
        {"score", "box", "keypoints"}, 0.9, [1.23, -2.5, 30, 40], [120, 90, 0.1],
    )  # fmt: skip
    people.ids = np.array([3, -1, 0])
    assert [person["id"] for person in people.to_json()["people"]] == [3, -1, 0]


def test_coco_results_are_in_the_data_sets_order_and_pycocotools_reads_them():
    for skeleton in (COCO_18, COCO_17):
        keypoints = np.zeros((2, skeleton.num_keypoints, 3), np.float32)  # the second person has none
        for d, name in enumerate(skeleton.dataset.values()):
            keypoints[0, skeleton.index(name)] = [10 * d, 5 * d, 0.4321]
        (result,) = PosePredictions(keypoints, np.array([0.5, 0.4]), skeleton).to_coco(7)
        assert (result["image_id"], result["category_id"], result["score"], result["bbox"]) == (7, 1, 0.5, [-16, -16, 192, 112])
        np.testing.assert_allclose(np.reshape(result["keypoints"], (17, 3)), [[10 * d, 5 * d, 0.4321] for d in range(17)])
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.dataset)}
    truth = indexed({"images": [{"id": 7}], "annotations": [], "categories": [category]})
    assert truth.loadRes([result]).anns[1]["score"] == 0.5


def test_supervision_gets_its_key_points_by_position(monkeypatch):
    """The third parameter's name differs between versions."""

    def key_points(xy, class_id, confidence, /, data):
        return SimpleNamespace(xy=xy, class_id=class_id, of_keypoints=confidence, data=data)

    people = three_people(ids=np.array([3, -1, 0]))
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=key_points))
    theirs = people.to_supervision()
    assert (theirs.xy.shape, theirs.of_keypoints.shape, theirs.class_id.tolist()) == ((3, 17, 2), (3, 17), [0, 0, 0])
    assert (theirs.xy[0, 1].tolist(), theirs.of_keypoints[0, 0]) == ([120, 90], np.float32(0.9))
    assert (theirs.data["score"].tolist(), theirs.data["id"].tolist()) == ([0.9, 0.8, 0.3], [3, -1, 0])
    np.testing.assert_array_equal(theirs.data["box"], people.boxes)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        people.to_supervision()
