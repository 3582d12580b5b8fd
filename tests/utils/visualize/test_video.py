"""Videos: every rate, frames of several sizes, and files that are closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from places import ROOT

from data.video import video_writer
from utils.visualize.video import VideoReader
from utils.visualize.window import Window


@pytest.mark.parametrize(("rate", "read"), [(30000 / 1001, 29.97), (127.38347913, 127.38), (600.0, 600), (0.1, 0.1), (700, 25)])
def test_frames_get_the_first_ones_size_in_videos_of_every_rate(tmp_path, rate, read):
    with video_writer(tmp_path / "new" / "out.mp4", rate) as write:
        for size in ((64, 80), (32, 40), (64, 80)):
            write(np.full((*size, 3), 90, np.uint8))
    open_files = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else tmp_path
    before = len(list(open_files.iterdir()))
    reader = VideoReader(tmp_path / "new" / "out.mp4")
    assert reader.rate == pytest.approx(read, abs=0.01)
    assert (reader.count, [frame.shape for frame in reader]) == (3, [(64, 80, 3)] * 3)
    assert len(list(open_files.iterdir())) == before, "a video that was read is closed"


SILENT = """
import sys; from pathlib import Path; from utils.visualize.video import VideoReader, silence_opencv
silence_opencv()
for path in sys.argv[1:]:
    try: VideoReader(Path(path))
    except Exception as error: print(error)
"""


def test_opencv_can_be_silenced_about_corrupt_videos(tmp_path):
    """In a process of its own, since FFmpeg reads its log level once."""
    paths = [tmp_path / "clip001.mp4", tmp_path / "clip001.avi"]
    for path, content in zip(paths, (b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9, bytes(10000))):
        path.write_bytes(content)
    ended = subprocess.run([sys.executable, "-c", SILENT, *paths], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "".join(f"video {path}: no frame can be read from it\n" for path in paths)
    assert ended.stderr == ""


def test_a_window_stops_at_q_or_when_it_is_closed(monkeypatch):
    keys, shown, visible = iter([ord("n"), -1, -1, ord("q"), -1]), [], [1]
    monkeypatch.setenv("DISPLAY", ":0")
    for name, function in {
        "namedWindow": lambda title: None,
        "imshow": lambda title, image: shown.append(image.shape),
        "waitKey": lambda milliseconds: next(keys),
        "getWindowProperty": lambda *_: visible[0],
    }.items():
        monkeypatch.setattr(cv2, name, function, raising=False)
    window, image = Window("people"), np.zeros((1800, 1600, 3), np.uint8)
    assert [window.show(image, wait=True), window.show(image, wait=True)] == [True, False], "it waits for a key"
    visible[0] = 0
    assert not window.show(image, wait=False)
    assert shown == [(900, 800, 3)] * 3
