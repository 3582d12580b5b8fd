"""Where the pictures of an annotation file are: in folders and in zip files, under the names that it gives them or nearly so."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from config import UserError
from config.files import existing_folder
from data.images import MAX_BYTES


@dataclass(frozen=True)
class Place:
    """A picture's file: `name` in a folder or zip file."""

    container: Path
    name: str
    size: int  # bytes; -1: it is not there
    renamed: bool = False  # whether the annotation file has another path

    @property
    def path(self) -> Path:
        """For people to read."""
        return self.container / self.name

    def read(self) -> bytes:
        """The file. Raises UserError where it cannot be read."""
        if self.size < 0:
            raise UserError(f"image {self.path}: not found")
        if self.size > MAX_BYTES:
            raise UserError(f"image {self.path}: {self.size / 2**30:.1f} GB, more than a picture has")
        try:
            return _opened_zip(self.container).read(self.name) if self.container.is_file() else self.path.read_bytes()
        except OSError as error:
            raise UserError(f"image {self.path}: {error.strerror or error}") from error
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
            raise UserError(f"image {self.path}: cannot be read from the zip file ({error})") from error


@lru_cache(maxsize=8)
def _opened_zip(path: Path) -> zipfile.ZipFile:
    """Each process opens it once."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"images {path}: neither a folder nor a zip file that can be read ({error})") from error


class Pictures:
    """Finds pictures in some folders and zip files. Raises UserError where one of these is neither."""

    def __init__(self, containers: Sequence[Path]):
        self.containers = list(containers)
        self._zipped: dict[Path, dict[str, int]] = {}
        for path in self.containers:
            if path.is_file():
                files = (entry for entry in _opened_zip(path).infolist() if not entry.is_dir())
                self._zipped[path] = {entry.filename: entry.file_size for entry in files}
                _opened_zip.cache_clear()  # an open file must not go into other processes
            else:
                existing_folder(path, "image folder")

    def __str__(self) -> str:
        return ", ".join(map(str, self.containers))

    def find(self, names: Sequence[str]) -> list[Place]:
        """Return where each image is. No file is taken for the image of two names."""
        exact = [self._exact(name) for name in names]
        taken, places = {place.path for place in exact if place}, []
        for name, place in zip(names, exact):
            if place is None:
                place = self._similar(name)
                if place is None or place.path in taken:
                    place = Place(self.containers[0], name, -1)
                else:
                    place = replace(place, renamed=not place.name.endswith(f"/{name}"))
                taken.add(place.path)
            places.append(place)
        return places

    def _exact(self, name: str) -> Place | None:
        """The picture of this very name, below a folder or in a zip file."""
        for container in self.containers:
            if container in self._zipped:
                if name in self._zipped[container]:
                    return Place(container, name, self._zipped[container][name])
                continue
            try:
                if (container / name).is_file():
                    return Place(container, name, (container / name).stat().st_size)
            except (OSError, ValueError):  # no file could have such a name
                continue
        return None

    def _similar(self, name: str) -> Place | None:
        """The only picture that the name can mean: with / for \\, without URL escapes, or by its tail.

        A relative name and the path of the file, which begins with the name of its folder or zip file, must agree as far as the shorter
        one goes; of an absolute one, from another machine, the file's own name is enough. None where there is none, or several.
        """
        names = dict.fromkeys([name.replace("\\", "/"), unquote(name).replace("\\", "/")])
        for plain in names:
            if plain != name and (place := self._exact(plain)):
                return place
        for plain in names:
            absolute = plain.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", plain)
            wanted = PurePosixPath(plain).parts
            there = self._by_name.get(wanted[-1], []) if wanted else []
            fitting = [place for place in there if absolute or _agree(wanted, place)]
            if len(fitting) == 1:
                return fitting[0]
        return None

    @cached_property
    def _by_name(self) -> dict[str, list[Place]]:
        """All files by their own names."""
        found = defaultdict(list)
        for container in self.containers:
            if container in self._zipped:
                for name, size in self._zipped[container].items():
                    found[PurePosixPath(name).name].append(Place(container, name, size))
                continue
            for folder, _, names in os.walk(container):
                for name in names:
                    path = Path(folder, name)
                    if path.is_file():
                        found[name].append(Place(container, path.relative_to(container).as_posix(), path.stat().st_size))
        return found


@lru_cache(maxsize=64)
def _name_of(container: Path) -> str:
    """A folder's own name, a zip file's without its ending."""
    container = container.resolve()
    return container.stem if container.is_file() else container.name


def _agree(wanted: tuple[str, ...], place: Place) -> bool:
    """Whether one is the tail of the other: a relative name, and a path with its container's name before it."""
    parts = (_name_of(place.container), *PurePosixPath(place.name).parts)
    shorter = min(len(wanted), len(parts))
    return wanted[-shorter:] == parts[-shorter:]
