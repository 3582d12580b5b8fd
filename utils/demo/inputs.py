"""The sources of a demo: images, videos, animated images, streams, a camera. Each yields frames in order."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, count, islice
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from config import UserError
from config.errors import check_minimum
from data.images import IMAGE_SUFFIXES, image_or_error, is_animation, read_image, read_images
from data.urls import URL, is_image_url, read_image_url, url_name, without_secrets
from utils.visualize.video import VIDEO_SUFFIXES, CameraReader, VideoReader

MAX_ASPECT = 50  # longer side to shorter; beyond it some systems would need gigabytes


class Frame(NamedTuple):
    name: str | int  # an image's path below its source's folder, or the number of a video's frame
    image: np.ndarray | UserError  # (H, W, 3) uint8 BGR, or why it cannot be read
    time: float | None = None  # seconds since the video's first frame


class ImageFiles:
    """Image files and URLs, the first `limit`, read ahead. names: of files their paths below `folder`, of URLs their own."""

    label, unit, stem = "demo", "image", "people"
    is_video = is_camera = False

    def __init__(self, images: list[Path | str], folder: Path, limit: int | None = None):
        self.files = [image for image in images if isinstance(image, Path)]
        self.images, self.folder = images[:limit], folder
        self.count, names = len(self.images), {}
        for image in self.images:
            own = PurePath(url_name(image) if isinstance(image, str) else os.path.relpath(image, folder))
            numbered = (own.with_stem(f"{own.stem}_{number}") for number in count(2))  # several hosts can have a photo.jpg
            names[next(path.as_posix() for path in chain([own], numbered) if path.as_posix() not in names)] = image
        self.names = list(names)

    def __iter__(self) -> Iterator[Frame]:
        return map(Frame, self.names, read_images(self.images, partial(image_or_error, read=_read)))


def _read(image: Path | str) -> np.ndarray:
    pixels = read_image_url(image) if isinstance(image, str) else read_image(image)
    check_aspect(pixels, without_secrets(image))
    return pixels


def check_aspect(image: np.ndarray, name: str) -> None:
    """Raise UserError where an image's one side is more than MAX_ASPECT times as long as the other."""
    if max(image.shape[:2]) > MAX_ASPECT * min(image.shape[:2]):
        raise UserError(f"image {name}: one side is more than {MAX_ASPECT} times as long as the other")


class VideoSource:
    """The frames, at most `limit`, of a video, an animated image, a URL or a camera. stem: starts the names of its outputs."""

    unit, is_video, names = "frame", True, ()

    def __init__(self, path: Path | int | str, stem: str, limit: int | None = None):
        self.path, self.stem, self.limit, self.is_camera = path, stem, limit, not isinstance(path, Path)
        self.files = [path] if isinstance(path, Path) else []
        self.label = stem if self.is_camera else path.name
        self.folder = Path(stem) if self.is_camera else path.with_suffix("")  # where its frames would be as files

    @cached_property
    def reader(self) -> CameraReader | VideoReader:
        return CameraReader(self.path) if isinstance(self.path, int) else VideoReader(self.path)

    @property
    def count(self) -> int | None:  # None where unknown
        return self.reader.count and min(self.reader.count, self.limit or self.reader.count)

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(number, image, self.reader.time) for number, image in enumerate(islice(self.reader, self.limit)))


Source = ImageFiles | VideoSource


def find_sources(inputs: Sequence[str], limit: int | None = None) -> tuple[list[Source], list[Path]]:
    """Return what --input names, and the files of its folders and patterns that are passed over since their endings are unknown.

    inputs: images, folders, patterns such as '*.jpg', videos, animated images, URLs, and cameras by their numbers. An animated image
    counts as a video only if it is the only input. Raises UserError without any image or video.
    """
    check_minimum(1, limit=limit)
    found: dict[str, Path | str] = {}  # once each
    streams, passed_over = [], []
    for text in inputs:
        path = Path(text).expanduser()
        if URL.match(text):
            try:
                urlsplit(text)
            except ValueError:  # its message can hold the password
                raise UserError("--input: one of its URLs is not valid") from None
            if is_image_url(text):
                found[text] = text
            else:
                streams.append(VideoSource(text, PurePath(url_name(text)).stem, limit))
        elif text.isdecimal() and not os.path.lexists(path):
            streams.append(VideoSource(int(text), "camera", limit))
        else:
            files, others = ([path], []) if _is_file(path) else _find_files(path)
            found |= {os.path.abspath(file): file for file in files}  # noqa: PTH100 (links keep their names)
            passed_over += others
    alone = len(inputs) == len(found) == 1 and _is_file(Path(inputs[0]).expanduser())
    files = [file for file in found.values() if isinstance(file, Path)]
    videos = dict.fromkeys(file for file in files if file.suffix.lower() in VIDEO_SUFFIXES or alone and is_animation(file))
    images = [image for image in found.values() if image not in videos]
    stems = Counter(video.stem for video in videos)
    sources: list[Source] = [VideoSource(video, video.stem if stems[video.stem] == 1 else video.name, limit) for video in videos]
    sources += streams
    if images:
        folders = [os.path.abspath(image.parent) for image in images if isinstance(image, Path)]  # noqa: PTH100
        sources.insert(0, ImageFiles(images, Path(os.path.commonpath(folders) if folders else "."), limit))
    return sources, passed_over


def _is_file(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def _find_files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the images and videos of a folder or a pattern, and the other files.

    Hidden files do not count: macOS adds them to archives.
    """
    found = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207 (may begin anywhere)
    files = sorted(file for file in found if not (file.name.startswith(".") or file.is_dir()))
    readable = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES]
    if not readable:
        shown = re.sub(":.*@", "@", str(path))  # the password of a URL without its //
        raise UserError(f"input {shown}: no image or video found")
    known = set(readable)
    return readable, [file for file in files if file not in known]
