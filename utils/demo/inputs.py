"""The sources of a demo: image files, videos, animated images, a camera. Each yields frames in order."""

from __future__ import annotations

import glob
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from config import UserError
from config.errors import check_minimum
from data.images import IMAGE_SUFFIXES, image_or_error, is_animation, read_images
from utils.visualize.video import VIDEO_SUFFIXES, VideoReader

T = TypeVar("T")
MAX_ASPECT = 50  # longer side to shorter; beyond it some systems would need gigabytes
FRAMES_AHEAD = 8  # decoded while the caller is busy


class Frame(NamedTuple):
    name: str | int  # an image's path below its source's folder, or the number of a video's frame
    image: np.ndarray | UserError  # (H, W, 3) uint8 BGR, or why it cannot be read


class ImageFiles:
    """Image files, read ahead. names: their paths below `folder`, which holds all of them."""

    label, unit, stem = "demo", "image", "people"

    def __init__(self, paths: list[Path], folder: Path):
        self.paths, self.folder, self.count = paths, folder, len(paths)
        self.names = [path.relative_to(folder).as_posix() for path in paths]

    def __iter__(self) -> Iterator[Frame]:
        for name, path, image in zip(self.names, self.paths, read_images(self.paths, image_or_error)):
            yield Frame(name, _checked(path, image))


class VideoSource:
    """The frames, at most `limit`, of a video, an animated image or a camera. stem: starts the names of its outputs."""

    unit = "frame"

    def __init__(self, path: Path | int, stem: str, limit: int | None = None):
        self.path, self.stem, self.limit = path, stem, limit
        self.is_camera = isinstance(path, int)
        self.label = stem if self.is_camera else path.name
        self.folder = Path(stem) if self.is_camera else path.with_suffix("")  # where its frames would be as files

    @cached_property
    def reader(self) -> VideoReader:
        return VideoReader(self.path)

    @property
    def count(self) -> int | None:
        """The number of frames; None where unknown."""
        count = self.reader.count
        return count if self.limit is None or count is None else min(count, self.limit)

    def __iter__(self) -> Iterator[Frame]:
        frames = self.reader if self.is_camera else read_ahead(self.reader, FRAMES_AHEAD)  # a camera's frame that waits is out of date
        yield from (Frame(number, image) for number, image in enumerate(islice(frames, self.limit)))


Source = ImageFiles | VideoSource


def find_sources(text: str, output: Path, limit: int | None = None) -> list[Source]:
    """Return what --input names: an image, a folder, a pattern such as '*.jpg', a video, an animated image, or a camera by its number.

    A video that is the only source is opened, so that its errors come early. Raises UserError without any image or video, or where the
    output would overwrite the input.
    """
    check_minimum(1, limit=limit)
    path = Path(text).expanduser()
    if not os.path.lexists(path) and text.isdecimal():
        images, sources = [], [VideoSource(int(text), "camera", limit)]
    else:
        images, videos = _find_files(path)
        stems = Counter(video.stem for video in videos)
        sources = [VideoSource(video, video.stem if stems[video.stem] == 1 else video.name, limit) for video in videos]
        targets = [(video, output / video.name) for video in videos]
        if images:
            files = ImageFiles(images[:limit], Path(os.path.commonpath([image.parent for image in images])))
            targets += [(image, output / name) for image, name in zip(files.paths, files.names)]
            sources.insert(0, files)
        if any(file.parent.resolve() == target.parent.resolve() for file, target in targets):
            raise UserError(f"output folder {output}: holds the input, which would be overwritten; choose another --output")
    if len(sources) == 1 and not images:
        _ = sources[0].reader
    return sources


def _find_files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return images and videos. An animated image counts as a video only if it is the only input."""
    if path.is_dir():
        images = sorted(file for file in path.iterdir() if _has_suffix(file, IMAGE_SUFFIXES))
        if not images:
            raise UserError(f"input {path}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return images, []
    if os.path.lexists(path):
        is_video = path.suffix.lower() in VIDEO_SUFFIXES or is_animation(path)
        return ([], [path]) if is_video else ([path], [])
    if not glob.has_magic(str(path)):
        raise UserError(f"input {path}: not found")
    files = sorted(Path(file) for file in glob.glob(str(path), recursive=True))  # noqa: PTH207 (a pattern may begin anywhere)
    images, videos = ([file for file in files if _has_suffix(file, suffixes)] for suffixes in (IMAGE_SUFFIXES, VIDEO_SUFFIXES))
    if not images and not videos:
        raise UserError(f"input {path}: no image or video has such a name")
    return images, videos


def _has_suffix(file: Path, suffixes: set[str]) -> bool:
    """Return whether a file has one of the suffixes and is not hidden: macOS adds hidden files to archives."""
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _checked(path: Path, image: np.ndarray | UserError) -> np.ndarray | UserError:
    """Return an error for an image that is far longer than wide."""
    if isinstance(image, UserError) or max(image.shape[:2]) <= MAX_ASPECT * min(image.shape[:2]):
        return image
    height, width = image.shape[:2]
    return UserError(f"image {path}: {width} x {height} pixels, one side more than {MAX_ASPECT} times the other")


def read_ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield the items; another thread takes up to `count` of them while the caller is busy."""
    upcoming, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, upcoming, end) for _ in range(count))
        while (item := pending.popleft().result()) is not end:
            yield item
            pending.append(pool.submit(next, upcoming, end))
