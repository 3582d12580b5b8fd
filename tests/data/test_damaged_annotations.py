"""Annotation files as other tools write them: each kind of damage is mended, left out with a count, or refused in one line."""

from __future__ import annotations

import json
import random
from urllib.parse import quote

import numpy as np
import pytest
from people import SKELETON, person, read_back, write_coco

from config import UserError
from data.coco_masks_hdf5 import build_hdf5
from data.formats.segmentation import rle_to_mask, segmentation_to_rle

BUILD = "data/coco_masks_hdf5.py"
NAN = float("nan")


def folder_with(tmp_path, change) -> tuple:
    """Two pictures, somebody with keypoints in each and somebody without in the first; ids of annotations 1, 2 and 3."""
    annotations, images = write_coco(tmp_path, [person(10, 10), person(90, 60, 40, visible=0)], [person(30, 30)])
    content = json.loads(annotations.read_text())
    change(content)
    annotations.write_text(json.dumps(content))
    return annotations, images


def first(**values):
    """Changes the first annotation."""
    return lambda content: content["annotations"][0].update(values)


def unlabelled(**values):
    """Changes the annotation without keypoints."""
    return lambda content: content["annotations"][1].update(values)


def image(**values):
    """Changes the first image."""
    return lambda content: content["images"][0].update(values)


def without(*keys):
    return lambda content: [content["annotations"][0].pop(key) for key in keys]


def once_more(kind, **values):
    return lambda content: content[kind].append({**content[kind][0], **values})


HARMLESS = {
    "num_keypoints missing": without("num_keypoints"),
    "num_keypoints a float": first(num_keypoints=17.0),
    "area missing": without("area"),
    "iscrowd missing": without("iscrowd"),
    "iscrowd a bool": first(iscrowd=False),
    "segmentation missing": without("segmentation"),
    "segmentation null": first(segmentation=None),
    "segmentation empty": first(segmentation=[]),
    "keypoints null": unlabelled(keypoints=None),
    "keypoints empty": unlabelled(keypoints=[]),
    "name of the category missing": lambda content: content["categories"][0].pop("name"),
    "size missing": lambda content: [content["images"][0].pop(key) for key in ("width", "height")],
}
MENDED = {
    "an image twice": (once_more("images"), "image 0", "left out: listed a second time"),
    "an annotation twice": (once_more("annotations"), "annotation 1", "left out: listed a second time"),
    "an id of 1.0": (first(id=1.0), "annotation 1.0", "its 'id' is written with a decimal point"),
    "an image_id of 0.0": (first(image_id=0.0), "annotation 1", "its 'image_id' is written with"),
    "an image that is not listed": (once_more("annotations", id=9, image_id=99), "annotation 9", "its image is not listed"),
    "a box as text": (first(bbox=["10", "10", "60", "60"]), "annotation 1", "its 'bbox' is written as text"),
    "a box turned round": (first(bbox=[70, 70, -60, -60]), "annotation 1", "its 'bbox' has a side below 0"),
    "nobody's box with NaN": (unlabelled(bbox=[NAN, 1, 2, 3]), "annotation 2", "its 'bbox' holds what is no number"),
    "an area below 0": (first(area=-3), "annotation 1", "its 'area' is below 0"),
    "an area as text": (first(area="3600"), "annotation 1", "its 'area' is written as text"),
    "keypoints as text": (first(keypoints=["20"] * 2 + ["2"] + ["30", "31", "1"] * 16), "annotation 1", "its 'keypoints' is written as"),
    "iscrowd as text": (first(iscrowd="0"), "annotation 1", "its 'iscrowd' is written as text"),
    "a bare polygon": (first(segmentation=[10, 10, 70, 10, 70, 70, 10, 70]), "annotation 1", "its 'segmentation' is one polygon"),
    "a width of null": (image(width=None), "image 0", "its 'width' makes no sense"),
    "a height of 0": (image(height=0), "image 0", "its 'height' makes no sense"),
    "a width as text": (image(width="200"), "image 0", "its 'width' is written as text"),
    "a Windows path": (image(file_name="images\\0.jpg"), "image 0", "found under another path"),
    "a path of another machine": (image(file_name="/home/me/pictures/0.jpg"), "image 0", "found under another path"),
    "a path of another Windows machine": (image(file_name="D:\\pictures\\0.jpg"), "image 0", "found under another path"),
    "a URL": (image(file_name="https://example.org/some/0.jpg"), "image 0", "found under another path"),
}
LEFT_OUT = {
    "a wrong width": (image(width=100), "says 100 x 160"),
    "an empty name": (image(file_name=""), "not found"),
    "a name too long": (image(file_name="a" * 5000), "not found"),
    "a name with a zero": (image(file_name="a\0.jpg"), "not found"),
    "a name of another folder": (image(file_name="elsewhere/0.jpg"), "not found"),
}
REFUSED = {
    "an image's id for another file": (once_more("images", file_name="1.jpg"), "two images have the id 0"),
    "an annotation's id for another": (once_more("annotations", area=7), "two annotations have the id 1"),
    "an id beyond all numbers": (image(id=10**30), "is not a whole number"),
    "a box with NaN": (first(bbox=[NAN, 1, 2, 3]), "annotation 1: its 'bbox' is [nan, 1, 2, 3]"),
    "a box of words": (first(bbox=["left", "1", "2", "3"]), "annotation 1: its 'bbox' is ['left'"),
    "a box of three": (first(bbox=[1, 2, 3]), "annotation 1: its 'bbox' is [1, 2, 3]"),
    "a box in parts of the picture": (first(bbox=[0.1, 0.1, 0.4, 0.5]), "annotation 1: its 'bbox' is within 0 and 1"),
    "keypoints in parts of the picture": (
        first(keypoints=[0.2, 0.4, 2, 0.5, 0.9, 1] + [0] * 45),
        "annotation 1: its 'keypoints' is within",
    ),
    "keypoints beyond all numbers": (first(keypoints=[1e300, 1, 2] * 17), "annotation 1: its 'keypoints' is"),
    "a number for a category's keypoints": (lambda content: content["categories"][0].update(keypoints=5), "are not a list of names"),
    "v of 3": (first(keypoints=[9, 9, 3] * 17), "annotation 1: a keypoint's v is 3"),
    "keypoints of a mapping": (first(keypoints={"nose": [1, 2, 2]}), "annotation 1: its 'keypoints' is"),
    "an area of a list": (first(area=[1]), "annotation 1: its 'area' is [1]"),
}


