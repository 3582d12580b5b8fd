"""MPII from the annotation file to figures and predictions: a people file, a network, evaluate.py with boxes and without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from mpii_people import mpii_people, official_person, write_list, write_official, write_truth
from scipy.io import loadmat
from tiny_system import ENTRY

from config.systems import SYSTEMS
from data.images import read_image
from utils.evaluation.mpii import PARTS as JOINTS
from utils.inference import PoseEstimator

BY_BOXES = "inference.boxes=true"


@pytest.fixture(scope="module", autouse=True)
def registered():
    SYSTEMS["tiny"] = ENTRY
    yield
    del SYSTEMS["tiny"]


@pytest.fixture(scope="module")
def people(images) -> list[dict]:
    return mpii_people(sorted(path.name for path in images.iterdir()))


@pytest.fixture
def valid(people, tmp_path) -> Path:
    """valid.json; its gt_valid.mat is beside it."""
    write_truth(tmp_path / "gt_valid.mat", people)
    return write_list(tmp_path / "valid.json", people)


@pytest.fixture
def checkpoint(run, valid, images, tmp_path) -> Path:
    """A network that was trained on them for an epoch."""
    file = tmp_path / "people.h5"
    command = ("data/coco_masks_hdf5.py", "--annotations", valid, "--images", images, "--output", file, "--workers", 1)
    assert run(*command, "--skeleton", "mpii").status == 0
    train = {"epochs": 1, "batch_size": 2, "optimizer": "adamw", "learning_rate": 0.02, "warmup_epochs": 0}
    data = {"train": str(file), "val": str(file), "input_size": [64, 64], "workers": 0}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"system": "tiny", "skeleton": "mpii", "data": data, "train": train}))
    trained = run("train.py", "--config", tmp_path / "tiny.yaml", "--output", tmp_path / "run")
    assert trained.status == 0, trained.err
    return tmp_path / "run" / "best.pth"


@pytest.fixture
def evaluate(run, checkpoint, valid, images, tmp_path):
    """Runs evaluate.py; what it says, and its folder."""

    def start(*more: object, file: Path = valid):
        out = tmp_path / "out"
        ended = run("evaluate.py", "--checkpoint", checkpoint, "--annotations", file, "--images", images, "--output", out, *more)
        assert ended.status == 0, ended.err
        return ended.out, out

    return start


@pytest.fixture
def knowing(monkeypatch, people, images):
    """Has the estimator find the annotated people: everybody, in another order than the file's; or whoever's box it is told."""
    poses = {}
    for person in people:
        pixels = read_image(images / person["image"]).tobytes()
        poses.setdefault(pixels, []).append(np.column_stack([np.array(person["joints"]) - 1, np.ones(16)]))

    def estimate(self, pictures, boxes=None):
        found = [poses[picture.tobytes()] for picture in pictures]
        if boxes is None:
            return [(np.stack(of_image[::-1]), np.array([0.8, 0.7])) for of_image in found]
        # The first of an image stands on the left
        return [(of_image[int(x > 50)][None], np.array([0.5])) for of_image, [(x, *_)] in zip(found, boxes)]

    monkeypatch.setattr(PoseEstimator, "batch", estimate)


def read(path: Path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("more", [(), (BY_BOXES,), (BY_BOXES, "--batch-size", 3)])
def test_who_knows_everybody_gets_a_hundred(evaluate, knowing, people, more):
    said, out = evaluate(*more)
    names, half, tenth, *_ = said.splitlines()
    assert names.split() == [*JOINTS, "Mean"]
    assert half.split() == ["PCKh@0.5", *["100.000"] * 8]
    assert tenth.split() == ["PCKh@0.1", *["100.000"] * 8]
    assert sorted(path.name for path in out.iterdir()) == ["detections.json", "figures.json", "pred.mat"]
    figures = read(out / "figures.json")
    assert {figures[name] for name in (*JOINTS, "Mean", "Mean@0.1", "Mean@0.1_exact", "Wrist@0.1_exact")} == {100.0}
    labelled = np.array([person["joints_vis"] for person in people]) > 0
    predictions = loadmat(out / "pred.mat")["preds"]
    np.testing.assert_allclose(predictions[labelled], np.array([person["joints"] for person in people])[labelled])


def test_a_real_network_is_shown_every_box(evaluate, people):
    """And so its predictions lie in them."""
    said, out = evaluate(BY_BOXES)
    assert "predictions for 16 annotated people, in the file's order" in said
    predictions = loadmat(out / "pred.mat")["preds"] - 1
    assert predictions.shape == (16, 16, 2)
    for person, points in zip(people, predictions):
        away = points - (np.array(person["center"]) - 1 + (0, 15 * person["scale"]))
        assert (np.abs(away) <= 100 * person["scale"] + 1).all()


def test_without_head_boxes_there_are_predictions_only(evaluate, valid):
    """And no figures of an earlier evaluation beside them."""
    evaluate()
    (valid.parent / "gt_valid.mat").rename(valid.parent / "elsewhere.mat")
    said, out = evaluate()
    first = said.splitlines()[0]
    assert first == "no figures: PCKh needs head boxes; name the file that has them, such as gt_valid.mat, with --head-boxes"
    assert sorted(path.name for path in out.iterdir()) == ["detections.json", "pred.mat"]
    assert "PCKh@0.5" in evaluate("--head-boxes", valid.parent / "elsewhere.mat")[0]


def test_the_test_set_gets_predictions(evaluate, people, tmp_path):
    """Of a list without joints, and of the official file with those who stand alone."""
    bare = [{key: person[key] for key in ("image", "center", "scale")} for person in people]
    said, out = evaluate("--limit", 2, file=write_list(tmp_path / "test.json", bare))
    assert said.splitlines()[0] == "no annotations to compare with"
    assert loadmat(out / "pred.mat")["preds"].shape == (4, 16, 2)
    entries = [{"objpos": official_person(person)["objpos"], "scale": person["scale"]} for person in people[:2]]
    official = write_official(tmp_path / "official.mat", [(people[0]["image"], entries, 0, [2]), ("none.jpg", [], 1, [])])
    said, out = evaluate(BY_BOXES, file=official)
    assert said.splitlines()[0] == "no annotations to compare with"
    assert loadmat(out / "pred.mat")["preds"].shape == (1, 16, 2)


def test_the_official_files_people_have_head_boxes_of_their_own(evaluate, people, tmp_path):
    entries = [official_person(person) for person in people[:2]]
    said, out = evaluate(file=write_official(tmp_path / "official.mat", [(people[0]["image"], entries, 1, [1])]))
    assert said.splitlines()[0].split() == [*JOINTS, "Mean"]
    assert loadmat(out / "pred.mat")["preds"].shape == (1, 16, 2)


def test_what_does_not_fit_is_one_line(fails, checkpoint, people, valid, annotations, images, tmp_path):
    few = write_truth(tmp_path / "few.mat", people[:3])
    bad = write_list(tmp_path / "bad.json", [{**people[0], "center": [float("nan"), 1]}])
    command = ("evaluate.py", "--checkpoint", checkpoint, "--images", images, "--output", tmp_path / "run", "--annotations")
    assert f"head boxes {few}: of 3 people, but annotation file {valid} has 16" in fails(*command, valid, "--head-boxes", few)
    assert "head boxes nowhere.mat: not found" in fails(*command, valid, "--head-boxes", "nowhere.mat")
    assert f"annotation file {bad}: person 1 ({people[0]['image']}): its 'center' is [nan, 1]" in fails(*command, bad)
    said = fails(*command, annotations, "--head-boxes", tmp_path / "gt_valid.mat")
    assert "is for MPII's evaluation, but annotation file" in said
    boxes = write_list(tmp_path / "boxes.json", [])
    assert f"--boxes {boxes}: MPII's people are looked for in their own boxes" in fails(*command, valid, BY_BOXES, "--boxes", boxes)


def test_people_found_before_get_the_same_figures(run, fails, evaluate, knowing, valid, images, tmp_path):
    """They must be somebody's answers."""
    _, out = evaluate(BY_BOXES)
    usual = ("evaluate.py", "--detections", out / "detections.json", "--annotations", valid, "--output", tmp_path / "again")
    ended = run(*usual)
    assert ended.status == 0, ended.err
    for name in ("figures.json", "pred.mat"):
        assert (name, (tmp_path / "again" / name).exists()) == (name, True)
    assert read(tmp_path / "again" / "figures.json") == read(out / "figures.json")
    assert "is MPII's, where no image is said to be worse than another" in fails(*usual, "--images", images, "--save-images", 2)
    entries = read(out / "detections.json")
    entries[0]["annotation_id"] = 999
    (out / "detections.json").write_text(json.dumps(entries))
    assert "entry 1 is of person 999, whom the annotation file does not list" in fails(*usual)
