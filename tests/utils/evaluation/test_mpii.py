"""PCKh, against a plain account of it that is written here; who answers for whom; predictions for MPII's server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mpii_people import NAMES, mpii_people, truth_of, write_list, write_truth
from scipy.io import loadmat

from config import UserError
from config.load import load_skeleton
from utils.evaluation import load_task
from utils.evaluation.mpii import nearest_people, pckh, pckh_table, write_predictions

SKELETON = load_skeleton("mpii")
PARTS = {"Head": ["head"]} | {
    name: [side + short for side in "lr"]
    for name, short in (("Shoulder", "sho"), ("Elbow", "elb"), ("Wrist", "wri"), ("Hip", "hip"), ("Knee", "kne"), ("Ankle", "ank"))
}


# The plain account


def within(predictions, truth: dict, name: str, threshold: float) -> list[bool]:
    """Of each person whose keypoint of this name is labelled, whether it is near enough."""
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
    """Predictions up to a head's size or two off, heads of many sizes; a fifth of the keypoints not labelled."""
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


def test_only_labelled_keypoints_count_and_pelvis_and_thorax_for_no_mean():
    predictions, truth = random_case(5, seed=0)
    figures = measured(predictions, truth)
    lost = predictions.copy()
    lost[truth["jnt_missing"].T > 0] += 1000
    lost[:, [NAMES.index("pelv"), NAMES.index("thor")]] += 1000
    assert measured(lost, truth) == figures
    lost[0, NAMES.index("head")] += 1000 if not truth["jnt_missing"][9, 0] else 0
    assert (measured(lost, truth)["Head"] < figures["Head"]) == (not truth["jnt_missing"][9, 0])


def test_where_nothing_is_labelled_there_is_no_figure():
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


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    return tmp_path


@pytest.fixture
def people() -> list[dict]:
    """Two of each image; those of the second image stand first and last in the file."""
    a, b = mpii_people(["a.jpg"], seed=3), mpii_people(["b.jpg"], seed=4)
    return [b[0], *a, b[1]]


@pytest.fixture
def task(folder, people):
    write_truth(folder / "gt_valid.mat", people)
    return load_task(write_list(folder / "valid.json", people), folder, SKELETON)


def keypoints_of(person: dict) -> np.ndarray:
    """(16, 3) as a decoder gives them."""
    return np.column_stack([np.array(person["joints"]) - 1, np.ones(16)])


def found_at(task, people: list[dict], right: float = 0) -> list[dict]:
    """What a system finds that knows everybody, but places them so many pixels too far to the right."""
    detections = []
    for number, name in ((1, "b.jpg"), (2, "a.jpg")):
        keypoints = [keypoints_of(person) + (right, 0, 0) for person in people if person["image"] == name]
        detections += task.detections(number, np.stack(keypoints[::-1]), np.ones(2))
    return detections


def test_each_annotated_person_takes_one_who_was_found(task, people):
    """Several may take the same one; nobody found is nobody."""
    found = np.stack([np.zeros((16, 3)), pose(300, 300, 20), keypoints_of(people[3]), keypoints_of(people[0])])
    detections = task.detections(1, found, np.array([0.9, 0.8, 0.7, 0.6]))
    assert [(d["image_id"], d["annotation_id"], d["score"]) for d in detections] == [(1, 1, 0.6), (1, 4, 0.7)]
    assert task.detections(2, np.zeros((0, 16, 3)), np.zeros(0)) == []
    assert task.detections(2, found[:1], np.ones(1)) == []
    assert [d["annotation_id"] for d in task.detections(2, found[1:2], np.ones(1))] == [2, 3]
    predictions = task.predictions(detections)
    np.testing.assert_allclose(predictions[[0, 3]] + 1, [people[0]["joints"], people[3]["joints"]])
    assert (predictions[1:3] == 0).all()


def test_each_box_answers_for_its_own_person(task, people):
    """Even where somebody else's pose was found in it, or nobody's."""
    nobody = (np.zeros((0, 16, 3)), np.zeros(0))
    assert task.boxes(2).shape == (2, 4)
    mistaken = (np.stack([keypoints_of(people[1]), keypoints_of(people[2])]), np.array([0.5, 0.4]))
    detections = task.box_detections(2, [nobody, mistaken])
    assert [(d["annotation_id"], d["score"]) for d in detections] == [(3, 0.5)]
    np.testing.assert_allclose(task.predictions(detections)[2] + 1, people[1]["joints"])


