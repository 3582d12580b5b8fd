"""From annotations and images to the training HDF5: all people, masks, several sources, and unusable images."""

import dataclasses
import gc
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
from people import NAMES, SKELETON, build, person, read_back, write_coco

from config import UserError, load_config
from config.errors import run_cli
from config.load import load_skeleton
from config.signals import StopSignal
from config.skeleton import Skeleton
from data import coco_masks_hdf5
from data.coco_masks_hdf5 import ImageContents, ImageTask, build_hdf5, in_workers, start_worker
from data.datasets import MixedDataset
from data.hdf5 import TrainingHDF5, unpack_mask

BUILD = "data/coco_masks_hdf5.py"
NOTHING = r".*\(--strict; nothing was written\)"


@pytest.mark.parametrize(("split", "images", "samples"), [("train2017", 36, 65), ("val2017", 39, 53)])
def test_coco_mini_makes_the_published_number_of_samples(shared, tmp_path, split, images, samples):
    mini, out = shared / "data" / "coco_mini", tmp_path / "out.h5"
    report = build_hdf5(mini / "annotations" / f"person_keypoints_{split}.json", mini / split, out, SKELETON, workers=2)
    assert (report.images, report.skipped, report.boxed, report.fixes.found) == (images, [], [], {})
    assert out.stat().st_size < (images + report.without_people) * 640 * 480 * 5 / 5  # a fifth of raw pixels and two masks
    assert len(MixedDataset([out], load_config("config/simplepose_coco_512.yaml"), augment=True)) == samples


def test_all_people_are_in_the_file(tmp_path):
    """Also those of images without any keypoint: other systems use them."""
    crowd = person(100, 60, visible=0, iscrowd=1, area=5)
    report = build(tmp_path, [person(10, 10, track_id=7), crowd], [person(20, 20, visible=0, track_id="a")], [])
    assert (report.images, report.people, report.without_people) == (2, 1, 1)
    people = read_back(tmp_path)
    assert (people.image_ids.tolist(), people.sizes.tolist(), people.first.tolist()) == ([0, 1, 2], [[160, 200]] * 3, [0, 2, 3, 3])
    assert (len(people), people.negatives.tolist(), people.image(2).shape) == (2, [2], (160, 200, 3))
    assert (people.num_labeled.tolist(), people.crowd.tolist()) == ([17, 0, 0], [False, True, False])
    assert (people.tracks.tolist(), people.areas.tolist()) == ([7, -1, -1], [3600, 5, 3600])
    assert people.boxes[1].tolist() == [100, 60, 60, 60]
    assert people.image(0).shape == (160, 200, 3)


# Masks


def masks(folder: Path, *people: dict, **options) -> list[np.ndarray]:
    """Return the masks of an image with these people, (160, 200) bool: people, people without keypoints, crowd regions."""
    build(folder, people, **options)
    return [unpack_mask(bits, 160, 200) == 255 for bits in read_back(folder).masks(0)]


def test_masks_separate_people_without_keypoints_and_all_crowd_regions(tmp_path):
    columns = [{"size": [160, 200], "counts": [x * 160, width * 160, (200 - x - width) * 160]} for x, width in ((50, 10), (80, 20))]
    crowds = [person(0, 0, visible=0, segmentation=rle, iscrowd=1) for rle in columns]
    people, unlabeled, crowd = masks(tmp_path, person(0, 0, 20, visible=0), person(40, 0, 20), *crowds)
    assert people[10, 10] and people[10, 45] and not people[50, 55]
    assert unlabeled[10, 10] and not unlabeled[10, 45]
    assert crowd[50, [55, 90]].all() and not crowd[50, [20, 70]].any()


@pytest.mark.parametrize("segmentation", [[[1, 2]], {"counts": [4], "size": [2, 2]}, {"counts": "X19", "size": [160, 200]}])
def test_an_undecodable_segmentation_is_counted_and_masked_by_the_box(tmp_path, segmentation):
    people = [person(10, 10), person(100, 60, 40, visible=0, segmentation=segmentation)]
    (problem,) = build(tmp_path, people).boxed
    assert problem.startswith(f"annotation file {tmp_path / 'annotations.json'}: annotation 2: its 'segmentation' cannot be decoded")
    everyone, unlabeled, _ = masks(tmp_path, *people)
    assert unlabeled[60:100, 100:140].all() and unlabeled.sum() == 40 * 40
    assert everyone[[30, 80], [30, 120]].all()
    with pytest.raises(UserError, match="annotation 2: its 'segmentation' " + NOTHING):
        build(tmp_path, people, strict=True)


