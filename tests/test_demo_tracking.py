"""demo_image.py --track: ids in the JSON, colours by person, and PoseTrack18's JSON."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.load import load_skeleton
from utils.visualize.people import draw_people, person_color

FRAMES = 4


@pytest.fixture
def two_people(monkeypatch):
    """Has the estimator find two people who walk, in another order in every frame, and a third who is unlikely."""
    shape = np.stack([np.linspace(-6, 6, 18), np.linspace(-20, 20, 18), np.zeros(18)], 1)
    calls = []

    def stream(estimator, images, batch_size):
        for image in images:
            step = len(calls) % FRAMES
            calls.append(image.shape)
            people = np.stack([shape + [x, 30, 0.9] for x in (20 + 2 * step, 90 - 2 * step, 60)])
            order = [0, 2, 1] if step % 2 else [1, 2, 0]
            yield people[order].astype(np.float32), np.array([0.8, 0.05, 0.8])

    monkeypatch.setattr("utils.inference.PoseEstimator.stream", stream)
    return calls


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "000007_walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (110, 60))
    for _ in range(FRAMES):
        writer.write(np.full((60, 110, 3), 40, np.uint8))
    writer.release()
    return path


@pytest.fixture
def demo(run, trained, tmp_path):
    def start(path: Path, *more: object):
        ended = run("demo_image.py", "--checkpoint", trained / "best.pth", "--input", path, "--output", tmp_path / "demo", *more)
        assert ended.status == 0, ended.err
        return tmp_path / "demo"

    return start


def test_ids_of_a_video(demo, two_people, video):
    frames = json.loads((demo(video, "--track") / "000007_walk.json").read_text())
    assert [[person["id"] for person in frame["people"]] for frame in frames] == [[0, -1, 1], [1, -1, 0]] * 2
    for number in (0, 1):
        middles = [np.mean(person["keypoints"], 0)[0] for frame in frames for person in frame["people"] if person["id"] == number]
        assert np.abs(np.diff(middles)).max() < 3


def test_who_is_drawn_has_the_persons_own_colour(demo, two_people, video, monkeypatch):
    """The unlikely third stands between the two in the list, and is not drawn."""
    drawn = []

    def draw(image, keypoints, skeleton, ids):
        drawn.append(dict(zip(ids.tolist(), keypoints[:, :, 0].mean(1).round().tolist())))
        return image

    monkeypatch.setattr("utils.demo.run.draw_people", draw)
    demo(video, "--track")
    assert drawn == [{0: 90 - 2 * step, 1: 20 + 2 * step} for step in range(FRAMES)]


def test_without_track_there_are_none(demo, two_people, video):
    frames = json.loads((demo(video) / "000007_walk.json").read_text())
    assert all(set(person) == {"score", "keypoints"} for frame in frames for person in frame["people"])


def test_a_folder_is_taken_as_frames(demo, two_people, tmp_path):
    folder = tmp_path / "images" / "000012_walk"
    folder.mkdir(parents=True)
    for number in (10, 2, 1, 3):
        cv2.imwrite(str(folder / f"{number:06d}.png"), np.full((60, 110, 3), 40, np.uint8))
    output = demo(folder, "--posetrack", tmp_path / "answer.json")
    ids = [[person["id"] for person in json.loads((output / f"{n:06d}.png.json").read_text())["people"]] for n in (1, 2, 3, 10)]
    assert ids == [[0, -1, 1], [1, -1, 0]] * 2
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["images"][3] == {"file_name": "images/000012_walk/000010.png", "id": 10000120010, "frame_id": 10000120010}
    assert len(answer["annotations"]) == 2 * FRAMES


def test_posetracks_json_of_a_video(demo, two_people, video, tmp_path):
    demo(video, "--posetrack", tmp_path / "answer.json")
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert [image["id"] for image in answer["images"]] == [10000070000 + n for n in range(FRAMES)]
    assert answer["images"][2]["file_name"] == "000007_walk/000002.jpg"
    assert sorted(person["track_id"] for person in answer["annotations"]) == [0] * FRAMES + [1] * FRAMES
    names = answer["categories"][0]["keypoints"]
    person = np.array(answer["annotations"][0]["keypoints"]).reshape(17, 3)
    missing = {names[k] for k in np.flatnonzero(person[:, 2] == 0)}
    assert missing == {"head_bottom", "head_top"}


def test_settings_are_the_configurations(demo, two_people, video):
    frames = json.loads((demo(video, "--track", "tracking.min_score=0.01", "tracking.start_score=0.01") / "000007_walk.json").read_text())
    assert all(sorted(person["id"] for person in frame["people"]) == [0, 1, 2] for frame in frames)


def test_a_person_has_one_colour():
    """Whatever the person's place in the list is, in limbs and number; nobody's is grey."""
    image, keypoints, skeleton = np.zeros((260, 200, 3), np.uint8), np.zeros((2, 17, 3)), load_skeleton("coco17")
    keypoints[0, skeleton.drawn_ends[0]] = [[60, 100, 1], [140, 100, 1]]
    keypoints[1, skeleton.drawn_ends[0]] = [[60, 200, 1], [140, 200, 1]]
    for ids in ([3, 4], [4, 3], [3, -1]):
        drawn = draw_people(image, keypoints, skeleton, np.array(ids))
        for person, number in zip(keypoints, ids):
            ends = skeleton.drawn_ends[0]
            x, y = np.rint(person[ends, :2].mean(0)).astype(int)
            assert tuple(int(c) for c in drawn[y, x]) == person_color(number)
    above = drawn[: int(keypoints[0, :, 1].min()) - 4]
    assert (above != image[: len(above)]).any(), "the number"


def test_colours_of_people_differ():
    colours = np.array([person_color(n) for n in range(8)])
    apart = np.abs(colours[:, None] - colours[None]).sum(-1)[~np.eye(8, dtype=bool)]
    assert apart.min() > 60
