"""PCKh, against a plain account of it that is written here; who answers for whom; predictions for MPII's server."""

from __future__ import annotations

import numpy as np
import pytest
from mpii_files import NAMES, mpii_files, write_list, write_truth
from scipy.io import loadmat

from config import UserError
from config.load import load_skeleton
from utils.evaluation.coco import GroundTruth
from utils.evaluation.metrics import build_metric
from utils.evaluation.mpii import PckhMetric, nearest_people, pckh, pckh_table, prediction_array, write_predictions

SKELETON = load_skeleton("mpii")
PARTS = {"Head": ["head"]} | {
    name: [side + short for side in "lr"]
    for name, short in (("Shoulder", "sho"), ("Elbow", "elb"), ("Wrist", "wri"), ("Hip", "hip"), ("Knee", "kne"), ("Ankle", "ank"))
}


# The plain account


def within(predictions, truth: dict, name: str, threshold: float) -> list[bool]:
    """Of each person whose keypoint of this name is labeled, whether it is near enough."""
    k, found = NAMES.index(name), []
    for n in range(len(predictions)):
        (x1, y1), (x2, y2) = truth["headboxes_src"][..., n].tolist()
        x, y = truth["pos_gt_src"][k, :, n].tolist()
        if not truth["jnt_missing"][k, n]:
            away = np.hypot(predictions[n][k][0] + 1 - x, predictions[n][k][1] + 1 - y)
            found.append(bool(away / (0.6 * np.hypot(x2 - x1, y2 - y1)) <= threshold))
    return found


def plain_pckh(predictions, truth: dict, threshold: float) -> dict[str, float]:
    figures = {
        part: sum(100 * sum(found) / len(found) for found in (within(predictions, truth, name, threshold) for name in names)) / len(names)
        for part, names in PARTS.items()
    }
    for mean, at in (("Mean", threshold), ("Mean@0.1", 0.11), ("Mean@0.1_exact", 0.1)):
        every = sum((within(predictions, truth, name, at) for name in NAMES if name not in ("pelv", "thor")), [])
        figures[mean] = 100 * sum(every) / len(every)
    return figures


