"""Synthetic images and videos: valid COCO annotations, keypoints on the person, the same files from the same seed."""

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from disk import largest_file
from pycocotools.coco import COCO

from config.load import load_skeleton
from data.synthetic import HEAD, KEYPOINTS, SKELETON, Person, body_points, random_colors, render, write_synthetic, write_video

COUNT, SIZE = 60, (256, 320)
FRAMES, PEOPLE, VIDEO_SIZE = 100, 4, (128, 192)
NUMBER = {name: number for number, name in enumerate(KEYPOINTS)}
TRUNK = [NUMBER[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> COCO:
    return COCO(str(write_synthetic(tmp_path_factory.mktemp("synthetic"), COUNT, seed=3, size=SIZE)))


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> dict[int, dict[int, np.ndarray]]:
    """Return the keypoints (17, 3) of each frame of a video, by track_id."""
    video = COCO(str(write_video(tmp_path_factory.mktemp("walk"), FRAMES, PEOPLE, seed=1, size=VIDEO_SIZE)))
    people = defaultdict(dict)
    for annotation in video.anns.values():
        people[annotation["track_id"]][annotation["image_id"]] = keypoints(annotation)
    return people


def keypoints(annotation: dict) -> np.ndarray:
    return np.array(annotation["keypoints"], float).reshape(-1, 3)


def files(annotations: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (annotations.parent / "images").iterdir()}


def placed(body: np.ndarray, x: float, y: float, stature: float = 100) -> Person:
    return Person(stature * body + [x, y, 0], stature, random_colors(np.random.default_rng(1)))


def standing(yaw: float = 0) -> np.ndarray:
    return body_points(np.zeros((2, 7)), 0.0, 0.0, np.radians(yaw), 0.0)


def test_a_full_disk_leaves_no_part_of_an_image(tmp_path):
    """The limit on the size of files acts as one."""
    with largest_file(3000), pytest.raises(OSError) as error:
        write_synthetic(tmp_path, 1, seed=3, size=SIZE)
    assert error.value.filename == str(tmp_path / "images" / "000000000001.jpg")
    assert [*(tmp_path / "images").iterdir()] == []


def test_annotations_are_valid_coco(coco):
    """Boxes, areas and masks agree; labeled keypoints are in the image, visible ones on the person."""
    assert sorted(coco.imgs) == list(range(1, COUNT + 1)) and sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert coco.cats[1]["keypoints"] == list(KEYPOINTS) == list(load_skeleton("coco17").dataset)
    assert len(SKELETON) == 19 and {k for pair in SKELETON for k in pair} == set(range(1, 18))
    assert np.ptp([len(coco.imgToAnns[number]) for number in coco.imgs]) >= 2
    for annotation in coco.anns.values():
        mask, points = coco.annToMask(annotation), keypoints(annotation)
        assert annotation["iscrowd"] == 0 and annotation["num_keypoints"] == np.count_nonzero(points[:, 2])
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.1, abs=12)
        np.testing.assert_allclose(cv2.boundingRect(mask), annotation["bbox"], atol=4)
        labeled = points[points[:, 2] > 0]
        assert (labeled[:, :2] >= 0).all() and (labeled[:, :2] <= [SIZE[1] - 1, SIZE[0] - 1]).all()
        assert not points[points[:, 2] == 0].any()
        columns, rows = labeled[labeled[:, 2] == 2, :2].round().astype(int).T
        assert cv2.dilate(mask, np.ones((5, 5)))[rows, columns].all()
    values = np.concatenate([keypoints(annotation)[:, 2] for annotation in coco.anns.values()])
    assert [np.mean(values == v) > 0.02 for v in (0, 1, 2)] == [True] * 3 and np.mean(values == 2) > 0.6


def test_the_person_in_front_occludes():
    """Occluded keypoints are 1, those outside the image 0; mostly occluded people have no keypoints."""
    image = np.zeros((200, 200, 3), np.uint8)
    behind, front = render(image, [placed(standing(), 100, 100), placed(standing(), 110, 100)])
    assert (keypoints(front)[:, 2] == 2).all()
    visible = keypoints(behind)[:, 2]
    assert visible[NUMBER["right_wrist"]] == 2 and visible[NUMBER["left_hip"]] == 1 and visible.all()
    (cut_off,) = render(image, [placed(standing(), 100, 190)])
    assert keypoints(cut_off)[NUMBER["left_knee"] :, 2].tolist() == [0] * 4 and keypoints(cut_off)[NUMBER["nose"], 2] == 2
    assert cut_off["num_keypoints"] == 13
    hidden, _ = render(image, [placed(standing(), 100, 100), placed(standing(), 103, 101)])
    assert hidden["num_keypoints"] == 0 and hidden["area"] > 0
    assert render(image, [placed(standing(), 100, 100, 50), placed(standing(), 100, 100, 150)])[0] is None
    assert render(image, [placed(standing(), 400, 100)]) == [None]


@pytest.mark.parametrize(("yaw", "facing"), [(0, True), (180, False)])
def test_left_is_at_the_right_of_a_person_who_faces_the_viewer(yaw, facing):
    """The face is labeled from the front only, so a network can tell left from right."""
    image, person = np.zeros((200, 200, 3), np.uint8), placed(standing(yaw), 100, 100)
    (annotation,) = render(image, [person])
    points = keypoints(annotation)
    x, y = person.points[HEAD, :2].round().astype(int)
    skin, hair = np.abs(person.colors[:2] - image[y - 3, x]).sum(1)
    assert (skin < hair) == facing, "nearer parts cover farther ones"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "ear"):
        assert (points[NUMBER[f"left_{part}"], 0] > points[NUMBER[f"right_{part}"], 0]) == facing, part
    assert (points[:3, 2] == (2 if facing else 0)).all()


