"""The people of annotation files: which categories they are of, how their keypoints are named, and what looks wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people import NAMES, SKELETON, person, write_coco

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.people import AnnotatedPeople, boxes_as_corners
from data.hdf5 import TrainingHDF5
from utils.evaluation.coco import CocoMetric, GroundTruth

PLAYER = {"id": 1, "name": "player", "keypoints": NAMES}
REFEREE = {"id": 7, "name": "referee", "keypoints": NAMES[::-1]}


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a file of one image with these people and categories; None: no categories."""

    def write(people: list[dict], categories: list[dict] | None) -> Path:
        path = write_coco(tmp_path, people)[0]
        content = json.loads(path.read_text())
        content["categories"] = categories
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return path

    return write


def load(path: Path, **options: bool) -> tuple[AnnotatedPeople, list[str]]:
    """Return the people and the lines about what was fixed."""
    fixes = AnnotationFixes()
    people = load_annotations(path, SKELETON, fixes=fixes, **options)
    return people, [f"{len(places)} x {problem}" for problem, places in fixes.found.items()]


def test_all_categories_with_the_skeletons_keypoints_are_people_in_builder_and_evaluation(write, tmp_path):
    """An empty category comes first; one has another order of keypoints; others have none or few of them, and are listed."""
    reversed_keypoints = np.reshape(person(60, 60)["keypoints"], (17, 3))[::-1].ravel().tolist()
    people = [person(10, 10, category_id=3), person(60, 60, category_id=7, keypoints=reversed_keypoints), person(30, 40, category_id=3)]
    others = [{"category_id": 4, "bbox": "none"}, {"category_id": 5, "keypoints": [1, 2, 2, 3, 4, 2]}, {"category_id": 4, "iscrowd": 9}]
    categories = [PLAYER, {**PLAYER, "id": 3}, REFEREE, {"id": 4, "name": "ball"}, {"id": 5, "name": "dog", "keypoints": ["nose", "tail"]}]
    path = write([*people, *others], categories)
    annotated, lines = load(path)
    assert [person["keypoints"][:2].tolist() for person in annotated.coco.dataset["annotations"]] == [[10, 10], [60, 60], [30, 40]]
    assert annotated.category == 3, "which most are of"
    left_out = [f"{count} x omitted: its category {name!r} has not the skeleton's keypoints" for count, name in ((2, "ball"), (1, "dog"))]
    assert lines == left_out
    assert build_hdf5(path, tmp_path / "images", tmp_path / "out.h5", SKELETON, workers=1).people == 3
    truth, results = GroundTruth(path, None, SKELETON), tmp_path / "results.json"
    entries = [{"image_id": 0, "category_id": one["category_id"], "keypoints": one["keypoints"], "score": 1} for one in people]
    results.write_text(json.dumps(entries))
    assert CocoMetric().compute(CocoMetric().load_results(results, truth), truth)["AP"] == 1


@pytest.mark.parametrize("eye", ["left eye", "left-eye", "Left Eye", "LEFT_EYE", " left_eye ", "leftEye"])
def test_names_in_another_spelling_are_the_skeletons(write, eye):
    names = [eye if name == "left_eye" else name for name in NAMES]
    path = write([person(10, 10)], [{**PLAYER, "keypoints": names}])
    annotated, lines = load(path)
    assert annotated.names == NAMES and load_annotations(path).skeleton.name == "coco"
    assert lines == [f"1 x has keypoints in another spelling, such as {eye!r}"]


def test_two_spellings_of_one_keypoint_are_refused(write):
    names = ["Left Ear" if name == "left_eye" else name for name in NAMES]
    with pytest.raises(UserError, match="category 1: its keypoints 'Left Ear' and 'left_ear' are the same one"):
        load(write([person(10, 10)], [{**PLAYER, "keypoints": names}]))


@pytest.mark.parametrize("categories", [[{"id": 1, "name": "person"}], [{**PLAYER, "keypoints": []}], None])
def test_a_category_without_names_has_the_skeletons_if_asked_for(write, categories):
    path = write([person(10, 10), person(30, 30)], categories)
    with pytest.raises(UserError, match=r"category 1 has no names of its keypoints; if .* in its order, add --names-from-skeleton"):
        load(path)
    annotated, _ = load(path, names_from_skeleton=True)
    assert annotated.names == NAMES and len(annotated.coco.anns) == 2 and annotated.num_keypoints == 17
    few = write([person(10, 10, keypoints=[1, 2, 2] * 13)], categories)
    for allowed in (True, False):
        with pytest.raises(UserError, match="annotation 1: 39 keypoint numbers without names, the skeleton has 17 keypoints"):
            load(few, names_from_skeleton=allowed)


