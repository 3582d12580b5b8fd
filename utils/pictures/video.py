"""Frames of a video, in and out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from config import UserError
from config.files import existing_file, written_whole

VIDEO_SUFFIXES = {".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}
DEFAULT_RATE = 25.0  # frames a second, where a file does not say


class VideoReader:
    """The frames (H, W, 3) uint8 BGR of a video. rate: frames a second; count: how many, as far as the file knows."""

    def __init__(self, path: Path):
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong with a video is said below, in one line
        self._capture = cv2.VideoCapture(str(existing_file(path, "video")))
        self.rate: float = self._capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
        there, self._first = self._capture.read()
        if not there:
            raise UserError(f"video {path}: no frame can be read from it")
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count: int | None = count if count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        there, frame = True, self._first
        while there:
            yield frame
            there, frame = self._capture.read()


@contextmanager
def video_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends a frame (H, W, 3) uint8 BGR to an MP4 file, which is there at the end, whole, or not at all."""
    writer = cv2.VideoWriter()
    with written_whole(path) as partial:

        def write(frame: np.ndarray) -> None:
            if not writer.isOpened() and not writer.open(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), rate, frame.shape[1::-1]):
                raise UserError(f"video {path}: OpenCV cannot write MP4 here")
            writer.write(frame)

        try:
            yield write
        finally:
            writer.release()
