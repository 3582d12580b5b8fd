"""COCO's figures for annotation files of every kind, against pycocotools' own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from people import SKELETON, crowd_file, labeled_people, own_file
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config import UserError
from data.formats import load_annotations
from data.formats.coco import keypoint_category
from utils.evaluation.coco import CocoMetric, GroundTruth, comparable, keypoint_metrics, load_results, to_results


def figures_of(path: Path) -> tuple[dict[str, float], list[dict]]:
    """Figures of people found a few pixels beside the annotated ones, and those people."""
    coco = load_annotations(path)
    category, order = keypoint_category(coco, SKELETON, path)
    count = len(coco.cats[category]["keypoints"])
    found = labeled_people(path, noise=2)
    detections = [d for i, people in found.items() for d in to_results(i, *people, SKELETON, category, order, count)]
    assert all(len(d["keypoints"]) == 3 * count for d in detections)
    truth = comparable(coco, category, order)
    return keypoint_metrics(truth, detections, sorted(coco.imgs), category, order, SKELETON.oks_sigmas), detections


def test_own_annotation_files_give_the_same_figures(annotations, tmp_path):
    """Which are pycocotools' own. Each keypoint has its sigma, wherever it stands in the file."""
    content = json.loads(
        annotations.read_text()
    )  # the other file leaves out crowds and people without keypoints count as such by themselves
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"] and a["num_keypoints"]]
    usual = tmp_path / "usual.json"
    usual.write_text(json.dumps(content))
    figures, detections = figures_of(usual)
    assert 0.3 < figures["AP"] < 0.95
    coco = COCO(str(usual))
    plain = COCOeval(coco, coco.loadRes(detections), "keypoints")
    plain.evaluate(), plain.accumulate(), plain.summarize()
    assert list(figures.values()) == pytest.approx(plain.stats.tolist())
    assert figures_of(own_file(usual, tmp_path / "own.json"))[0] == figures


def test_files_of_fewer_keypoints_are_evaluated_by_those(annotations, tmp_path):
    """As pycocotools does it with their sigmas; what the file does not have is not asked for, and stands nowhere in the detections."""
    content = json.loads(annotations.read_text())
    keep = [16, 5, 6, 7, 8, 11, 12]  # not in the usual order
    content["categories"][0]["keypoints"] = [list(SKELETON.dataset)[k] for k in keep]
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    for annotation in content["annotations"]:
        keypoints = np.reshape(annotation["keypoints"], (17, 3))[keep]
        annotation.update(keypoints=keypoints.ravel().tolist(), num_keypoints=int((keypoints[:, 2] > 0).sum()))
    path = tmp_path / "few.json"
    path.write_text(json.dumps(content))
    figures, detections = figures_of(path)
    assert {len(detection["keypoints"]) for detection in detections} == {3 * len(keep)}
    coco = COCO(str(path))
    plain = COCOeval(coco, coco.loadRes(detections), "keypoints")
    plain.params.kpt_oks_sigmas = SKELETON.oks_sigmas[keep]
    plain.evaluate(), plain.accumulate(), plain.summarize()
    assert 0.3 < figures["AP"] < 1
    assert list(figures.values()) == pytest.approx(plain.stats.tolist())


def test_people_without_keypoints_need_no_box(annotations, tmp_path):
    """As for training: nobody looks for them."""
    content = json.loads(annotations.read_text())
    with_boxes = figures_of(annotations)[0]
    nobody = {"id": 10**6, "image_id": content["images"][0]["id"], "category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0}
    content["annotations"].append(nobody)
    path = tmp_path / "boxless.json"
    path.write_text(json.dumps(content))
    assert figures_of(path)[0] == with_boxes


def test_a_text_does_not_make_everybody_a_crowd(annotations, tmp_path):
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = str(annotation["iscrowd"])
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(content))
    crowds = [annotation["iscrowd"] for annotation in load_annotations(path).dataset["annotations"]]
    assert crowds == [annotation["iscrowd"] for annotation in json.loads(annotations.read_text())["annotations"]]


def test_who_has_none_of_the_files_keypoints_is_left_out():
    """With all of them in the image's corner they would be a person too many."""
    people = np.zeros((3, 18, 3))
    people[0, 0] = people[1, 2] = people[2, 1] = 9  # nose, right shoulder, and a neck, which no file has
    order = np.full(17, -1)
    order[[0, 1]] = [1, 0]  # nose and left eye
    found = to_results(1, people, np.array([0.9, 0.8, 0.7]), SKELETON, 1, order, 2)
    assert [(d["score"], d["keypoints"]) for d in found] == [(0.9, [0, 0, 0, 9, 9, 1])]
    assert [d["score"] for d in to_results(1, people, np.array([0.9, 0.8, 0.7]), SKELETON, 1, np.arange(17), 17)] == [0.9, 0.8]


