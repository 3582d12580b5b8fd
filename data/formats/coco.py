"""COCO annotation files: the category that holds a skeleton's keypoints, and its people."""

from __future__ import annotations

import contextlib
import io
import reprlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from config import Skeleton, UserError
from config.files import existing_folder, read_json
from config.load import check_overlap
from config.skeleton import HIDDEN, UNLABELLED, VISIBLE

FARTHEST = 1e5  # pixels, of a polygon's corner: pycocotools walks along all of its outline
LARGEST = 1e15  # number that stays finite when boxes are multiplied in single precision
ENTRIES = {"images": ("id", "file_name"), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}
Size = tuple[int | None, int | None]  # height and width that an annotation file lists; None: own files may leave them out


def load_coco(path: str | Path) -> COCO:
    """Read and index an annotation file. Raises UserError where it is not one."""
    return checked(read_json(path, "annotation file"), path)


def load(content: object, path: Path, test_split: bool = False) -> COCO:
    """Index the content of a COCO file. Raises UserError where it is not one's."""
    coco = checked(content, path)
    for category in coco.dataset["categories"]:
        keypoint_names(category, path)
    return coco


def raw_entries(content: object, key: str) -> list[dict]:
    """Return the dictionaries in a list of a JSON file's content, which has not been checked: none where there is no such list."""
    entries = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def checked(dataset: object, path: str | Path) -> COCO:
    """An annotation file's content, indexed. Raises UserError where it is not one's."""
    if not isinstance(dataset, dict) or not isinstance(dataset.get("images"), list):
        raise UserError(f"annotation file {path}: not in COCO's format, it has no list 'images'")
    for key, needed in ENTRIES.items():
        _check_entries(dataset.setdefault(key, []), key, needed, path)
    return indexed(dataset)


def indexed(dataset: dict) -> COCO:
    """pycocotools' index of a COCO file's content."""
    coco = COCO()
    coco.dataset = {"info": {}, **dataset}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


@contextlib.contextmanager
def naming_file(path: str | Path) -> Iterator[None]:
    """What is wrong with an annotation is told with the name of its file."""
    try:
        yield
    except UserError as error:
        raise UserError(f"annotation file {path}: {error}") from error


def _check_entries(entries: object, kind: str, needed: tuple[str, ...], path: str | Path) -> None:
    """What pycocotools takes for granted, and what goes wrong without a word where it is not so: ids that are numbers, each once."""
    where = f"annotation file {path}: not in COCO's format,"
    if not isinstance(entries, list):
        raise UserError(f"{where} {kind!r} is not a list")
    ids = set()
    for entry in entries:
        for key in needed:
            if not isinstance(entry, dict) or key not in entry:
                raise UserError(f"{where} an entry of {kind!r} lacks {key!r}")
            if key.endswith("id") and (type(entry[key]) is not int or abs(entry[key]) >= 2**62):
                raise UserError(f"{where} the {key} {entry[key]!r} in {kind!r} is not a whole number")
            if key == "file_name" and not isinstance(entry[key], str):
                raise UserError(f"{where} the {key} {entry[key]!r} in {kind!r} is not a text")
        if entry.get("iscrowd") not in (None, 0, 1):  # Python would take the text "0" for a crowd
            raise UserError(f"{where} the iscrowd {entry['iscrowd']!r} in {kind!r} is neither 0 nor 1")
        if entry["id"] in ids:
            raise UserError(f"{where} two {kind} have the id {entry['id']}")
        ids.add(entry["id"])


def keypoint_category(coco: COCO, skeleton: Skeleton, path: str | Path) -> tuple[int, np.ndarray]:
    """The id of the category that has most of the skeleton's keypoints, and where each stands in the file's own order (D,); -1: nowhere.

    Raises UserError where no category has any of them, or it and the skeleton overlap only in part; it names what the file has.
    """
    wanted = list(skeleton.dataset)
    kinds = [(category["id"], keypoint_names(category, path)) for category in coco.dataset["categories"]]
    number, names = max(kinds, key=lambda kind: len(set(wanted) & set(kind[1])), default=(0, []))
    if set(wanted) & set(names):
        check_overlap(names, skeleton, f"annotation file {path}")
        return number, np.array([names.index(name) if name in names else -1 for name in wanted])
    found = [f"{category.get('name')} ({_first(names)})" for category, (_, names) in zip(coco.dataset["categories"], kinds)]
    raise UserError(
        f"annotation file {path}: no category has the keypoints of skeleton {skeleton.name!r} ({_first(wanted)});"
        f" categories found: {', '.join(found) or 'none'}; name them as the skeleton's 'dataset' does (COCO: its person_keypoints_*.json)"
    )


