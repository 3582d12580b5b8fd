"""Annotation files and disks that the people file cannot be built from: one line that names the thing and the way out, and no file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from places import ROOT

from config.load import load_skeleton

BUILD = "data/coco_masks_hdf5.py"


@pytest.fixture
def build(fails, images, tmp_path):
    """Runs coco_masks_hdf5.py on an annotation file that must be refused."""
    return lambda annotations, *more: fails(
        BUILD, "--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1, *more
    )


@pytest.fixture
def changed(annotations, tmp_path):
    """Writes the drawn pictures' annotation file anew with something changed in it."""

    def write(change) -> Path:
        content = json.loads(annotations.read_text())
        change(content)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("value", ["no", 2, [0]])
def test_whether_it_is_a_crowd_is_told_by_0_or_1(build, changed, value):
    path = changed(lambda content: content["annotations"][0].update(iscrowd=value))
    assert f"the iscrowd {value!r} in 'annotations' is neither 0 nor 1" in build(path)


def test_missing_annotation_file(build, tmp_path):
    assert "nowhere.json: not found" in build(tmp_path / "nowhere.json")


@pytest.mark.parametrize("text", ["keypoints?", '{"images": [{"id": 1,', ""])
def test_annotation_file_that_is_not_json(build, tmp_path, text):
    (tmp_path / "cut.json").write_text(text)
    assert "cut.json: not valid JSON" in build(tmp_path / "cut.json")


@pytest.mark.parametrize("text", ["[]", "3", '{"people": []}', '{"images": 3}', '{"images": [3]}', '{"images": [{"id": 1}]}'])
def test_json_that_is_no_annotation_file(build, tmp_path, text):
    (tmp_path / "other.json").write_text(text)
    assert "other.json: not in COCO's format" in build(tmp_path / "other.json")


def test_annotation_file_without_the_person_category(build, fails, trained, images, tmp_path, changed):
    path = changed(lambda content: content.update(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]))
    named = ("--checkpoint", trained / "last.pth", "--annotations", path, "--images", images, "--output", tmp_path / "out")
    for message in (build(path), fails("evaluate.py", *named)):
        assert "no category has the keypoints" in message
        assert "cat (no keypoints), dog (no keypoints)" in message


def rename(content: dict, names: list[str]) -> None:
    """The same numbers for keypoints of other names."""
    content["categories"][0]["keypoints"] = names
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][: 3 * len(names)]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["Nose", "LeftEye", "RightEye", "Tail"],
            "(nose, left_eye, right_eye, ...); categories found: person (Nose, LeftEye, RightEye, ...)",
        ),
        (["nose", "left_eye", "left_eye"], "category 'person' has two keypoints 'left_eye'"),
        ("nose", "the 'keypoints' of category 'person' are not a list of names"),
        ([{"name": "nose"}], "the 'keypoints' of category 'person' are not a list of names"),
    ],
)
def test_names_of_keypoints_that_make_no_sense(build, changed, names, said):
    assert said in build(changed(lambda content: content["categories"][0].update(keypoints=names)))


def test_keypoints_that_overlap_only_in_part_with_the_skeletons(build, fails, trained, images, tmp_path, changed):
    """Figures of what two data sets happen to share would be nobody's."""
    path = changed(lambda content: rename(content, list(load_skeleton("crowdpose").dataset)))
    named = ("--checkpoint", trained / "last.pth", "--annotations", path, "--images", images, "--output", tmp_path / "out")
    for message in (build(path), fails("evaluate.py", *named)):
        assert f"annotation file {path}: its 14 keypoints and those of the skeleton 'coco' overlap only in part" in message
        assert "it has head, neck besides and lacks nose, left_eye, right_eye, ...;" in message
        assert "skeleton=crowdpose has all of the file's (data/coco_masks_hdf5.py: --skeleton crowdpose)" in message
    path = changed(lambda content: rename(content, ["nose", "tail"]))
    assert "it has tail besides and lacks left_eye, right_eye, left_ear, ...; write a skeleton" in build(path)


