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


def write_changed(tmp_path, change) -> tuple:
    """Write two images: a person with keypoints in each and one without in the first; ids of annotations 1, 2 and 3."""
    annotations, images = write_coco(tmp_path, [person(10, 10), person(90, 60, 40, visible=0)], [person(30, 30)])
    content = json.loads(annotations.read_text())
    change(content)
    annotations.write_text(json.dumps(content))
    return annotations, images


def setting(kind, number=0, **values):
    """Return a change of one entry of a list."""
    return lambda content: content[kind][number].update(values)


def labeled(**values):
    return setting("annotations", 0, **values)


def unlabeled(**values):
    return setting("annotations", 1, **values)


def removing(kind, *keys):
    return lambda content: [content[kind][0].pop(key) for key in keys]


def repeating(kind, **values):
    return lambda content: content[kind].append({**content[kind][0], **values})


HARMLESS = {
    "optional keys": removing("annotations", "num_keypoints", "area", "iscrowd", "segmentation"),
    "no size": removing("images", "width", "height"),
    "values of null": labeled(area=None, segmentation=None, iscrowd=None),
    "empty lists": unlabeled(keypoints=[], segmentation=[]),
}
FIXED = {
    "an image twice": (repeating("images"), "image 0", "omitted: listed a second time"),
    "an annotation twice": (repeating("annotations"), "annotation 1", "omitted: listed a second time"),
    "ids of 1.0": (labeled(id=1.0), "annotation 1.0", "its 'id' is written with a decimal point"),
    "an image that is not listed": (repeating("annotations", id=9, image_id=99), "annotation 9", "omitted: its image is not listed"),
    "a box as text": (labeled(bbox=["10", "10", "60", "60"]), "annotation 1", "its 'bbox' is written as text"),
    "a negative side": (labeled(bbox=[70, 10, -60, 60]), "annotation 1", "its 'bbox' has a side below 0"),
    "a box with NaN without keypoints": (unlabeled(bbox=[NAN, 1, 2, 3]), "annotation 2", "its 'bbox' holds what is no number"),
    "an area below 0": (labeled(area=-3), "annotation 1", "its 'area' is below 0"),
    "keypoints as text": (labeled(keypoints=["20"] * 2 + ["2"] + ["30", "31", "1"] * 16), "annotation 1", "its 'keypoints' is written as"),
    "iscrowd as text": (labeled(iscrowd="0"), "annotation 1", "its 'iscrowd' is written as text"),
    "a bare polygon": (labeled(segmentation=[10, 10, 70, 10, 70, 70, 10, 70]), "annotation 1", "its 'segmentation' is one polygon"),
    "a height of 0": (setting("images", height=0), "image 0", "its 'height' makes no sense"),
    "a width as text": (setting("images", width="200"), "image 0", "its 'width' is written as text"),
}
REFUSED = {
    "an image's id for another file": (repeating("images", file_name="1.jpg"), "two images have the id 0"),
    "an annotation's id for another": (repeating("annotations", area=7), "two annotations have the id 1"),
    "an id as text": (labeled(id="1"), "the id '1' in 'annotations' is not a whole number"),
    "an id beyond 64 bits": (setting("images", id=10**30), "is not a whole number"),
    "a file_name that is a number": (setting("images", file_name=5), "the file_name 5 in 'images' is not a text"),
    "an entry that lacks its id": (removing("images", "id"), "an entry of 'images' lacks 'id'"),
    "iscrowd of 2": (labeled(iscrowd=2), "the iscrowd 2 in 'annotations' is neither 0 nor 1"),
    "a box with NaN": (labeled(bbox=[NAN, 1, 2, 3]), "annotation 1: its 'bbox' is [nan, 1, 2, 3], expected x, y, width, height"),
    "a box in parts of the image": (labeled(bbox=[0.1, 0.1, 0.4, 0.5]), "annotation 1: its 'bbox' is within 0 and 1"),
    "keypoints in parts of the image": (labeled(keypoints=[0.2, 0.4, 2, 0.5, 0.9, 1] + [0] * 45), "1: its 'keypoints' is within"),
    "keypoints beyond float32": (labeled(keypoints=[1e300, 1, 2] * 17), "annotation 1: its 'keypoints' is"),
    "too few keypoints": (labeled(keypoints=[1, 2, 2]), "annotation 1: 3 keypoint numbers, expected 3 for each of the category's"),
    "v of 0.5": (labeled(keypoints=[9, 9, 0.5] * 17), "a keypoint's v is 0.5, expected 0 unlabeled, 1 occluded or 2 visible"),
    "an area of a word": (labeled(area="big"), "annotation 1: its 'area' is 'big', expected a number"),
}


def test_harmless_omissions_are_not_counted(tmp_path):
    for name, change in HARMLESS.items():
        report = build_hdf5(*write_changed(tmp_path, change), tmp_path / "out.h5", SKELETON, workers=1, strict=True)
        assert (report.images, report.people, report.skipped, report.fixes.found) == (2, 2, [], {}), name
        assert read_back(tmp_path).boxes.tolist() == [[10, 10, 60, 60], [90, 60, 40, 40], [30, 30, 60, 60]], name


@pytest.mark.parametrize("name", FIXED)
def test_fixed_defects_are_counted_and_strict_refuses_them(tmp_path, name):
    change, where, problem = FIXED[name]
    given = write_changed(tmp_path, change)
    report = build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1)
    assert (report.images, report.people, report.skipped, report.boxed) == (2, 2, [], [])
    (line,) = report.fixes.lines()
    assert f"1 x {problem}" in line and f"{given[0]}: {where}" in line
    people = read_back(tmp_path)
    assert people.boxes[0].tolist() == [10, 10, 60, 60] and people.areas[0] == 3600 and np.isfinite(people.boxes).all()
    assert people.joints(np.array([0]))[0, 0, :2].tolist() == ([20, 20] if name == "keypoints as text" else [10, 10])
    (tmp_path / "out.h5").unlink()
    with pytest.raises(UserError, match=rf"{where}.*: .*\(--strict; nothing was written\)"):
        build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("name", REFUSED)
def test_ambiguous_defects_are_refused(tmp_path, name):
    change, problem = REFUSED[name]
    annotations, images = write_changed(tmp_path, change)
    with pytest.raises(UserError) as error:
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert f"annotation file {annotations}: " in str(error.value) and problem in str(error.value)
    assert not (tmp_path / "out.h5").exists()


def test_loading_without_the_builder_fixes_and_prints_the_counts(tmp_path, capsys):
    def change(content):
        for annotation in content["annotations"]:
            annotation.update(bbox=list(map(str, annotation["bbox"])), image_id=float(annotation["image_id"]))

    plain = load_annotations(write_changed(tmp_path, lambda content: None)[0])
    assert capsys.readouterr().err == ""
    path, _ = write_changed(tmp_path, change)
    assert load_annotations(path).anns == plain.anns
    header, *lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (first: ")[0].strip() for line in lines] == [
        "3 x its 'image_id' is written with a decimal point",
        "3 x its 'bbox' is written as text",
    ]
