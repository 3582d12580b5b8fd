"""evaluate.py with a pose system that must be told where people are: annotated boxes, a detector's, and what goes wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from needing_boxes import VALUES, registered, write_checkpoint
from people import crowd_file

from config import UserError
from config.load import load_skeleton, parse_config
from utils.evaluation import load_task
from utils.inference import PoseEstimator

SKELETON = load_skeleton("coco17")


@pytest.fixture(scope="module", autouse=True)
def system():
    with registered():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pth")


@pytest.fixture
def evaluate(checkpoint, annotations, images, tmp_path):
    """The arguments of evaluate.py on the drawn people, with some of them replaced."""
    usual = {"checkpoint": checkpoint, "annotations": annotations, "images": images, "output": tmp_path / "out"}

    def words(**replaced: object) -> list[object]:
        return ["evaluate.py", *(word for name, value in {**usual, **replaced}.items() for word in (f"--{name}", value))]

    return words


@pytest.fixture
def told(monkeypatch) -> list[np.ndarray]:
    """The boxes of each image that the estimator was given."""
    given, plain = [], PoseEstimator.batch
    monkeypatch.setattr(PoseEstimator, "batch", lambda self, images, boxes: given.extend(boxes) or plain(self, images, boxes))
    return given


@pytest.fixture
def detected(annotations, tmp_path) -> Path:
    """A detector's boxes in half of the images, and in one that is unknown."""
    box = {"category_id": 1, "bbox": [10, 20, 60, 80]}
    boxes = [{**box, "image_id": n, "score": score} for n in (1, 2, 3, 4) for score in (0.9, 0.4, 0.0)]
    path = tmp_path / "found.json"
    path.write_text(json.dumps([*boxes, {**box, "image_id": 999, "score": 1}]))
    return path


def read(path: Path):
    return json.loads(path.read_text())


def test_annotated_boxes_are_the_usual_ones(run, evaluate, told, annotations, tmp_path):
    """Of people who are no crowds and have keypoints: the first two are not of them."""
    content = read(annotations)
    crowd, hidden, *people = content["annotations"]
    crowd["iscrowd"], hidden["keypoints"], hidden["num_keypoints"] = 1, [0] * 51, 0
    (tmp_path / "people.json").write_text(json.dumps(content))
    ended = run(*evaluate(annotations=tmp_path / "people.json"), "--batch-size", 3)
    assert ended.status == 0, ended.err
    expected = [[[*a["bbox"], 1] for a in people if a["image_id"] == image_id] for image_id in range(1, 9)]
    assert [boxes.tolist() for boxes in told] == expected
    detections = read(tmp_path / "out" / "detections.json")
    assert [sum(d["image_id"] == n for d in detections) for n in range(1, 9)] == [len(boxes) for boxes in expected]
    assert (tmp_path / "out" / "figures.json").exists()


def test_a_detectors_boxes_take_their_place(run, evaluate, told, detected, tmp_path):
    ended = run(*evaluate(boxes=detected))
    assert ended.status == 0, ended.err
    assert "found.json: 1 of 13 boxes were left out: of images that the annotation file does not list" in ended.err
    box = [10, 20, 60, 80]
    assert [boxes.tolist() for boxes in told] == 4 * [[[*box, 0.9], [*box, 0.4]]] + 4 * [[]]
    assert {boxes.shape[1] for boxes in told} == {5}
    detections = read(tmp_path / "out" / "detections.json")
    assert [d["image_id"] for d in detections] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert detections[0]["score"] * 0.4 == pytest.approx(detections[1]["score"] * 0.9)


def test_boxes_of_images_beyond_the_limit_are_none_of_unknown_images(run, evaluate, told, detected):
    ended = run(*evaluate(boxes=detected), "--limit", 2)
    assert (ended.status, len(told), "1 of 13 boxes" in ended.err) == (0, 2, True)


def test_crowdposes_people_too(annotations, images, tmp_path):
    task = load_task(crowd_file(annotations, tmp_path / "crowded.json"), images, load_skeleton("crowdpose"))
    for image_id in range(1, 9):
        of_image = [a for a in read(tmp_path / "crowded.json")["annotations"] if a["image_id"] == image_id and a["num_keypoints"]]
        assert task.boxes(image_id).tolist() == [[*a["bbox"], 1] for a in of_image]