def random_case(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Predictions up to a head's size or two off, heads of many sizes; a fifth of the keypoints not labeled."""
    rng = np.random.default_rng(seed)
    joints, corner, size = rng.uniform(0, 500, (16, 2, count)), rng.uniform(0, 400, (2, count)), rng.uniform(5, 60, (2, count))
    missing = (rng.random((16, count)) < 0.2).astype(float)
    predictions = joints.transpose(2, 0, 1) - 1 + rng.normal(0, 8, (count, 16, 2))
    joints[np.broadcast_to(missing[:, None] > 0, joints.shape)] = -1
    return predictions, {"jnt_missing": missing, "pos_gt_src": joints, "headboxes_src": np.stack([corner, corner + size])}


def measured(predictions: np.ndarray, truth: dict, threshold: float = 0.5) -> dict[str, float]:
    return pckh(predictions, truth["pos_gt_src"], truth["jnt_missing"], truth["headboxes_src"], threshold)


@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_pckh_is_that_of_the_plain_account(threshold):
    for seed in range(3):
        predictions, truth = random_case(40, seed)
        figures, plain = measured(predictions, truth, threshold), plain_pckh(predictions, truth, threshold)
        assert figures.keys() == plain.keys()
        np.testing.assert_allclose(list(figures.values()), list(plain.values()), rtol=0, atol=1e-9)
        assert len(set(figures.values())) > 5


def test_only_labeled_keypoints_count_and_pelvis_and_thorax_for_no_mean():
    predictions, truth = random_case(5, seed=0)
    figures = measured(predictions, truth)
    lost = predictions.copy()
    lost[truth["jnt_missing"].T > 0] += 1000
    lost[:, [NAMES.index("pelv"), NAMES.index("thor")]] += 1000
    assert measured(lost, truth) == figures
    lost[0, NAMES.index("head")] += 1000 if not truth["jnt_missing"][9, 0] else 0
    assert (measured(lost, truth)["Head"] < figures["Head"]) == (not truth["jnt_missing"][9, 0])


def test_where_nothing_is_labeled_there_is_no_figure():
    predictions, truth = random_case(5, seed=1)
    truth["jnt_missing"][[NAMES.index("lkne"), NAMES.index("lank"), NAMES.index("rank")]] = 1
    figures = measured(predictions, truth)
    assert figures["Ankle"] == -1
    assert figures["Knee"] == pytest.approx(100 * np.mean(within(predictions, truth, "rkne", 0.5)))
    truth["jnt_missing"][:] = 1
    assert set(measured(predictions, truth).values()) == {-1}


# Who answers for whom


def pose(x: float, y: float, size: float) -> np.ndarray:
    """(16, 3) somebody in a box twice as high as wide around x, y; a few keypoints were not found."""
    keypoints = np.zeros((16, 3))
    keypoints[:12] = np.column_stack([np.tile([x - size / 4, x + size / 4], 6), np.linspace(y - size / 2, y + size / 2, 12), np.ones(12)])
    return keypoints


def test_the_one_found_in_the_same_place_answers():
    """Not somebody beside who fills as much of the square box; the nearest one where nobody overlaps it."""
    boxes = np.array([[0, 0, 100, 100], [40, 0, 110, 110], [35, 30, 30, 30], [900, 900, 40, 40]])
    found = np.stack([pose(95, 55, 108), pose(50, 45, 28), pose(50, 50, 92), pose(500, 500, 10)])
    assert nearest_people(boxes, found).tolist() == [2, 0, 1, 3]
    assert nearest_people(boxes[:1], np.stack([pose(50, 50, 10), pose(58, 55, 96)])).tolist() == [1], "not the nearest center"


@pytest.fixture
def people() -> list[dict]:
    """Two of each image; those of the second image are first and last in the file."""
    a, b = mpii_files(["a.jpg"], seed=3), mpii_files(["b.jpg"], seed=4)
    return [b[0], *a, b[1]]


@pytest.fixture
def truth(tmp_path, people) -> GroundTruth:
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    write_truth(tmp_path / "gt_valid.mat", people)
    return GroundTruth(write_list(tmp_path / "valid.json", people), tmp_path, SKELETON)


def keypoints_of(person: dict) -> np.ndarray:
    """(16, 3) as a decoder gives them."""
    return np.column_stack([np.array(person["joints"]) - 1, np.ones(16)])


def results_of(truth: GroundTruth, people: list[dict], right: float = 0) -> list[dict]:
    """What a bottom-up system finds that places all people so many pixels too far to the right."""
    metric, results = PckhMetric(), []
    for image_id in metric.inputs(truth, needs_boxes=False):
        keypoints = [keypoints_of(person) + (right, 0, 0) for person in people if person["image"] == {1: "b.jpg", 2: "a.jpg"}[image_id]]
        results += metric.to_results(truth, image_id, np.stack(keypoints[::-1]), np.ones(2))
    return results


def test_each_annotated_person_takes_one_who_was_found(truth, people):
    """Several may take the same one; without a prediction there is no result."""
    metric = PckhMetric()
    assert list(metric.inputs(truth, needs_boxes=False)) == [1, 2]
    found = np.stack([np.zeros((16, 3)), pose(300, 300, 20), keypoints_of(people[3]), keypoints_of(people[0])])
    results = metric.to_results(truth, 1, found, np.array([0.9, 0.8, 0.7, 0.6]))
    assert [(r["image_id"], r["annotation_id"], r["score"]) for r in results] == [(1, 1, 0.6), (1, 4, 0.7)]
    assert metric.to_results(truth, 2, np.zeros((0, 16, 3)), np.zeros(0)) == []
    assert metric.to_results(truth, 2, found[:1], np.ones(1)) == []
    assert [r["annotation_id"] for r in metric.to_results(truth, 2, found[1:2], np.ones(1))] == [2, 3]
    predictions = prediction_array(results, truth)
    np.testing.assert_allclose(predictions[[0, 3]] + 1, [people[0]["joints"], people[3]["joints"]])
    assert (predictions[1:3] == 0).all()


def test_a_top_down_system_is_shown_each_box_alone(truth, people):
    """And its pose answers for the box's person, whatever pose it is."""
    metric = PckhMetric()
    inputs = metric.inputs(truth, needs_boxes=True)
    assert [(i, image.path.name, image.boxes.shape) for i, image in inputs.items()] == [
        (1, "b.jpg", (1, 4)), (4, "b.jpg", (1, 4)), (2, "a.jpg", (1, 4)), (3, "a.jpg", (1, 4))
    ]  # fmt: skip
    np.testing.assert_allclose(inputs[3].boxes[0], truth.annotations.anns[3]["bbox"])
    assert metric.to_results(truth, 2, np.zeros((0, 16, 3)), np.zeros(0)) == []
    (result,) = metric.to_results(truth, 3, np.stack([keypoints_of(people[1]), keypoints_of(people[2])]), np.array([0.5, 0.4]))
    assert (result["image_id"], result["annotation_id"], result["score"]) == (2, 3, 0.5)
    np.testing.assert_allclose(prediction_array([result], truth)[2] + 1, people[1]["joints"])


def test_metrics_are_those_of_the_images_looked_at(truth, people):
    """In percent of them: the first image is that of the file's first and last people."""
    perfect, metric = results_of(truth, people), build_metric(truth)
    assert set(metric.compute(perfect, truth).values()) == {100.0}
    first_image = [result for result in perfect if result["image_id"] == 1]
    first = GroundTruth(truth.path, truth.folder, SKELETON, limit=1)
    assert set(metric.compute(first_image, first).values()) == {100.0}
    assert prediction_array(first_image, first).shape == (2, 16, 2)
    assert metric.compute(first_image, truth)["Head"] == 50


def test_the_table_has_a_row_for_each_threshold(truth, people):
    metrics = PckhMetric().compute(results_of(truth, people, right=0.6 * 10 * 0.105), truth)
    assert (metrics["Mean"], metrics["Mean@0.1"], metrics["Mean@0.1_exact"]) == (100, 100, 0)
    names, half, tenth, mean = pckh_table(metrics).splitlines()
    assert names.split() == [*PARTS, "Mean"]
    assert half.split() == ["PCKh@0.5", *["100.000"] * 8]
    assert tenth.split() == ["PCKh@0.1", *["0.000"] * 8]
    assert mean == "Mean@0.1 of published tables, which is at 0.11: 100.000"


# Files


def test_predictions_are_written_as_the_server_takes_them(tmp_path):
    predictions = np.random.default_rng(0).uniform(0, 500, (3, 16, 2))
    write_predictions(tmp_path / "pred.mat", predictions)
    np.testing.assert_array_equal(loadmat(tmp_path / "pred.mat")["preds"], predictions + 1)
    before = (tmp_path / "pred.mat").read_bytes()
    for unfit in (np.zeros((3, 14, 2)), np.full((1, 16, 2), np.nan)):
        with pytest.raises(UserError, match=r"predictions .*pred\.mat: of shape .* expected finite numbers of shape \(N, 16, 2\)"):
            write_predictions(tmp_path / "pred.mat", unfit)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("pred.mat", before)]


