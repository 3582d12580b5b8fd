"""What a demo looks at: pictures, videos, animated pictures, a camera. Each is pictures or frames, one after the other."""

from __future__ import annotations

import glob
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from config import UserError
from config.errors import at_least
from data.images import IMAGE_SUFFIXES, image_or_error, is_animation, read_images
from utils.visualize.video import VIDEO_SUFFIXES, AnimationReader, CameraReader, VideoReader

T = TypeVar("T")
Shot = tuple[str | int, np.ndarray | UserError]  # a picture's name or a frame's number; (H, W, 3) uint8 BGR, or why there is none
MAX_ASPECT = 50  # longer side to shorter: more is no photograph, and some systems would need gigabytes for it
FRAMES_AHEAD = 8  # decoded while the caller is busy


class Pictures:
    """Files of pictures, read ahead. names: below `folder`, of all of them."""

    label, unit, stem = "demo", "picture", "people"

    def __init__(self, paths: list[Path], folder: Path):
        self.paths, self.folder, self.count = paths, folder, len(paths)
        self.names = [path.relative_to(folder).as_posix() for path in paths]

    def __iter__(self) -> Iterator[Shot]:
        yield from zip(self.names, map(_photograph, self.paths, read_images(self.paths, image_or_error)))


class Frames:
    """The frames of a video, an animated picture or a camera, or the first so many; opened when first asked for. stem: of its outputs."""

    unit = "frame"

    def __init__(self, path: Path | int, stem: str, limit: int | None = None):
        self.path, self.stem, self.limit = path, stem, limit
        self.label = stem if isinstance(path, int) else path.name
        self.folder = Path(stem) if isinstance(path, int) else path.with_suffix("")  # which its frames would be files of

    @cached_property
    def reader(self) -> VideoReader | AnimationReader | CameraReader:
        if isinstance(self.path, int):
            return CameraReader(self.path)
        return VideoReader(self.path) if self.path.suffix.lower() in VIDEO_SUFFIXES else AnimationReader(self.path)

    @property
    def count(self) -> int | None:
        """How many, as far as is known."""
        known = self.reader.count
        return known if self.limit is None or known is None else min(known, self.limit)

    def __iter__(self) -> Iterator[Shot]:
        live = isinstance(self.path, int)  # a frame that waits is an old one
        yield from enumerate(islice(self.reader if live else ahead(self.reader, FRAMES_AHEAD), self.limit))


Source = Pictures | Frames


def find_sources(text: str, output: Path, limit: int | None = None) -> list[Source]:
    """What --input names: a picture, a folder of them, a pattern such as '*.jpg', a video, an animated picture, a camera by its number.

    Raises UserError where there is none, or where the output would replace it.
    """
    at_least(1, limit=limit)
    path = Path(text).expanduser()
    if not os.path.lexists(path) and text.isdecimal():
        return [_opened(Frames(int(text), "camera", limit))]
    pictures, videos = _files(path)
    sources: list[Source] = []
    if pictures:
        folder = Path(os.path.commonpath([file.parent for file in pictures]))
        sources.append(Pictures(pictures[:limit], folder))
        _not_replaced(sources[0], output)
    stems = Counter(video.stem for video in videos)
    sources += [Frames(video, video.stem if stems[video.stem] == 1 else video.name, limit) for video in videos]
    if any(video.parent.resolve() == output.resolve() for video in videos):
        raise UserError(f"output folder {output}: holds the input, which would be overwritten; choose another --output")
    return [_opened(sources[0])] if len(sources) == 1 and videos else sources


def _opened(frames: Frames) -> Frames:
    """The same: what is wrong with the only source is told now, not when the network is loaded."""
    _ = frames.reader
    return frames


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """Pictures, and videos and animated pictures. In a folder, or among the files of a pattern, an animated picture is a picture."""
    if path.is_dir():
        pictures = sorted(file for file in path.iterdir() if _ends(file, IMAGE_SUFFIXES))
        if not pictures:
            raise UserError(f"input {path}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return pictures, []
    if os.path.lexists(path):
        moving = path.suffix.lower() in VIDEO_SUFFIXES or is_animation(path)
        return ([], [path]) if moving else ([path], [])
    if not glob.has_magic(str(path)):
        raise UserError(f"input {path}: not found")
    found = sorted(Path(file) for file in glob.glob(str(path), recursive=True))  # noqa: PTH207 (from where the path says)
    pictures, videos = ([file for file in found if _ends(file, endings)] for endings in (IMAGE_SUFFIXES, VIDEO_SUFFIXES))
    if not pictures and not videos:
        raise UserError(f"input {path}: no image or video has such a name")
    return pictures, videos


def _ends(file: Path, endings: set[str]) -> bool:
    """Whether it is one of those, and not hidden, as what a Mac adds to archives is."""
    return file.suffix.lower() in endings and not file.name.startswith(".")


def _not_replaced(pictures: Pictures, output: Path) -> None:
    for path, name in zip(pictures.paths, pictures.names):
        if (output / name).parent.resolve() == path.parent.resolve():
            raise UserError(f"output folder {output}: holds the input, which would be overwritten; choose another --output")


def _photograph(path: Path, image: np.ndarray | UserError) -> np.ndarray | UserError:
    """The image, or what is wrong with it."""
    if isinstance(image, UserError) or max(image.shape[:2]) <= MAX_ASPECT * min(image.shape[:2]):
        return image
    height, width = image.shape[:2]
    return UserError(f"image {path}: {width} x {height} pixels, more than {MAX_ASPECT} times as long as wide: no photograph")


def ahead(items: Iterable[T], most: int) -> Iterator[T]:
    """The same, made by another thread while the caller is busy; at most so many wait."""
    waiting, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        running = deque(pool.submit(next, waiting, end) for _ in range(most))
        while (item := running.popleft().result()) is not end:
            yield item
            running.append(pool.submit(next, waiting, end))
