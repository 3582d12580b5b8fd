"""COCO's figures for annotation files of every kind, against pycocotools' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from people import SKELETON, labelled_people, own_file
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.formats import load_annotations
from data.formats.coco import keypoint_category
from utils.evaluation.coco import comparable, keypoint_metrics, to_results


def figures_of(path: Path) -> tuple[dict[str, float], list[dict]]:
    """Figures of people found a few pixels beside the annotated ones, and those people."""
    coco = load_annotations(path)
    category, order = keypoint_category(coco, SKELETON, path)
    count = len(coco.cats[category]["keypoints"])
    found = labelled_people(path, noise=2)
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
    """With all of them in the picture's corner they would be a person too many."""
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
