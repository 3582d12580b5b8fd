"""Labels of images by networks: near the truth, annotations stay, unsure people and keypoints are missing, interrupted runs continue."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disk import read
from places import ROOT

from config import UserError, load_config
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations
from models import build_model
from utils.bundled_model import DEFAULT
from utils.checkpoint import save_checkpoint
from utils.label import LabeledImage, Teacher, Thresholds, label_image, read_annotations
from utils.oks import pose_similarity
from utils.predictions import AREA_OF_BOX, PosePredictions, merge_passes
from utils.results_log import ResultsLog

SKELETON = load_skeleton("coco17")
SIGMAS = SKELETON.oks_sigmas
BODY = slice(5, 17)  # of COCO's keypoints, all but the face
THRESHOLDS = Thresholds(min_score=0.5, crowd_score=0.2, keypoint_score=0.3, same=0.5)
LIMIT = 4  # images
FAST = ("--scales", 1, "--no-flip", "--min-score", 0.2, "--crowd-score", 0.1)


def joints_of(people: list[dict]) -> np.ndarray:
    return np.array([person["keypoints"] for person in people], float).reshape(-1, 17, 3)


def person(x: float, y: float, score: float, keypoint_scores: np.ndarray | float = 0.9) -> PosePredictions:
    """Return one predicted person of 40 x 80 pixels with the left upper corner at x, y."""
    points = np.random.default_rng(0).random((1, 17, 2)) * (40, 80) + (x, y)
    keypoints = np.concatenate([points, np.broadcast_to(keypoint_scores, (1, 17))[..., None]], 2)
    return PosePredictions(keypoints * (keypoints[..., 2:] > 0), np.array([score]), SKELETON, np.array([[x, y, 40.0, 80.0]]))


def labeled(
    people: PosePredictions,
    joints: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    size: tuple = (200, 300),
    thresholds: Thresholds = THRESHOLDS,
) -> dict:
    joints = np.zeros((0, 17, 3)) if joints is None else joints
    boxes = np.zeros((len(joints), 4)) if boxes is None else boxes
    return label_image(LabeledImage(people, size), joints, boxes, np.full(len(joints), 1600.0), thresholds)


@pytest.fixture
def label(run, images, tmp_path):
    """A function that labels the synthetic images with the bundled network and returns the file's content and the output."""

    def start(*options: object, folder: Path = images, status: int = 0) -> tuple[dict, str]:
        output = tmp_path / "labels.json"
        ended = run("utils/label.py", "--checkpoint", DEFAULT, "--images", folder, "--output", output, *FAST, *options)
        assert ended.status == status, ended.err
        return read(output), ended.out + ended.err

    return start


# One image


def test_the_best_prediction_of_a_person_remains():
    """Also where one has only some of the keypoints; people who share none stay."""
    half = np.where(np.arange(17) < 8, 0.9, 0)
    merged = merge_passes([person(10, 10, 0.6), person(11, 10, 0.8), person(10, 11, 0.7, half), person(150, 10, 0.3)], 0.5)
    assert merged.scores.tolist() == [0.8, 0.3]
    assert merged.boxes[:, 0].tolist() == [11, 150]
    others = merge_passes([person(10, 10, 0.6, half), person(10, 10, 0.8, 0.9 - half)], 0.5)
    assert len(others) == 2


def test_unsure_keypoints_are_unlabeled_and_unsure_people_are_crowd_regions():
    scores = np.where(np.arange(17) % 2, 0.9, 0.29)
    (sure,) = labeled(person(10, 10, 0.5, scores))["people"]
    assert (sure["iscrowd"], sure["score"], sure["bbox"]) == (0, 0.5, [10, 10, 40, 80])
    assert joints_of([sure])[0, :, 2].tolist() == [0, 2] * 8 + [0]
    assert joints_of([sure])[0, 1, :2] == pytest.approx(person(10, 10, 1).keypoints[0, 1, :2], abs=0.005)
    for unsure in (person(10, 10, 0.49), person(10, 10, 0.2), person(10, 10, 0.9, np.where(np.arange(17) < 2, 0.9, 0.1))):
        (region,) = labeled(unsure)["people"]
        assert (region["iscrowd"], region["bbox"], any(region["keypoints"])) == (1, [10, 10, 40, 80], False)
    assert labeled(person(10, 10, 0.19))["people"] == []


