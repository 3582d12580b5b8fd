"""The people of one image: unpacking, selection, boxes."""

from __future__ import annotations

import pickle

import numpy as np

from config.load import load_skeleton
from utils.predictions import PosePredictions

COCO_17 = load_skeleton("coco17")


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
    nobody = three_people().select(np.zeros(3, bool))
    assert (len(nobody), PosePredictions(*nobody, COCO_17).boxes.shape) == (0, (0, 4))


def test_selected_people_keep_their_boxes_and_ids():
    boxes = np.arange(12).reshape(3, 4)
    chosen = three_people(boxes=boxes, ids=np.array([5, -1, 2])).select(np.array([True, False, True]))
    assert (chosen.scores.tolist(), chosen.boxes.tolist(), chosen.ids.tolist()) == ([0.9, 0.3], boxes[[0, 2]].tolist(), [5, 2])
    assert chosen.keypoints[1, 4].tolist() == [7, 8, 0.5]
    assert three_people().select(np.array([1])).ids is None
