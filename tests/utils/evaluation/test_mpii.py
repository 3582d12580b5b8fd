"""PCKh by hand-computed examples, the prediction for each annotated person, and files for MPII's server.

tests/fidelity/test_mpii.py compares PCKh with the published evaluation.
"""

import numpy as np
import pytest
from mpii_files import NAMES, mpii_files, write_list, write_truth

from config import UserError
from config.load import load_skeleton
from utils.evaluation.coco import GroundTruth
from utils.evaluation.metrics import build_metric
from utils.evaluation.mpii import PckhMetric, nearest_people, pckh, prediction_array

SKELETON = load_skeleton("mpii")


def pckh_of(errors: dict[str, list[float]], missing: tuple[str, ...] = (), threshold: float = 0.5) -> dict[str, float]:
    """Return PCKh of two people with heads of 6 and 12 px. errors: of keypoints, in pixels; others are exact. missing: in both people."""
    rng, unlabeled = np.random.default_rng(0), np.zeros((16, 2))
    joints, corner = rng.uniform(0, 500, (16, 2, 2)), rng.uniform(0, 400, (2, 2))
    predictions = joints.transpose(2, 0, 1) - 1
    for name, of_people in errors.items():
        predictions[:, NAMES.index(name), 0] += of_people
    unlabeled[[NAMES.index(name) for name in missing]] = 1
    return pckh(predictions, joints, unlabeled, np.stack([corner, corner + [[6, 12], [8, 16]]]), threshold)


def test_pckh_is_the_percentage_within_the_threshold_in_head_sizes():
    metrics = pckh_of({"lwri": [2.99, 5.99], "rwri": [3.01, 5.99], "head": [3.01, 6.01], "pelv": [99, 99], "thor": [99, 99]})
    assert {name: metrics[name] for name in ("Wrist", "Head", "Elbow")} == {"Wrist": 75, "Head": 0, "Elbow": 100}
    assert metrics["Mean"] == pytest.approx(100 * 25 / 28), "without pelvis and thorax"
    metrics = pckh_of({"lank": [0.61, 1.21], "rank": [0.67, 1.33]}, threshold=0.2)
    assert metrics["Ankle"] == 100
    assert (metrics["Mean@0.1"], metrics["Mean@0.1_exact"]) == (pytest.approx(100 * 26 / 28), pytest.approx(100 * 24 / 28))


def test_unlabeled_keypoints_do_not_count():
    metrics = pckh_of({"head": [9, 0], "rkne": [0, 9]}, ("lkne", "lank", "rank"))
    assert (metrics["Head"], metrics["Knee"], metrics["Ankle"]) == (50, 50, -1)
    assert metrics["Mean"] == pytest.approx(100 * 20 / 22)


# The prediction for each annotated person


def pose(x: float, y: float, size: float) -> np.ndarray:
    """Return (16, 3) keypoints in a box twice as high as wide around x, y; the last four are not predicted."""
    keypoints = np.zeros((16, 3))
    keypoints[:12] = np.column_stack([np.tile([x - size / 4, x + size / 4], 6), np.linspace(y - size / 2, y + size / 2, 12), np.ones(12)])
    return keypoints


def test_a_box_takes_the_pose_that_overlaps_it_most_or_else_the_nearest():
    boxes = np.array([[0, 0, 100, 100], [40, 0, 110, 110], [35, 30, 30, 30], [900, 900, 40, 40]])
    poses = np.stack([pose(95, 55, 108), pose(50, 45, 28), pose(50, 50, 92), pose(500, 500, 10)])
    assert nearest_people(boxes, poses).tolist() == [2, 0, 1, 3]
    assert nearest_people(boxes[:1], np.stack([pose(50, 50, 10), pose(58, 55, 96)])).tolist() == [1], "not the nearest center"
    box = np.array([[100, 100, 60, 60]])
    assert nearest_people(box, np.stack([pose(89, 130, 10), pose(169, 130, 10)])).tolist() == [1], "41 and 39 px from the center"
    assert nearest_people(box, np.stack([pose(130, 130, 10), pose(155, 130, 20)])).tolist() == [1], "IoU 0.028 and 0.081"
    assert nearest_people(box, np.stack([pose(155, 155, 20), pose(110, 110, 24)])).tolist() == [1], "without missing keypoints, at 0, 0"


@pytest.fixture
def people() -> list[dict]:
    """Two people of each image; those of the second image are first and last in the file."""
    a, b = mpii_files(["a.jpg"], seed=3), mpii_files(["b.jpg"], seed=4)
    return [b[0], *a, b[1]]