def test_people_without_an_area_have_their_boxs(annotations, tmp_path):
    content, (left_out, null) = json.loads(annotations.read_text()), (tmp_path / "left out.json", tmp_path / "null.json")
    for annotation in content["annotations"]:
        del annotation["area"]
    left_out.write_text(json.dumps(content))
    content["annotations"] = [{**annotation, "area": None} for annotation in content["annotations"]]
    null.write_text(json.dumps(content))
    assert figures_of(left_out)[0] == figures_of(null)[0]


# Boxes and results of others


def test_boxes_are_those_of_people_to_be_found(annotations, tmp_path):
    """An image without people has none; CrowdPose's people without counted keypoints have none either."""
    content = json.loads(annotations.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 1]
    (tmp_path / "nobody.json").write_text(json.dumps(content))
    boxes = GroundTruth(tmp_path / "nobody.json", None, SKELETON).boxes(None)
    assert boxes[1].shape == (0, 5) and len(boxes[2])
    crowded = crowd_file(annotations, tmp_path / "crowded.json")
    boxes = GroundTruth(crowded).boxes(None)
    for image_id in range(1, 9):
        people = [a for a in json.loads(crowded.read_text())["annotations"] if a["image_id"] == image_id and a["num_keypoints"]]
        assert boxes[image_id].tolist() == [[*person["bbox"], 1] for person in people]


@pytest.fixture
def results(annotations) -> list[dict]:
    truth, metric = GroundTruth(annotations, None, SKELETON), CocoMetric()
    return [result for number, people in labeled_people(annotations, 2).items() for result in metric.to_results(truth, number, *people)]


@pytest.mark.parametrize("more", [{"bbox": [0, 0, 9, 9]}, {"bbox": None}, {"segmentation": None}, {"area": "large", "caption": "a man"}])
@pytest.mark.parametrize("entries", [1, None])
def test_what_results_hold_besides_keypoints_does_not_count(annotations, results, more, entries):
    truth, metric = GroundTruth(annotations, None, SKELETON), CocoMetric()
    others = [{**result, **more} for result in results[:entries]]
    assert metric.compute([*others, *results[len(others) :]], truth) == metric.compute(results, truth)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": 999}, "entry 3 is of image 999, which the annotation file does not list"),
        ({"image_id": "1"}, "entry 3 is of image '1'"),
        ({"image_id": None}, "entry 3 lacks 'image_id'; expected a list of {image_id, category_id, keypoints, score}"),
        ({"category_id": 2}, "entry 3 is of category 2; people are 1"),
        ({"keypoints": [1, 2, 1] * 16}, "entry 3 has 48 numbers as 'keypoints', expected 51: x, y, v of the 17 keypoints"),
        ({"keypoints": "none"}, "entry 3 has 'none' as 'keypoints'"),
        ({"keypoints": [float("nan"), 2, 1] * 17}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"keypoints": [10**400, 2, 1] * 17}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"keypoints": [[1, 2, 1]] * 51}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"score": float("inf")}, "entry 3 has the score inf, expected a finite number"),
        ({"score": None}, "entry 3 lacks 'score'"),
        ("[]", "an empty list, there is nothing to evaluate"),
        ('[{"image_id": 1', "not valid JSON"),
        ('{"annotations": []}', "not COCO's format for results; expected a list of {image_id, category_id, keypoints, score}"),
        ("[null]", "entry 1 lacks 'image_id'"),
    ],
)
def test_results_that_cannot_be_evaluated_are_named(annotations, results, tmp_path, changed, message):
    path = tmp_path / "changed.json"
    if isinstance(changed, dict):
        entry = {key: value for key, value in {**results[2], **changed}.items() if value is not None}
        changed = json.dumps([*results[:2], entry, *results[3:]])
    path.write_text(changed)
    with pytest.raises(UserError, match=rf"detections .*changed.json: {re.escape(message)}"):
        load_results(path, GroundTruth(annotations, None, SKELETON))


def test_results_of_people_must_name_annotated_ones(annotations, results, tmp_path):
    """As MPII's do."""
    path, truth = tmp_path / "people.json", GroundTruth(annotations, None, SKELETON)
    path.write_text(json.dumps([{**result, "annotation_id": 5} for result in results]))
    assert len(load_results(path, truth, {5})) == len(results)
    with pytest.raises(UserError, match="entry 1 is of person 5, whom the annotation file does not list"):
        load_results(path, truth, {4})
    path.write_text(json.dumps(results))
    with pytest.raises(UserError, match="entry 1 lacks 'annotation_id'"):
        load_results(path, truth, {5})


def test_an_archive_is_named_by_its_test_set_and_system(annotations, tmp_path):
    truth = GroundTruth(annotations, None, SKELETON)
    truth.is_annotated, truth.path = False, tmp_path / "image_info_test2017.json"
    summary = CocoMetric().report([], truth, tmp_path, 0, "simple_baselines")
    assert summary.endswith(f"; for the COCO server: {tmp_path / 'person_keypoints_test2017_simple-baselines_results.zip'}")
