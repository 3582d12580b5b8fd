"""Annotation files as other tools write them: each defect is fixed and counted, harmless, or refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import SKELETON, person, read_back, write_coco

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations

NAN = float("nan")


def folder_with(tmp_path, change) -> tuple:
    """Two images: a person with keypoints in each and one without in the first; ids of annotations 1, 2 and 3."""
    annotations, images = write_coco(tmp_path, [person(10, 10), person(90, 60, 40, visible=0)], [person(30, 30)])
    content = json.loads(annotations.read_text())
    change(content)
    annotations.write_text(json.dumps(content))
    return annotations, images


def first(**values):
    """Changes the first annotation."""
    return lambda content: content["annotations"][0].update(values)


def unlabeled(**values):
    """Changes the annotation without keypoints."""
    return lambda content: content["annotations"][1].update(values)


def image(**values):
    """Changes the first image."""
    return lambda content: content["images"][0].update(values)


def without(kind, *keys):
    return lambda content: [content[kind][0].pop(key) for key in keys]


def once_more(kind, **values):
    return lambda content: content[kind].append({**content[kind][0], **values})


HARMLESS = {
    "what may be missing": without("annotations", "num_keypoints", "area", "iscrowd", "segmentation"),
    "a size that is missing": without("images", "width", "height"),
    "an area of 0": first(area=0),
    "values of null": first(area=None, segmentation=None, iscrowd=None),
    "keypoints of null": unlabeled(keypoints=None),
    "empty lists": unlabeled(keypoints=[], segmentation=[]),
    "iscrowd a bool": first(iscrowd=False),
}
FIXED = {
    "an image twice": (once_more("images"), "image 0", "left out: listed a second time"),
    "an annotation twice": (once_more("annotations"), "annotation 1", "left out: listed a second time"),
    "an id of 1.0": (first(id=1.0), "annotation 1.0", "its 'id' is written with a decimal point"),
    "an image_id of 0.0": (first(image_id=0.0), "annotation 1", "its 'image_id' is written with"),
    "an image that is not listed": (once_more("annotations", id=9, image_id=99), "annotation 9", "its image is not listed"),
    "a box as text": (first(bbox=["10", "10", "60", "60"]), "annotation 1", "its 'bbox' is written as text"),
    "a box turned round": (first(bbox=[70, 10, -60, 60]), "annotation 1", "its 'bbox' has a side below 0"),
    "a box with NaN of a person without keypoints": (unlabeled(bbox=[NAN, 1, 2, 3]), "annotation 2", "its 'bbox' holds what is no number"),
    "an area below 0": (first(area=-3), "annotation 1", "its 'area' is below 0"),
    "an area as text": (first(area="3600"), "annotation 1", "its 'area' is written as text"),
    "keypoints as text": (first(keypoints=["20"] * 2 + ["2"] + ["30", "31", "1"] * 16), "annotation 1", "its 'keypoints' is written as"),
    "iscrowd as text": (first(iscrowd="0"), "annotation 1", "its 'iscrowd' is written as text"),
    "a bare polygon": (first(segmentation=[10, 10, 70, 10, 70, 70, 10, 70]), "annotation 1", "its 'segmentation' is one polygon"),
    "a width of null": (image(width=None), "image 0", "its 'width' makes no sense"),
    "a height of 0": (image(height=0), "image 0", "its 'height' makes no sense"),
    "a width as text": (image(width="200"), "image 0", "its 'width' is written as text"),
}
REFUSED = {
    "an image's id for another file": (once_more("images", file_name="1.jpg"), "two images have the id 0"),
    "an annotation's id for another": (once_more("annotations", area=7), "two annotations have the id 1"),
    "an id as text": (first(id="1"), "the id '1' in 'annotations' is not a whole number"),
    "an id beyond all numbers": (image(id=10**30), "is not a whole number"),
    "a file_name that is a number": (image(file_name=5), "the file_name 5 in 'images' is not a text"),
    "an entry that lacks its id": (without("images", "id"), "an entry of 'images' lacks 'id'"),
    "iscrowd of no flag": (first(iscrowd="perhaps"), "the iscrowd 'perhaps' in 'annotations' is neither 0 nor 1"),
    "iscrowd of 2": (first(iscrowd=2), "the iscrowd 2 in 'annotations' is neither 0 nor 1"),
    "a box with NaN": (first(bbox=[NAN, 1, 2, 3]), "annotation 1: its 'bbox' is [nan, 1, 2, 3], expected x, y, width, height"),
    "a box of words": (first(bbox=["left", "1", "2", "3"]), "annotation 1: its 'bbox' is ['left'"),
    "a box of three": (first(bbox=[1, 2, 3]), "annotation 1: its 'bbox' is [1, 2, 3]"),
    "a labeled person without a box": (without("annotations", "bbox"), "annotation 1: its 'bbox' is None"),
    "a box in parts of the image": (first(bbox=[0.1, 0.1, 0.4, 0.5]), "annotation 1: its 'bbox' is within 0 and 1"),
    "keypoints in parts of the image": (first(keypoints=[0.2, 0.4, 2, 0.5, 0.9, 1] + [0] * 45), "annotation 1: its 'keypoints' is within"),
    "keypoints beyond all numbers": (first(keypoints=[1e300, 1, 2] * 17), "annotation 1: its 'keypoints' is"),
    "too few keypoints": (first(keypoints=[1, 2, 2]), "annotation 1: 3 keypoint numbers, expected 3 for each of the category's"),
    "keypoints of null": (first(keypoints=[None] * 51), "annotation 1: its 'keypoints' is [None, "),
    "v of 0.5": (first(keypoints=[9, 9, 0.5] * 17), "a keypoint's v is 0.5, expected 0 unlabeled, 1 occluded or 2 visible"),
    "keypoints of a mapping": (first(keypoints={"nose": [1, 2, 2]}), "annotation 1: its 'keypoints' is"),
    "an area of a word": (first(area="big"), "annotation 1: its 'area' is 'big', expected a number"),
}


def test_what_is_harmless_is_not_counted(tmp_path):
    for name, change in HARMLESS.items():
        report = build_hdf5(*folder_with(tmp_path, change), tmp_path / "out.h5", SKELETON, workers=1, strict=True)
        assert (report.images, report.people, report.skipped, report.fixes.found) == (2, 2, [], {}), name
        assert read_back(tmp_path).boxes.tolist() == [[10, 10, 60, 60], [90, 60, 40, 40], [30, 30, 60, 60]], name


@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_is_counted_and_strict_refuses_it(tmp_path, name):
    change, where, problem = FIXED[name]
    given = folder_with(tmp_path, change)
    report = build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1)
    assert (report.images, report.people, report.skipped, report.boxed) == (2, 2, [], [])
    (line,) = report.fixes.lines()
    assert f"1 x {problem}" in line.replace("left out: its", "its") and f"{given[0]}: {where}" in line
    people = read_back(tmp_path)
    assert people.boxes[0].tolist() == [10, 10, 60, 60] and people.areas[0] == 3600
    assert np.isfinite(people.boxes).all() and np.isfinite(people.joints(np.arange(3))).all()
    assert people.joints(np.array([0]))[0, 0, :2].tolist() == ([20, 20] if name == "keypoints as text" else [10, 10])
    (tmp_path / "out.h5").unlink()
    with pytest.raises(UserError, match=rf"{where}.*: .*\(--strict; nothing was written\)"):
        build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(tmp_path, name):
    change, problem = REFUSED[name]
    annotations, images = folder_with(tmp_path, change)
    with pytest.raises(UserError) as error:
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert f"annotation file {annotations}: " in str(error.value) and problem in str(error.value)
    assert not (tmp_path / "out.h5").exists()


def test_whoever_loads_a_file_gets_the_same_fixes_and_reads_how_many(tmp_path, capsys):
    """Evaluation and rescoring do not go through the builder."""

    def change(content):
        for annotation in content["annotations"]:
            annotation.update(bbox=list(map(str, annotation["bbox"])), image_id=float(annotation["image_id"]))

    plain = load_annotations(folder_with(tmp_path, lambda content: None)[0])
    assert capsys.readouterr().err == ""
    path, _ = folder_with(tmp_path, change)
    assert load_annotations(path).anns == plain.anns
    assert capsys.readouterr().err == (
        "fixed or left out in the annotations:\n"
        f"  3 x its 'image_id' is written with a decimal point (first: annotation file {path}: annotation 1)\n"
        f"  3 x its 'bbox' is written as text (first: annotation file {path}: annotation 1)\n"
    )