def keypoint_names(category: dict, path: str | Path) -> list[str]:
    """The names of a category's keypoints, none where it has none. Raises UserError where they are not texts, each once."""
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"annotation file {path}: the 'keypoints' of category {category.get('name')!r} are not a list of names")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"annotation file {path}: category {category.get('name')!r} has two keypoints {twice!r}")
    return names


def _first(names: list[str]) -> str:
    return ", ".join([*names[:3], *["..."] * (len(names) > 3)]) or "no keypoints"


def image_files(coco: COCO, path: str | Path, folder: Path, limit: int | None = None) -> dict[int, Path]:
    """The files of the images, or of the first so many, by their ids, in the order of these.

    Raises UserError where the annotation file lists none or one is missing: better now than after an hour.
    """
    existing_folder(folder, "image folder")
    files = {image_id: folder / coco.imgs[image_id]["file_name"] for image_id in sorted(coco.imgs)[:limit]}
    if not files:
        raise UserError(f"annotation file {path}: lists no image")
    missing = [coco.imgs[image_id]["file_name"] for image_id, file in files.items() if not file.is_file()]
    if missing:
        raise UserError(f"image folder {folder}: lacks {len(missing)} of the {len(files)} images listed, such as {missing[0]}")
    return files


def listed_size(image: dict) -> Size:
    """Height and width in pixels that an image's entry in the annotation file says; None where it says none that makes sense."""
    height, width = (side if type(side) is int and side > 0 else None for side in (image.get("height"), image.get("width")))
    return height, width


def check_size(path: Path, height: int, width: int, listed: Size) -> None:
    """Raise UserError where an image is not as large as its annotation file says."""
    said = tuple(own if side is None else side for own, side in zip((height, width), listed))
    if (height, width) != said:
        raise UserError(f"image {path}: is {width} x {height}, but the annotation file says {said[1]} x {said[0]}")


def annotated_joints(annotation: dict, order: np.ndarray) -> np.ndarray:
    """(D, 3) x, y, v in the data set's order with v 1 visible, 0 hidden, 2 not labelled (COCO's file has 2, 1, 0).

    order (D,): where each keypoint stands in the file; -1: nowhere. Raises UserError as `file_keypoints` does.
    """
    joints = file_keypoints(annotation, order).astype(np.float32)
    joints[:, 2] = np.array([UNLABELLED, HIDDEN, VISIBLE])[joints[:, 2].astype(int)]
    return joints


def file_keypoints(annotation: dict, order: np.ndarray) -> np.ndarray:
    """(D, 3) x, y, v as the file has them (v 2 visible, 1 hidden, 0 not labelled), in the data set's order; zeros where it has none.

    Raises UserError where the list is too short, or holds anything but finite numbers, or another v.
    """
    if not annotation.get("keypoints"):
        return np.zeros((len(order), 3))
    values = _numbers(annotation, "keypoints", "x, y, v of each keypoint")
    if values.size % 3 or values.size <= 3 * order.max():
        raise UserError(f"annotation {annotation['id']}: {values.size} keypoint numbers, expected 3 for each of the category's keypoints")
    unknown = set(values.ravel()[2::3].tolist()) - {0, 1, 2}
    if unknown:
        raise UserError(f"annotation {annotation['id']}: a keypoint's v is {unknown.pop():g}, expected 0 unlabelled, 1 hidden or 2 visible")
    return np.where(order[:, None] >= 0, values.reshape(-1, 3)[order], 0)


def person_box(annotation: dict) -> np.ndarray:
    """(4,) x, y, width, height in pixels. Raises UserError where there is none."""
    return _numbers(annotation, "bbox", "x, y, width, height", (4,))


