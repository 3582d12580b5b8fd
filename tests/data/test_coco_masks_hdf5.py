"""From annotations and images to the training HDF5: all people, masks, several sources, and what cannot be used."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
from people import CPU, NAMES, SKELETON, build, person, read_back, write_coco
from places import ROOT

from config import UserError, load_config
from config.load import load_skeleton
from config.skeleton import Skeleton
from data.coco_masks_hdf5 import ImageRecords, ImageTask, build_hdf5, in_workers
from data.datasets import MixedDataset, collate
from data.hdf5 import TrainingHDF5, unpack_mask
from utils.training.step import to_device

BUILD = "data/coco_masks_hdf5.py"


@pytest.mark.parametrize(("split", "images", "samples"), [("train2017", 36, 65), ("val2017", 39, 53)])
def test_coco_mini(shared, tmp_path, split, images, samples):
    mini, out = shared / "data" / "coco_mini", tmp_path / "out.h5"
    report = build_hdf5(mini / "annotations" / f"person_keypoints_{split}.json", mini / split, out, SKELETON, workers=2)
    assert (report.images, report.skipped, report.boxed, report.fixes.found) == (images, [], [], {})
    assert out.stat().st_size < images * 640 * 480 * 5 / 5  # a fifth of raw pixels and two masks
    config = load_config("config/simplepose_coco_512.yaml")
    dataset = MixedDataset([out], config, augment=True)
    assert len(dataset) == samples
    _, targets = to_device(CPU, collate([dataset[0, 0]]), config)
    assert targets.channel_mask.all()
    for tensor in targets[:2]:
        assert tensor.min() >= 0
        assert 0 < tensor.max() <= 1


def test_all_people_are_in_the_file(tmp_path):
    """Images without a keypoint too: other systems make samples of them."""
    crowd = person(100, 60, visible=0, iscrowd=1, area=5)
    report = build(tmp_path, [person(10, 10, track_id=7), crowd], [person(20, 20, visible=0, track_id="a")], [])
    assert (report.images, report.people) == (2, 1)
    people = read_back(tmp_path)
    assert people.image_ids.tolist() == [0, 1]
    assert people.sizes.tolist() == [[160, 200]] * 2
    assert people.first.tolist() == [0, 2, 3]
    assert people.num_labeled.tolist() == [17, 0, 0]
    assert people.crowd.tolist() == [False, True, False]
    assert people.tracks.tolist() == [7, -1, -1]
    assert people.areas.tolist() == [3600, 5, 3600]
    assert people.boxes[1].tolist() == [100, 60, 60, 60]
    assert people.image(0).shape == (160, 200, 3)


def test_keypoints_are_found_by_name_in_another_order(tmp_path):
    turned = copy.deepcopy(person(10, 10))
    turned["keypoints"] = np.array(turned["keypoints"]).reshape(17, 3)[::-1].ravel().tolist()
    turned["keypoints"][-1] = 1
    build(tmp_path, [turned], names=NAMES[::-1])
    joints = SKELETON.to_dataset(read_back(tmp_path).joints(np.array([0])))[0]
    assert joints.tolist() == [[10 + k, 10 + k, min(k, 1)] for k in range(17)], "the nose is occluded, the others visible"


# Masks


def masks_of(folder: Path) -> list[np.ndarray]:
    """Of the first image, (160, 200) bool: people, people without keypoints, crowd regions."""
    return [unpack_mask(bits, 160, 200) == 255 for bits in read_back(folder).masks(0)]


def test_masks_take_every_crowd_and_tell_who_has_no_keypoints(tmp_path):
    columns = [{"size": [160, 200], "counts": [x * 160, width * 160, (200 - x - width) * 160]} for x, width in ((50, 10), (80, 20))]
    crowds = [person(0, 0, visible=0, segmentation=rle, iscrowd=1) for rle in columns]
    build(tmp_path, [person(0, 0, 20, visible=0), person(40, 0, 20), *crowds])
    people, unlabeled, crowd = masks_of(tmp_path)
    assert people[10, 10] and people[10, 45] and not people[50, 55]
    assert unlabeled[10, 10] and not unlabeled[10, 45]
    assert crowd[50, [55, 90]].all() and not crowd[50, [20, 70]].any()


@pytest.mark.parametrize("outline", [[[1, 2]], {"counts": [4], "size": [2, 2]}, {"counts": "X19", "size": [160, 200]}, 5])
def test_a_segmentation_that_cannot_be_decoded_is_counted_and_the_box_masked(tmp_path, outline):
    given = write_coco(tmp_path, [person(10, 10), person(100, 60, 40, visible=0, segmentation=outline)])
    report = build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1)
    (problem,) = report.boxed
    assert problem.startswith(f"annotation file {given[0]}: annotation 2: its 'segmentation' cannot be decoded")
    people, unlabeled, _ = masks_of(tmp_path)
    assert unlabeled[60:100, 100:140].all() and unlabeled.sum() == 40 * 40
    assert people[[30, 80], [30, 120]].all()
    (tmp_path / "out.h5").unlink()
    with pytest.raises(UserError, match=r"annotation 2: its 'segmentation' .*\(--strict; nothing was written\)"):
        build_hdf5(*given, tmp_path / "out.h5", SKELETON, workers=1, strict=True)
    assert not (tmp_path / "out.h5").exists()


def test_without_any_segmentation_boxes_take_their_place(tmp_path):
    """As they do for a single person without one; the file then says that it has no outlines of people."""
    crowd = person(0, 100, 50, visible=0, iscrowd=1, segmentation=[])
    everybody = [person(10, 10, segmentation=[]), person(100, 60, 30, visible=0, segmentation=[[]]), crowd]
    build(tmp_path, everybody)
    assert not read_back(tmp_path).outlines
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["images/ends"].shape[1] == 1
    from_boxes = masks_of(tmp_path)
    build(tmp_path, [person(10, 10), *everybody[1:]])
    assert read_back(tmp_path).outlines
    np.testing.assert_array_equal(masks_of(tmp_path), from_boxes)
    build(tmp_path, [*everybody[:2], {**crowd, "segmentation": person(0, 100, 50)["segmentation"]}])
    assert not read_back(tmp_path).outlines
    np.testing.assert_array_equal(masks_of(tmp_path), from_boxes)


def test_people_without_segmentation_may_have_no_mask(tmp_path):
    build(tmp_path, [person(10, 10), person(100, 60, 40, visible=0, segmentation=[])], box_masks=False)
    people, unlabeled, _ = masks_of(tmp_path)
    assert people[30, 30] and not unlabeled.any()
    build(tmp_path, [person(10, 10, segmentation=[])], box_masks=False)
    assert not np.any(masks_of(tmp_path)) and not read_back(tmp_path).outlines


# Several files, and zip files


@pytest.fixture
def two(tmp_path):
    """Two data sets of two images each, all of them called 0.jpg and 1.jpg, with the ids 0 and 1."""
    a = write_coco(tmp_path / "a", [person(10, 10)], [person(20, 20)])
    return a, write_coco(tmp_path / "b", [person(30, 30), person(80, 30)], [person(40, 40)])


def test_several_annotation_files_with_their_images(two, tmp_path, capsys):
    (a, images_a), (b, images_b) = two
    report = build_hdf5([a, b], [images_a, images_b], tmp_path / "out.h5", SKELETON, workers=2)
    assert (report.people, report.images) == (5, 4)
    assert f"annotation file {b}: its image ids are raised by 10" in capsys.readouterr().err
    people = read_back(tmp_path)
    assert people.image_ids.tolist() == [0, 1, 10, 11]
    assert people.boxes[:, 0].tolist() == [10, 20, 30, 80, 40]


def test_several_files_that_do_not_fit(two, tmp_path):
    (a, images), (b, _) = two
    with pytest.raises(UserError, match="--images: 3 for 2 annotation files"):
        build_hdf5([a, b], [images] * 3, tmp_path / "out.h5", SKELETON, workers=1)
    other = write_coco(tmp_path / "c", [{**person(10, 10), "keypoints": [9, 9, 2, 8, 8, 2]}], names=NAMES[:2])[0]
    with pytest.raises(UserError, match=r"c/annotations\.json: labels other keypoints than .*a/annotations\.json"):
        build_hdf5([a, other], images, tmp_path / "out.h5", SKELETON, workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_images_keep_their_bytes_from_a_zip_file_too(two, tmp_path, workers):
    (annotations, images), _ = two
    whole = [(images / f"{n}.jpg").read_bytes() for n in range(2)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for n in range(2):
            file.write(images / f"{n}.jpg", f"{n}.jpg")
    shutil.rmtree(images)
    build_hdf5(annotations, tmp_path / "a.zip", tmp_path / "out.h5", SKELETON, workers=workers, strict=True)
    assert [read_back(tmp_path).file_bytes(n).tobytes() for n in range(2)] == whole


# What cannot be used


def test_images_that_cannot_be_used_are_named_and_skipped(run, tmp_path):
    people = [person(10 * n, 10) for n in range(1, 6)]
    people[3]["keypoints"] = [900, 9, 2] * 17
    annotations, images = write_coco(tmp_path, *([one] for one in people))
    content = json.loads(annotations.read_text())
    content["images"][4]["width"] = 100
    content["images"][0]["file_name"] = "/home/me/0.jpg"
    annotations.write_text(json.dumps(content))
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:-2000])
    (images / "2.jpg").unlink()
    command = (BUILD, "--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", 1)
    status, out, err = run(*command)
    assert (status, "out.h5: 1 people in 1 images" in out) == (0, True), err
    assert "\n4 images were skipped:\n" in err
    assert "1.jpg: cannot be decoded, truncated" in err
    assert "2.jpg: not found" in err
    assert "3.jpg: is 200 x 160, and no keypoint of annotation 4 lies in it" in err
    assert "4.jpg: is 200 x 160, but the annotation file says 100 x 160" in err
    assert "1 x found under another path (first: annotation file" in err
    (tmp_path / "out.h5").unlink()
    content["images"][0]["file_name"] = "0.jpg"
    annotations.write_text(json.dumps(content))
    status, _, err = run(*command, "--strict")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: ") and err.endswith("(--strict; nothing was written)\n")
    assert not (tmp_path / "out.h5").exists()


def test_the_size_is_that_of_the_upright_image(tmp_path):
    annotations, images = write_coco(tmp_path, [person(10, 10)])
    content = json.loads(annotations.read_text())
    content["images"][0].update(width=160, height=200)
    annotations.write_text(json.dumps(content))
    exif = b"\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    plain = (images / "0.jpg").read_bytes()
    (images / "0.jpg").write_bytes(plain[:2] + exif + plain[2:])
    assert build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1).skipped == []
    people = read_back(tmp_path)
    assert people.sizes.tolist() == [[200, 160]]
    np.testing.assert_array_equal(people.image(0), cv2.imread(str(images / "0.jpg")))


def refused(tmp_path: Path, *people: list[dict], names: list[str] = NAMES, **changes: object) -> str:
    """Why a data set is refused. changes: of the annotation file's lists."""
    annotations, images = write_coco(tmp_path, *people, names=names)
    annotations.write_text(json.dumps(json.loads(annotations.read_text()) | changes))
    with pytest.raises(UserError) as error:
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    assert not (tmp_path / "out.h5").exists()
    return str(error.value)


