"""Write videos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from config import UserError
from config.errors import FULL_DISK, MORE_SPACE
from config.files import atomic_write, output_folder
from data.urls import TIMEOUT

if TYPE_CHECKING:
    from av.container import OutputContainer

ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first one that this build of PyAV has; browsers play H.264
TICKS = 60000  # of a second: whole numbers for 24, 25, 30, 50, 60 and 30000/1001 frames per second, and MPEG-4 takes no more than 65535
BT601 = 6  # FFmpeg's number
COPIED_SOUND = {"aac", "opus"}  # what MP4 takes at every rate and browsers play; the rest is encoded as AAC


def file_location(path: Path) -> str:
    """Return what FFmpeg calls a file, so that it takes no part of the name for a protocol."""
    return f"file:{path}"


@contextmanager
def video_writer(
    path: Path, rate: float, codec: str | None = None, sound: tuple[str, float] | None = None
) -> Iterator[Callable[[np.ndarray, float | None], None]]:
    """Yield a function that appends a frame (H, W, 3) uint8 BGR to a video, which appears at the end, whole, or not at all.

    The function also takes the frame's time in seconds; without it frames follow each other at the rate, frames per second. codec: FFmpeg's
    name; default: H.264, as browsers play it. sound: a file or URL whose sound is copied, and which time of it is that of the first
    frame. All frames are resized to the first one's size, with a border of one pixel where a side is odd.
    """
    import av  # 0.3 s

    output_folder(path.parent)  # FFmpeg does not say why it cannot write
    with atomic_write(path, sync=False) as partial:
        video = _VideoFile(path, partial, rate, codec, sound)
        try:
            yield video.write
            video.finish()
        except av.FFmpegError as error:
            remedy = FULL_DISK.get(error.errno, MORE_SPACE)
            raise UserError(f"video {path}: could not be written ({error.strerror}); {remedy}, or choose another --output") from error
        finally:
            video.close()


class _VideoFile:
    """A video that is opened for the first frame, which gives it its size."""

    def __init__(self, path: Path, partial: Path, rate: float, codec: str | None, sound: tuple[str, float] | None):
        self.path, self.partial, self.codec, self.sound = path, partial, codec, sound
        self.rate = Fraction(rate).limit_denominator(1001)
        self.time_base = 1 / self.rate if codec else Fraction(1, TICKS)
        self.frames, self._last = 0, -1
        self._output: Any = None

    def _open(self, size: tuple[int, int]) -> None:
        import av

        codec = self.codec or next(name for name in ENCODERS if name in av.codecs_available)
        if codec == ENCODERS[-1]:
            print(f"warning: video {self.path}: is MPEG-4, which browsers do not play; this PyAV has no H.264 encoder", file=sys.stderr)
        options = {"preset": "veryfast"} if codec == "libx264" else {"qmin": "2", "qmax": "5"}
        self._output = av.open(file_location(self.partial), "w", options={} if self.codec else {"movflags": "+faststart"})
        self._stream = stream = self._output.add_stream(codec, rate=self.rate, options=options)
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = self.time_base
        stream.codec_context.colorspace = BT601  # OpenCV's; without it players take large videos for BT.709
        self._size = size
        self._sound = iter(()) if self.sound is None else _copy_sound(*self.sound, self._output, self.path)
        self._sound_time = next(self._sound, None)  # FFmpeg wants all streams before the first frame

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        import av

        if self._output is None:
            self._open(frame.shape[1::-1])
        if frame.shape[1::-1] != self._size:
            frame = cv2.resize(frame, self._size)
        width, height = self._size
        frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        time = float(self.frames / self.rate) if time is None else time
        yuv = cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)  # more exact than FFmpeg's
        image = av.VideoFrame.from_ndarray(yuv, format="yuv420p").reformat(format=self._stream.pix_fmt)
        image.pts = self._last = max(self._last + 1, round(time / self.time_base))
        image.time_base = self.time_base
        self._output.mux(self._stream.encode(image))
        self.frames += 1
        while self._sound_time is not None and self._sound_time <= time + 1 / self.rate:
            self._sound_time = next(self._sound, None)

    def finish(self) -> None:
        if self._output is not None:
            self._output.mux(self._stream.encode(None))
            self._output.close()

    def close(self) -> None:
        import av

        if self._output is not None:
            with suppress(av.FFmpegError):
                self._output.close()


def _copy_sound(location: str, start: float, output: OutputContainer, path: Path) -> Iterator[float]:
    """Add a stream for the sound from `start` on to the output. Yield the time of each packet, in seconds, before it is written."""
    import av

    try:
        with av.open(location, timeout=TIMEOUT) as container:
            source = container.streams.audio[0]
            is_copied = source.codec.canonical_name in COPIED_SOUND
            stream = output.add_stream_from_template(source) if is_copied else output.add_stream("aac", rate=48000)
            ticks, end = source.time_base if is_copied else Fraction(1, source.rate), 0
            for packet in container.demux(source):
                for part in [packet] if is_copied else packet.decode():
                    if part.pts is None or part.pts * part.time_base < start:  # the last packet is empty
                        continue
                    part.pts = max(end, round((part.pts * part.time_base - start) / ticks))  # of a stream that begins anew
                    part.time_base = ticks
                    end = part.pts + (part.duration or 1 if is_copied else part.samples)
                    yield part.pts * float(ticks)
                    if is_copied:
                        part.dts, part.stream = part.pts, stream
                    output.mux(part if is_copied else stream.encode(part))
            if not is_copied:
                output.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        print(f"warning: video {path}: has no sound, or not all ({getattr(error, 'strerror', None) or error})", file=sys.stderr)
