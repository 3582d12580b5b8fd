"""The sources of a demo: image files, videos, animated images, a camera. Each yields frames in order."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from config import UserError
from config.errors import check_minimum
from data.images import IMAGE_SUFFIXES, image_or_error, is_animation, read_images
from utils.visualize.video import VIDEO_SUFFIXES, VideoReader

URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
MAX_ASPECT = 50  # longer side to shorter; beyond it some systems would need gigabytes


class Frame(NamedTuple):
    name: str | int  # an image's path below its source's folder, or the number of a video's frame
    image: np.ndarray | UserError  # (H, W, 3) uint8 BGR, or why it cannot be read


class ImageFiles:
    """Image files, the first `limit` of `files`, read ahead. names: their paths below `folder`, which holds all of them."""

    label, unit, stem = "demo", "image", "people"
    is_video = is_camera = False

    def __init__(self, files: list[Path], folder: Path, limit: int | None = None):
        self.files, self.paths, self.folder = files, files[:limit], folder
        self.count, self.names = len(self.paths), [Path(os.path.relpath(path, folder)).as_posix() for path in self.paths]

    def __iter__(self) -> Iterator[Frame]:
        for name, path, image in zip(self.names, self.paths, read_images(self.paths, image_or_error)):
            if isinstance(image, np.ndarray) and max(image.shape[:2]) > MAX_ASPECT * min(image.shape[:2]):
                image = UserError(f"image {path}: one side is more than {MAX_ASPECT} times as long as the other")
            yield Frame(name, image)


class VideoSource:
    """The frames, at most `limit`, of a video, an animated image, a URL or a camera. stem: starts the names of its outputs."""

    unit, is_video, names = "frame", True, ()

    def __init__(self, path: Path | int | str, stem: str, limit: int | None = None):
        self.path, self.stem, self.limit, self.is_camera = path, stem, limit, not isinstance(path, Path)
        self.files = [] if self.is_camera else [path]
        self.label = stem if self.is_camera else path.name
        self.folder = Path(stem) if self.is_camera else path.with_suffix("")  # where its frames would be as files

    @cached_property
    def reader(self) -> VideoReader:
        return VideoReader(self.path)

    @property
    def count(self) -> int | None:  # None where unknown
        return self.reader.count and min(self.reader.count, self.limit or self.reader.count)

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(number, image) for number, image in enumerate(islice(self.reader, self.limit)))


Source = ImageFiles | VideoSource


def find_sources(inputs: Sequence[str], limit: int | None = None) -> list[Source]:
    """Return what --input names: images, folders, patterns such as '*.jpg', videos, animated images, URLs, and cameras by their numbers.

    An animated image counts as a video only if it is the only input. Raises UserError without any image or video.
    """
    check_minimum(1, limit=limit)
    files, streams = [], []
    for text in inputs:
        path = Path(text).expanduser()
        if URL.match(text):
            try:
                url = urlsplit(text)
            except ValueError as error:
                raise UserError(f"--input: one of its URLs is not valid ({error})") from error  # it can hold a password
            streams.append(VideoSource(text, PurePosixPath(url.path).stem or url.hostname or "stream", limit))
        elif text.isdecimal() and not os.path.lexists(path):
            streams.append(VideoSource(int(text), "camera", limit))
        else:
            files += [path] if _is_file(path) else _find_files(path)
    files = list({os.path.abspath(file): file for file in files}.values())  # noqa: PTH100 (links keep their names)
    alone = len(inputs) == len(files) == 1 and _is_file(Path(inputs[0]).expanduser())
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES or alone and is_animation(file)]
    images = [file for file in files if file not in videos]
    stems = Counter(video.stem for video in videos)
    sources = [VideoSource(video, video.stem if stems[video.stem] == 1 else video.name, limit) for video in videos] + streams
    if not images:
        return sources
    folder = os.path.commonpath([os.path.abspath(image.parent) for image in images])  # noqa: PTH100
    return [ImageFiles(images, Path(folder), limit), *sources]


def _is_file(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def _find_files(path: Path) -> list[Path]:
    """Return a folder's images, or its videos if it has no image, or a pattern's images and videos.

    Hidden files do not count: macOS adds them to archives.
    """
    found = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 (may begin anywhere)
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    files = sorted(file for file in found if file.suffix.lower() in suffixes and not file.name.startswith("."))
    if not files:
        raise UserError(f"input {path}: no image or video found")
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    return images if images and path.is_dir() else files
