"""COCO's metrics for annotation files of every kind, against pycocotools, and the check of results."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from people import SKELETON, evaluated, labeled_people, own_file
from pycocotools.coco import COCO

from config import UserError
from utils.evaluation.coco import CocoMetric, GroundTruth, to_results

METRIC = CocoMetric()


def changed(annotations: Path, path: Path, change: Callable[[dict], object]) -> Path:
    """Write a copy of an annotation file whose content `change` edits in place."""
    content = json.loads(annotations.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def metrics_of(path: Path) -> tuple[dict[str, float], list[dict]]:
    """Return metrics of predictions a few pixels beside the annotations, and the predictions as results."""
    truth = GroundTruth(path, None, SKELETON)
    results = [result for i, people in labeled_people(path, noise=2).items() for result in METRIC.to_results(truth, i, people)]
    return METRIC.compute(results, truth), results


def test_metrics_are_pycocotools_own_and_do_not_depend_on_the_order_of_keypoints(annotations, tmp_path):
    def remove_ignored(content: dict) -> None:  # `own_file` lacks crowds and counts
        content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"] and a["num_keypoints"]]

    path = changed(annotations, tmp_path / "usual.json", remove_ignored)
    metrics, results = metrics_of(path)
    assert 0.3 < metrics["AP"] < 0.95
    assert list(metrics.values()) == pytest.approx(evaluated(COCO(str(path)), results, SKELETON.oks_sigmas).stats)
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
    assert list(metrics.values()) == pytest.approx(evaluated(COCO(str(path)), results, SKELETON.oks_sigmas[selected]).stats)


def test_people_without_keypoints_need_no_box_and_people_without_an_area_have_their_boxes(annotations, tmp_path):
    person = {"id": 10**6, "image_id": 1, "category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0}
    boxless = changed(annotations, tmp_path / "boxless.json", lambda c: c["annotations"].append(person))
    of_box, null = (
        changed(annotations, tmp_path / "area.json", lambda c, area=area: [a.update(area=area(a["bbox"])) for a in c["annotations"]])
        for area in (lambda box: box[2] * box[3], lambda box: None)
    )
    usual, without_box, with_area, without_area = (metrics_of(path)[0] for path in (annotations, boxless, of_box, null))
    assert usual == without_box
    assert with_area == without_area != usual


def test_people_with_none_of_the_files_keypoints_are_excluded():
    people = np.zeros((3, 18, 3))
    people[0, 0] = people[1, 2] = people[2, 1] = 9  # nose, right shoulder, and the neck, which no file has
    file_index = np.full(17, -1)
    file_index[[0, 1]] = [1, 0]  # nose and left eye
    scores = np.array([0.987654321, 0.8, 0.7])
    results = to_results(1, (people, scores), SKELETON, 1, file_index, 2)
    assert results == [{"image_id": 1, "category_id": 1, "keypoints": [0, 0, 0, 9, 9, 1], "score": 0.987654321}]
    assert [r["score"] for r in to_results(1, (people, scores), SKELETON, 1, np.arange(17), 17)] == [0.987654321, 0.8]


# Results of any origin


def test_other_fields_of_results_change_no_metric(annotations):
    """pycocotools would evaluate boxes where a result has one."""
    metrics, results = metrics_of(annotations)
    more = {"bbox": [0, 0, 9, 9], "segmentation": None, "area": "large"}
    assert METRIC.compute([{**results[0], **more}, *results[1:]], GroundTruth(annotations, None, SKELETON)) == metrics


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 999}, "entry 2: its 'image_id' is 999"),
        ({"image_id": [1]}, r"entry 2: its 'image_id' is \[1\]"),
        ({"category_id": 2}, "entry 2: its 'category_id' is 2"),
        ({"keypoints": [1, 2, 1] * 16}, "entry 2: its 'keypoints' is .*, expected 51 numbers"),
        ({"keypoints": [float("nan"), 2, 1] * 17}, "entry 2: its 'keypoints'"),
        ({"score": float("inf")}, "entry 2: its 'score' is inf"),
        ({"category_id": None}, "entry 2: its 'category_id' is None"),
    ],
)
def test_the_first_result_that_cannot_be_evaluated_is_named(annotations, tmp_path, entry, message):
    right = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 1] * 17, "score": 0.5}
    wrong = {key: value for key, value in {**right, **entry}.items() if value is not None}
    (tmp_path / "results.json").write_text(json.dumps([right, wrong]))
    with pytest.raises(UserError, match=f"detections .*results.json: {message}"):
        METRIC.load_results(tmp_path / "results.json", GroundTruth(annotations, None, SKELETON))


@pytest.mark.parametrize("content", ["[]", "[null]", '{"annotations": []}'])
def test_a_file_without_results_is_refused(annotations, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match="no results in COCO's format; expected a list of {image_id, category_id, keypoints, score}"):
        METRIC.load_results(tmp_path / "results.json", GroundTruth(annotations, None, SKELETON))


def test_an_archive_is_named_by_its_test_set_and_system(annotations, tmp_path):
    """CrowdPose has no server."""
    truth = GroundTruth(annotations, None, SKELETON)
    truth.is_annotated, truth.path = False, tmp_path / "image_info_test2017.json"
    summary = METRIC.report([], truth, tmp_path, 0, "simple_baselines")
    assert summary.endswith(f"; for the COCO server: {tmp_path / 'person_keypoints_test2017_simple-baselines_results.zip'}")
    truth.format = "crowdpose"
    assert METRIC.report([], truth, tmp_path, 0, "simple_baselines") == "no annotations to compare with"
