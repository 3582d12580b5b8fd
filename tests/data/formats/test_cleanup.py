"""Annotation files as other tools write them: each defect is fixed and counted, harmless, or refused in one line."""

import json

import pytest
from people import SKELETON, person, read_back, write_coco

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations

NAN = float("nan")


def write_changed(tmp_path, kind: str, **values) -> tuple:
    """Write two images: a person with keypoints in each and one without in the first; change the first entry of a list.

    values: None removes the key. kind "+images" appends a changed copy of the entry.
    """
    annotations, images = write_coco(tmp_path, [person(10, 10), person(90, 60, 40, visible=0)], [person(30, 30)])
    content = json.loads(annotations.read_text())
    entries = content[kind.strip("+")]
    entry = {key: value for key, value in {**entries[0], **values}.items() if value is not None}
    content[kind.strip("+")] = [*entries, entry] if kind.startswith("+") else [entry, *entries[1:]]
    annotations.write_text(json.dumps(content))
    return annotations, images


FIXED = {
    "an image twice": ("+images", {}, "image 0", "omitted: listed a second time"),
    "an image with two sizes": ("+images", {"width": 7}, "image 0", "omitted: listed a second time"),
    "an annotation twice": ("+annotations", {}, "annotation 1", "omitted: listed a second time"),
    "an id as text": ("annotations", {"id": "1"}, "annotation 1", "its 'id' is written as text"),
    "an id that is a name": ("annotations", {"id": "Ann"}, "annotation Ann", "its 'id' is written as a name"),
    "ids of 1.0": ("annotations", {"id": 1.0}, "annotation 1.0", "its 'id' is written with a decimal point"),
    "no such image": ("+annotations", {"id": 9, "image_id": 99}, "annotation 9", "omitted: its image is not listed"),
    "a box as text": ("annotations", {"bbox": ["10", 10, "60", "60"]}, "annotation 1", "its 'bbox' is written as text"),
    "a negative width": ("annotations", {"bbox": [70, 10, -60, 60]}, "annotation 1", "its 'bbox' has a side below 0"),
    "a negative height": ("annotations", {"bbox": [10, 70, 60, -60]}, "annotation 1", "its 'bbox' has a side below 0"),
    "no box": ("annotations", {"bbox": None}, "annotation 1", "its 'bbox' is missing or empty: a box is made of its outline"),
    "neither box nor outline": ("annotations", {"bbox": None, "segmentation": None}, "annotation 1", "its 'bbox' is missing or empty"),
    "an empty box": ("annotations", {"bbox": []}, "annotation 1", "its 'bbox' is missing or empty"),
    "a box of zeros": ("annotations", {"bbox": [0, 0, 0, 0]}, "annotation 1", "its 'bbox' is missing or empty"),
    "an area of 0": ("annotations", {"area": 0}, "annotation 1", "its 'area' makes no sense beside its box"),
    "an area in parts of the image": ("annotations", {"area": 0.11}, "annotation 1", "its 'area' makes no sense beside its box"),
    "another number of keypoints": ("annotations", {"num_keypoints": 3}, "annotation 1", "its 'num_keypoints' is not the number"),
    "no keypoints by their number": ("annotations", {"num_keypoints": 0}, "annotation 1", "its 'num_keypoints' is not the number"),
    "a negative area": ("annotations", {"area": -3}, "annotation 1", "its 'area' makes no sense beside its box"),
    "keypoints as text": ("annotations", {"keypoints": ["10", "10", "2"] * 17}, "annotation 1", "its 'keypoints' is written as text"),
    "iscrowd as text": ("annotations", {"iscrowd": "0"}, "annotation 1", "its 'iscrowd' is written as text"),
    "a bare polygon": ("annotations", {"segmentation": [10, 10, 70, 10, 70, 70]}, "annotation 1", "its 'segmentation' is one polygon"),
    "a height of 0": ("images", {"height": 0}, "image 0", "its 'height' makes no sense"),
    "half a pixel": ("images", {"width": 200.5}, "image 0", "its 'width' makes no sense"),
    "a width as text": ("images", {"width": "200"}, "image 0", "its 'width' is written as text"),
}
REFUSED = {
    "an image's id for another file": ("+images", {"file_name": "1.jpg"}, "two images have the id 0"),
    "an annotation's id for another": ("+annotations", {"area": 7}, "two annotations have the id 1"),
    "an id of half a number": ("annotations", {"id": 1.5}, "annotation 1.5: its 'id' is 1.5, expected a whole number or a name"),
    "an id beyond 64 bits": ("images", {"id": 2**62}, "expected a whole number"),
    "an id that a float does not hold exactly": ("images", {"id": 1e300}, "expected a whole number"),
    "no id": ("images", {"id": None}, "image None: its 'id' is None, expected a whole number"),
    "a name that is a number": ("images", {"file_name": 5}, "image 0: its 'file_name' is 5, expected a text"),
    "iscrowd of 2": ("annotations", {"iscrowd": 2}, "annotation 1: its 'iscrowd' is 2, expected 0 or 1"),
    "a box with NaN": ("annotations", {"bbox": [NAN, 1, 2, 3]}, "annotation 1: its 'bbox' is [nan, 1, 2, 3], expected x, y, width"),
    "a box in parts of the image": ("annotations", {"bbox": [0.1, 0.1, 0.4, 1]}, "annotation 1: its 'bbox' is within 0 and 1"),
    "keypoints in parts": ("annotations", {"keypoints": [0, 0.4, 2, 0.5, 1, 1] + [0] * 45}, "1: its 'keypoints' is within"),
    "keypoints beyond float32": ("annotations", {"keypoints": [1e300, 1, 2] * 17}, "annotation 1: its 'keypoints' is"),
    "too few keypoints": ("annotations", {"keypoints": [1, 2, 2] * 16}, "annotation 1: 48 keypoint numbers, expected 3 for each"),
    "half a keypoint": ("annotations", {"keypoints": [1, 2, 2] * 17 + [1]}, "annotation 1: 52 keypoint numbers, expected 3 for each"),
    "v of 0.5": ("annotations", {"keypoints": [9, 9, 0.5] * 17}, "a keypoint's v is 0.5, expected 0 unlabeled, 1 occluded or 2"),
    "an area of a word": ("annotations", {"area": "big"}, "annotation 1: its 'area' is 'big', expected a number"),
}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("annotations", dict.fromkeys(["num_keypoints", "area", "iscrowd", "segmentation"])),
        ("images", {"width": None, "height": None}),
        ("+annotations", {"id": 9, "bbox": [NAN, 1, 2, 3], "area": 0, "keypoints": [], "num_keypoints": 0, "segmentation": []}),
    ],
)
def test_harmless_omissions_are_not_counted(tmp_path, kind, values):
    report = build_hdf5(*write_changed(tmp_path, kind, **values), tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert (report.images, report.people, report.skipped, report.fixes.found) == (2, 2, [], {})
    people = read_back(tmp_path)
    assert people.boxes[people.num_labeled > 0].tolist() == [[10, 10, 60, 60], [30, 30, 60, 60]]
    assert people.areas[people.num_labeled > 0].tolist() == [3600, 3600]


@pytest.mark.parametrize("name", FIXED)
def test_fixed_defects_are_counted_and_strict_refuses_them(tmp_path, name):
    kind, values, where, problem = FIXED[name]
    given = write_changed(tmp_path, kind, **values)
    report = build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1)
    assert (report.images, report.people, report.skipped, report.boxed) == (2, 2, [], [])
    ((found, places),) = report.fixes.found.items()
    assert found.startswith(problem) and places == [f"annotation file {given[0]}: {where}"]
    people = read_back(tmp_path)
    box = [10 - 2.4, 10 - 2.4, 20.8, 20.8] if "segmentation" in values and "bbox" in values else [10, 10, 60, 60]
    assert people.boxes[0].tolist() == pytest.approx(box) and people.areas[0] == 3600
    with pytest.raises(UserError, match=rf"{where}.*: .*\(--strict; nothing was written\)"):
        build_hdf5(*given, tmp_path / "other.h5", SKELETON, workers=1, strict=True)
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_defects_are_refused(tmp_path, name):
    kind, values, problem = REFUSED[name]
    annotations, images = write_changed(tmp_path, kind, **values)
    with pytest.raises(UserError) as error:
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert f"annotation file {annotations}: " in str(error.value) and problem in str(error.value)


def test_loading_without_the_builder_fixes_and_prints_the_counts(tmp_path, capsys):
    load_annotations(write_changed(tmp_path, "images")[0])
    assert capsys.readouterr().err == ""
    load_annotations(write_changed(tmp_path, "annotations", bbox=["10", 10, 60, 60], image_id=0.0)[0])
    assert capsys.readouterr().err.count("\n  1 x its ") == 2