def test_what_needs_no_mending(tmp_path):
    for name, change in HARMLESS.items():
        built = build_hdf5(*folder_with(tmp_path, change), tmp_path / "out.h5", SKELETON, workers=1, strict=True)
        assert (built.images, built.people, built.skipped, built.fixes.found) == (2, 2, [], {}), name
        assert read_back(tmp_path).boxes.tolist() == [[10, 10, 60, 60], [90, 60, 40, 40], [30, 30, 60, 60]], name


@pytest.mark.parametrize("name", MENDED)
def test_what_is_mended_is_counted(tmp_path, name):
    change, where, said = MENDED[name]
    given = folder_with(tmp_path, change)
    built = build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, built.people, built.skipped, built.boxed) == (2, 2, [], [])
    assert len(built.fixes.lines()) == 1
    assert said in built.fixes.lines()[0] and f"{given[0]}: {where}" in built.fixes.lines()[0]
    boxes, joints = read_back(tmp_path).boxes, read_back(tmp_path).joints(np.arange(3))
    assert boxes[0].tolist() == [10, 10, 60, 60] and np.isfinite(boxes).all() and np.isfinite(joints).all()
    assert read_back(tmp_path).areas[0] == 3600
    (tmp_path / "out.h5").unlink()
    with pytest.raises(UserError, match=rf"{where}.*: .*\(--strict; nothing was written\)"):
        build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_cannot_be_used_is_left_out(tmp_path, name):
    change, said = LEFT_OUT[name]
    given = folder_with(tmp_path, change)
    built = build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, built.people, len(built.skipped)) == (1, 1, 1)
    assert said in built.skipped[0]
    with pytest.raises(UserError, match="--strict"):
        build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1, strict=True)


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(fails, tmp_path, name):
    change, said = REFUSED[name]
    annotations, images = folder_with(tmp_path, change)
    message = fails(BUILD, "--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1)
    assert f"annotation file {annotations}: " in message and said in message


def test_the_summary(run, tmp_path):
    def change(content):
        for annotation in content["annotations"]:
            annotation.update(bbox=list(map(str, annotation["bbox"])), image_id=float(annotation["image_id"]))

    annotations, images = folder_with(tmp_path, change)
    status, _, err = run(BUILD, "--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1)
    assert status == 0, err
    assert f"  3 x its 'bbox' is written as text (first: annotation file {annotations}: annotation 1)\n" in err
    assert "  3 x its 'image_id' is written with a decimal point" in err


def test_url_escapes(tmp_path):
    annotations, images = folder_with(tmp_path, image(file_name=quote("my picture ü.jpg")))
    (images / "0.jpg").rename(images / "my picture ü.jpg")
    built = build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, built.skipped, len(built.fixes.found)) == (2, [], 1)


def test_no_picture_is_taken_for_another(tmp_path):
    """A name that two files fit, and one whose only file belongs to another entry."""
    annotations, images = folder_with(tmp_path, image(file_name="/home/me/0.jpg"))
    for folder in ("a", "b"):
        (images / folder).mkdir()
        (images / folder / "0.jpg").write_bytes((images / "0.jpg").read_bytes())
    (images / "0.jpg").unlink()
    assert len(build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1).skipped) == 1
    annotations, images = folder_with(tmp_path, image(file_name="/home/me/1.jpg"))
    built = build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, len(built.skipped)) == (1, 1)
    assert read_back(tmp_path).image_ids.tolist() == [1]


def test_outlines_of_any_numbers_end_in_a_mask_or_an_error():
    rng = random.Random(0)
    odd = [0, 1, -1, 4, 7, 1e9, -1e300, NAN, float("inf"), 2**31, 2**63, "1", None, [], {}, True]

    def polygon() -> object:
        return rng.choice([[rng.choice(odd) for _ in range(rng.randrange(9))], [rng.uniform(-50, 250) for _ in range(rng.randrange(12))]])

    def rle() -> object:
        counts = rng.choice(["".join(chr(rng.randrange(40, 120)) for _ in range(rng.randrange(9))), polygon(), None, 5])
        return {"counts": counts, "size": rng.choice([[16, 20], [2**31, 2**31], [20, 16], [-1, 5], None, 7])}

    for _ in range(3000):
        outline = rle() if rng.random() < 0.5 else [polygon() for _ in range(rng.randrange(4))]
        try:
            mask = rle_to_mask(segmentation_to_rle({"id": 1, "segmentation": outline}, 16, 20), 16, 20)
        except UserError:
            continue
        assert (mask.shape, mask.dtype) == ((16, 20), bool)
