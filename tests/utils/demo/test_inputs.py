"""Sources: what --input names, and the frames they yield."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from utils.demo.inputs import ImageFiles, VideoSource, find_sources, read_ahead
from utils.visualize import video

OUTPUT = Path("/nowhere/demo")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Images in two folders and files that no demo reads; a video and animated images."""
    for name in ("a/2.jpg", "a/1.png", "a/._1.png", "b/1.jpg", "a/notes.txt", "a/round [1].jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name, "PNG")
    Image.new("RGB", (8, 6)).save(tmp_path / "still.gif")
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue", "lime")]
    for suffix in ("gif", "png"):
        frames[0].save(tmp_path / f"moves.{suffix}", save_all=True, append_images=frames[1:], duration=40)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (16, 16))
    for _ in range(5):
        writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", ["1.png", "2.jpg", "round [1].jpg"]),  # in order, without hidden files
        ("a/notes.txt", ["notes.txt"]),  # a file that is named is read whatever its suffix
        ("a/round [1].jpg", ["round [1].jpg"]),  # a file's own name is no pattern
        ("still.gif", ["still.gif"]),
        ("a/*.jpg", ["2.jpg", "round [1].jpg"]),
        ("*/?.jpg", ["a/2.jpg", "b/1.jpg"]),  # outputs of equal names would overwrite each other
        ("**/1.*", ["a/1.png", "b/1.jpg"]),
    ],
)
def test_files_folders_and_patterns_of_images(folder, path, expected):
    for limit in (None, 1):
        (source,) = find_sources(str(folder / path), OUTPUT, limit)
        assert isinstance(source, ImageFiles)
        assert source.names == expected[:limit]


def test_a_pattern_of_images_and_videos_gives_unique_stems(folder):
    images, clip = find_sources(str(folder / "*.*"), OUTPUT)
    assert images.names == ["moves.gif", "moves.png", "still.gif"]
    assert (clip.label, clip.count) == ("clip.avi", 5)
    (folder / "clip.mp4").write_bytes(b"")
    assert [source.stem for source in find_sources(str(folder / "clip.*"), OUTPUT)] == ["clip.avi", "clip.mp4"]


@pytest.mark.parametrize(("name", "frames", "count"), [("clip.avi", 5, 5), ("moves.gif", 3, 3), ("moves.png", 3, None)])
def test_videos_and_animated_images(folder, name, frames, count):
    (source,) = find_sources(str(folder / name), OUTPUT)
    assert isinstance(source, VideoSource)
    assert (source.stem, source.count, source.reader.rate) == (Path(name).stem, count, 10 if name == "clip.avi" else 25)
    read = list(source)
    assert [frame.name for frame in read] == list(range(frames))
    if frames == 3:
        assert [frame.image[3, 4].argmax() for frame in read] == [2, 0, 1]
    (source,) = find_sources(str(folder / name), OUTPUT, limit=2)
    assert source.count in (2, None)
    assert len(list(source)) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing: not found"),
        ("*.jpeg", "no image or video has such a name"),
        ("empty", "no image in it"),
        ("no.mp4", "no.mp4: no frame can be read from it"),
    ],
)
def test_missing_inputs_are_named(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=message):
        find_sources(str(tmp_path / name), OUTPUT)


def test_the_input_is_not_overwritten(folder):
    for text, output in (("a", "a"), ("clip.avi", "."), ("*/?.jpg", "."), ("a/1.png", "b/../a")):
        with pytest.raises(UserError, match="would be overwritten"):
            find_sources(str(folder / text), folder / output)
    assert find_sources(str(folder / "a"), folder / "b")


def test_an_image_that_is_far_too_long_is_an_error(tmp_path):
    for width in (300, 306):
        Image.new("RGB", (width, 6)).save(tmp_path / f"{width}.png")
    (images,) = find_sources(str(tmp_path), OUTPUT)
    assert [frame.name for frame in images if isinstance(frame.image, UserError)] == ["306.png"]


def test_a_camera_is_named_by_its_number(monkeypatch):
    numbers, frame = [], np.zeros((6, 8, 3), np.uint8)

    def capture(number: int, count: int = 4) -> SimpleNamespace:
        numbers.append(number)
        reads = iter([(True, frame)] * count)
        return SimpleNamespace(read=lambda: next(reads, (False, None)), get=lambda prop: 0.0, release=lambda: None)

    monkeypatch.setattr(video.cv2, "VideoCapture", capture)
    (source,) = find_sources("3", OUTPUT)
    assert (numbers, source.stem, source.count, source.reader.rate, len(list(source))) == ([3], "camera", None, 25, 4)
    (source,) = find_sources("0", OUTPUT, limit=2)
    assert len(list(source)) == 2
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: capture(number, 0))
    with pytest.raises(UserError, match="camera 0: no image comes from it"):
        find_sources("0", OUTPUT)


def test_frames_are_read_ahead_and_errors_passed_on():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number
        raise UserError("the last")

    frames = read_ahead(items(), 3)
    assert [next(frames), next(frames)] == [0, 1]
    assert len(taken) <= 5
    assert [next(frames) for _ in range(18)] == list(range(2, 20))
    with pytest.raises(UserError, match="the last"):
        next(frames)
