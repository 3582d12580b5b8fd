"""Write videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from config import UserError
from config.files import atomic_write, output_folder


@contextmanager
def video_writer(path: Path, rate: float, codec: str = "mp4v") -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends a frame (H, W, 3) uint8 BGR to a video, which appears at the end, whole, or not at all.

    rate: frames per second. codec: four letters; the path's suffix names the container. All frames are resized to the first one's size.
    """
    writer, size, frames = cv2.VideoWriter(), None, 0
    output_folder(path.parent)  # OpenCV does not say why it cannot write
    with atomic_write(path, sync=False) as partial:

        def write(frame: np.ndarray) -> None:
            nonlocal size, frames
            if size is None:
                size = frame.shape[1::-1]
                # MPEG-4 has no room for more digits of the rate
                if not writer.open(str(partial), cv2.VideoWriter_fourcc(*codec), round(rate, 2), size):
                    raise UserError(f"video {path}: OpenCV cannot write {path.suffix} of {size[0]} x {size[1]} pixels here")
            writer.write(frame if frame.shape[1::-1] == size else cv2.resize(frame, size))
            frames += 1

        try:
            yield write
        finally:
            writer.release()
        if frames and cv2.VideoCapture(str(partial)).get(cv2.CAP_PROP_FRAME_COUNT) < frames:  # OpenCV does not say that a write has failed
            raise UserError(f"video {path}: could not be written whole; free some space, or choose another --output")
