"""Average precision on arrays against pycocotools', on people found as badly as they can be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import SKELETON, labelled_people
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from utils.evaluation import load_task
from utils.evaluation.matching import average_precision, judge, match

SIGMAS = SKELETON.oks_sigmas


@pytest.fixture(scope="module", params=[1, 3, 6])
def compared(request, annotations, tmp_path_factory):
    """A task, and results with noise of so many pixels: people twice, people who are nobody, equal scores, more than count."""
    content = json.loads(annotations.read_text())
    for number, annotation in enumerate(content["annotations"]):
        annotation["area"] *= (0.2, 1, 15)[number % 3]  # of all sizes
        annotation["iscrowd"] = int(number % 7 == 0)
    path = tmp_path_factory.mktemp("sizes") / "people.json"
    path.write_text(json.dumps(content))
    task, rng, found = load_task(path, None, SKELETON), np.random.default_rng(3), []
    for noise in (request.param, 2 * request.param):
        for image_id, (keypoints, scores) in labelled_people(annotations, noise).items():
            found += task.detections(image_id, keypoints, scores)
    for image_id in (1, 1, 2, 3) + 30 * (4,):
        found += task.detections(image_id, rng.uniform(0, 160, (1, 18, 3)), np.array([0.7]))
    return path, task, found


def test_every_figure_is_pycocotools(compared):
    path, task, found = compared
    truth = COCO(str(path))
    plain = COCOeval(truth, truth.loadRes(found), "keypoints")
    plain.evaluate(), plain.accumulate(), plain.summarize()
    scenes = task.scenes(found)
    precision = judge(scenes, SIGMAS).precision()
    np.testing.assert_allclose(precision, plain.eval["precision"][:, :, 0, 0, 0], atol=1e-12)
    sizes = [(32**2, 96**2), (96**2, 1e10)]
    by_size = [average_precision(judge(scenes, SIGMAS, size=size).precision()) for size in sizes]
    ours = [precision.mean(), precision[0].mean(), precision[5].mean(), *by_size]
    assert ours == pytest.approx(plain.stats[:5].tolist())
    assert 0 < ours[0] < 1 and len({round(value, 6) for value in ours}) == 5


def test_one_keypoint_alone_is_pycocotools_on_files_of_that_keypoint(compared):
    path, task, found = compared
    content = json.loads(path.read_text())
    for k in (0, 9, 15):
        one = {**content, "annotations": [{**a, "keypoints": a["keypoints"][3 * k : 3 * k + 3]} for a in content["annotations"]]}
        for annotation in one["annotations"]:
            annotation["num_keypoints"] = int(annotation["keypoints"][2] > 0)
        truth = COCO()
        truth.dataset = one
        truth.createIndex()
        having = [{**d, "keypoints": d["keypoints"][3 * k : 3 * k + 3]} for d in found if any(d["keypoints"][3 * k : 3 * k + 3])]
        plain = COCOeval(truth, truth.loadRes(having), "keypoints")
        plain.params.kpt_oks_sigmas = SIGMAS[[k]]
        plain.evaluate(), plain.accumulate(), plain.summarize()
        # pycocotools takes the 20 best of an image after, here it is before: no image here has so many of them right
        alone = judge([scene.of_keypoint(k) for scene in task.scenes(found)], SIGMAS[[k]])
        assert average_precision(alone.precision()) == pytest.approx(plain.stats[0], abs=0.01)


def test_who_is_right_is_who_is_to_be_found():
    """The better of two takes a person; a person ignored is taken only by whom nobody else is like, a crowd by many."""
    similarity = np.array([[0.9, 0.95, 0.1], [0.8, 0.2, 0.7], [0.85, 0.1, 0.6], [0.3, 0.1, 0.1]])
    ignored, crowd = np.array([False, True, True]), np.array([False, False, True])
    matches = match(similarity, np.array([0.5, 0.75, 0.87]), ignored, crowd)
    assert matches.tolist() == [[0, 2, 2, -1], [0, -1, -1, -1], [0, -1, -1, -1]]
    assert match(np.zeros((2, 0)), np.array([0.5]), ignored[:0], crowd[:0]).tolist() == [[-1, -1]]
    alike = np.array([[0.8, 0.8, 0.6]])  # of two who are as like the last, as pycocotools has it
    assert match(alike, np.array([0.5]), np.zeros(3, bool), crowd).tolist() == [[1]]


def test_nobody_to_find_and_nobody_found(annotations):
    task = load_task(annotations, None, SKELETON)
    nobody = judge(task.scenes([]), SIGMAS)
    assert (nobody.people > 0, average_precision(nobody.precision())) == (True, 0)
    assert average_precision(judge([], SIGMAS).precision()) == -1
