"""evaluate.py on people found before, what it writes besides figures, and answers for COCO's server."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from people import SKELETON, crowd_file, labelled_people
from pycocotools.coco import COCO

from utils.evaluation import load_task
from utils.inference import PoseEstimator

FAINT = ("assignment.keypoint_threshold=1e-4", "assignment.lone_threshold=0", "assignment.max_peaks=2")


def read(path: Path):
    return json.loads(path.read_text())


@pytest.fixture
def found(annotations, tmp_path) -> Path:
    """Everybody, three pixels beside where they are; in the fifth image nobody."""
    task = load_task(annotations, None, SKELETON)
    people = labelled_people(annotations, noise=3)
    path = tmp_path / "found.json"
    path.write_text(json.dumps([d for number, of_image in people.items() if number != 5 for d in task.detections(number, *of_image)]))
    return path


@pytest.fixture
def evaluate(run, annotations, tmp_path) -> Callable:
    """Runs evaluate.py on detections."""

    def start(path: Path, *more: object, annotations: Path = annotations):
        return run("evaluate.py", "--detections", path, "--annotations", annotations, "--output", tmp_path / "out", *more)

    return start


@pytest.fixture
def refused(fails, annotations, found, tmp_path) -> Callable[..., str]:
    """Runs evaluate.py on detections of which one entry is changed, or others; it must refuse them."""

    def start(*more: object, content: str | None = None, annotations: Path = annotations, **changed: object) -> str:
        path = tmp_path / "changed.json"
        entries = read(found)
        for key, value in changed.items():
            entries[2].pop(key, None)
            entries[2] |= {} if value is None else {key: value}
        path.write_text(json.dumps(entries) if content is None else content)
        return fails("evaluate.py", "--detections", path, "--annotations", annotations, "--output", tmp_path / "out", *more)

    return start


def test_a_networks_detections_give_its_figures_again(run, evaluate, tiny, trained, annotations, images, tmp_path):
    """The tiny network has hardly learned anything; whoever it finds in the first images."""
    usual = ("--config", tiny, "--checkpoint", trained / "last.pth", "--annotations", annotations, "--images", images)
    assert run("evaluate.py", *usual, "--output", tmp_path / "network", *FAINT).status == 0
    ended = evaluate(tmp_path / "network" / "detections.json")
    assert ended.status == 0, ended.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"figures.json", "details.json", "curves.png", "errors.png"}
    for name in ("figures.json", "details.json", "curves.png", "errors.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "network" / name).read_bytes()


def test_output_is_beside_the_detections_by_default(run, found, annotations):
    assert run("evaluate.py", "--detections", found, "--annotations", annotations).status == 0
    assert (found.parent / "evaluation" / "figures.json").exists()


def test_details_agree_with_the_figures(evaluate, found, tmp_path):
    ended = evaluate(found)
    assert ended.status == 0, ended.err
    figures, details = (read(tmp_path / "out" / f"{name}.json") for name in ("figures", "details"))
    for name, curve in {"AP": "OKS 0.5:0.95", "AP50": "OKS 0.5", "AP75": "OKS 0.75"}.items():
        assert np.mean(details["precision"][curve]) == pytest.approx(figures[name])
    assert 0.2 < figures["AP"] < 0.9
    assert set(details["keypoints"]) == set(SKELETON.dataset)
    assert details["errors"]["false_negatives"] > 0
    assert f"AP is lost to {max(details['lost_AP'], key=details['lost_AP'].get).replace('_', ' ')} " in ended.out
    for name in ("curves.png", "errors.png"):
        height, width, _ = cv2.imread(str(tmp_path / "out" / name)).shape
        assert height > 300 and width > 600


def test_crowdposes_people_have_their_keypoints(evaluate, annotations, found, tmp_path):
    """The skeleton is the one that has the file's keypoints."""
    crowded = crowd_file(annotations, tmp_path / "crowd.json")
    entries = []
    for annotation in read(crowded)["annotations"]:
        if annotation["num_keypoints"]:
            kept = {key: annotation[key] for key in ("image_id", "category_id", "keypoints")}
            entries.append({**kept, "score": 0.5})
    (tmp_path / "crowd found.json").write_text(json.dumps(entries))
    ended = evaluate(tmp_path / "crowd found.json", annotations=crowded)
    assert ended.status == 0, ended.err
    assert read(tmp_path / "out" / "figures.json")["AP_hard"] == pytest.approx(1)
    assert list(read(tmp_path / "out" / "details.json")["keypoints"])[-2:] == ["head", "neck"]


def test_of_the_first_images_only(evaluate, found, tmp_path):
    """Who was found in the others neither counts nor is refused."""
    task_figures = evaluate(found, "--limit", 4)
    assert task_figures.status == 0, task_figures.err
    assert read(tmp_path / "out" / "details.json")["errors"]["false_negatives"] == 0


# The worst images


