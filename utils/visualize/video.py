"""Read the frames of videos and cameras."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from config import UserError
from config.files import existing_file

VIDEO_SUFFIXES = {".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts", ".mts", ".m2ts"}
DEFAULT_RATE = 25.0  # frames per second, where a file or camera names none
LOWEST_RATE, HIGHEST_RATE = 0.1, 600.0  # frames per second; a rate beyond is an error of the file


def silence_opencv() -> None:
    """Suppress the messages of OpenCV and FFmpeg about files and cameras they cannot open; the readers raise one UserError instead.

    This is global: only a script's `main` calls it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def without_secrets(source: Path | str) -> str:
    """Return a path, or a URL without user, password and query."""
    if isinstance(source, Path):
        return str(source)
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class VideoReader:
    """The frames (H, W, 3) uint8 BGR of a video file, an animated GIF or PNG, a URL, or the camera with a number, once.

    rate: frames per second. count: as the file says it; None where unknown.
    """

    def __init__(self, source: Path | int | str):
        self._capture = cv2.VideoCapture(str(existing_file(source, "video")) if isinstance(source, Path) else source)
        success, self._first = self._capture.read()
        if not success:
            if isinstance(source, int):
                raise UserError(f"camera {source}: no image comes from it; check that it is connected and that you may use it")
            problem = "no frame can be read from it" if isinstance(source, Path) else "nothing answers there, or no video"
            raise UserError(f"video {without_secrets(source)}: {problem}")
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if LOWEST_RATE <= rate <= HIGHEST_RATE else DEFAULT_RATE
        self.count = int(count) if 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, self._first = self._first, None
        try:
            while frame is not None:
                yield frame
                _, frame = self._capture.read()
        finally:  # of many videos only one is open at a time
            self._capture.release()
