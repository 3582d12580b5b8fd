"""Frames of a video, of a picture that moves, or of a camera, in; of a video, out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from config import UserError
from config.files import existing_file, written_whole
from data.images import opened_image, upright_bgr

VIDEO_SUFFIXES = {".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts", ".mts", ".m2ts"}
DEFAULT_RATE = 25.0  # frames a second, where a file does not say
LOWEST_RATE, HIGHEST_RATE = 0.1, 600.0  # beyond them a file's makes no sense
DEFAULT_DURATION, TIMED = 100.0, 20  # milliseconds of a frame, where an animation does not say; of so many the middle one counts
MEASURED = 15  # frames of a camera that tell how many come in a second
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # what is wrong with a video is said below, in one line


class VideoReader:
    """The frames (H, W, 3) uint8 BGR of a video, once. rate: frames a second; count: how many, as far as the file knows."""

    def __init__(self, path: Path):
        with _quiet():
            self._capture = cv2.VideoCapture(str(existing_file(path, "video")))
            there, self._first = self._capture.read()
        if not there:
            raise UserError(f"video {path}: no frame can be read from it")
        rate, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate: float | None = rate if LOWEST_RATE <= rate <= HIGHEST_RATE else DEFAULT_RATE
        self.count: int | None = int(count) if 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, self._first = self._first, None
        try:
            while frame is not None:
                yield frame
                _, frame = self._capture.read()
        finally:  # of many videos only one is open at a time
            self._capture.release()


class AnimationReader:
    """As `VideoReader`, of an animated GIF, PNG or WebP; of one that is cut short, what there is."""

    def __init__(self, path: Path):
        self._path, self._data = path, existing_file(path, "image").read_bytes()
        with opened_image(self._data, path) as image:
            self.count: int | None = image.n_frames
            durations = []
            for number in range(min(self.count, TIMED)):
                with suppress(Exception):  # a damaged file can raise anything
                    image.seek(number)
                    image.load()
                    durations.append(image.info.get("duration") or DEFAULT_DURATION)
        self.rate: float | None = 1000 / float(np.median(durations or [DEFAULT_DURATION]))

    def __iter__(self) -> Iterator[np.ndarray]:
        number = 0
        try:
            with opened_image(self._data, self._path) as image:
                while number < self.count:
                    image.seek(number)
                    yield upright_bgr(image)
                    number += 1
        except UserError:
            if not number:
                raise


class CameraReader:
    """As `VideoReader`, of the camera with this number, until Ctrl-C. rate: None, as many as there is time for."""

    rate = count = None

    def __init__(self, number: int):
        with _quiet():
            self._capture = cv2.VideoCapture(number)
            there, self._first = self._capture.read()
        if not there:
            raise UserError(f"camera {number}: no picture comes from it; is there one, and may it be used?")

    def __iter__(self) -> Iterator[np.ndarray]:
        asked: list[int] = []  # what has been seen so far is kept: the interrupt only ends the frames
        before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
        try:
            there, frame = True, self._first
            while there and not asked:
                yield frame
                there, frame = self._capture.read()
        finally:
            signal.signal(signal.SIGINT, before)
            self._capture.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines of OpenCV's own about what it cannot open."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


@contextmanager
def video_writer(path: Path, rate: float | None) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends a frame (H, W, 3) uint8 BGR to an MP4 file, which is there at the end, whole, or not at all.

    rate: frames a second; None: as they come. All become of the first one's size.
    """
    writer, held = cv2.VideoWriter(), []  # frames, and when they came, until the rate is known
    with written_whole(path) as partial:

        def begin() -> None:
            seconds, size = held[-1][0] - held[0][0], held[0][1].shape[1::-1]
            wanted = rate or ((len(held) - 1) / seconds if seconds > 0 else DEFAULT_RATE)
            wanted = round(min(max(wanted, LOWEST_RATE), HIGHEST_RATE), 2)  # MPEG-4 has no room for more places
            with _quiet():
                opened = writer.open(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), wanted, size)
            if not opened:
                raise UserError(f"video {path}: OpenCV cannot write MP4 of {size[0]} x {size[1]} pixels here")
            for _, frame in held:
                append(frame)

        def append(frame: np.ndarray) -> None:
            size = held[0][1].shape[1::-1]
            writer.write(frame if frame.shape[1::-1] == size else cv2.resize(frame, size))

        def write(frame: np.ndarray) -> None:
            if writer.isOpened():
                return append(frame)
            held.append((perf_counter(), frame))
            return begin() if rate is not None or len(held) == MEASURED else None

        try:
            yield write
            if held and not writer.isOpened():
                begin()
        finally:
            writer.release()
