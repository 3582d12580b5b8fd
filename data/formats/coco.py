"""COCO annotation files: their content, cleaned and indexed, and their images. people.py reads the people."""

import contextlib
import io
import reprlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO

from config import UserError
from config.files import read_json
from data.formats.cleanup import AnnotationFixes, clean_annotations
from data.formats.foreign import refuse_json, refuse_text

LARGEST = 1e15  # largest number; products of box sides stay finite in float32
Split = Literal["train", "val", "test"]
Size = tuple[int | None, int | None]  # listed height and width; None: own annotation files may omit them


@dataclass(frozen=True)
class AnnotationFile:
    """A file to be read by one of the formats; see `data.formats.load_annotations`."""

    path: Path
    images: tuple[Path, ...] = ()
    split: Split = "train"
    fixes: AnnotationFixes = field(default_factory=AnnotationFixes)

    @cached_property
    def content(self) -> Any:
        """The file's content. Raise UserError if it is not JSON, or another program's."""
        refuse_text(self.path)
        content = read_json(self.path, "annotation file")
        refuse_json(content, self.path)
        return content

    def entries(self, key: str) -> list[dict]:
        """Return the entries of one of its lists, empty if there is none; formats recognize their files by them."""
        entries = self.content.get(key) if isinstance(self.content, dict) else None
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return the cleaned content. Raise UserError where it is of another format."""
    return clean_annotations(file.content, file.path, file.fixes)


def indexed(dataset: dict) -> COCO:
    """Return pycocotools' index of a COCO file's content."""
    coco = COCO()
    coco.dataset = {"info": {}, **dataset}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


# Images


def listed_size(image: dict) -> Size:
    """Return height and width in pixels of an image's entry; None if it lists none."""
    return image.get("height"), image.get("width")


def check_size(path: Path, height: int, width: int, listed: Size) -> None:
    """Raise UserError if an image's size differs from the listed one."""
    expected = tuple(own if side is None else side for own, side in zip((height, width), listed))
    if (height, width) != expected:
        raise UserError(f"image {path}: is {width} x {height}, but the annotation file says {expected[1]} x {expected[0]}")


def finite_numbers(entry: dict, key: str, expected: str, place: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an entry's value as float64. Raise UserError where it is not of that shape or not all of it are finite numbers."""
    value = entry.get(key)
    try:
        values = np.asarray(value)
    except ValueError:  # lists of several lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf" or not (np.abs(values) < LARGEST).all() or (shape is not None and values.shape != shape):
        raise UserError(f"{place}: its {key!r} is {reprlib.repr(value)}, expected {expected}")
    return values.astype(float)