def test_a_people_file_whose_keypoints_overlap_only_in_part_with_the_skeletons(fails, tiny, hdf5, tmp_path):
    message = fails("train.py", "--config", tiny, "--output", tmp_path / "run", "skeleton=crowdpose")
    assert f"training file {hdf5}: its 17 keypoints and those of the skeleton 'crowdpose' overlap only in part" in message
    assert "skeleton=coco has all of the file's" in message


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_ids_given_twice(build, changed, kind):
    path = changed(lambda content: content[kind][1].update(id=content[kind][0]["id"]))
    assert f"two {kind} have the id 1" in build(path)


@pytest.mark.parametrize("key", ["id", "image_id"])
def test_ids_that_are_text(build, changed, key):
    """An image_id "1" would match no image with the id 1, and its people would be missing without a word."""
    path = changed(lambda content: content["annotations"][0].update({key: "1"}))
    assert f"the {key} '1' in 'annotations' is not a whole number" in build(path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("keypoints", [1, 2, 2], "3 keypoint numbers"),
        ("keypoints", "abc", "changed.json: annotation 1: its 'keypoints' is 'abc', expected x, y, v"),
        ("keypoints", [None] * 51, "its 'keypoints' is [None, "),
        ("keypoints", [float("nan")] * 51, "its 'keypoints' is [nan, "),
        ("keypoints", [9, 9, 3] * 17, "annotation 1: a keypoint's v is 3, expected 0 unlabeled, 1 occluded or 2 visible"),
        ("keypoints", [9, 9, 0.5] * 17, "a keypoint's v is 0.5"),
        ("bbox", None, "'bbox' is None"),
        ("bbox", ["a", 2, 3, 4], "'bbox' is ['a', 2, 3, 4]"),
        ("area", "big", "'area' is 'big', expected a number"),
    ],
)
def test_annotations_that_make_no_sense(build, changed, key, value, said):
    path = changed(lambda content: [annotation.update({key: value}) for annotation in content["annotations"]])
    assert said in build(path)


def test_keypoints_of_somebody_outside_the_image(run, changed, images, tmp_path):
    """As of a picture that was made smaller after it was annotated: the image is left out, and said to be."""
    path = changed(lambda content: content["annotations"][0].update(keypoints=[900, 9, 2] * 17))
    status, out, err = run(BUILD, "--annotations", path, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1)
    assert (status, "people in 7 images" in out) == (0, True), err
    assert "000000000001.jpg: is 160 x 128, and no keypoint of annotation 1 lies in it" in err


def test_an_area_of_null_is_the_boxs(run, changed, images, tmp_path):
    path = changed(lambda content: [annotation.update(area=None) for annotation in content["annotations"]])
    status, _, err = run(BUILD, "--annotations", path, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1)
    assert status == 0, err


def test_a_file_name_that_is_a_number(build, changed):
    assert "the file_name 5 in 'images' is not a text" in build(changed(lambda content: content["images"][0].update(file_name=5)))


def test_annotation_file_with_nobody_to_train_on(build, changed):
    assert "no image has a person" in build(changed(lambda content: content.update(annotations=[])))
    without_keypoints = changed(lambda content: [annotation.update(keypoints=[0] * 51) for annotation in content["annotations"]])
    assert "nobody in it has a keypoint of the skeleton 'coco'" in build(without_keypoints)


# Ends from outside


def test_a_disk_too_small_for_the_training_file(build, annotations, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "out.h5: needs about" in build(annotations)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux about a process's children")
@pytest.mark.parametrize("wait", [0, 1])
def test_ctrl_c_while_the_training_file_is_built(annotations, tmp_path, wait):
    """It reaches every process of the terminal, those that only start too; one of them answers."""
    content = json.loads(annotations.read_text())
    cv2.imwrite(str(tmp_path / "large.jpg"), np.zeros((3000, 3000, 3), np.uint8))  # takes a while to decode
    person = max(content["annotations"], key=lambda annotation: annotation["num_keypoints"] * annotation["area"])
    content["images"] = [{"id": number, "file_name": "large.jpg"} for number in range(500)]
    content["annotations"] = [{**person, "id": number, "image_id": number} for number in range(500)]
    (tmp_path / "many.json").write_text(json.dumps(content))
    command = [sys.executable, BUILD, "--annotations", tmp_path / "many.json", "--images", tmp_path]
    command += ["--output", tmp_path / "out.h5", "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()) < 2:  # the first of the workers has come up
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "error: interrupted\n"
    assert process.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.jpg", "many.json"]