def test_annotations_without_people_to_train_on(tmp_path):
    assert "no image has a person" in refused(tmp_path, [])
    assert "nobody in it has a keypoint of the skeleton 'coco'" in refused(tmp_path, [person(9, 9, visible=0), person(9, 9, iscrowd=1)])
    images = [{"id": 0, "file_name": "elsewhere.jpg"}]
    assert "has none of the images of" in refused(tmp_path, [person(9, 9)], images=images)


def test_names_of_keypoints_must_be_the_skeletons(tmp_path):
    no_names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog", "keypoints": ["Nose", "LeftEye", "Tail", "Paw"]}]
    message = refused(tmp_path, [person(9, 9)], categories=no_names)
    assert "no category has the keypoints of skeleton 'coco' (nose, left_eye, right_eye, ...);" in message
    assert "categories found: cat (no keypoints), dog (Nose, LeftEye, Tail, ...)" in message
    for names, problem in (
        (["nose", "left_eye", "left_eye"], "category 'person' has two keypoints 'left_eye'"),
        ("nose", "the 'keypoints' of category 'person' are not a list of names"),
        ([{"name": "nose"}], "the 'keypoints' of category 'person' are not a list of names"),
        (5, "the 'keypoints' of category 'person' are not a list of names"),
    ):
        assert problem in refused(tmp_path, [person(9, 9)], names=names)
    crowdpose = list(load_skeleton("crowdpose").dataset)
    message = refused(tmp_path, [{**person(9, 9), "keypoints": [9, 9, 2] * 14}], names=crowdpose)
    assert "its 14 keypoints and those of the skeleton 'coco' overlap only in part" in message
    assert "it has head, neck besides and lacks nose, left_eye, right_eye, ...;" in message
    assert "skeleton=crowdpose has all of the file's (data/coco_masks_hdf5.py: --skeleton crowdpose)" in message
    message = refused(tmp_path, [{**person(9, 9), "keypoints": [9, 9, 2] * 2}], names=["nose", "tail"])
    assert "it has tail besides and lacks left_eye, right_eye, left_ear, ...; write a skeleton" in message


