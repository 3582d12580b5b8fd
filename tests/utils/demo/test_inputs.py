"""Sources: what --input names, and the frames they yield."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from utils.demo.inputs import ImageFiles, Source, VideoSource, find_sources
from utils.visualize import video


@pytest.fixture
def find(tmp_path):
    """Returns the sources of a path below tmp_path, which holds images, a video, animated images, and files that no demo reads."""
    for name in ("a/2.jpg", "a/1.png", "a/._1.png", "b/1.jpg", "a/notes.txt", "a/round [1].jpg", "still.gif", "moves.gif", "moves.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue", "lime")][: 3 if name.startswith("moves") else 1]
        kind = "GIF" if name.endswith("gif") else "PNG"
        frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:], duration=40)
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (16, 16))
    for _ in range(5):
        writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    (tmp_path / "empty").mkdir()

    def start(*paths: str, limit: int | None = None) -> list[Source]:
        return find_sources([str(tmp_path / path) for path in paths], limit)

    return start


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", ["1.png", "2.jpg", "round [1].jpg"]),  # in order, without hidden files
        ("a/notes.txt", ["notes.txt"]),  # a file that is named is read whatever its suffix
        ("a/round [1].jpg", ["round [1].jpg"]),  # a file's own name is no pattern
        ("still.gif", ["still.gif"]),
        ("*/?.jpg", ["a/2.jpg", "b/1.jpg"]),  # outputs of equal names would overwrite each other
        ("**/1.*", ["a/1.png", "b/1.jpg"]),
    ],
)
def test_files_folders_and_patterns_of_images(find, path, expected):
    for limit in (None, 1):
        (source,) = find(path, limit=limit)
        assert isinstance(source, ImageFiles)
        assert source.names == expected[:limit]


def test_videos_follow_the_images_of_a_pattern_and_have_unique_stems(find, tmp_path):
    images = ["moves.gif", "moves.png", "still.gif"]
    assert [source.names for source in find("")] == [images], "a folder's videos count if it has no image"
    for name in ("clip.mp4", "empty/one.mp4", "empty/two.avi"):
        (tmp_path / name).write_bytes(b"")
    assert [source.stem for source in find("empty")] == ["one", "two"]
    files, *clips = find("*.*")
    assert (files.names, [clip.stem for clip in clips]) == (images, ["clip.avi", "clip.mp4"])


@pytest.mark.parametrize(("name", "frames", "count"), [("clip.avi", 5, 5), ("moves.gif", 3, 3), ("moves.png", 3, None)])
def test_videos_and_animated_images(find, name, frames, count):
    (source,) = find(name)
    assert isinstance(source, VideoSource)
    assert (source.stem, source.label, source.count) == (Path(name).stem, name, count)
    assert source.reader.rate == (10 if name == "clip.avi" else 25)
    read = list(source)
    assert [frame.name for frame in read] == list(range(frames))
    if frames == 3:
        assert [frame.image[3, 4].argmax() for frame in read] == [2, 0, 1]
    (source,) = find(name, limit=2)
    assert (source.count, len(list(source))) == (count and 2, 2)


def test_several_inputs(find, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, clip = find_sources(["a/2.jpg", str(tmp_path / "b"), "clip.avi", "b/../a/2.jpg", "moves.gif"], None)
    assert (images.names, clip.stem) == (["a/2.jpg", "b/1.jpg", "moves.gif"], "clip")


@pytest.mark.parametrize("path", ["nothing", "*.jpeg", "empty"])
def test_missing_inputs_are_named(find, path):
    with pytest.raises(UserError, match="no image or video found"):
        find("a", path)


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:9/clip.mp4?key=secret", "RTSP://me:secret@127.0.0.1:9"])
def test_a_url_without_an_answer_is_named_without_its_secrets(url):
    (source,) = find_sources([url])
    with pytest.raises(UserError, match=r"^video (http|rtsp)://127.0.0.1:9\S*: nothing answers there") as error:
        _ = source.reader
    assert "secret" not in f"{error.value} {source.label} {source.stem}"


def test_an_image_that_is_far_too_long_is_an_error(find, tmp_path):
    for width in (300, 306):
        Image.new("RGB", (width, 6)).save(tmp_path / "empty" / f"{width}.png")
    (images,) = find("empty")
    assert [frame.name for frame in images if isinstance(frame.image, UserError)] == ["306.png"]


def test_a_camera_is_named_by_its_number(monkeypatch):
    reads = iter([(True, np.zeros((6, 8, 3), np.uint8))] * 3)
    capture = SimpleNamespace(read=lambda: next(reads, (False, None)), get=lambda prop: 0.0, release=lambda: None, numbers=[])
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: capture.numbers.append(number) or capture)
    (source,) = find_sources(["3"], 3)
    assert (source.stem, source.count, source.reader.rate, len(list(source)), capture.numbers) == ("camera", None, 25, 3, [3])
    with pytest.raises(UserError, match="camera 0: no image comes from it"):
        _ = find_sources(["0"])[0].reader


def test_a_url_with_an_unclosed_address_is_refused():
    with pytest.raises(UserError, match="one of its URLs is not valid"):
        find_sources(["http://[::1/video.mp4"])