def test_an_image_without_people_has_no_boxes(annotations, images, tmp_path):
    content = read(annotations)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 1]
    (tmp_path / "nobody.json").write_text(json.dumps(content))
    assert load_task(tmp_path / "nobody.json", images, SKELETON).boxes(1).shape == (0, 5)


def test_without_annotations_boxes_must_be_given(run, fails, evaluate, annotations, detected, tmp_path):
    (tmp_path / "info.json").write_text(json.dumps({"images": read(annotations)["images"]}))
    assert "info.json has no annotations: give a detector's --boxes FILE" in fails(*evaluate(annotations=tmp_path / "info.json"))
    ended = run(*evaluate(annotations=tmp_path / "info.json", boxes=detected))
    assert ended.status == 0, ended.err
    assert len(read(tmp_path / "out" / "detections.json")) == 8


def test_a_system_that_finds_people_itself_takes_no_boxes(fails, evaluate, trained, detected):
    message = fails(*evaluate(checkpoint=trained / "best.pth", boxes=detected))
    assert f"--boxes {detected}: system 'simplepose' finds people by itself; leave it out" in message


def test_a_file_that_is_none_of_boxes(fails, evaluate, annotations, tmp_path):
    assert f"boxes file {annotations}: not a file of detections" in fails(*evaluate(boxes=annotations))
    assert "nowhere.json: not found" in fails(*evaluate(boxes=tmp_path / "nowhere.json"))


def test_other_boxes_start_an_interrupted_evaluation_anew(run, evaluate, told, detected, monkeypatch, tmp_path):
    """Also where the file was replaced by one of the same name and size; with the same ones it goes on."""
    plain = PoseEstimator.batch

    def interrupted(**replaced: object) -> None:
        def estimate(self, images, boxes):
            if len(told) == 3:
                raise KeyboardInterrupt
            return plain(self, images, boxes)

        told.clear()
        with monkeypatch.context() as patch:
            patch.setattr(PoseEstimator, "batch", estimate)
            assert run(*evaluate(**replaced), "--batch-size", 1).status == 130
        told.clear()

    for first, then, waiting in (({}, {}, 5), ({}, {"boxes": detected}, 8), ({"boxes": detected}, {"boxes": detected}, 5)):
        interrupted(**first)
        assert run(*evaluate(**then)).status == 0
        assert len(told) == waiting
    interrupted(boxes=detected)
    os.utime(detected, ns=(1, 1))
    assert run(*evaluate(boxes=detected)).status == 0
    assert len(told) == 8


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros(4),
        np.zeros((2, 3)),
        np.zeros((2, 6)),
        np.zeros((1, 2, 4)),
        np.array([[1, 2, np.nan, 4]]),
        np.array([[1, 2, 3, 4, np.inf]]),
        np.array([["a", "b", "c", "d"]]),
        [[1, 2, 3, 4], [1, 2, 3]],
    ],
    ids=str,
)
def test_boxes_from_python_are_checked(checkpoint, boxes):
    estimator = PoseEstimator(parse_config(VALUES, "tiny"), checkpoint)
    picture = np.zeros((40, 50, 3), np.uint8)
    with pytest.raises(UserError, match=r"boxes .*: expected \(B, 4\) or \(B, 5\), x, y, width, height and maybe a score, finite") as error:
        estimator.batch([picture, picture], [np.zeros((0, 4)), boxes])
    assert "\n" not in str(error.value)


def test_boxes_from_python_may_be_lists(checkpoint):
    estimator = PoseEstimator(parse_config(VALUES, "tiny"), checkpoint)
    keypoints, scores = estimator(np.zeros((40, 50, 3), np.uint8), [[0, 0, 50, 40, 1.0], [5, 5, 20, 20, 0.5], [60, 5, 20, 20, 0.5]])
    assert (keypoints.shape, scores.shape) == ((2, 17, 3), (2,))
