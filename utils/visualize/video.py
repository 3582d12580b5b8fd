"""Read the frames of videos and cameras."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from config import UserError
from config.files import existing_file
from data.urls import TIMEOUT, URL, without_secrets
from data.video import file_location

if TYPE_CHECKING:
    from av import VideoFrame

VIDEO_SUFFIXES = {".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts", ".mts", ".m2ts"}
DEFAULT_RATE = 25.0  # frames per second, where a file or camera names none
MOST_FRAMES = 0.9  # of those that a file promises; some files count a few more than can be decoded
LOWEST_RATE, HIGHEST_RATE = 0.1, 600.0  # frames per second; a rate beyond is an error of the file


def silence_opencv() -> None:
    """Suppress the messages of OpenCV and its FFmpeg about images and cameras they cannot read; the readers raise one UserError instead.

    This is global: only a script's `main` calls it.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class VideoReader:
    """The frames (H, W, 3) uint8 BGR, upright, of a video file, an animated GIF or PNG, or a stream's URL, once.

    rate: frames per second, on average. count: as the file says it; None where unknown. time: of the frame that was read last, in seconds
    since the first one. sound: the file or URL, and its time of the first frame, for `video_writer`; None where there is no sound.
    """

    def __init__(self, source: Path | str):
        import av  # 0.3 s

        is_file = URL.match(str(source)) is None
        location = file_location(existing_file(source, "video")) if is_file else source
        self._name = without_secrets(Path(source) if is_file else source)
        try:
            self._container = av.open(location, timeout=TIMEOUT, options={"rtsp_flags": "prefer_tcp"})
            self._stream = self._container.streams.video[0]
            self._stream.thread_type = "AUTO"
            self._frames = self._decoded()
            self._first = next(self._frames)
        except (av.FFmpegError, IndexError, StopIteration):
            problem = "no frame can be read from it" if is_file else "nothing answers there, or no video"
            raise UserError(f"video {self._name}: {problem}") from None  # FFmpeg's message has the password
        rate, seconds = float(self._stream.average_rate or 0), (self._container.duration or 0) / av.time_base
        self.rate = rate if LOWEST_RATE <= rate <= HIGHEST_RATE else DEFAULT_RATE
        self.count = self._stream.frames or round(seconds * self.rate) or None
        self.time, self._start = -1 / self.rate, self._first.time or 0.0
        self.sound = (location, self._start) if self.count and self._container.streams.audio else None

    def __iter__(self) -> Iterator[np.ndarray]:
        import av

        seen, expected = 0, self._stream.frames
        try:
            for frame in chain([self._first], self._frames):
                after = self.time + 1 / self.rate
                time = after if frame.time is None else frame.time - self._start
                if time < self.time:  # a stream that begins anew
                    self._start, time = frame.time - after, after
                self.time = time
                yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90)))  # as the camera was held
                seen += 1
            if seen < MOST_FRAMES * expected:
                print(f"warning: video {self._name}: has {seen} of {expected} frames; is it whole?", file=sys.stderr)
        except av.FFmpegError as error:  # a connection that broke, for one
            print(f"warning: video {self._name}: ends after {self.time:.2f} s ({error.strerror})", file=sys.stderr)
        finally:  # of many videos only one is open at a time
            self._frames.close()

    def _decoded(self) -> Generator[VideoFrame, None, None]:
        import av

        with self._container:
            for packet in self._container.demux(self._stream):
                with suppress(av.InvalidDataError):  # the next ones can be whole
                    yield from packet.decode()


class CameraReader:
    """The frames (H, W, 3) uint8 BGR of the camera with a number. rate: frames per second. time: of the frame that was read last."""

    count = sound = None

    def __init__(self, number: int):
        self._capture = cv2.VideoCapture(number)
        success, self._first = self._capture.read()
        if not success:
            raise UserError(f"camera {number}: no image comes from it; check that it is connected and that you may use it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate, self.time = rate if LOWEST_RATE <= rate <= HIGHEST_RATE else DEFAULT_RATE, 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, self._first = self._first, None
        try:
            for number in count():
                self.time = number / self.rate
                yield frame
                success, frame = self._capture.read()
                if not success:
                    break
        finally:
            self._capture.release()