@pytest.fixture
def truth(tmp_path, people) -> GroundTruth:
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    write_truth(tmp_path / "gt_valid.mat", people)
    return GroundTruth(write_list(tmp_path / "valid.json", people), [tmp_path], SKELETON)


def keypoints_of(person: dict) -> np.ndarray:
    """Return (16, 3) as a decoder does."""
    return np.column_stack([np.array(person["joints"]) - 1, np.ones(16)])


def results_of(truth: GroundTruth, people: list[dict], right: float = 0) -> list[dict]:
    """Return a bottom-up system's results whose people are that many pixels too far to the right."""
    results = []
    for image_id, name in ((1, "b.jpg"), (2, "a.jpg")):
        keypoints = [keypoints_of(person) + (right, 0, 0) for person in people if person["image"] == name]
        results += PckhMetric().to_results(truth, image_id, (np.stack(keypoints[::-1]), np.ones(2)))
    return results


def test_each_annotated_person_gets_a_bottom_up_prediction(truth, people):
    """Several people may share one. No prediction gives no result."""
    metric = PckhMetric()
    poses = np.stack([np.zeros((16, 3)), pose(300, 300, 20), keypoints_of(people[3]), keypoints_of(people[0])])
    results = metric.to_results(truth, 1, (poses, np.array([0.9, 0.8, 0.7, 0.6])))
    assert [(r["image_id"], r["annotation_id"], r["score"]) for r in results] == [(1, 1, 0.6), (1, 4, 0.7)]
    assert metric.to_results(truth, 2, (poses[:1], np.ones(1))) == [], "a pose without keypoints"
    assert [r["annotation_id"] for r in metric.to_results(truth, 2, (poses[1:2], np.ones(1)))] == [2, 3]
    predictions = prediction_array(results, truth)
    np.testing.assert_allclose(predictions[[0, 3]] + 1, [people[0]["joints"], people[3]["joints"]])
    assert (predictions[1:3] == 0).all()


def test_metrics_cover_the_people_of_the_evaluated_images(truth, people):
    """The first image has the file's first and last people."""
    perfect, metric = results_of(truth, people), build_metric(truth)
    assert set(metric.compute(perfect, truth).values()) == {100.0}
    first_image = [result for result in perfect if result["image_id"] == 1]
    first = GroundTruth(truth.path, truth.containers, SKELETON, limit=1)
    assert set(metric.compute(first_image, first).values()) == {100.0}
    assert metric.compute(first_image, truth)["Head"] == 50
    metrics = metric.compute(results_of(truth, people, right=0.6 * 10 * 0.105), truth)
    assert (metrics["Mean"], metrics["Mean@0.1"], metrics["Mean@0.1_exact"], metrics["Head@0.1_exact"]) == (100, 100, 0, 0)


def test_head_boxes_are_looked_for_beside_the_annotations(truth, people, tmp_path):
    """gt_NAME.mat comes before gt_valid.mat. A file of other people is not used; named by the user it is an error."""
    metric, perfect = PckhMetric(), results_of(truth, people)
    other = write_truth(tmp_path / "gt_valid.mat", people[:3])
    assert metric.compute(perfect, truth) == {}
    with pytest.raises(UserError, match=r"head boxes .*gt_valid\.mat: not of the 4 people in annotation file .*valid\.json"):
        build_metric(truth, other).inputs(truth, needs_boxes=False)
    write_truth(tmp_path / "gt_mine.mat", people)
    assert build_metric(truth, tmp_path / "gt_mine.mat").compute(perfect, truth)["Mean"] == 100
    truth.path = tmp_path / "mine.json"
    assert metric.compute(perfect, truth)["Mean"] == 100


def test_the_skeleton_needs_all_of_mpiis_keypoints(truth):
    smaller = {name: ours for name, ours in SKELETON.dataset.items() if ours != "thorax"}
    truth.skeleton = SKELETON.model_copy(update={"dataset": smaller})
    with pytest.raises(UserError, match="skeleton 'mpii': lacks thorax; MPII's evaluation needs all of its keypoints"):
        PckhMetric().inputs(truth, needs_boxes=False)


def test_results_must_name_an_annotated_person(truth, people, tmp_path):
    results = results_of(truth, people)
    for annotation_id, is_listed in ((4, True), (5, False), (None, False)):
        write_list(tmp_path / "results.json", [*results, {**results[0], "annotation_id": annotation_id}])
        if is_listed:
            assert len(PckhMetric().load_results(tmp_path / "results.json", truth)) == 5
        else:
            with pytest.raises(UserError, match=f"'annotation_id' {annotation_id}; MPII's need that of a listed person"):
                PckhMetric().load_results(tmp_path / "results.json", truth)