def test_ids_that_are_names_come_back_in_results(tmp_path):
    path, _ = write_coco(tmp_path, [person(10, 10)], [person(30, 30)])
    content = json.loads(path.read_text())
    for entry in (*content["images"], *content["annotations"]):
        entry.update({key: f"match-{entry[key]}" for key in ("id", "image_id") if key in entry})
    path.write_text(json.dumps(content))
    truth, metric, pose = GroundTruth(path, None, SKELETON), CocoMetric(), np.zeros((1, 18, 3))
    pose[..., :] = 5
    number = min(truth.coco.imgs)
    results = truth.with_file_ids(metric.to_results(truth, number, (pose, np.ones(1))))
    assert [result["image_id"] for result in results] == ["match-0"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert [entry["image_id"] for entry in metric.load_results(tmp_path / "results.json", truth)] == [number]


def test_boxes_as_corners_are_named_once_there_are_several(write):
    def corners(x: float, y: float) -> dict:
        return person(x, y, bbox=[x, y, x + 20, y + 20], area=300)

    people = [corners(30, 60), corners(70, 50), corners(120, 90)]
    assert load(write(people, [PLAYER]))[1] == ["3 x its 'bbox' looks like x1, y1, x2, y2, not x, y, width, height: used as it is"]
    assert load(write(people[:2], [PLAYER]))[1] == []
    assert load(write([person(5 + 40 * n, 80) for n in range(3)], [PLAYER]))[1] == []


@pytest.mark.parametrize(("side", "named"), [(58, False), (59, True), (78, True), (79, False), (100, False)])
def test_boxes_as_corners_lie_in_the_image_and_leave_it_otherwise(side, named):
    """As corners the box ends at 60, as x, y, width, height at 80; a pixel beyond the image is allowed."""
    boxes, points = np.full((3, 4), [20.0, 20, 60, 60]), np.full((3, 2, 2), [[[20.0, 20], [60, 60]]])
    assert boxes_as_corners(boxes, points, np.ones((3, 2), bool), np.full((3, 2), side)).tolist() == [named] * 3


@pytest.mark.parametrize(("start", "named"), [(23, True), (25, False)])
def test_keypoints_may_lie_a_tenth_of_their_extent_outside_of_corners(start, named):
    """They reach from 20 to 60, and the corners from `start` to 60."""
    boxes, points = np.full((3, 4), [start, start, 60.0, 60]), np.full((3, 2, 2), [[[20.0, 20], [60, 60]]])
    assert boxes_as_corners(boxes, points, np.ones((3, 2), bool), np.full((3, 2), 70)).tolist() == [named] * 3


@pytest.mark.parametrize(("others", "named"), [(7, 3), (8, 0)])
def test_boxes_as_corners_are_named_from_three_tenths_of_the_people_on(others, named):
    points = np.full((3 + others, 2, 2), [[[20.0, 20], [60, 60]]])
    boxes = np.array([[20.0, 20, 60, 60]] * 3 + [[20.0, 20, 40, 40]] * others)
    assert boxes_as_corners(boxes, points, np.ones((3 + others, 2), bool), np.full((3 + others, 2), 70)).sum() == named


def test_crowds_and_people_without_keypoints_count_neither_way_for_boxes_as_corners(write):
    corners = [{"bbox": [x, 50, x + 20, 70], "area": 300} for x in (30, 70, 120)]
    people = [person(30, 50, **corners[0]), person(70, 50, **corners[1]), person(120, 50, iscrowd=1, **corners[2])]
    assert load(write(people, [PLAYER]))[1] == []


def test_a_box_without_width_or_height_is_made_of_the_keypoints(write):
    """With a margin of 0.15 of their extent, which is at least one pixel."""
    one = person(10, 20, visible=1, segmentation=None)
    people = [{**one, "bbox": box} for box in ([10, 20, 0, 9], [10, 20, 9, 0])] + [person(30, 40, bbox=None, segmentation=None)]
    boxes = [person["bbox"] for person in load(write(people, [PLAYER]))[0].coco.dataset["annotations"]]
    np.testing.assert_allclose(boxes, [[9.35, 19.35, 1.3, 1.3]] * 2 + [[27.6, 37.6, 20.8, 20.8]])


def test_a_file_of_images_alone_has_the_category_and_keypoints_of_cocos_server(write):
    annotated, _ = load(write([], []))
    assert annotated.category == 1 and annotated.orders[1].tolist() == list(range(17)) and annotated.num_keypoints == 17
    assert annotated.ids == {"image_id": {0: 0}, "category_id": {1: 1}} and annotated.joints([]).shape == (0, 17, 3)


def test_unlabeled_keypoints_that_are_written_as_labeled_at_0_0_are_named(write, tmp_path):
    def zeros(count: int) -> dict:
        return person(10, 10, keypoints=[*[0, 0, 2] * count, *person(10, 10)["keypoints"][3 * count :]])

    path = write([zeros(5), zeros(1), zeros(2), person(9, 9)], [PLAYER])
    assert load(path)[1] == ["2 x has keypoints that are labeled at 0, 0, 7 in all: used as they are"]
    with pytest.raises(UserError, match=r"annotation 1: has keypoints .*--strict"):
        build_hdf5(path, tmp_path / "images", tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    build_hdf5(path, tmp_path / "images", tmp_path / "out.h5", SKELETON, workers=1)
    assert TrainingHDF5(tmp_path / "out.h5", SKELETON).num_labeled.tolist() == [17] * 4


def test_an_outline_with_a_number_beyond_any_float_makes_no_box(write):
    annotated, _ = load(write([person(10, 10, bbox=[10, 10, 0, 0], segmentation=[[10**400, 0, 9, 0, 9, 9]])], [PLAYER]))
    assert (np.array(annotated.coco.dataset["annotations"][0]["bbox"]) < 100).all(), "of the keypoints instead"
