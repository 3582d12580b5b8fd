"""Where the images of an annotation file are: in folders and zip files, under the names that it gives them or nearly so."""

import os
import posixpath
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from config import UserError
from config.files import existing_folder
from data.formats.cleanup import AnnotationFixes
from data.images import IMAGE_SUFFIXES, check_file_size, decode_checked


class ImageEntry(NamedTuple):
    """An image's file: `name` in a folder or zip file."""

    container: Path
    name: str
    size: int  # bytes; -1: it is not there
    renamed: bool = False  # whether the annotation file has another path

    @property
    def path(self) -> Path:
        """For messages."""
        return self.container / self.name

    def read(self) -> bytes:
        """Return the file's bytes. Raise UserError where it cannot be read."""
        if self.size < 0:
            raise UserError(f"image {self.path}: not found; check the folder or zip file of the images")
        check_file_size(self.path, self.size)
        try:
            return _opened_zip(self.container).read(self.name) if self.container.is_file() else self.path.read_bytes()
        except Exception as error:  # zipfile and its decompressors can raise any exception on a corrupt file
            raise UserError(f"image {self.path}: cannot be read ({error})") from error

    def read_image(self) -> np.ndarray:
        """Return the image as `data.images.read_image` does."""
        return decode_checked(self.read(), self.path)


@lru_cache(maxsize=8)
def _opened_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file, once in each process."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"images {path}: neither a folder nor a zip file that can be read ({error})") from error


class ImageSource:
    """Finds images in some folders and zip files. Raises UserError where one of these is neither."""

    def __init__(self, containers: Sequence[Path]):
        self.containers = list(containers)
        self._zipped: dict[Path, dict[str, int]] = {}  # sizes by name
        for path in self.containers:
            if path.is_file():
                self._zipped[path] = {entry.filename: entry.file_size for entry in _opened_zip(path).infolist() if not entry.is_dir()}
                _opened_zip.cache_clear()  # an open file must not go into other processes
            else:
                existing_folder(path, "image folder")

    def find(self, names: Sequence[str]) -> list[ImageEntry]:
        """Return where each image is. No file is taken for the images of two names. Raise UserError where none is there."""
        exact = {name: self._exact(name) for name in names}
        found = {name: entry or self._similar(name) for name, entry in exact.items()}
        claims = Counter(entry.path for entry in found.values() if entry)
        entries = [exact[name] or (found[name] if found[name] and claims[found[name].path] == 1 else None) for name in names]
        if names and not any(entries):
            places = ", ".join(map(str, self.containers))
            raise UserError(f"images {places}: none of the {len(names)} images listed is there, such as {names[0]!r:.200}; check --images")
        return [entry or ImageEntry(self.containers[0], name, -1) for name, entry in zip(names, entries)]

    def images(self) -> list[ImageEntry]:
        """Return all images of the folders, below them too, and of the zip files. Hidden ones do not count: macOS adds them to archives."""
        paths = ((entry, PurePosixPath(entry.name)) for of_stem in self._by_stem.values() for entry in of_stem)
        return sorted(entry for entry, path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not f"/{path}".count("/."))

    def _exact(self, name: str) -> ImageEntry | None:
        """Return the image of this very name, below a folder or in a zip file."""
        for container in self.containers:
            if container in self._zipped:
                if name in self._zipped[container]:
                    return ImageEntry(container, name, self._zipped[container][name])
            elif os.path.isfile(container / name):  # noqa: PTH113, it takes names that no file could have
                size, dotted = (container / name).stat().st_size, ".." in PurePosixPath(name).parts
                return ImageEntry(
                    container, Path(os.path.relpath(container / name, container)).as_posix() if dotted else name, size, dotted
                )
        return None

    def _similar(self, name: str) -> ImageEntry | None:
        """Return the image that fits the name better than all others, by `_fit`; None where there is none, or several."""
        for parts, is_absolute in _plain_paths(name):
            stem, fits = _stem(parts[-1]), {}
            if len(parts) > 1:  # in each of a thousand folders of frames can be one of this name
                fits = self._fits(parts, is_absolute, [*self._by_parent.get((parts[-2], stem), []), *self._by_parent.get(("", stem), [])])
            if (is_absolute or len(parts) == 1) and not (fits and max(fits)[0] > 1):
                fits = self._fits(parts, is_absolute, self._by_stem.get(stem, []))
            if fits and max(fits)[0]:
                best = fits[max(fits)]
                return best[0]._replace(renamed=not f"/{best[0].name}".endswith(f"/{name}")) if len(best) == 1 else None
        return None

    def _fits(self, parts: tuple[str, ...], is_absolute: bool, entries: Sequence[ImageEntry]) -> dict[tuple[int, bool], list[ImageEntry]]:
        """Return the images by how well each fits a path."""
        fits = defaultdict(list)
        for entry in entries:
            fits[self._fit(parts, is_absolute, entry)].append(entry)
        return fits

    def _fit(self, parts: tuple[str, ...], is_absolute: bool, entry: ImageEntry) -> tuple[int, bool]:
        """Return how well an image fits a path, which can be of another machine, and whether the endings of both names are the same.

        3: the path and the file's, which begins with the name of its folder or zip file, agree as far as the shorter one goes;
        2: the file's path below its folder is the end of the path, so that the folder may have another name here;
        1: the path is absolute; 0: none of these, or it has the name of another folder of the source in it.
        """
        own = PurePosixPath(entry.name).parts
        elsewhere = {name for other, name in self._names.items() if other != entry.container} & {*parts[:-1]}
        is_whole_path = _tails_agree(parts, (self._names[entry.container], *own))
        level = 3 if is_whole_path else 0 if elsewhere else 2 if len(own) < len(parts) and _tails_agree(parts, own) else int(is_absolute)
        return level, parts[-1] == own[-1]

    @cached_property
    def _names(self) -> dict[Path, str]:
        """The names of the folders, and of the zip files without their endings."""
        return {path: path.stem if path.is_file() else path.resolve().name for path in self.containers}

    @cached_property
    def _by_parent(self) -> dict[tuple[str, str], list[ImageEntry]]:
        """The same as `_by_stem` by the name of the folder that each is in, "" for the source's own, and its stem."""
        found = defaultdict(list)
        for stem, entries in self._by_stem.items():
            for entry in entries:
                found[PurePosixPath(entry.name).parent.name, stem].append(entry)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[ImageEntry]]:
        """All images, in folders and below, by their own names without the ending."""
        found = defaultdict(list)
        for container in self.containers:
            sizes = self._zipped.get(container)
            if sizes is None:
                files = (path for path in container.rglob("*") if path.is_file())
                sizes = {path.relative_to(container).as_posix(): path.stat().st_size for path in files}
            for name, size in sizes.items():
                found[_stem(PurePosixPath(name).name)].append(ImageEntry(container, name, size))
        return found


