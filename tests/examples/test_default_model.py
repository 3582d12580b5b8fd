"""The labels that the default network's photographs get: they fit the photographs, and go to the right people."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.errors import UserError
from config.files import write_json
from config.load import load_skeleton
from data.formats.coco import load_coco
from examples.default_model import prepare
from examples.default_model.prepare import DATASETS, HERE, annotation_files, by_face_labels, cut_backgrounds

SCRIPT = "examples/default_model/prepare.py"
FACE = [100, 50, 105, 45, 95, 45, None, None, 88, 47]  # nose, eyes, the right ear


def person(number: int, x: float, keypoints: int = 12) -> dict:
    box = [x, 0, 50, 100]
    return {
        "id": number,
        "bbox": box,
        "iscrowd": 0,
        "num_keypoints": keypoints,
        "keypoints": [x + 1, 2, 2] * keypoints + [0, 0, 0] * (12 - keypoints),
    }


def test_a_labelled_face_comes_before_the_body():
    (whole,), rest = by_face_labels([person(7, 80, keypoints=10)], {"7": FACE})
    assert rest == []
    assert whole["num_keypoints"] == 14
    keypoints = np.reshape(whole["keypoints"], (17, 3))
    assert keypoints[:5].tolist() == [[100, 50, 2], [105, 45, 2], [95, 45, 2], [0, 0, 0], [88, 47, 2]]
    assert keypoints[5:].ravel().tolist() == person(7, 80, keypoints=10)["keypoints"]


@pytest.mark.parametrize("x, stays", [(49, False), (51, True)])
def test_whose_box_holds_a_face_without_labels_is_taught_without(x, stays):
    with_face, rest = by_face_labels([person(1, 0), person(2, x)], {"1": FACE})
    assert [one["id"] for one in with_face] == ([1] if stays else [])
    assert sorted(one["id"] for one in rest) == ([2] if stays else [1, 2])


def test_boxes_that_meet_stay_together():
    """The third meets the second, and that one the first, whose face has no labels."""
    chain = [person(1, 0), person(2, 45), person(3, 90), person(4, 141)]
    faces, rest = by_face_labels(chain, {"2": FACE, "3": FACE, "4": FACE})
    assert [one["id"] for one in faces] == [4]
    assert sorted(one["id"] for one in rest) == [1, 2, 3]


def test_photographs_become_two_annotation_files_and_backgrounds(run, shared, tmp_path):
    """All of the annotations, and the photographs that have a part without people."""
    photos, by_id = tmp_path / "photos", {}
    labels, backgrounds = (json.loads((HERE / name).read_text()) for name in ("faces.json", "backgrounds.json"))
    for dataset in DATASETS:
        source = shared / "data" / "photos" / dataset
        content = json.loads((source / "annotations.json").read_text())
        crowds = {one["image_id"] for one in content["annotations"] if one["iscrowd"]}
        assert crowds == {one["id"] for one in content["images"]}
        (photos / dataset / "images").mkdir(parents=True)
        (photos / dataset / "annotations.json").write_text(json.dumps(content))
        for name in backgrounds[dataset]:
            (photos / dataset / "images" / name).symlink_to(source / "images" / name)
        by_id[dataset] = {str(one["id"]): one for one in content["annotations"]}
        for number, places in labels[dataset].items():  # each face near its own shoulders
            points = np.array([value for value in places if value is not None]).reshape(-1, 2)
            x, y, width, height = by_id[dataset][number]["bbox"]
            assert np.all(np.abs(points - (x + width / 2, y + height / 2)) < 0.5 * np.array([width, height]) + 0.6 * max(width, height))
    ended = run(SCRIPT, "--photos", photos, "--output", tmp_path / "out")
    assert ended.status == 0, ended.err
    faces, bodies = (load_coco(tmp_path / "out" / f"{name}.json") for name in ("faces", "bodies"))
    names = list(load_skeleton("coco").dataset)
    assert [coco.dataset["categories"][0]["keypoints"] for coco in (faces, bodies)] == [names, names[5:]]
    people = [sum(not one["iscrowd"] for one in coco.dataset["annotations"]) for coco in (faces, bodies)]
    assert people[0] > 1800 and sum(people) == sum(not one["iscrowd"] for dataset in by_id.values() for one in dataset.values())
    for coco in (faces, bodies):  # what is outside of people's boxes is said to be a crowd, in each picture
        assert {one["image_id"] for one in coco.dataset["annotations"] if one["iscrowd"]} == set(coco.getImgIds())
    parts = list((tmp_path / "out" / "backgrounds").iterdir())
    assert len(parts) == sum(map(len, backgrounds.values()))
    assert all(min(cv2.imread(str(path)).shape[:2]) >= 40 for path in parts[:20])


def write_photos(folder: Path, people: list[dict]) -> Path:
    """Photographs' annotation files: of one picture with some people, and of none."""
    for dataset, images, of_images in zip(DATASETS, ([{"id": 1, "file_name": "1.jpg"}], []), (people, [])):
        content = {"images": images, "annotations": of_images, "categories": [{"id": 1}]}
        write_json(folder / dataset / "annotations.json", content)
    return folder


