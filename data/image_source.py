"""Where the images of an annotation file are: in folders and zip files, under the names that it gives them or nearly so."""

from __future__ import annotations

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from config import UserError
from config.files import existing_folder
from data.images import check_file_size


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
            raise UserError(f"image {self.path}: not found")
        check_file_size(self.path, self.size)
        try:
            return _opened_zip(self.container).read(self.name) if self.container.is_file() else self.path.read_bytes()
        except Exception as error:  # zipfile and its decompressors can raise any exception on a corrupt file
            raise UserError(f"image {self.path}: cannot be read ({error})") from error


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
        """Return where each image is. No file is taken for the image of two names."""
        exact = [self._exact(name) for name in names]
        taken = {entry.path for entry in exact if entry}
        return [entry or self._similar(name, taken) for name, entry in zip(names, exact)]

    def _exact(self, name: str) -> ImageEntry | None:
        """Return the image of this very name, below a folder or in a zip file."""
        for container in self.containers:
            if container in self._zipped:
                if name in self._zipped[container]:
                    return ImageEntry(container, name, self._zipped[container][name])
            elif os.path.isfile(container / name):  # noqa: PTH113, it takes names that no file could have
                return ImageEntry(container, name, (container / name).stat().st_size)
        return None

    def _similar(self, name: str, taken: set[Path]) -> ImageEntry:
        """Return the only image whose path has the name as its tail, with / for \\ or without URL escapes, and add it to those taken.

        A relative name and the path of the file, which begins with the name of its folder or zip file, must agree as far as the shorter
        one goes. Of an absolute one, from another machine, the file's own name is enough.
        """
        for plain in (name.replace("\\", "/"), unquote(name).replace("\\", "/")):
            is_absolute = plain.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", plain)
            parts = PurePosixPath(plain).parts
            same_name = self._by_name.get(parts[-1], []) if parts else []
            fitting = [entry for entry in same_name if is_absolute or _tails_agree(parts, entry)]
            if len(fitting) == 1 and fitting[0].path not in taken:
                taken.add(fitting[0].path)
                return fitting[0]._replace(renamed=not fitting[0].name.endswith(f"/{name}"))
        return ImageEntry(self.containers[0], name, -1)

    @cached_property
    def _by_name(self) -> dict[str, list[ImageEntry]]:
        """All files by their own names."""
        found = defaultdict(list)
        for container in self.containers:
            sizes = self._zipped.get(container)
            if sizes is None:
                files = (path for path in container.rglob("*") if path.is_file())
                sizes = {path.relative_to(container).as_posix(): path.stat().st_size for path in files}
            for name, size in sizes.items():
                found[PurePosixPath(name).name].append(ImageEntry(container, name, size))
        return found


def _tails_agree(parts: tuple[str, ...], entry: ImageEntry) -> bool:
    """Whether a relative name, or the entry's path with its container's name before it, is the tail of the other."""
    container = entry.container.resolve()
    own = (container.stem if container.is_file() else container.name, *PurePosixPath(entry.name).parts)
    shorter = min(len(parts), len(own))
    return parts[-shorter:] == own[-shorter:]