def find_images(images: Sequence[dict], path: Path, source: ImageSource, fixes: AnnotationFixes) -> list[ImageEntry]:
    """Return where the images of an annotation file's entries are, and count those under another path or name."""
    files = source.find([image["file_name"] for image in images])
    for image, file in zip(images, files):
        if file.renamed:
            fixes.add("found under another path or name", _place(image, path))
    return files


def present_images(
    images: Mapping[int, dict], path: Path, containers: Sequence[Path], fixes: AnnotationFixes, limit: int | None = None
) -> dict[int, ImageEntry]:
    """Return an annotation file's images, or the first `limit`, by their ids in ascending order; count and omit those that are missing.

    Without folders and zip files no file is looked for. Raise UserError where the annotation file lists none, or all are missing.
    """
    listed = [images[image_id] for image_id in sorted(images)[:limit]]
    if not listed:
        raise UserError(f"annotation file {path}: lists no image")
    if not containers:
        return {image["id"]: ImageEntry(Path(), image["file_name"], -1) for image in listed}
    files = find_images(listed, path, ImageSource(containers), fixes)
    for image, file in zip(listed, files):
        if file.size < 0:
            fixes.add("omitted: the image is missing", _place(image, path))
    return {image["id"]: file for image, file in zip(listed, files) if file.size >= 0}


def _place(image: dict, path: Path) -> str:
    return f"annotation file {path}: image {image.get('file_id', image['id'])} ({image['file_name']})"


def _stem(name: str) -> str:
    """Return a file's name without the ending of an image."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name


def _plain_paths(name: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the parts of the path that a name can mean, with and without URL escapes, and whether it is absolute."""
    path = name.replace("\\", "/")
    if "://" in path:
        path = re.split("[?#]", path)[0]
    for plain in dict.fromkeys((path, unquote(path))):
        parts = tuple(part for part in PurePosixPath(posixpath.normpath(plain)).parts if part != "..")
        if parts:
            yield parts, plain.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", plain) is not None


def _tails_agree(parts: tuple[str, ...], own: tuple[str, ...]) -> bool:
    """Whether one of two paths is the tail of the other, but for the ending of an image."""
    shorter = min(len(parts), len(own))
    return _stem(parts[-1]) == _stem(own[-1]) and parts[-shorter:-1] == own[-shorter:-1]