def test_figures_are_those_of_the_images_looked_at(folder, people, task):
    """In percent of them: the first image is that of the file's first and last people."""
    perfect = found_at(task, people)
    assert set(task.figures(perfect).values()) == {100.0}
    first = load_task(task.path, folder, SKELETON, limit=1)
    np.testing.assert_array_equal(first.truth.joints, truth_of([people[0], people[3]])["pos_gt_src"])
    assert set(first.figures([d for d in perfect if d["image_id"] == 1]).values()) == {100.0}
    assert task.figures([d for d in perfect if d["image_id"] == 1])["Head"] == 50


def test_the_table_has_a_row_for_each_threshold(task, people):
    figures = task.figures(found_at(task, people, right=0.6 * 10 * 0.105))
    assert (figures["Mean"], figures["Mean@0.1"], figures["Mean@0.1_exact"]) == (100, 100, 0)
    names, half, tenth, mean = pckh_table(figures).splitlines()
    assert names.split() == [*PARTS, "Mean"]
    assert half.split() == ["PCKh@0.5", *["100.000"] * 8]
    assert tenth.split() == ["PCKh@0.1", *["0.000"] * 8]
    assert mean == "Mean@0.1 of published tables, which is at 0.11: 100.000"


# Files


def test_predictions_are_written_as_the_server_takes_them(tmp_path):
    predictions = np.random.default_rng(0).uniform(0, 500, (3, 16, 2))
    write_predictions(tmp_path / "pred.mat", predictions)
    read = loadmat(tmp_path / "pred.mat")["preds"]
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, predictions + 1)


@pytest.mark.parametrize("predictions", [np.zeros((3, 14, 2)), np.zeros((3, 16, 3)), np.full((1, 16, 2), np.nan)])
def test_predictions_are_written_whole_or_not_at_all(tmp_path, predictions):
    write_predictions(tmp_path / "pred.mat", np.zeros((1, 16, 2)))
    before = (tmp_path / "pred.mat").read_bytes()
    with pytest.raises(UserError, match=r"predictions .*pred\.mat: of shape .* expected finite numbers of shape \(N, 16, 2\)"):
        write_predictions(tmp_path / "pred.mat", predictions)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("pred.mat", before)]


def test_head_boxes_are_looked_for_beside_the_annotations(folder, people):
    """gt_NAME.mat first; one that is of other people is not used, unless it is named: then it is an error."""
    file, one = write_list(folder / "mine.json", people), ["head box", "--head-boxes"]
    assert load_task(file, folder, SKELETON).truth is None
    other = write_truth(folder / "gt_valid.mat", people[:3])
    without = load_task(file, folder, SKELETON)
    assert without.truth is None
    assert all(word in without.without_figures for word in [*one, "gt_valid.mat is of 3 people", "has 4"])
    with pytest.raises(UserError, match=r"head boxes .*gt_valid\.mat: of 3 people, but annotation file .*mine\.json has 4"):
        load_task(file, folder, SKELETON, head_boxes=other)
    write_truth(folder / "gt_mine.mat", people)
    assert len(load_task(file, folder, SKELETON).truth) == 4
    assert len(load_task(file, folder, SKELETON, head_boxes=folder / "gt_mine.mat").truth) == 4


def test_all_of_mpiis_keypoints_are_wanted(folder, people, task):
    smaller = {name: ours for name, ours in SKELETON.dataset.items() if ours != "thorax"}
    keypoints = tuple(name for name in SKELETON.keypoints if name != "thorax")
    sigmas = {name: SKELETON.sigmas[name] for name in keypoints}
    skeleton = SKELETON.model_validate(
        {**SKELETON.model_dump(), "dataset": smaller, "keypoints": keypoints, "sigmas": sigmas, "limbs": (), "drawn": ()}
    )
    with pytest.raises(UserError, match="skeleton 'mpii': lacks thorax; MPII's evaluation wants all of its 16 keypoints"):
        load_task(task.path, folder, skeleton)