def test_nothing_is_labeled_outside_of_the_image():
    (cut,) = labeled(person(-20, 10, 0.9), size=(60, 300))["people"]
    points = joints_of([cut])[0]
    inside = ((person(-20, 10, 1).keypoints[0, :, :2] >= 0) & (person(-20, 10, 1).keypoints[0, :, 1:2] <= 59)).all(1)
    assert (points[:, 2] > 0).tolist() == inside.tolist()
    assert cut["bbox"] == [0, 10, 20, 50]
    corners = person(10, 10, 0.9)
    corners.keypoints[0, :3, :2] = (299, 199), (299.01, 199), (299, 199.01)  # pixel centers end there
    assert joints_of(labeled(corners)["people"])[0, :4, 2].tolist() == [2, 0, 0, 2]


def test_an_annotated_person_gets_what_is_lacking_once_and_stays_otherwise():
    joints = np.zeros((2, 17, 3))
    joints[0, BODY] = person(12, 10, 1).keypoints[0, BODY]
    joints[0, BODY, 2] = 1
    boxes = np.array([[10, 10, 40, 80], [150, 10, 42, 80]], float)  # the second one has a box only
    people = merge_passes([person(10, 10, 0.3), person(150, 10, 0.4), person(200, 100, 0.9)], 0.5)
    again = PosePredictions(
        *(np.concatenate([getattr(p, name) for p in (people, person(13, 10, 0.2))]) for name in ("keypoints", "scores")), SKELETON
    )
    result = labeled(again, joints, boxes)
    filled = np.reshape(result["filled"], (2, 17, 3))
    assert (filled[0, BODY] == joints[0, BODY]).all()
    assert filled[0, :5, :2] == pytest.approx(person(10, 10, 1).keypoints[0, :5, :2], abs=0.005)
    assert filled[1, :, :2] == pytest.approx(person(150, 10, 1).keypoints[0, :, :2], abs=0.005)
    assert [one["score"] for one in result["people"]] == [0.9]


def test_an_annotated_keypoint_may_move_to_a_similar_sure_one():
    joints = person(10, 10, 1).keypoints
    joints[..., 2] = 1
    joints[0, 5, 0] += 2  # of 40 pixels, the root of the area
    joints[0, 6, 0] += 20
    joints[0, 7, 0] += 2  # the prediction there is unsure
    unsure = np.where(np.arange(17) == 7, 0.2, 0.9)
    result = labeled(person(10, 10, 0.9, unsure), joints, thresholds=replace(THRESHOLDS, agree=0.5))
    expected = joints[0].copy()
    expected[5, 0] -= 2
    assert np.reshape(result["filled"], (17, 3))[:, :2] == pytest.approx(expected[:, :2], abs=0.005)


# Whole files