def person_area(annotation: dict) -> float:
    """Pixels squared; the box's where the file does not say. Raises UserError where it is not a finite number."""
    if annotation.get("area") is None:
        return float(person_box(annotation)[2:].prod())
    return float(_numbers(annotation, "area", "a number", ()))


def box_and_area(annotation: dict, order: np.ndarray) -> tuple[np.ndarray, float]:
    """`person_box` and `person_area`; zeros where somebody without keypoints has none, UserError where a labelled person has none."""
    try:
        return person_box(annotation), person_area(annotation)
    except UserError:
        if file_keypoints(annotation, order)[:, 2].any() and not annotation.get("iscrowd"):
            raise
        return np.zeros(4), 0.0


def _numbers(annotation: dict, key: str, expected: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """An annotation's value as float64. Raises UserError where it is not of that shape or not all of it are finite numbers."""
    value = annotation.get(key)
    try:
        values = np.asarray(value)
    except ValueError:  # lists of several lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf" or not (np.abs(values) < LARGEST).all() or (shape is not None and values.shape != shape):
        raise UserError(f"annotation {annotation['id']}: its {key!r} is {reprlib.repr(value)}, expected {expected}")
    return values.astype(float)


def person_track(annotation: dict) -> int:
    """Who it is, over the frames of a video; -1 where the file does not say."""
    track = annotation.get("track_id")
    return track if type(track) is int else -1


def has_outline(annotation: dict) -> bool:
    """Whether an annotation says where its person is better than by a box."""
    return bool(annotation.get("segmentation")) and annotation["segmentation"] != [[]]


def outline_runs(annotation: dict, height: int, width: int) -> list[dict]:
    """An annotation's polygons or RLE, as pycocotools' RLEs of the image. Raises UserError where they cannot be decoded."""
    segmentation = annotation["segmentation"]
    try:
        if isinstance(segmentation, list):
            return coco_mask.frPyObjects(_polygons(segmentation), height, width)
        if list(segmentation["size"]) != [height, width]:  # before as much memory is asked for
            raise ValueError(f"it is for another size than the image's {width} x {height}")
        counts = segmentation["counts"]
        lengths = [int(length) for length in (counts if isinstance(counts, list) else _run_lengths(counts))]
        if sum(lengths) != height * width:  # pycocotools leaves the rest as it was in memory
            raise ValueError(f"its runs are of {sum(lengths)} pixels, the image has {height * width}")
        given = coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
        return [mask_runs(coco_mask.decode(given))]  # without empty runs, at which merging may end
    except Exception as error:  # pycocotools has no kinds of its own
        raise UserError(f"annotation {annotation['id']}: its 'segmentation' cannot be decoded ({error})") from error


def mask_runs(mask: np.ndarray) -> dict:
    """pycocotools' RLE of a mask (height, width), bool or of 0 and 1."""
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def runs_mask(runs: list[dict], height: int, width: int) -> np.ndarray:
    """(height, width) bool: the pixels of any of these RLEs of the image."""
    if not runs:
        return np.zeros((height, width), bool)
    return cv2.transpose(coco_mask.decode(coco_mask.merge(runs)).T).view(bool)  # pycocotools goes down the columns


def _run_lengths(counts: str | bytes) -> list[int]:
    """Those of COCO's packed RLE: five bits a character, the lowest first, and from the fourth on less the last but one."""
    lengths: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - ord("0")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the number's last
            value -= (bits & 16) << (shift - 4)  # its sign
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths


def _polygons(segmentation: list) -> list[list[float]]:
    """Those that have an area. Raises ValueError where there is none, or one is not of x, y: pycocotools would read beyond its memory."""
    polygons = [np.asarray(polygon, float) for polygon in segmentation]
    if not all(p.ndim == 1 and p.size % 2 == 0 and (np.abs(p) < FARTHEST).all() for p in polygons):
        raise ValueError("a polygon is not a list of x, y within reach")
    polygons = [polygon.tolist() for polygon in polygons if polygon.size >= 6]
    if not polygons:
        raise ValueError("no polygon has three corners")
    return polygons