def test_boxes_mask_people_without_segmentation(tmp_path):
    """`outlines` is set only if people have segmentations, not if crowd regions alone have them."""
    first, second = person(10, 10, segmentation=[]), person(100, 60, 30, visible=0, segmentation=[[]])
    crowd = person(0, 100, 50, visible=0, iscrowd=1, segmentation=[])
    outlined_crowd = {**crowd, "segmentation": person(0, 100, 50)["segmentation"]}
    from_boxes = masks(tmp_path, first, second, crowd)
    assert not read_back(tmp_path).outlines
    for people, outlines in (([person(10, 10), second, crowd], True), ([first, second, outlined_crowd], False)):
        np.testing.assert_array_equal(masks(tmp_path, *people), from_boxes)
        assert read_back(tmp_path).outlines == outlines
    people, unlabeled, _ = masks(tmp_path, person(10, 10), second, box_masks=False)
    assert people[30, 30] and not unlabeled.any()
    assert not np.any(masks(tmp_path, first, box_masks=False))


# Several files, and zip files


def test_several_files_are_merged_equal_ids_raised_and_images_keep_their_bytes(tmp_path, capsys):
    a, images_a = write_coco(tmp_path / "a", [person(10, 10)], [person(20, 20)])
    b, images_b = write_coco(tmp_path / "b", [person(30, 30), person(80, 30)], [person(40, 40)])
    whole = [(images / f"{n}.jpg").read_bytes() for images in (images_a, images_b) for n in range(2)]
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for n in range(2):
            file.write(images_b / f"{n}.jpg", f"{n}.jpg")
    report = build_hdf5([a, b], [images_a, tmp_path / "b.zip"], tmp_path / "out.h5", SKELETON, workers=2, strict=True)
    assert (report.people, report.images) == (5, 4)
    assert f"annotation file {b}: its image ids are raised by 10" in capsys.readouterr().err
    people = read_back(tmp_path)
    assert people.image_ids.tolist() == [0, 1, 10, 11]
    assert people.boxes[:, 0].tolist() == [10, 20, 30, 80, 40]
    assert [people.file_bytes(n).tobytes() for n in range(4)] == whole
    with pytest.raises(UserError, match="--images: 3 for 2 annotation files"):
        build_hdf5([a, b], [images_a] * 3, tmp_path / "out.h5", SKELETON, workers=1)
    other = write_coco(tmp_path / "c", [{**person(10, 10), "keypoints": [9, 9, 2, 8, 8, 2]}], names=NAMES[:2])[0]
    with pytest.raises(UserError, match=r"c/annotations\.json: labels other keypoints than .*a/annotations\.json"):
        build_hdf5([a, other], images_a, tmp_path / "out.h5", SKELETON, workers=1)  # one folder for both