def test_the_worst_images_are_drawn(evaluate, found, images, tmp_path):
    """First that in which nobody was found. An earlier evaluation's are not left beside them."""
    ended = evaluate(found, "--images", images, "--save-images", 8)
    assert ended.status == 0, ended.err
    names = sorted(path.name for path in (tmp_path / "out" / "worst").iterdir())
    assert names[0] == "1_000000000005.jpg" and len(names) > 3
    assert evaluate(found, "--images", images, "--save-images", 2).status == 0
    assert sorted(path.name for path in (tmp_path / "out" / "worst").iterdir()) == names[:2]
    picture = cv2.imread(str(tmp_path / "out" / "worst" / names[0]))
    assert picture.shape[1] > 2 * 480 * 160 / 128  # side by side, of pictures of 160 x 128
    assert evaluate(found).status == 0
    assert not (tmp_path / "out" / "worst").exists()


def test_a_network_has_its_worst_images_drawn_too(run, tiny, trained, annotations, images, tmp_path):
    usual = ("--config", tiny, "--checkpoint", trained / "last.pth", "--annotations", annotations, "--images", images)
    ended = run("evaluate.py", *usual, "--output", tmp_path / "out", *FAINT, "--save-images", 3, "--limit", 4)
    assert ended.status == 0, ended.err
    assert len(list((tmp_path / "out" / "worst").glob("*.jpg"))) == 3
    assert f"the 3 worst images: {tmp_path / 'out' / 'worst'}" in ended.out


def test_people_far_outside_of_the_picture_are_drawn_as_far_as_they_can_be(evaluate, found, images, tmp_path):
    entries = read(found)
    for entry, far in zip(entries, (1e308, -1e12, 1e6)):
        entry["keypoints"][::3] = [far] * 17
        entry["keypoints"][1] = far
    found.write_text(json.dumps(entries))
    ended = evaluate(found, "--images", images, "--save-images", 8)
    assert (ended.status, ended.err) == (0, "")
    assert len(list((tmp_path / "out" / "worst").iterdir())) > 3


def test_people_found_exactly_have_no_worst_image(evaluate, annotations, images, tmp_path):
    task = load_task(annotations, None, SKELETON)
    entries = [d for number, people in labelled_people(annotations).items() for d in task.detections(number, *people)]
    (tmp_path / "exact.json").write_text(json.dumps(entries))
    ended = evaluate(tmp_path / "exact.json", "--images", images, "--save-images", 3)
    assert (ended.status, (tmp_path / "out" / "worst").exists()) == (0, False)
    assert "no image is short of what is annotated" in ended.out


# COCO's server


def image_info(mini: Path, structure: Path, path: Path) -> Path:
    """Of the photographs of both halves, as COCO's file of a test set has it: without people, with categories without keypoints."""
    known = read(structure)
    images = [image for half in ("train", "val") for image in read(mini / "annotations" / f"person_keypoints_{half}2017.json")["images"]]
    images = [{key: image[key] for key in known["images"][0] if key in image} for image in images]
    categories = [{"supercategory": "person", "id": 1, "name": "person"}, {"supercategory": "vehicle", "id": 2, "name": "bicycle"}]
    kept = {key: known[key] for key in ("info", "licenses")}
    path.write_text(json.dumps({**kept, "images": images, "categories": categories}))
    return path


@pytest.mark.parametrize("test_set", ["test-dev2017", "test2017"])
def test_the_archive_for_the_server(run, monkeypatch, shared, tiny, trained, tmp_path, test_set):
    """The first four photographs of each half, each with as many people as its number says."""
    mini, info = shared / "data" / "coco_mini", tmp_path / f"image_info_{test_set}.json"
    image_info(mini, shared / "data" / "coco_val538" / "person_keypoints_val2017_538.json", info)
    content, folder = read(info), tmp_path / "images"
    content["images"] = content["images"][:4] + content["images"][-4:]
    info.write_text(json.dumps(content))
    folder.mkdir()
    for image in content["images"]:
        for half in ("train2017", "val2017"):
            if (mini / half / image["file_name"]).exists():
                shutil.copy(mini / half / image["file_name"], folder)
    counted = []

    def estimate(self, pictures):
        people = [np.random.default_rng(len(counted) + n).uniform(1, 90, (len(counted) + n, 18, 3)) for n in range(len(pictures))]
        counted.extend(map(len, people))
        return [(keypoints, np.linspace(0.9, 0.1, len(keypoints))) for keypoints in people]

    monkeypatch.setattr(PoseEstimator, "batch", estimate)
    usual = (
        "--config",
        tiny,
        "--checkpoint",
        trained / "last.pth",
        "--annotations",
        info,
        "--images",
        folder,
        "--output",
        tmp_path / "out",
    )
    ended = run("evaluate.py", *usual, "--batch-size", 3)
    assert ended.status == 0, ended.err
    name = f"person_keypoints_{test_set}_simplepose_results"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"detections.json", f"{name}.json", f"{name}.zip"}
    with zipfile.ZipFile(tmp_path / "out" / f"{name}.zip") as archive:
        assert archive.namelist() == [f"{name}.json"]
        archive.extractall(tmp_path / "sent")
    truth = COCO(str(info))
    answer = truth.loadRes(str(tmp_path / "sent" / f"{name}.json"))
    assert [len(answer.getAnnIds([image_id])) for image_id in sorted(truth.imgs)] == list(range(8))
    assert all(len(person["keypoints"]) == 51 and person["category_id"] == 1 for person in answer.anns.values())