def test_labels_are_near_the_truth_and_train(label, images, annotations, tmp_path):
    """Images that cannot be read are named and skipped."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in images.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / os.fsdecode(b"broken\xff.jpg")).write_bytes(b"no image")  # no UTF-8
    content, said = label(folder=folder, status=2)
    assert r"broken\udcff.jpg: cannot be decoded" in said and "1 of 9 images cannot be read" in said
    truth, names = read(annotations), {image["id"]: image["file_name"] for image in content["images"]}
    assert [names[1], len(names)] == ["000000000001.jpg", 8]
    found, people = 0, [person for person in truth["annotations"] if person["num_keypoints"] >= 8]
    for one in people:
        file_name = next(image["file_name"] for image in truth["images"] if image["id"] == one["image_id"])
        same = [p for p in content["annotations"] if names[p["image_id"]] == file_name and not p["iscrowd"]]
        found += bool((pose_similarity(joints_of(same), joints_of([one]), np.array([one["area"]]), SIGMAS) > 0.5).any())
    assert found >= 0.5 * len(people)
    assert {person["iscrowd"] for person in content["annotations"]} == {0, 1}
    for one in content["annotations"]:
        assert one["area"] == pytest.approx(AREA_OF_BOX * one["bbox"][2] * one["bbox"][3], abs=0.01)
    report = build_hdf5(tmp_path / "labels.json", folder, tmp_path / "labels.h5", load_skeleton("coco"), workers=1, strict=True)
    assert report.people == sum(not person["iscrowd"] for person in content["annotations"])
    assert [path.name for path in tmp_path.glob("*partial*")] == []


def test_annotations_stay_and_get_faces_and_the_people_who_lack(label, annotations, tmp_path):
    """The file labels 12 keypoints, has a key of its own, and lacks a person that the network finds."""
    truth = read(annotations)
    whole = {one["id"]: joints_of([one]) for one in truth["annotations"]}
    alone = [one for one in label("--limit", LIMIT)[0]["annotations"] if not one["iscrowd"]]

    def likeness(one: dict, people: list[dict]) -> float:
        same = [other for other in people if other["image_id"] == one["image_id"]]
        return pose_similarity(joints_of(same), whole[one["id"]], np.array([one["area"]]), SIGMAS).max(initial=0)

    dropped = max(truth["annotations"], key=lambda one: likeness(one, alone))
    truth["annotations"].remove(dropped)
    for one in truth["annotations"]:
        joints = joints_of([one])[0, BODY]
        one |= {"keypoints": joints.ravel().tolist(), "num_keypoints": int((joints[:, 2] > 0).sum()), "note": "mine"}
    regions = [{**truth["annotations"][0], "id": 10**6 + n, "image_id": n, "iscrowd": 1, "keypoints": [0] * 36} for n in (1, LIMIT + 1)]
    truth["annotations"] += [{**region, "num_keypoints": 0, "segmentation": []} for region in regions]
    truth["categories"][0] |= {"keypoints": truth["categories"][0]["keypoints"][BODY], "skeleton": []}
    (tmp_path / "body.json").write_text(json.dumps(truth))
    content, said = label("--annotations", tmp_path / "body.json", "--limit", LIMIT, "--drop-crowds")
    truth["annotations"].pop(-2)  # the crowd region of a labeled image
    before, after = truth["annotations"], content["annotations"][: len(truth["annotations"])]
    assert [one["id"] for one in after] == [one["id"] for one in before] and {one["note"] for one in after} == {"mine"}
    joints, body = joints_of(after), np.array([one["keypoints"] for one in before]).reshape(-1, 12, 3)
    assert (joints[:, BODY][body[..., 2] > 0] == body[body[..., 2] > 0]).all()
    assert (joints[:, :5, 2] > 0).any()
    for one, old, points in zip(after, before, joints):
        corners, new = np.reshape(one["bbox"], (2, 2)).cumsum(0), points[points[:, 2] > 0, :2]
        assert one["num_keypoints"] == len(new)
        if (points[:, 2] > 0).sum() > old["num_keypoints"]:
            assert (np.reshape(old["bbox"], (2, 2)).cumsum(0)[1] <= corners[1] + 0.01).all()
    added = [one for one in content["annotations"][len(before) :] if not one["iscrowd"]]
    assert likeness(dropped, added) > 0.5
    assert "completed people" in said
    assert load_annotations(tmp_path / "labels.json", SKELETON).names == list(SKELETON.dataset)


def test_an_interrupted_run_continues(label, tmp_path, monkeypatch):
    few = ("--limit", LIMIT, "--batch-size", 2)
    content, _ = label(*few)
    (tmp_path / "labels.json").unlink()
    add, done = ResultsLog.add, []

    def add_some(log: ResultsLog, image_id: int, result: dict) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(image_id)
        add(log, image_id, result)

    with monkeypatch.context() as patched, pytest.raises(FileNotFoundError):
        patched.setattr(ResultsLog, "add", add_some)
        label(*few, status=130)
    monkeypatch.setattr(ResultsLog, "add", lambda log, image_id, result: (done.append(image_id), add(log, image_id, result)))
    assert label(*few)[0] == content
    assert sorted(done) == [1, 2, 3, 3, 4]  # a batch is run as a whole


@pytest.fixture(scope="module")
def top_down(tmp_path_factory) -> Path:
    """A top-down network with random weights."""
    config = load_config(ROOT / "config" / "simple_baselines_quickstart.yaml")
    path = tmp_path_factory.mktemp("top_down") / "network.pth"
    save_checkpoint(path, weights=build_model(config).state_dict(), config=config.model_dump(mode="json"))
    return path


def test_a_top_down_network_labels_the_boxes_of_annotations_and_of_another_network(label, run, annotations, images, top_down, tmp_path):
    """All its keypoints lie in the crops of the boxes, which are its people's."""
    truth = read(annotations)
    few = {image["id"] for image in truth["images"][:LIMIT]}
    boxes = [{**one, "keypoints": [0] * 51, "num_keypoints": 0} for one in truth["annotations"] if one["image_id"] in few]
    truth |= {"images": truth["images"][:LIMIT], "annotations": boxes}
    (tmp_path / "boxes.json").write_text(json.dumps(truth))
    options = ("--images", images, "--output", tmp_path / "labels.json", "--keypoint-score", 0, "--no-flip")
    ended = run("utils/label.py", "--checkpoint", top_down, *options, "--annotations", tmp_path / "boxes.json")
    assert ended.status == 0, ended.err
    people = [one for one in read(tmp_path / "labels.json")["annotations"] if not one["iscrowd"]]
    assert len(people) == len(boxes) and sum(one["num_keypoints"] > 0 for one in people) > 0.7 * len(people)
    options = (*FAST, "--crowd-score", 0, "--limit", LIMIT)
    alone = {str(one["bbox"]) for one in label(*options)[0]["annotations"]}
    ended = run("utils/label.py", "--checkpoint", DEFAULT, top_down, "--images", images, "--output", tmp_path / "both.json", *options)
    assert ended.status == 0, ended.err
    both = read(tmp_path / "both.json")["annotations"]
    assert both and {str(one["bbox"]) for one in both} <= alone


