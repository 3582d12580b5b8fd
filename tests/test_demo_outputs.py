"""demo_image.py: the formats of keypoints, maps, where the time went, windows, cameras, and what is left after an interrupt."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from utils.inference import PoseEstimator
from utils.visualize import video, window

OPEN_FILES = Path("/proc/self/fd")


@pytest.fixture
def demo(run, trained, tmp_path):
    """Runs demo_image.py into a folder below tmp_path."""

    def start(path: object, *more: object):
        ended = run("demo_image.py", "--checkpoint", trained / "best.pth", "--input", path, "--output", tmp_path / "demo", *more)
        assert ended.status == 0, ended.err
        return ended

    return start


@pytest.fixture
def one_person(monkeypatch):
    """Has the estimator find somebody with a nose, sure, and a left wrist, not sure; the images it was given, and how many at once."""
    keypoints = np.zeros((1, 18, 3), np.float32)
    keypoints[0, [0, 7]] = [[10.25, 20, 0.9], [30, 40.5, 0.004]]
    given = []

    def stream(estimator, images, batch_size):
        upcoming = iter(images)
        while batch := list(islice(upcoming, batch_size)):
            given.append(batch)
            yield from [(keypoints, np.array([0.75]))] * len(batch)

    monkeypatch.setattr("utils.inference.PoseEstimator.stream", stream)
    return given


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (80, 64))
    for n in range(6):
        writer.write(np.full((64, 80, 3), 20 * n, np.uint8))
    writer.release()
    return path


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


ALL = [word for name in ("json", "coco", "csv", "openpose", "openpose25") for word in ("--format", name)]


def test_formats_of_pictures(demo, one_person, images, tmp_path):
    demo(images, "--limit", 2, *ALL[:8])
    folder, stems = tmp_path / "demo", ["000000000001", "000000000002"]
    each = [f"{stem}{ending}" for stem in stems for ending in (".jpg", ".jpg.json", "_keypoints.json")]
    assert written(folder) == sorted([*each, "people.coco.json", "people.csv"])
    results = json.loads((folder / "people.coco.json").read_text())
    assert [(result["image_id"], result["file_name"], result["score"]) for result in results] == [
        (1, f"{stems[0]}.jpg", 0.75),
        (2, f"{stems[1]}.jpg", 0.75),
    ]
    places = np.reshape(results[0]["keypoints"], (17, 3))
    assert places[0].tolist() == [10.25, 20, 0.9]
    assert places[9].tolist() == [30, 40.5, 0.004], "a score is kept as it is"
    first, second = csv.DictReader((folder / "people.csv").open())
    assert (second["image"], second["Lwri_score"], second["neck_x"]) == (f"{stems[1]}.jpg", "0.004", "")
    openpose = json.loads((folder / f"{stems[0]}_keypoints.json").read_text())
    assert openpose["people"][0]["pose_keypoints_2d"][21:24] == [30, 40.5, 0.004]
    assert json.loads((folder / f"{stems[0]}.jpg.json").read_text())["people"][0]["keypoints"][7] == [30, 40.5, 0.004]


def test_formats_of_a_video(demo, one_person, clip, tmp_path):
    demo(clip, "--limit", 2, *ALL)
    folder = tmp_path / "demo"
    assert written(folder) == [
        "clip.coco.json", "clip.csv", "clip.json", "clip.mp4", "clip_000000000000_keypoints.json", "clip_000000000001_keypoints.json",
    ]  # fmt: skip
    assert [result["image_id"] for result in json.loads((folder / "clip.coco.json").read_text())] == [0, 1]
    assert [row["image"] for row in csv.DictReader((folder / "clip.csv").open())] == ["0", "1"]


def test_one_format_alone(demo, one_person, images, tmp_path):
    demo(images, "--limit", 1, "--format", "csv", "--track")
    assert written(tmp_path / "demo") == ["000000000001.jpg", "people.csv"]
    (row,) = csv.DictReader((tmp_path / "demo" / "people.csv").open())
    assert row["id"] == "-1"


def test_pictures_of_one_stem_keep_their_own_files(demo, one_person, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "b.gif"):
        Image.new("RGB", (64, 64)).save(folder / name)
    demo(folder, "--format", "openpose")
    assert written(tmp_path / "demo") == ["a.jpg", "a.jpg_keypoints.json", "a.png", "a.png_keypoints.json", "b.gif.png", "b_keypoints.json"]


def test_pictures_of_several_folders(demo, one_person, images, tmp_path):
    for name in ("x", "y"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.jpg").write_bytes((images / "000000000001.jpg").read_bytes())
    assert "2 pictures" in demo(tmp_path / "in" / "*" / "*.jpg").out
    assert written(tmp_path / "demo") == ["x/1.jpg", "x/1.jpg.json", "y/1.jpg", "y/1.jpg.json"]


def test_several_videos_of_which_one_is_damaged(run, one_person, trained, clip, tmp_path):
    (tmp_path / "a damaged one.avi").write_bytes(clip.read_bytes()[:200])
    arguments = ("--checkpoint", trained / "best.pth", "--input", tmp_path / "*.avi", "--output", tmp_path / "demo")
    status, out, err = run("demo_image.py", *arguments)
    assert status == 2
    assert "6 frames: " in out
    assert "a damaged one.avi: no frame can be read from it\n" in err
    assert err.splitlines()[-1] == "error: 1 of 2 files cannot be read: a damaged one.avi"
    assert written(tmp_path / "demo") == ["clip.json", "clip.mp4"]


def test_a_gif_becomes_a_video(demo, one_person, tmp_path):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "white")]
    frames[0].save(tmp_path / "wave.gif", save_all=True, append_images=frames[1:], duration=50)
    assert "3 frames" in demo(tmp_path / "wave.gif").out
    capture = cv2.VideoCapture(str(tmp_path / "demo" / "wave.mp4"))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (20, 3)
    assert capture.read()[1][40, 60].argmax() == 2


def test_batches_keep_the_order(demo, one_person, images, tmp_path):
    demo(images, "--batch-size", 3)
    assert [len(batch) for batch in one_person] == [3, 3, 2]
    for number, image in enumerate(sum(one_person, []), 1):
        drawn = cv2.imread(str(tmp_path / "demo" / f"{number:012d}.jpg"))
        assert np.abs(drawn[64:].astype(int) - image[64:]).mean() < 12


def test_it_says_where_the_time_went(demo, images, clip):
    line = demo(images, "--limit", 2).out.splitlines()[-1]
    assert re.fullmatch(r"2 pictures in [\d.]+ s, [\d.]+ a second: .*", line)
    parts = dict(part.rsplit(" ", 1) for part in line.partition(": ")[2].split(", "))
    assert {"decode", "draw", "write"} < set(parts)
    assert 90 <= sum(int(share.removesuffix("%")) for share in parts.values()) <= 104
    assert "tracking" in demo(clip, "--track", "--limit", 2).out.splitlines()[-1]


# Maps


def test_maps(demo, images, clip, tmp_path):
    demo(images, "--limit", 1, "--maps")
    height, width = cv2.imread(str(images / "000000000001.jpg")).shape[:2]
    assert cv2.imread(str(tmp_path / "demo" / "000000000001.maps.jpg")).shape == (height, 3 * width, 3)
    demo(clip, "--limit", 2, "--maps")
    there, frame = cv2.VideoCapture(str(tmp_path / "demo" / "clip.maps.mp4")).read()
    assert (there, frame.shape) == (True, (64, 240, 3))


# Windows and cameras


def test_without_a_screen(fails, trained, images, tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(PoseEstimator, "__init__", None)
    arguments = ("--checkpoint", trained / "best.pth", "--input", images, "--output", tmp_path / "demo", "--show")
    assert "--show: no window can be opened" in fails("demo_image.py", *arguments)


def test_a_window(demo, one_person, images, tmp_path, monkeypatch):
    """Any key is the next picture, q the end."""
    shown, keys = [], iter([ord("n"), ord("q")])
    monkeypatch.setattr(window.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    monkeypatch.setattr(window.cv2, "imshow", lambda title, picture: shown.append(picture.shape), raising=False)
    monkeypatch.setattr(window.cv2, "waitKey", lambda wait: next(keys), raising=False)
    monkeypatch.setattr(window.cv2, "getWindowProperty", lambda *_: 1, raising=False)
    assert "2 pictures" in demo(images, "--show").out
    assert len(shown) == 2
    assert len(list((tmp_path / "demo").glob("*.json"))) == 2


class Camera:
    """In the place of cv2.VideoCapture: frames until Ctrl-C, which comes with the twentieth."""

    def __init__(self, number: int):
        self.count = 0

    def read(self):
        self.count += 1
        time.sleep(0.005)
        if self.count == 20:
            signal.raise_signal(signal.SIGINT)
        return True, np.full((64, 80, 3), 5 * self.count % 255, np.uint8)

    def release(self):
        pass


def test_a_camera_until_ctrl_c(demo, one_person, tmp_path, monkeypatch):
    real = cv2.VideoCapture
    monkeypatch.setattr(video.cv2, "VideoCapture", Camera)
    demo("0")
    monkeypatch.setattr(video.cv2, "VideoCapture", real)
    frames = json.loads((tmp_path / "demo" / "camera.json").read_text())
    assert 19 <= len(frames) <= 21
    capture = cv2.VideoCapture(str(tmp_path / "demo" / "camera.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(frames)
    assert 1 < capture.get(cv2.CAP_PROP_FPS) < 200, "as they came"


# Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_video_leaves_nothing(run, trained, clip, tmp_path, monkeypatch, number):
    def interrupted(estimator, images, batch_size):
        for place, _ in enumerate(images):
            if place == 4:
                assert any(path.name.startswith(".clip") for path in (tmp_path / "demo").iterdir())
                signal.raise_signal(number)
            yield np.zeros((0, 18, 3)), np.zeros(0)

    monkeypatch.setattr("utils.inference.PoseEstimator.stream", interrupted)
    ended = run("demo_image.py", "--checkpoint", trained / "best.pth", "--input", clip, "--output", tmp_path / "demo")
    assert (ended.status, ended.err.splitlines()[-1]) == (130, "error: interrupted")
    assert written(tmp_path / "demo") == []
    assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN)


def test_frames_of_another_size_in_one_video(tmp_path):
    with video.video_writer(tmp_path / "out.mp4", 10) as write:
        for size in ((64, 80), (32, 40), (64, 80)):
            write(np.full((*size, 3), 90, np.uint8))
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize("rate", [30000 / 1001, 60000 / 1001, 127.38347913, 29.873412, 600.0, 0.1])
def test_videos_of_every_rate(tmp_path, rate):
    with video.video_writer(tmp_path / "out.mp4", rate) as write:
        for _ in range(3):
            write(np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "out.mp4").rename(tmp_path / "in.mp4")
    assert video.VideoReader(tmp_path / "in.mp4").rate == pytest.approx(rate, abs=0.01)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="the system does not list open files")
def test_a_video_that_was_read_is_closed(tmp_path):
    """Each takes a file's number, of which a process has not many, and memory."""
    (tmp_path / "videos").mkdir()
    for number in range(3):
        with video.video_writer(tmp_path / "videos" / f"{number}.mp4", 10) as write:
            write(np.full((48, 64, 3), 90, np.uint8))
    before = len(list(OPEN_FILES.iterdir()))
    readers = [video.VideoReader(path) for path in sorted((tmp_path / "videos").iterdir())]
    assert [len(list(reader)) for reader in readers] == [1, 1, 1]
    assert len(list(OPEN_FILES.iterdir())) == before


def test_a_video_too_small_to_write(tmp_path):
    with pytest.raises(UserError, match="cannot write MP4 of 1 x 1 pixels"), video.video_writer(tmp_path / "out.mp4", 10) as write:
        write(np.zeros((1, 1, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_shared_video_of_people(demo, one_person, shared, tmp_path):
    """As a user runs it; what comes out is played from its beginning to its end."""
    demo(shared / "data" / "media" / "video.avi", "--limit", 12)
    capture = cv2.VideoCapture(str(tmp_path / "demo" / "video.mp4"))
    frames = [capture.read()[1] for _ in range(12)]
    assert all(frame is not None and frame.shape == (720, 1280, 3) for frame in frames)
    assert frames[5][20, 10].max() > 100