def test_head_boxes_are_looked_for_beside_the_annotations(truth, people, tmp_path):
    """gt_NAME.mat first. One of other people is not used, unless it is named: then it is an error."""
    metric, perfect, few = PckhMetric(), results_of(truth, people), people[:3]
    (tmp_path / "gt_valid.mat").unlink()
    with pytest.raises(UserError, match="PCKh needs head boxes; name the file that has them, such as gt_valid.mat, with --head-boxes$"):
        metric.compute(perfect, truth)
    other = write_truth(tmp_path / "gt_valid.mat", few)
    with pytest.raises(UserError, match="gt_valid.mat is of 3 people, but annotation file .* has 4"):
        metric.compute(perfect, truth)
    with pytest.raises(UserError, match=r"head boxes .*gt_valid\.mat: of 3 people, but annotation file .*valid\.json has 4"):
        build_metric(truth, other).inputs(truth, needs_boxes=False)
    write_truth(tmp_path / "gt_mine.mat", people)
    assert build_metric(truth, tmp_path / "gt_mine.mat").compute(perfect, truth)["Mean"] == 100
    truth.path = tmp_path / "mine.json"
    assert metric.compute(perfect, truth)["Mean"] == 100


def test_all_of_mpiis_keypoints_are_wanted(truth):
    smaller = {name: ours for name, ours in SKELETON.dataset.items() if ours != "thorax"}
    truth.skeleton = SKELETON.model_copy(update={"dataset": smaller})
    with pytest.raises(UserError, match="skeleton 'mpii': lacks thorax; MPII's evaluation wants all of its 16 keypoints"):
        PckhMetric().inputs(truth, needs_boxes=False)
