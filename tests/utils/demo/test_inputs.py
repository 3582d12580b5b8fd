"""Sources: what --input names, and the frames they yield."""

import traceback
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from urllib.parse import urlsplit

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
        return find_sources([str(tmp_path / path) for path in paths], limit)[0]

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


def test_videos_follow_the_images_and_have_unique_stems(find, tmp_path):
    names = ["moves.gif", "moves.png", "still.gif"]
    for name in ("clip.mp4", "empty/one.mp4", "empty/two.avi"):
        (tmp_path / name).write_bytes(b"")
    for path in ("", "*.*"):
        images, *clips = find(path)
        assert (images.names, [clip.stem for clip in clips]) == (names, ["clip.avi", "clip.mp4"])
    assert [source.stem for source in find("empty")] == ["one", "two"]


def test_files_with_other_endings_are_passed_over(find, tmp_path):
    find()
    for path in ("a", "a/*"):
        _, passed_over = find_sources([str(tmp_path / path)])
        assert passed_over == [tmp_path / "a/notes.txt"]


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
    (images, clip), _ = find_sources(["a/2.jpg", str(tmp_path / "b"), "clip.avi", "b/../a/2.jpg", "moves.gif"])
    assert (images.names, clip.stem) == (["a/2.jpg", "b/1.jpg", "moves.gif"], "clip")


@pytest.mark.parametrize("path", ["nothing", "*.jpeg", "empty"])
def test_missing_inputs_are_named(find, path):
    with pytest.raises(UserError, match="no image or video found"):
        find("a", path)


class Web(BaseHTTPRequestHandler):
    """Answers those who log in as me with the password p:w with the files below `folder`."""

    folder: Path

    def do_GET(self):
        path = self.folder / urlsplit(self.path).path.strip("/")
        is_known = self.headers["Authorization"] == "Basic " + b64encode(b"me:p:w").decode()
        content = path.read_bytes() if is_known and path.is_file() else b""
        self.send_response(200 if content else 401)
        self.send_header("WWW-Authenticate", "Basic realm=here")
        self.send_header("Content-Type", "application/octet-stream" if path.suffix else "image/png")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path):
    """The URL of a server on this machine for the files below tmp_path, with the login in it."""
    handler = type("Files", (Web,), {"folder": tmp_path})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:p%3Aw@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_images_and_videos_of_the_web(find, tmp_path, web):
    find()
    (tmp_path / "untitled").write_bytes((tmp_path / "a/1.png").read_bytes())
    urls = [f"{web}/a/2.jpg?size=9", f"{web}/b/1.jpg", f"{web}/a/1.png", f"{web}/untitled", f"{web}/clip.avi"]
    (images, clip), _ = find_sources([*urls, str(tmp_path / "b/1.jpg"), f"{web}/nothing.jpg"])
    assert images.names == ["2.jpg", "1.jpg", "1.png", "untitled", "1_2.jpg", "nothing.jpg"]
    *found, missing = images
    assert [frame.image.shape for frame in found] == [(6, 8, 3)] * 5
    assert str(missing.image).startswith("image http://127.0.0.1") and "Unauthorized" in str(missing.image)
    assert (clip.stem, clip.count, len(list(clip))) == ("clip", 5, 5)


def test_a_password_is_not_sent_to_the_server_of_a_redirect(web):
    seen = []

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            self.send_response(302)
            self.send_header("Location", "/elsewhere" if len(seen) == 1 else web.rpartition("@")[2])
            self.end_headers()

        log_message = Web.log_message

    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (images,), _ = find_sources([f"http://me:pa55@127.0.0.1:{server.server_port}/photo.jpg"])
        assert all(isinstance(frame.image, UserError) for frame in images)
        server.shutdown()
    assert seen[0] and set(seen[1:]) == {None}


@pytest.mark.parametrize(
    "url",
    [
        "http://me:pa55@127.0.0.1:9/photo.jpg?key=pa55",
        "http://me:pa55@127.0.0.1:9/clip.mp4?key=pa55",
        "https://me:x/pa55@127.0.0.1:9/clip.mp4",
        "http://me:x?pa55@127.0.0.1:9/photo.jpg",
        "rtsp://me:pa55@127.0.0.1:9/stream",
        "RTSP://me:pa55@127.0.0.1:9",
    ],
)
def test_a_url_without_an_answer_is_named_without_its_secrets(url):
    (source,), _ = find_sources([url])
    with pytest.raises(UserError) as failed:
        for frame in source:
            raise frame.image
    trace = "".join(traceback.format_exception(failed.value))
    assert "127.0.0.1" in str(failed.value)
    assert "pa55" not in f"{trace} {source.label} {source.stem} {source.names} {source.folder}"


def test_an_image_that_is_far_too_long_is_an_error(find, tmp_path):
    for width in (300, 306):
        Image.new("RGB", (width, 6)).save(tmp_path / "empty" / f"{width}.png")
    (images,) = find("empty")
    assert [frame.name for frame in images if isinstance(frame.image, UserError)] == ["306.png"]


def test_a_camera_is_named_by_its_number(monkeypatch):
    reads = iter([(True, np.zeros((6, 8, 3), np.uint8))] * 3)
    capture = SimpleNamespace(read=lambda: next(reads, (False, None)), get=lambda prop: 0.0, release=lambda: None, numbers=[])
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: capture.numbers.append(number) or capture)
    ((source,), _) = find_sources(["3"], 3)
    assert (source.stem, source.count, source.reader.rate, len(list(source)), capture.numbers) == ("camera", None, 25, 3, [3])
    with pytest.raises(UserError, match="camera 0: no image comes from it"):
        _ = find_sources(["0"])[0][0].reader


@pytest.mark.parametrize("text", ["me:secret@camera/stream", "rtsp:/me:secret@camera"])
def test_what_is_nearly_a_url_is_named_without_its_secrets(text):
    with pytest.raises(UserError, match="input .*camera.*: no image or video found") as failed:
        find_sources([text])
    assert "secret" not in str(failed.value)


def test_a_malformed_url_is_refused_without_its_secrets():
    with pytest.raises(UserError, match="one of its URLs is not valid") as failed:
        find_sources(["http://me:secret@[::1/video.mp4"])
    assert "secret" not in str(failed.value)
    assert failed.value.__suppress_context__
