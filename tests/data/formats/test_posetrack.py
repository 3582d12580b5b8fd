"""PoseTrack18's files: people with tracks, ignore regions, ears."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import SHARED

from config import UserError
from config.load import load_skeleton
from data.coco_masks_hdf5 import build_hdf5
from data.formats import load_annotations
from data.formats.posetrack import KEYPOINTS
from data.hdf5 import TrainingHDF5, unpack_mask

POSETRACK = SHARED / "data" / "posetrack18"
SKELETON = load_skeleton("posetrack18")
EARS = [KEYPOINTS.index("left_ear"), KEYPOINTS.index("right_ear")]


def person(number: int, track: int) -> dict:
    """Return an annotation with keypoint k at (10 + k, 20 + 2 k), all labeled except the ears."""
    keypoints = np.array([[10 + k, 20 + 2 * k, k not in EARS] for k in range(17)])
    return {"id": number, "image_id": 10000010000, "track_id": track, "category_id": 1, "keypoints": keypoints.ravel().tolist(),
            "bbox": [5.0, 10.0, 30.0, 60.0], "scores": [], "iscrowd": False}  # fmt: skip


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a data set of one video with two frames, the second one not annotated, after a change; return the file."""

    def write(change: Callable[[dict], object] = lambda content: None) -> Path:
        folder = tmp_path / "images" / "val" / "000001_test"
        folder.mkdir(parents=True, exist_ok=True)
        images = []
        for frame, labeled in ((0, True), (1, False)):
            cv2.imwrite(str(folder / f"{frame:06d}.jpg"), np.full((100, 120, 3), 90, np.uint8))
            entry = {"id": 10000010000 + frame, "file_name": f"images/val/000001_test/{frame:06d}.jpg", "vid_id": "000001", "width": 120}
            regions = {
                "ignore_regions_x": [[60, 110, 110, 60], [1, 2], [1, 3, 1]],
                "ignore_regions_y": [[40, 40, 90, 90], [1, 2], [1, 1, 3]],
            }
            images.append({**entry, "height": 100, "is_labeled": labeled, **regions})
        categories = [{"id": 7, "name": "ball"}, {"id": 1, "name": "person", "keypoints": list(KEYPOINTS)}]
        content = {"images": images, "annotations": [person(100, 3), person(101, 5)], "categories": categories}
        change(content)
        (tmp_path / "000001.json").write_text(json.dumps(content))
        return tmp_path / "000001.json"

    return write


def test_the_training_hdf5_has_tracks_visible_keypoints_and_ignore_regions(write, tmp_path):
    build_hdf5(write(), tmp_path, tmp_path / "out.h5", SKELETON, workers=1)
    people = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    assert people.image_ids.tolist() == [10000010000], "the second frame is not annotated, so its regions do not count"
    assert people.tracks.tolist() == [3, 5, -1, -1]
    assert people.crowd.tolist() == [False, False, True, True], "a region has three corners at least"
    assert people.joints(np.array([0]))[0, 6].tolist() == [16, 32, 1], "labeled keypoints are visible"
    assert people.num_labeled.tolist() == [15, 15, 0, 0]
    all_people, _, crowd = [unpack_mask(bits, 100, 120) == 255 for bits in people.masks(0)]
    assert crowd[50:80, 70:100].all() and crowd.sum() == pytest.approx(50 * 50, rel=0.05)
    assert all_people[30, 20] and not all_people[50, 80]
    assert np.flatnonzero(~people.labeled).tolist() == EARS, "a network must not learn that people have no ears"


def test_a_file_without_videos_is_cocos(write):
    assert load_annotations(write()).format == "posetrack18"
    path = write(lambda content: [image.pop("vid_id") for image in content["images"]])
    assert load_annotations(path).format == "coco"


def test_a_person_without_a_box_gets_posetracks_own(write):
    annotations = load_annotations(write(lambda content: content["annotations"][0].pop("bbox"))).coco.dataset["annotations"]
    assert annotations[0]["bbox"] == pytest.approx([10 - 0.15 * 16, 20 - 0.15 * 32, 1.3 * 16, 1.3 * 32])
    assert annotations[1]["bbox"] == [5, 10, 30, 60]


@pytest.mark.parametrize("ys", [[[40, 40, 90]], [["a", "b", "c", "d"], [1, 2]], 7])
def test_region_coordinates_must_be_pairs_of_lists(write, ys):
    with pytest.raises(UserError, match=r"image 10000010000 \(images/val/000001_test/000000\.jpg\): 'ignore_regions_x' and"):
        load_annotations(write(lambda content: content["images"][0].update(ignore_regions_y=ys)))


def test_another_number_of_keypoints_is_refused(write):
    with pytest.raises(UserError, match=r"000001\.json: annotation 101: its 'keypoints' is .* of 17 keypoints"):
        load_annotations(write(lambda content: content["annotations"][1].update(keypoints=[1, 2, 1] * 15)))


@pytest.mark.skipif(not POSETRACK.is_dir(), reason="no videos: there is no folder shared/data/posetrack18")
def test_a_real_file_has_these_people_regions_and_boxes(tmp_path):
    path = POSETRACK / "annotations" / "val" / "012834_mpii_test.json"
    built = build_hdf5(path, POSETRACK, tmp_path / "out.h5", SKELETON, workers=1)
    assert (built.images, built.people, built.skipped, built.boxed) == (1, 11, [], [])
    people = TrainingHDF5(tmp_path / "out.h5", SKELETON)
    assert sorted(people.tracks[~people.crowd].tolist()) == list(range(11))
    assert people.crowd.sum() == 4
    raw = json.loads(path.read_text())
    assert people.num_labeled.sum() == sum(sum(v > 0 for v in a["keypoints"][2::3]) for a in raw["annotations"])
    for annotation in raw["annotations"]:  # the boxes made here are near PoseTrack's own
        del annotation["bbox"]
    (tmp_path / "without.json").write_text(json.dumps(raw))
    without = load_annotations(tmp_path / "without.json")
    for annotation in load_annotations(path).coco.dataset["annotations"]:
        assert without.coco.anns[annotation["id"]]["bbox"] == pytest.approx(annotation["bbox"], abs=1)