def test_larger_images_are_reduced_with_their_people(run, tmp_path):
    """200 x 160 pixels to a half; a mask of one box is exact, since the box has even sides."""
    crowd = {**person(100, 20), "iscrowd": 1, "keypoints": [0] * 51}
    annotations, images = write_coco(tmp_path, [person(10, 30, visible=9), crowd])
    given = ("data/coco_masks_hdf5.py", "--annotations", annotations, "--images", images, "--workers", 1, "--output")
    assert run(*given, tmp_path / "whole.h5", "--max-side", 200).status == 0
    assert run(*given, tmp_path / "out.h5", "--max-side", 100).status == 0
    whole, people = TrainingHDF5(tmp_path / "whole.h5", SKELETON), read_back(tmp_path)
    assert whole.file_bytes(0).tobytes() == (images / "0.jpg").read_bytes()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["max_side"] == 100
    blocks = whole.image(0).reshape(80, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(people.image(0) - blocks).mean() < 20  # JPEG of noise
    labeled = whole.joints([0])[..., 2] < 2
    np.testing.assert_allclose(people.joints([0])[labeled][:, :2], (whole.joints([0])[labeled][:, :2] - 0.5) / 2)
    assert not people.joints([0])[~labeled][:, :2].any() and people.num_labeled.tolist() == [9, 0]
    assert people.boxes.tolist() == (whole.boxes / 2).tolist() and people.areas.tolist() == (whole.areas / 4).tolist()
    everyone = unpack_mask(people.masks(0)[0], 80, 100)
    assert everyone[15:45, 5:35].all() and everyone.sum() == 255 * 30 * 30
    assert unpack_mask(people.masks(0)[2], 80, 100)[10:40, 50:80].all()


# Unusable images and annotations


def test_unusable_images_are_named_and_skipped(run, tmp_path):
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
    for line in (
        "\n4 images were skipped:\n",
        "1.jpg: cannot be decoded (",
        "2.jpg: not found",
        "3.jpg: is 200 x 160, and no keypoint of annotation 4 lies in it",
        "4.jpg: is 200 x 160, but the annotation file says 100 x 160",
        "1 x found under another path or name (first: annotation file",
    ):
        assert line in err
    (tmp_path / "out.h5").unlink()
    status, _, err = run(*command, "--strict")
    assert status == 2 and re.fullmatch(f"error: {NOTHING}\n", err)
    assert not (tmp_path / "out.h5").exists()


def refusal(tmp_path: Path, *people: list[dict], names: list[str] = NAMES, **changes: object) -> str:
    """Return the error about a data set. changes: of the annotation file's lists."""
    annotations, images = write_coco(tmp_path, *people, names=names)
    annotations.write_text(json.dumps(json.loads(annotations.read_text()) | changes))
    with pytest.raises(UserError) as error:
        build_hdf5(annotations, images, tmp_path / "out.h5", SKELETON, workers=1)
    return str(error.value)


def test_annotations_without_usable_people_are_refused(tmp_path, monkeypatch):
    for people in ([], [person(9, 9, visible=0), person(9, 9, iscrowd=1)]):
        assert "no person has a keypoint of skeleton 'coco'" in refusal(tmp_path, people)
    images = [{"id": 0, "file_name": "elsewhere.jpg"}]
    assert "none of the 1 images listed is there, such as 'elsewhere.jpg'" in refusal(tmp_path, [person(9, 9)], images=images)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "out.h5: needs about" in refusal(tmp_path, [person(9, 9)])


def test_keypoint_names_must_be_the_skeletons(tmp_path):
    categories = [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog", "keypoints": ["Snout", "Ear", "Tail", "Paw"]}]
    message = refusal(tmp_path, [person(9, 9)], categories=categories)
    assert "categories found: cat (no keypoints), dog (Snout, Ear, Tail, ...)" in message
    for names, problem in ((["nose", "left_eye", "left_eye"], "two of its keypoints are 'left_eye'"), ([{}], "are not a list of names")):
        assert problem in refusal(tmp_path, [person(9, 9)], names=names)
    message = refusal(tmp_path, [person(9, 9)], names=list(load_skeleton("crowdpose").dataset))
    assert "overlap only in part: it has head, neck besides and lacks nose, left_eye, right_eye, ...;" in message
    assert "skeleton=crowdpose has all of the file's (data/coco_masks_hdf5.py: --skeleton crowdpose)" in message


# Data sets that label only some of the skeleton's keypoints


def test_the_file_lists_the_keypoints_that_its_data_set_labels(tmp_path):
    some = ["left_wrist", "left_shoulder", "right_shoulder"]  # not in the skeleton's order
    build(tmp_path, [{**person(10, 10), "keypoints": [1, 2, 2, 3, 4, 2, 5, 6, 1]}], names=some)
    people = read_back(tmp_path)
    named = {name: joint.tolist() for name, joint in zip(SKELETON.keypoints, people.joints(np.array([0]))[0]) if joint[2] != 2}
    assert named == {"Lwri": [1, 2, 1], "Lsho": [3, 4, 1], "Rsho": [5, 6, 0], "neck": [4, 5, 0]}
    assert {name for name, labeled in zip(SKELETON.keypoints, people.labeled) if labeled} == set(named)
    assert people.num_labeled.tolist() == [3]


def test_a_skeleton_may_have_fewer_or_more_keypoints_than_the_file_but_not_others(tmp_path):
    build(tmp_path, [person(10, 10)])

    def opened(*names: str) -> TrainingHDF5:
        sigmas, dataset = dict.fromkeys(names, 0.1), dict(zip(names, names))
        skeleton = Skeleton(name="own", keypoints=names, limbs=(), flip_pairs=(), sigmas=sigmas, dataset=dataset)
        return TrainingHDF5(tmp_path / "out.h5", skeleton)

    assert opened("left_eye", "right_eye", "nose").labeled.all()
    assert opened(*NAMES, "tail").labeled.tolist() == [*[True] * 17, False]
    for names in (["tail"], ["nose", "tail"]):
        with pytest.raises(UserError, match=r"out\.h5: .*overlap only in part"):
            opened(*names)


# Workers


@dataclasses.dataclass(frozen=True)
class Killed(ImageContents):
    def __getitem__(self, task: ImageTask) -> None:
        os._exit(9)


def test_a_killed_worker_is_one_line():
    with pytest.raises(UserError, match=r"a process was killed.*fewer --workers"):
        list(in_workers(Killed(True, True, 17), [None] * 3, 2, StopSignal()))


class Session:
    """Garbage that only the process in which it was made can destroy, as ONNX Runtime's sessions and videos: they end their threads."""

    def __init__(self):
        self.cycle, self.process = self, os.getpid()

    def __del__(self):
        if os.getpid() != self.process:
            os._exit(9)


@dataclasses.dataclass(frozen=True)
class Collecting(ImageContents):
    def __getitem__(self, task: ImageTask) -> int:
        return gc.collect()


def test_a_worker_leaves_the_garbage_of_its_parent_alone(request):
    """Where a demo had run in the process before, a worker hung that began to collect its session."""
    request.addfinalizer(gc.enable)
    gc.disable()
    Session()
    assert len(list(in_workers(Collecting(True, True, 17), [None] * 3, 2, StopSignal()))) == 3
    assert gc.get_freeze_count() == 0
    assert gc.collect(), "in this process it is garbage still"


def test_a_worker_does_not_wait_for_opencv_threads_of_its_parent():
    """OpenCV waited for them in about one of five forks."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 5)  # starts the threads
    workers = [multiprocessing.get_context("fork").Process(target=start_worker, args=(0,), daemon=True) for _ in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(5)
    cv2.setNumThreads(1)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


def run_in_new_session(arguments: list[str], stderr: Path) -> None:
    """Run the builder as a terminal's foreground job, with its own process group."""
    os.setsid()
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    sys.argv, sys.stderr = [BUILD, *arguments], os.fdopen(2, "w")
    run_cli(coco_masks_hdf5.main)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads a process's children from Linux's /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_one_line_and_leaves_nothing(tmp_path, number):
    """Every process gets the signal, as from a terminal; the first one answers."""
    annotations, images = write_coco(tmp_path, [person(10, 10)])
    cv2.imwrite(str(images / "0.jpg"), np.zeros((3000, 3000, 3), np.uint8))  # takes a while to decode
    content = json.loads(annotations.read_text())
    content["images"] = [{"id": number, "file_name": "0.jpg"} for number in range(500)]
    content["annotations"] = [{**content["annotations"][0], "id": number, "image_id": number} for number in range(500)]
    annotations.write_text(json.dumps(content))
    arguments = ["--annotations", annotations, "--images", images, "--output", tmp_path / "out.h5", "--workers", "2"]
    stderr = tmp_path / "stderr"
    process = multiprocessing.get_context("fork").Process(target=run_in_new_session, args=([*map(str, arguments)], stderr))
    process.start()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < 2:
        assert process.is_alive(), stderr.read_text()
        time.sleep(0.01)
    os.killpg(process.pid, number)
    process.join(60)
    assert (process.exitcode, stderr.read_text()) == (130, "error: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["annotations.json", "images", "stderr"]