def test_a_video_is_written_as_frames_and_as_avi(tmp_path):
    folder = write_video(tmp_path, 6, PEOPLE, seed=1, size=VIDEO_SIZE).parent
    capture, earlier = cv2.VideoCapture(str(folder / "video.avi")), np.zeros((*VIDEO_SIZE, 3))
    for number in range(6):
        frame, (_, of_video) = cv2.imread(str(folder / "images" / f"{number:06d}.jpg")).astype(int), capture.read()
        assert np.abs(frame - of_video).mean() < 8
        # in a corner without people: the noise changes, or optical flow would find it static
        assert np.abs(frame - earlier)[:10, :40].mean() > 0.5
        earlier = frame
    assert not capture.read()[0]


def test_people_walk_without_a_jump_swing_legs_and_arms_and_cross(tracks):
    assert sorted(tracks) == list(range(1, PEOPLE + 1))
    for frames in tracks.values():
        assert len(frames) > 0.8 * FRAMES
        centers = {frame: points[TRUNK, :2].mean(0) for frame, points in frames.items() if points[TRUNK, 2].all()}
        steps = [np.linalg.norm(centers[frame + 1] - centers[frame]) for frame in centers if frame + 1 in centers]
        assert max(steps) < 0.05 * VIDEO_SIZE[0] and np.median(steps) > 0.005 * VIDEO_SIZE[0]
        for joint in ("ankle", "wrist"):
            pair = [NUMBER[f"{side}_{joint}"] for side in ("left", "right")]
            apart = np.array([np.subtract(*points[pair, 0]) for points in frames.values() if points[pair, 2].all()])
            assert np.count_nonzero(np.diff(np.sign(np.diff(apart)))) >= 4 and np.ptp(apart) > 0.1 * VIDEO_SIZE[0], joint
    crossings = 0
    for a, b in combinations(tracks.values(), 2):
        ahead = [a[frame][TRUNK, 0].mean() > b[frame][TRUNK, 0].mean() for frame in sorted(a.keys() & b.keys())]
        crossings += np.count_nonzero(np.diff(ahead))
    occluded = {track: np.mean([points[:, 2] == 1 for points in frames.values()]) for track, frames in tracks.items()}
    assert crossings >= 5 and 0.05 < occluded[1] < 0.6 and occluded[PEOPLE] == 0, "the nearer one occludes"


def test_images_and_frames_depend_on_seed_and_number_only(run, tmp_path):
    for write, more in ((write_synthetic, ()), (write_video, (2,))):
        few, many, other = (
            files(write(tmp_path / f"{write.__name__} {count} {seed}", count, *more, seed=seed, size=(64, 80)))
            for count, seed in ((2, 7), (3, 7), (2, 8))
        )
        assert len(few) == 2 and few.items() < many.items() and few != other
    for option, count in (("--count", 3), ("--video", 2)):
        ended = run("data/synthetic.py", "--output", tmp_path, option, count, "--seed", 1)
        assert (ended.status, ended.out) == (0, f"{count} images: {tmp_path / 'annotations.json'}\n")
        assert len(json.loads((tmp_path / "annotations.json").read_text())["images"]) == count