def test_a_refined_persons_score_is_on_the_scale_of_one_network():
    """The thresholds are for one network's scores; a top-down one multiplies the box's with its own."""
    people = PosePredictions(np.ones((1, 17, 3)), np.array([0.6]), load_skeleton("coco17"))
    teacher = object.__new__(Teacher)
    teacher.passes, teacher.same = [lambda images: [people]], 0.5
    teacher.refiner = lambda images, boxes: [replace(people, scores=0.6 * boxes[0][:, 4])]
    (labeled,) = teacher([np.zeros((9, 9, 3), np.uint8)], [np.zeros((0, 5))])
    assert labeled.people.scores == pytest.approx([0.6])


def test_what_cannot_be_labeled_is_refused(fails, images, annotations, top_down, tmp_path):
    def error(*options: object, checkpoint: tuple = (DEFAULT,), folder: Path = images) -> str:
        given = ("--checkpoint", *checkpoint, "--images", folder)
        return fails("utils/label.py", *given, "--output", tmp_path / "labels.json", *options)

    assert "needs person boxes" in error(checkpoint=(top_down,))
    assert "expected a bottom-up network, a bottom-up and a top-down one" in error(checkpoint=(DEFAULT, DEFAULT))
    assert "hold no image" in error(folder=tmp_path)
    assert "--scales 0.0: expected numbers above 0" in error("--scales", 0)
    assert "--scales inf: expected numbers above 0" in error("--scales", "inf")
    assert "would overwrite the input" in error("--annotations", annotations, "--output", annotations)


def test_keypoints_that_the_networks_lack_are_not_lost(annotations, images, tmp_path):
    content = read(annotations)
    content["categories"][0]["keypoints"].append("left_toe")
    for one in content["annotations"]:
        one["keypoints"] += [0, 0, 0]
    (tmp_path / "toes.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the networks lack its keypoints left_toe, which would be lost"):
        read_annotations(tmp_path / "toes.json", [images], SKELETON, None)