def test_annotations_need_not_say_that_they_are_no_crowd(tmp_path):
    people = [{**person(number, 0), "image_id": 1, "category_id": 1} for number in (1, 2)]
    del people[1]["iscrowd"]
    faces, bodies = annotation_files(write_photos(tmp_path, people))
    assert (faces["annotations"], len(bodies["annotations"])) == ([], 2)


def test_who_has_no_box_is_told_in_a_line(run, tmp_path):
    labelled = next(iter(json.loads((HERE / "faces.json").read_text())[DATASETS[0]]))
    people = [{**person(int(labelled), 0), "image_id": 1, "category_id": 1}]
    del people[0]["bbox"], people[0]["iscrowd"]
    ended = run(SCRIPT, "--photos", write_photos(tmp_path, people), "--output", tmp_path / "out")
    path = tmp_path / DATASETS[0] / "annotations.json"
    said = f"error: annotation file {path}: annotation {labelled}: its 'bbox' is None, expected x, y, width, height\n"
    assert (ended.status, ended.err) == (2, said)


def write_picture(photos: Path, size: tuple[int, int], part: list[int], monkeypatch) -> None:
    """A photograph of a size (height, width) and a list of backgrounds that names a part of it."""
    (photos / "lsp_extended" / "images").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(photos / "lsp_extended" / "images" / "1.jpg"), np.full((*size, 3), 90, np.uint8))
    write_json(photos / "backgrounds.json", {"lsp_extended": {"1.jpg": part}})
    monkeypatch.setattr(prepare, "HERE", photos)


@pytest.mark.parametrize("size", [(60, 300), (150, 80)])
def test_a_photograph_that_is_smaller_than_its_part_is_named(tmp_path, monkeypatch, size):
    """One beyond which the part lies, and one that it leaves."""
    write_picture(tmp_path, size, [100, 20, 200, 120], monkeypatch)
    with pytest.raises(UserError, match=f"1.jpg: is {size[1]} x {size[0]}, but the part that shows nobody reaches to 200, 120; "):
        cut_backgrounds(tmp_path, tmp_path / "out")


def test_backgrounds_of_an_earlier_run_are_not_used_again(tmp_path, monkeypatch):
    """What else lies there is."""
    write_picture(tmp_path, (120, 200), [100, 20, 200, 120], monkeypatch)
    (tmp_path / "out").mkdir()
    for name in ("lsp_extended_7.png", "own.png"):
        (tmp_path / "out" / name).touch()
    assert cut_backgrounds(tmp_path, tmp_path / "out") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lsp_extended_1.png", "own.png"]
    assert cv2.imread(str(tmp_path / "out" / "lsp_extended_1.png")).shape == (100, 100, 3)


def test_missing_photographs_are_told_in_a_line(run, tmp_path):
    ended = run(SCRIPT, "--photos", tmp_path / "none", "--output", tmp_path / "out")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "none" in ended.err
    (tmp_path / "some").mkdir()
    ended = run(SCRIPT, "--photos", tmp_path / "some", "--output", tmp_path / "out")
    assert ended.status == 2 and ended.err.count("\n") == 1 and "lsp_extended" in ended.err