def test_another_system_is_called_by_its_own_name(annotations, tmp_path):
    (tmp_path / "image_info_test2017.json").write_text(json.dumps({"images": read(annotations)["images"]}))
    task = load_task(tmp_path / "image_info_test2017.json", None, SKELETON)
    task.method = "simple_baselines"
    task.report([], tmp_path)
    assert (tmp_path / "person_keypoints_test2017_simple-baselines_results.zip").exists()


def test_detections_make_an_archive_too(evaluate, found, annotations, tmp_path):
    (tmp_path / "info.json").write_text(json.dumps({"images": read(annotations)["images"]}))
    ended = evaluate(found, annotations=tmp_path / "info.json")
    assert ended.status == 0, ended.err
    assert read(tmp_path / "out" / "person_keypoints_test-dev2017_simplepose_results.json") == read(found)


@pytest.mark.parametrize("more", [{"bbox": [0, 0, 9, 9]}, {"bbox": None}, {"segmentation": None}, {"caption": "a man"}, {"area": "large"}])
@pytest.mark.parametrize("entries", [1, None])
def test_what_others_write_besides_does_not_count(evaluate, found, tmp_path, more, entries):
    def figures() -> dict[str, float]:
        assert evaluate(found).status == 0
        return read(tmp_path / "out" / "figures.json")

    plain, content = figures(), read(found)
    for entry in content[:entries]:
        entry |= more
    found.write_text(json.dumps(content))
    assert figures() == plain


# What is refused


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"image_id": 999}, "changed.json: entry 3 is of image 999, which the annotation file does not list"),
        ({"image_id": "1"}, "entry 3 is of image '1'"),
        ({"image_id": None}, "entry 3 lacks 'image_id'; expected a list of {image_id, category_id, keypoints, score}"),
        ({"category_id": 2}, "entry 3 is of category 2; people are 1"),
        ({"keypoints": [1, 2, 1] * 16}, "entry 3 has 48 numbers as 'keypoints', expected 51: x, y, v of the 17 keypoints"),
        ({"keypoints": "none"}, "entry 3 has 'none' as 'keypoints'"),
        ({"keypoints": [float("nan"), 2, 1] * 17}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"keypoints": [10**400, 2, 1] * 17}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"keypoints": [[1, 2, 1]] * 51}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"keypoints": ["1", 2, 1] * 17}, "entry 3 has 'keypoints' that are not all finite numbers"),
        ({"score": float("inf")}, "entry 3 has the score inf, expected a finite number"),
        ({"score": None}, "entry 3 lacks 'score'"),
        ({"score": "high"}, "entry 3 has the score 'high'"),
    ],
)
def test_entries_that_cannot_be_evaluated(refused, changed, said):
    assert said in refused(**changed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "changed.json: an empty list, there is nothing to evaluate"),
        ('[{"image_id": 1', "changed.json: not valid JSON"),
        ("", "changed.json: not valid JSON"),
        ('{"annotations": []}', "not COCO's format for results; expected a list of {image_id, category_id, keypoints, score}"),
        ("[3]", "entry 1 lacks 'image_id'"),
        ("[null]", "entry 1 lacks 'image_id'"),
    ],
)
def test_files_that_are_no_results(refused, content, said):
    assert said in refused(content=content)


def test_options_that_do_not_go_together(fails, refused, trained, annotations, found, images, tmp_path):
    assert "--detections needs no network: leave out --checkpoint" in refused("--checkpoint", trained / "last.pth")
    assert "leave out --no-flip" in refused("--no-flip")
    assert "leave out inference.flip=false" in refused("inference.flip=false")
    assert "skeleton 'octopus'" in refused("skeleton=octopus")
    assert "--save-images: the folder of the images is missing; give --images" in refused("--save-images", 2)
    assert "--save-images 0: expected at least 1" in refused("--save-images", 0)
    (tmp_path / "info.json").write_text(json.dumps({"images": read(annotations)["images"]}))
    without = refused("--save-images", 2, "--images", images, annotations=tmp_path / "info.json")
    assert f"--save-images: {tmp_path / 'info.json'} has no annotations" in without
    assert "--images is missing" in fails("evaluate.py", "--annotations", annotations, "--checkpoint", trained / "last.pth")
    assert "nowhere.json: not found" in fails("evaluate.py", "--annotations", annotations, "--detections", tmp_path / "nowhere.json")
    assert "lists no image" in refused(annotations=_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty.json").write_text('{"images": []}')
    return folder / "empty.json"