def test_a_disk_too_small_for_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "out.h5: needs about" in refused(tmp_path, [person(9, 9)])


# Data sets that label only some of the skeleton's keypoints


def test_the_file_says_which_keypoints_its_data_set_labels(tmp_path):
    some = ["left_wrist", "left_shoulder", "right_shoulder"]  # not in the skeleton's order
    build(tmp_path, [{**person(10, 10), "keypoints": [1, 2, 2, 3, 4, 2, 5, 6, 1]}], names=some)
    people = read_back(tmp_path)
    named = {name: joint.tolist() for name, joint in zip(SKELETON.keypoints, people.joints(np.array([0]))[0]) if joint[2] != 2}
    assert named == {"Lwri": [1, 2, 1], "Lsho": [3, 4, 1], "Rsho": [5, 6, 0], "neck": [4, 5, 0]}
    assert {name for name, labeled in zip(SKELETON.keypoints, people.labeled) if labeled} == set(named)
    assert people.num_labeled.tolist() == [3]


def test_one_file_serves_skeletons_of_fewer_and_of_more_keypoints_but_not_of_others(tmp_path):
    def skeleton_of(*names: str) -> Skeleton:
        sigmas, dataset = dict.fromkeys(names, 0.1), dict(zip(names, names))
        return Skeleton(name="own", keypoints=names, limbs=(), flip_pairs=(), sigmas=sigmas, dataset=dataset)

    build(tmp_path, [person(10, 10)])
    path = tmp_path / "out.h5"
    assert TrainingHDF5(path, skeleton_of("left_eye", "right_eye", "nose")).labeled.all()
    assert TrainingHDF5(path, skeleton_of(*NAMES, "tail")).labeled.tolist() == [*[True] * 17, False]
    with pytest.raises(UserError, match=r"labels nose, left_eye, right_eye, \.\.\.; the skeleton 'own' has none of them"):
        TrainingHDF5(path, skeleton_of("tail"))
    with pytest.raises(UserError, match=r"out\.h5: its 17 keypoints and those of the skeleton 'own' overlap only in part: it has left_eye"):
        TrainingHDF5(path, skeleton_of("nose", "tail"))


# Workers


@dataclasses.dataclass(frozen=True)
class Killed(ImageRecords):
    def __getitem__(self, task: ImageTask) -> None:
        os._exit(9)


def test_a_killed_worker_is_one_line():
    with pytest.raises(UserError, match=r"a process was killed.*fewer --workers"):
        list(in_workers(Killed(True, True), [None] * 3, 2))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux about a process's children")
def test_ctrl_c_ends_in_one_line_and_leaves_nothing_behind(tmp_path):
    """It reaches every process of the terminal, also those that only start; one of them answers."""
    annotations, images = write_coco(tmp_path, [person(10, 10)])
    cv2.imwrite(str(images / "0.jpg"), np.zeros((3000, 3000, 3), np.uint8))  # takes a while to decode
    content = json.loads(annotations.read_text())
    content["images"] = [{"id": number, "file_name": "0.jpg"} for number in range(500)]
    content["annotations"] = [{**content["annotations"][0], "id": number, "image_id": number} for number in range(500)]
    annotations.write_text(json.dumps(content))
    command = [sys.executable, BUILD, "--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "error: interrupted\n"
    assert process.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "images"]
