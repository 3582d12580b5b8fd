"""Matching and average precision: hand-computed examples, and agreement with pycocotools."""

import json

import numpy as np
import pytest
from people import SKELETON, evaluated, labeled_people

from data.formats.coco import indexed
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.matching import match, precision_curves

SIGMAS = SKELETON.oks_sigmas


def test_matching_is_greedy_by_score_and_prefers_counted_people():
    similarity = np.array([[0.9, 0.95, 0.1], [0.8, 0.2, 0.7], [0.85, 0.1, 0.6], [0.3, 0.1, 0.1]])
    ignored, crowd, no = np.array([False, True, True]), np.array([False, False, True]), np.zeros(3, bool)
    matches = match(similarity, np.array([0.5, 0.75, 0.87]), ignored, crowd)
    assert matches.tolist() == [[0, 2, 2, -1], [0, -1, -1, -1], [0, -1, -1, -1]], "a crowd takes several predictions"
    assert match(np.zeros((2, 0)), np.array([0.5]), no[:0], no[:0]).tolist() == [[-1, -1]]
    assert match(np.array([[0.8, 0.8, 0.6]]), np.array([0.5]), no, crowd).tolist() == [[1]], "the last of equals"
    assert match(np.array([[0.5]]), np.array([0.5, 0.5001]), no[:1], no[:1]).tolist() == [[0], [-1]]


# Agreement with pycocotools


@pytest.fixture(scope="module")
def compared(annotations, tmp_path_factory):
    """Annotations of all sizes, and noisy results with duplicates, false positives, equal scores and more than 20 in an image."""
    content = json.loads(annotations.read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation["area"] *= (0.2, 1, 15)[number % 3]
        annotation["iscrowd"] = int(number % 7 == 0)
        if number % 5 == 1:  # ignored
            annotation.update(keypoints=[0] * 51, num_keypoints=0)
    path = tmp_path_factory.mktemp("sizes") / "people.json"
    path.write_text(json.dumps(content))
    truth, rng, predicted = GroundTruth(path, None, SKELETON), np.random.default_rng(3), []
    for noise in (2, 4):
        predicted += [*labeled_people(annotations, noise).items()]
    predicted += [(image_id, (rng.uniform(0, 160, (1, 18, 3)), np.array([0.7]))) for image_id in (1, 1, 2, 3) + 30 * (4,)]
    return content, truth, [result for people in predicted for result in CocoMetric().to_results(truth, *people)]


def test_precision_and_ap_agree_with_pycocotools(compared):
    content, truth, results = compared
    expected = evaluated(indexed(content), results, SIGMAS)
    images = [image.best_first() for image in truth.image_results(results)]
    precision = precision_curves(images, SIGMAS).precision
    np.testing.assert_allclose(precision, expected.eval["precision"][:, :, 0, 0, 0], atol=1e-12)
    smallest, largest = min(areas := images[0].areas), max(areas)
    far = np.prod(np.ptp(images[0].poses[images[0].scores == 0.7][0, :, :2], axis=0))  # of a false positive
    for size in ((32**2, 96**2), (smallest, largest), (smallest + 1, largest - 1), (far, 1e10), (0, far)):  # both bounds count
        expected.params.areaRng[1] = size
        expected.evaluate(), expected.accumulate()
        curves = precision_curves(images, SIGMAS, size)
        np.testing.assert_allclose(curves.precision, expected.eval["precision"][:, :, 0, 1, 0], atol=1e-12)
        np.testing.assert_allclose(curves.recall, expected.eval["recall"][:, 0, 1, 0], atol=1e-12)
    assert precision_curves(truth.image_results([]), SIGMAS).summary()["AP"] == 0


def test_ap_of_one_keypoint_agrees_with_pycocotools_on_that_keypoint_alone(compared):
    content, truth, results = compared
    k = 9
    one = [{**a, "keypoints": a["keypoints"][3 * k : 3 * k + 3]} for a in content["annotations"]]
    one = [{**a, "num_keypoints": int(a["keypoints"][2] > 0 and a["num_keypoints"] > 0)} for a in one]
    with_it = [{**d, "keypoints": d["keypoints"][3 * k : 3 * k + 3]} for d in results if any(d["keypoints"][3 * k : 3 * k + 3])]
    expected = evaluated(indexed({**content, "annotations": one}), with_it, SIGMAS[[k]])
    # pycocotools selects an image's 20 best predictions afterwards, `best_first` before: no image has so many true positives
    curves = precision_curves([image.best_first().of_keypoint(k) for image in truth.image_results(results)], SIGMAS[[k]])
    assert curves.summary()["AP"] == pytest.approx(expected.stats[0], abs=0.01)
