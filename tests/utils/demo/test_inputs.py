"""What --input names."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from utils.demo.inputs import Frames, Pictures, ahead, find_sources
from utils.visualize import video

OUTPUT = Path("/nowhere/demo")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures in two folders, some of them no business of a demo; a video and one that moves."""
    for name in ("a/2.jpg", "a/1.png", "a/._1.png", "b/1.jpg", "a/notes.txt", "a/round [1].jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name, "PNG")
    Image.new("RGB", (8, 6)).save(tmp_path / "still.gif")
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
    for ending in ("gif", "webp", "png"):
        frames[0].save(tmp_path / f"moves.{ending}", save_all=True, append_images=frames[1:], duration=40)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (16, 16))
    for _ in range(5):
        writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    return tmp_path


def names(text: object, limit: int | None = None) -> list[str]:
    (source,) = find_sources(str(text), OUTPUT, limit)
    assert isinstance(source, Pictures)
    return source.names


def test_pictures(folder):
    assert names(folder / "a") == ["1.png", "2.jpg", "round [1].jpg"], "in order, without hidden ones"
    assert names(folder / "a", 1) == ["1.png"]
    assert names(folder / "a" / "notes.txt") == ["notes.txt"], "a file that is named is looked at whatever its name is"
    assert names(folder / "a" / "round [1].jpg") == ["round [1].jpg"], "a file's own name is no pattern"
    assert names(folder / "still.gif") == ["still.gif"]


def test_patterns(folder):
    assert names(folder / "a" / "*.jpg") == ["2.jpg", "round [1].jpg"]
    assert names(folder / "*" / "?.jpg") == ["a/2.jpg", "b/1.jpg"], "two pictures of one name would replace each other"
    assert names(folder / "**" / "1.*") == ["a/1.png", "b/1.jpg"]
    pictures, clip = find_sources(str(folder / "*.*"), OUTPUT)
    assert pictures.names == ["moves.gif", "moves.png", "moves.webp", "still.gif"]
    assert (clip.label, clip.count) == ("clip.avi", 5)


@pytest.mark.parametrize(("name", "count"), [("clip.avi", 5), ("moves.gif", 3), ("moves.webp", 3), ("moves.png", 3)])
def test_what_moves(folder, name, count):
    for limit, there in ((None, count), (2, 2)):
        (source,) = find_sources(str(folder / name), OUTPUT, limit)
        assert isinstance(source, Frames)
        assert (source.stem, source.count) == (Path(name).stem, there)
        frames = list(source)
        assert [number for number, _ in frames] == list(range(there))
        assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for _, frame in frames)


def test_frames_of_a_picture_that_moves(folder):
    for ending in ("gif", "png", "webp"):
        (source,) = find_sources(str(folder / f"moves.{ending}"), OUTPUT)
        assert source.reader.rate == 25
        strongest = [frame[3, 4].argmax() for _, frame in source]
        assert strongest == [2, 0, 1], ending


def test_one_that_is_cut_short_gives_what_there_is(tmp_path):
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (30, 30, 3), np.uint8)) for n in range(5)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:], duration=40)
    whole = (tmp_path / "moves.gif").read_bytes()
    (tmp_path / "moves.gif").write_bytes(whole[: int(0.7 * len(whole))])
    (source,) = find_sources(str(tmp_path / "moves.gif"), OUTPUT)
    assert 2 <= len(list(source)) <= 4


def test_videos_of_one_stem_do_not_replace_each_other(folder):
    (folder / "clip.mp4").write_bytes(b"")
    assert [source.stem for source in find_sources(str(folder / "clip.*"), OUTPUT)] == ["clip.avi", "clip.mp4"]


@pytest.mark.parametrize("name", ["nothing", "*.jpeg", "b/nothing?.jpg", "0x"])
def test_nothing_there(folder, name):
    with pytest.raises(UserError, match=f"input .*{name[-3:].replace('?', '.')}"):
        find_sources(str(folder / name), OUTPUT)


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image in it"):
        find_sources(str(tmp_path / "empty"), OUTPUT)


@pytest.mark.parametrize("content", [b"", b"no video", bytes(10000)])
def test_a_video_that_is_none_is_told_at_once(tmp_path, content, capfd):
    for ending in ("mp4", "avi", "mkv"):
        (tmp_path / f"clip001.{ending}").write_bytes(content)
        with pytest.raises(UserError, match=f"video .*clip001.{ending}: no frame can be read from it"):
            find_sources(str(tmp_path / f"clip001.{ending}"), OUTPUT)
    assert capfd.readouterr().err == "", "OpenCV's own words"


def test_the_input_is_not_replaced(folder):
    for text, output in (("a", "a"), ("clip.avi", "."), ("*/?.jpg", "."), ("a/1.png", "b/../a")):
        with pytest.raises(UserError, match="would be overwritten"):
            find_sources(str(folder / text), folder / output)
    assert find_sources(str(folder / "a"), folder / "b")


# A camera


class Camera:
    """In the place of cv2.VideoCapture: so many dark frames."""

    def __init__(self, frames: int):
        self.left = frames

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((6, 8, 3), np.uint8)

    def release(self):
        self.left = 0


def test_a_camera(monkeypatch):
    asked = []
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: asked.append(number) or Camera(4))
    (source,) = find_sources("3", OUTPUT)
    assert (asked, source.stem, source.count, len(list(source))) == ([3], "camera", None, 4)
    (source,) = find_sources("0", OUTPUT, limit=2)
    assert len(list(source)) == 2


def test_ctrl_c_ends_a_cameras_frames_and_nothing_else(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: Camera(1000))
    frames = []
    for number, frame in find_sources("0", OUTPUT)[0]:
        frames.append(frame)
        if number == 5:
            video.signal.raise_signal(video.signal.SIGINT)
    assert 6 <= len(frames) <= 7
    with pytest.raises(KeyboardInterrupt):
        video.signal.raise_signal(video.signal.SIGINT)


def test_no_camera(monkeypatch):
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: Camera(0))
    with pytest.raises(UserError, match="camera 0: no picture comes from it"):
        find_sources("0", OUTPUT)


# Reading ahead


def test_ahead():
    made, threads = [], set()

    def items():
        for number in range(20):
            made.append(number)
            threads.add(threading.get_ident())
            yield number

    taken = ahead(items(), 3)
    assert [next(taken), next(taken)] == [0, 1]
    assert len(made) <= 5
    assert list(taken) == list(range(2, 20))
    assert threads != {threading.get_ident()}


def test_ahead_passes_errors_on():
    def items():
        yield 1
        raise UserError("the second")

    taken = ahead(items(), 3)
    assert next(taken) == 1
    with pytest.raises(UserError, match="the second"):
        next(taken)
