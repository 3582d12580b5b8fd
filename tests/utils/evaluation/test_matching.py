"""Matching and average precision: hand-computed examples, and agreement with pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import SKELETON, labeled_people
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.matching import ImageResult, average_precision, match, match_predictions

SIGMAS = SKELETON.oks_sigmas


def test_matching_is_greedy_by_score_and_prefers_counted_people():
    similarity = np.array([[0.9, 0.95, 0.1], [0.8, 0.2, 0.7], [0.85, 0.1, 0.6], [0.3, 0.1, 0.1]])
    ignored, crowd = np.array([False, True, True]), np.array([False, False, True])
    matches = match(similarity, np.array([0.5, 0.75, 0.87]), ignored, crowd)
    assert matches.tolist() == [[0, 2, 2, -1], [0, -1, -1, -1], [0, -1, -1, -1]], "a crowd takes several predictions"
    assert match(np.zeros((2, 0)), np.array([0.5]), ignored[:0], crowd[:0]).tolist() == [[-1, -1]]
    assert match(np.array([[0.8, 0.8, 0.6]]), np.array([0.5]), np.zeros(3, bool), crowd).tolist() == [[1]], "the last of equals"
    bound = np.array([[0.5]])
    assert match(bound, np.array([0.5, 0.5001]), np.zeros(1, bool), np.zeros(1, bool)).tolist() == [[0], [-1]]


@pytest.mark.parametrize(("low", "high", "counts"), [(5000, 5000, True), (5000.1, 6000, False), (4000, 4999.9, False)])
def test_people_and_predictions_count_within_both_area_bounds(low, high, counts):
    """A person and a false positive, in boxes of 50 x 100 px."""
    person, far = np.full((17, 3), 2.0), np.full((17, 3), 1050.0)
    person[0, :2], far[0, :2] = (52, 102), (1000, 950)
    area, no = np.array([5000.0]), np.zeros(1, bool)
    image = ImageResult(1, person[None], area, np.array([[2.0, 2, 50, 100]]), no, no, np.stack([person, far]), np.array([0.9, 0.7]))
    table = match_predictions([image], SIGMAS, np.array([0.5]), (low, high))
    assert (table.people, table.recall().tolist()) == (counts, [counts])
    assert table.is_true_positive.tolist() == [[counts, False]]
    assert table.not_ignored.tolist() == [[counts, counts]]


# Agreement with pycocotools

METRIC = CocoMetric()


@pytest.fixture(scope="module")
def compared(annotations, tmp_path_factory):
    """Annotations of all sizes, and noisy results with duplicates, false positives, equal scores and more than 20 in an image."""
    content = json.loads(annotations.read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation["area"] *= (0.2, 1, 15)[number % 3]
        annotation["iscrowd"] = int(number % 7 == 0)
        annotation["num_keypoints"] *= number % 5 != 1  # ignored
    path = tmp_path_factory.mktemp("sizes") / "people.json"
    path.write_text(json.dumps(content))
    ground_truth, rng, results = GroundTruth(path, None, SKELETON), np.random.default_rng(3), []
    for noise in (2, 4):
        for image_id, (keypoints, scores) in labeled_people(annotations, noise).items():
            results += METRIC.to_results(ground_truth, image_id, keypoints, scores)
    for image_id in (1, 1, 2, 3) + 30 * (4,):
        results += METRIC.to_results(ground_truth, image_id, rng.uniform(0, 160, (1, 18, 3)), np.array([0.7]))
    return path, ground_truth, results


def evaluated(truth: COCO, results: list[dict], sigmas: np.ndarray = SIGMAS) -> COCOeval:
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return evaluation


def test_precision_and_ap_agree_with_pycocotools(compared):
    path, ground_truth, results = compared
    expected = evaluated(COCO(str(path)), results)
    images = [image.best_first() for image in ground_truth.image_results(results)]
    precision = match_predictions(images, SIGMAS).precision()
    np.testing.assert_allclose(precision, expected.eval["precision"][:, :, 0, 0, 0], atol=1e-12)
    sizes = [(32**2, 96**2), (96**2, 1e10)]
    by_size = [average_precision(match_predictions(images, SIGMAS, size=size).precision()) for size in sizes]
    aps = [precision.mean(), precision[0].mean(), precision[5].mean(), *by_size]
    assert aps == pytest.approx(expected.stats[:5].tolist())
    assert 0 < aps[0] < 1 and len({round(value, 6) for value in aps}) == 5
    assert average_precision(match_predictions(ground_truth.image_results([]), SIGMAS).precision()) == 0


def test_ap_of_one_keypoint_agrees_with_pycocotools_on_that_keypoint_alone(compared):
    path, ground_truth, results = compared
    content = json.loads(path.read_text())
    k = 9
    one = {**content, "annotations": [{**a, "keypoints": a["keypoints"][3 * k : 3 * k + 3]} for a in content["annotations"]]}
    for annotation in one["annotations"]:
        annotation["num_keypoints"] = int(annotation["keypoints"][2] > 0 and annotation["num_keypoints"] > 0)
    truth = COCO()
    truth.dataset = one
    truth.createIndex()
    with_it = [{**d, "keypoints": d["keypoints"][3 * k : 3 * k + 3]} for d in results if any(d["keypoints"][3 * k : 3 * k + 3])]
    expected = evaluated(truth, with_it, SIGMAS[[k]])
    # pycocotools selects an image's 20 best predictions afterwards, `best_first` before: no image has so many true positives
    table = match_predictions([image.best_first().of_keypoint(k) for image in ground_truth.image_results(results)], SIGMAS[[k]])
    assert average_precision(table.precision()) == pytest.approx(expected.stats[0], abs=0.01)
