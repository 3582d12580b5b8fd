"""Person detections: what is taken, what is left out and counted, what is no such file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from places import SHARED

from config import UserError
from data.formats import load_annotations
from data.formats.detections import load_detections

IMAGES = {7: {"id": 7, "width": 200, "height": 100}, 8: {"id": 8}}
GOOD = {"image_id": 7, "category_id": 1, "bbox": [10, 20.5, 30, 40], "score": 0.75}


def written(path: Path, *entries: dict) -> Path:
    path.write_text(json.dumps(entries))
    return path


def test_boxes_are_those_of_each_image(tmp_path):
    others = [{**GOOD, "image_id": 8, "bbox": [5000, 1, 2, 3]}, {**GOOD, "score": 1}]  # how large image 8 is, nobody says
    found = load_detections(written(tmp_path / "found.json", GOOD, *others), IMAGES)
    assert {image_id: boxes.tolist() for image_id, boxes in found.items()} == {
        7: [[10, 20.5, 30, 40, 0.75], [10, 20.5, 30, 40, 1]],
        8: [[5000, 1, 2, 3, 0.75]],
    }
    assert all(boxes.dtype == np.float64 for boxes in found.values())


def test_unlikely_people_are_left_out_without_a_word(tmp_path, capsys):
    path = written(tmp_path / "found.json", GOOD, {**GOOD, "score": 0}, {**GOOD, "score": 0.9})
    assert load_detections(path, IMAGES)[7][:, 4].tolist() == [0.75, 0.9]
    assert load_detections(path, IMAGES, least_score=0.75)[7][:, 4].tolist() == [0.9]
    assert capsys.readouterr() == ("", "")


BAD = {
    "of another category than people": [{"category_id": 3}, {"category_id": None}],
    "of images that the annotation file does not list": [{"image_id": 9}, {"image_id": "7"}, {"image_id": [7]}, {"image_id": True}],
    "not four numbers": [{"bbox": [1, 2, 3]}, {"bbox": [1, 2, 3, 4, 5]}, {"bbox": None}, {"bbox": "four"}, {"bbox": []}],
    "not finite numbers": [
        *({"bbox": [1, value, 3, 4]} for value in (float("nan"), float("inf"), "2", None, [2], 10**400)),
        {"bbox": [-float("inf"), 2, float("inf"), 4]},
    ],
    "with a score that is not a finite number": [{"score": float("nan")}, {"score": None}, {"score": "0.5"}, {"score": float("inf")}],
    "without width or height": [{"bbox": [1, 2, 0, 4]}, {"bbox": [1, 2, 3, 0]}, {"bbox": [50, 50, -20, 10]}, {"bbox": [50, 50, 20, -1]}],
    "outside of their image": [{"bbox": [x, y, 10, 10]} for x, y in ((-10, 0), (0, -10), (200, 0), (0, 100), (1e300, 0))],
}


def test_boxes_that_make_no_sense_are_left_out_with_a_line_for_each_reason(tmp_path, capsys):
    bad = [{**GOOD, **change} for changes in BAD.values() for change in changes]
    found = load_detections(written(tmp_path / "found.json", *bad, GOOD), IMAGES)
    assert {image_id: len(boxes) for image_id, boxes in found.items()} == {7: 1}
    for (reason, changes), line in zip(BAD.items(), capsys.readouterr().err.splitlines(), strict=True):
        assert f"found.json: {len(changes)} of {len(bad) + 1} boxes were left out: {reason}" in line


def test_a_box_that_reaches_out_of_its_image_is_none_of_them(tmp_path, capsys):
    found = load_detections(written(tmp_path / "found.json", {**GOOD, "bbox": [-9, -9, 10, 300]}), IMAGES)
    assert (found[7].tolist(), capsys.readouterr().err) == ([[-9, -9, 10, 300, 0.75]], "")
    assert load_detections(written(tmp_path / "none.json"), IMAGES) == {}, "no person found is a result, too"


def test_a_file_for_other_images_is_an_error(tmp_path):
    """After an hour it would be an AP of 0."""
    path = written(tmp_path / "found.json", {**GOOD, "image_id": 9}, {**GOOD, "image_id": 10}, {**GOOD, "category_id": 2})
    with pytest.raises(UserError, match="found.json: no box can be used: 2 of images that the .* list, 1 of another category"):
        load_detections(path, IMAGES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"images": [], "annotations": []}', "not a file of detections; expected a list of {image_id, category_id, bbox, score}"),
        ("3", "not a file of detections"),
        ("[3]", "entry 1 lacks 'image_id'"),
        (json.dumps([GOOD, {k: v for k, v in GOOD.items() if k != "bbox"}]), "entry 2 lacks 'bbox'"),
        ("[{", "not valid JSON"),
    ],
)
def test_what_is_no_file_of_detections(tmp_path, content, said):
    path = tmp_path / "found.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        load_detections(path, IMAGES)
    assert str(error.value).startswith(f"boxes file {path}: ")
    assert said in str(error.value)


@pytest.mark.skipif(not (SHARED / "data" / "coco_four").is_dir(), reason="no real detections: there is no folder shared/data")
@pytest.mark.parametrize(
    ("folder", "annotations", "detections", "counts"),
    [
        ("coco_four", "test_coco.json", "test_coco_det_AP_H_56.json", {785: 22, 40083: 26, 196141: 33, 197388: 37}),
        ("crowdpose", "test_crowdpose.json", "test_crowdpose_det_AP_40.json", {106848: 3, 103319: 3}),
    ],
)
def test_real_files_are_taken_whole(capsys, folder, annotations, detections, counts):
    folder = SHARED / "data" / folder
    found = load_detections(folder / detections, load_annotations(folder / annotations).imgs)
    assert {image_id: len(boxes) for image_id, boxes in found.items()} == counts
    assert capsys.readouterr().err == ""
