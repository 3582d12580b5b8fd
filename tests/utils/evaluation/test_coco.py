"""COCO's metrics for annotation files of every kind, against pycocotools, and the check of results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people import SKELETON, labeled_people, own_file
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from config import UserError
from data.formats import load_annotations
from data.formats.coco import keypoint_category, read_people
from utils.evaluation.coco import CocoMetric, GroundTruth, keypoint_metrics, load_results, to_results

METRIC = CocoMetric()


def changed(annotations: Path, path: Path, change: Callable[[dict], object]) -> Path:
    """Write a copy of an annotation file whose content `change` edits in place."""
    content = json.loads(annotations.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def metrics_of(path: Path) -> tuple[dict[str, float], list[dict]]:
    """Return metrics of predictions a few pixels beside the annotations, and the predictions as results."""
    coco = load_annotations(path)
    category, file_index = keypoint_category(coco, SKELETON, path)
    count = len(coco.cats[category]["keypoints"])
    predicted = labeled_people(path, noise=2)
    results = [r for i, people in predicted.items() for r in to_results(i, *people, SKELETON, category, file_index, count)]
    truth = read_people(coco, category, file_index, path)
    return keypoint_metrics(truth, results, sorted(coco.imgs), category, file_index, SKELETON.oks_sigmas), results


def pycocotools_metrics(path: Path, results: list[dict], sigmas: np.ndarray = SKELETON.oks_sigmas) -> list[float]:
    coco = COCO(str(path))
    evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return evaluation.stats.tolist()


def test_metrics_are_pycocotools_own_and_do_not_depend_on_the_order_of_keypoints(annotations, tmp_path):
    def remove_ignored(content: dict) -> None:  # `own_file` lacks crowds and counts
        content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"] and a["num_keypoints"]]

    path = changed(annotations, tmp_path / "usual.json", remove_ignored)
    metrics, results = metrics_of(path)
    assert 0.3 < metrics["AP"] < 0.95
    assert list(metrics.values()) == pytest.approx(pycocotools_metrics(path, results))
    assert metrics_of(own_file(path, tmp_path / "own.json"))[0] == metrics


def test_files_of_fewer_keypoints_are_evaluated_by_those_with_their_sigmas(annotations, tmp_path):
    selected = [16, 5, 6, 7, 8, 11, 12]  # in another order than the skeleton's

    def select(content: dict) -> None:
        content["categories"][0]["keypoints"] = [list(SKELETON.dataset)[k] for k in selected]
        content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
        for annotation in content["annotations"]:
            keypoints = np.reshape(annotation["keypoints"], (17, 3))[selected]
            annotation.update(keypoints=keypoints.ravel().tolist(), num_keypoints=int((keypoints[:, 2] > 0).sum()))

    path = changed(annotations, tmp_path / "few.json", select)
    metrics, results = metrics_of(path)
    assert {len(result["keypoints"]) for result in results} == {3 * len(selected)}
    assert 0.3 < metrics["AP"] < 1
    assert list(metrics.values()) == pytest.approx(pycocotools_metrics(path, results, SKELETON.oks_sigmas[selected]))


def test_people_without_keypoints_need_no_box_and_people_without_an_area_have_their_boxes(annotations, tmp_path):
    person = {"id": 10**6, "image_id": 1, "category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0}
    boxless = changed(annotations, tmp_path / "boxless.json", lambda c: c["annotations"].append(person))
    assert metrics_of(boxless)[0] == metrics_of(annotations)[0]
    boxes = {"area": lambda a: a["bbox"][2] * a["bbox"][3], "none": lambda a: None}
    of_box, null = (
        changed(annotations, tmp_path / f"{name}.json", lambda c, area=area: [a.update(area=area(a)) for a in c["annotations"]])
        for name, area in boxes.items()
    )
    assert metrics_of(null)[0] == metrics_of(of_box)[0] != metrics_of(annotations)[0]


def test_people_with_none_of_the_files_keypoints_are_excluded():
    people = np.zeros((3, 18, 3))
    people[0, 0] = people[1, 2] = people[2, 1] = 9  # nose, right shoulder, and the neck, which no file has
    file_index = np.full(17, -1)
    file_index[[0, 1]] = [1, 0]  # nose and left eye
    scores = np.array([0.987654321, 0.8, 0.7])
    results = to_results(1, people, scores, SKELETON, 1, file_index, 2)
    assert results == [{"image_id": 1, "category_id": 1, "keypoints": [0, 0, 0, 9, 9, 1], "score": 0.987654321}]
    assert [r["score"] for r in to_results(1, people, scores, SKELETON, 1, np.arange(17), 17)] == [0.987654321, 0.8]


# Results of any origin


@pytest.fixture(scope="module")
def truth(annotations) -> GroundTruth:
    return GroundTruth(annotations, None, SKELETON)


@pytest.fixture
def results(annotations, truth) -> list[dict]:
    return [result for number, people in labeled_people(annotations, 2).items() for result in METRIC.to_results(truth, number, *people)]


def test_other_fields_of_results_change_no_metric(truth, results):
    """pycocotools would evaluate boxes where a result has one."""
    more = {"bbox": [0, 0, 9, 9], "segmentation": None, "area": "large"}
    assert METRIC.compute([{**results[0], **more}, *results[1:]], truth) == METRIC.compute(results, truth)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": 999}, "entry 3 is of image 999, which the annotation file does not list"),
        ({"image_id": "1"}, "entry 3 is of image '1'"),
        ({"category_id": 2}, "entry 3 is of category 2; people are 1"),
        ({"keypoints": [1, 2, 1] * 16}, "entry 3 needs 51 finite numbers as 'keypoints': x, y, v of the 17 keypoints"),
        ({"keypoints": "none"}, "entry 3 needs 51 finite numbers"),
        ({"keypoints": [float("nan"), 2, 1] * 17}, "entry 3 needs 51 finite numbers"),
        ({"keypoints": [10**400, 2, 1] * 17}, "entry 3 needs 51 finite numbers"),
        ({"score": float("inf")}, "entry 3 has the score inf, expected a finite number"),
        ({"score": None}, "entry 3 lacks 'score'; expected a list of {image_id, category_id, keypoints, score}"),
        ("[]", "an empty list, there is nothing to evaluate"),
        ('{"annotations": []}', "not COCO's format for results; expected a list of {image_id, category_id, keypoints, score}"),
        ("[null]", "entry 1 lacks 'image_id'"),
    ],
)
def test_the_first_result_that_cannot_be_evaluated_is_named(truth, results, tmp_path, changed, message):
    path = tmp_path / "changed.json"
    if isinstance(changed, dict):
        entry = {key: value for key, value in {**results[2], **changed}.items() if value is not None}
        changed = json.dumps([*results[:2], entry, *results[3:]])
    path.write_text(changed)
    with pytest.raises(UserError, match=rf"detections .*changed.json: {re.escape(message)}"):
        load_results(path, truth)


def test_results_of_people_must_name_annotated_ones(truth, results, tmp_path):
    path = tmp_path / "people.json"
    path.write_text(json.dumps([{**result, "annotation_id": 5} for result in results]))
    assert len(load_results(path, truth, {5})) == len(results)
    with pytest.raises(UserError, match="entry 1 is of person 5, which the annotation file does not list"):
        load_results(path, truth, {4})
    path.write_text(json.dumps(results))
    with pytest.raises(UserError, match="entry 1 lacks 'annotation_id'"):
        load_results(path, truth, {5})


def test_an_archive_is_named_by_its_test_set_and_system(annotations, tmp_path):
    truth = GroundTruth(annotations, None, SKELETON)
    truth.is_annotated, truth.path = False, tmp_path / "image_info_test2017.json"
    summary = METRIC.report([], truth, tmp_path, 0, "simple_baselines")
    assert summary.endswith(f"; for the COCO server: {tmp_path / 'person_keypoints_test2017_simple-baselines_results.zip'}")
