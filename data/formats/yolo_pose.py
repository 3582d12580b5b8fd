"""YOLO's pose data sets: a data.yaml, and a text file for each image, in a folder `labels` where the image's path has `images`.

A line is a person: class, center x, y, width and height of the box, then x, y and perhaps v of each keypoint, as COCO has v. Positions are
fractions of the image's sides. An image without a file, or with an empty one, has no people.

The files have six digits. Positions are rounded to 0.01 pixels, so that a data set made of COCO's is the same again.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from config import Skeleton, UserError
from config.files import existing_folder, read_text
from config.load import fitting_skeleton, known_skeletons
from config.progress import progress_bar
from config.yaml_files import read_yaml
from data.formats.coco import AnnotationFile
from data.images import IMAGE_SUFFIXES, image_size, read_images

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # keys of data.yaml
BOX = 5  # values before the keypoints
LEAST, LARGEST = -1, 2  # of a fraction: people can reach beyond the image
MEDIAN_SIGMA = 0.072  # of COCO's keypoints, for those that no known skeleton has
FAR = 1e3  # in place of the distance of two keypoints that no person has


class Layout(NamedTuple):
    """What a data set's label files hold: of `keypoints` keypoints `values` numbers each, 2 or 3; of `classes`."""

    keypoints: int
    values: int
    classes: Sequence[int]


def matches(file: AnnotationFile) -> bool:
    """Return whether a file is YAML."""
    return file.path.suffix.lower() in (".yaml", ".yml")


def load(file: AnnotationFile) -> dict[str, Any]:
    """Return a split's images and people in COCO's format, with `folders` of the images and the data set's `flip_idx`.

    The folders are `file.images` if there are any, else those that data.yaml names. A category's id is the class + 1, so that people are 1
    as in COCO. Ids of images are the stems of their names, as whole numbers if all are. Raises UserError for a line that is not as above.
    """
    data, place = read_yaml(file.path, "annotation file", whole_number_keys=True), f"annotation file {file.path}"
    shape = data.get("kpt_shape")
    if not (isinstance(shape, list) and len(shape) == 2 and type(shape[0]) is int and shape[0] > 0 and shape[1] in (2, 3)):
        got = f"its 'kpt_shape' is {shape!r}" if "kpt_shape" in data else "has no 'kpt_shape'"
        raise UserError(f"{place}: {got}; expected the data.yaml of a YOLO pose data set, with kpt_shape: [keypoints, 2 or 3]")
    categories = _categories(data, shape[0], place)
    folder, names = _split_images(data, file)
    layout, paths = Layout(shape[0], shape[1], [category["id"] - 1 for category in categories]), [folder / name for name in names]
    if not any(label_path(path).is_file() for path in paths):
        raise UserError(f"{place}: none of its {len(paths)} images has a label file, such as {label_path(paths[0])}")
    images, annotations = list[dict](), list[dict]()
    for (number, file_id), name, (size, people) in progress_bar(
        zip(_image_ids(names), names, read_images(paths, partial(_read_labels, layout=layout))), len(names), "labels", "image"
    ):
        sides = dict(zip(("height", "width"), size)) if size else {}
        images.append({"id": number, "file_id": file_id, "file_name": name, **sides})
        lines = set()
        for line, person in people:
            label = f"{os.path.relpath(label_path(folder / name), folder)}, line {line}"
            if repr(person) in lines:
                file.fixes.add("omitted: listed a second time", f"{place}: {label}")
                continue
            lines.add(repr(person))
            annotations.append({"id": len(annotations) + 1, "file_id": label, "image_id": number, **person})
    return {"images": images, "annotations": annotations, "categories": categories, "folders": [folder], "flip_idx": data.get("flip_idx")}


def label_path(image: Path) -> Path:
    """Return the label file of an image: in the last folder `images` of its path, `labels` takes that name's place."""
    parts = list(image.parts[:-1])
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, f"{image.stem}.txt")


# data.yaml


def _categories(data: dict[str, Any], count: int, place: str) -> list[dict[str, Any]]:
    """Return the classes as COCO's categories. Raise UserError where they or the names of their keypoints are not as YOLO has them."""
    names, keypoints = (
        dict(enumerate(data[key])) if isinstance(data.get(key), list) else data.get(key) or {} for key in ("names", "kpt_names")
    )
    if not isinstance(names, dict) or not names or not all(type(number) is int and number >= 0 for number in names):
        raise UserError(f"{place}: its 'names' are not the classes by number; expected such as names: {{0: person}}")
    if isinstance(keypoints, dict) and all(isinstance(name, str) for name in keypoints.values()):  # one list for all classes
        keypoints = dict.fromkeys(names, [*keypoints.values()]) if keypoints else {}
    for number, of_class in keypoints.items() if isinstance(keypoints, dict) else [(0, None)]:
        if not isinstance(of_class, list) or len(of_class) != count or len(set(map(str, of_class))) != count:
            raise UserError(f"{place}: its 'kpt_names' of class {number} are not {count} different names, as 'kpt_shape' says")
    return [
        {"id": number + 1, "file_id": number + 1, "name": str(name), "keypoints": [*map(str, keypoints.get(number, []))]}
        for number, name in names.items()
    ]


def _split_images(data: dict[str, Any], file: AnnotationFile) -> tuple[Path, list[str]]:
    """Return a folder, and the paths of a split's images from there."""
    place, key = f"annotation file {file.path}", next((key for key in SPLITS[file.split] if data.get(key)), "")
    if not key and not file.images:
        has = " or ".join(name for name, keys in SPLITS.items() if any(data.get(key) for key in keys))
        raise UserError(f"{place}: has no split {file.split!r}; " + (f"choose --split {has}" if has else "name it, or give --images"))
    sources, listed = file.images or data[key], []
    for source in sources if isinstance(sources, list | tuple) else [sources]:
        path = existing_folder(source, "images") if file.images else _existing(source, data, file)
        if path.is_dir():
            files = (inner for inner in path.rglob("*") if not inner.name.startswith("."))
        else:  # a list, of paths from its own folder
            files = (path.parent / line.strip() for line in read_text(path, "list of images").splitlines() if line.strip())
        listed += [os.path.normpath(inner.absolute()) for inner in files if inner.suffix.lower() in IMAGE_SUFFIXES]
    if not listed:
        raise UserError(f"{place}: split {file.split!r} has no image")
    folder = Path(os.path.commonpath([Path(name).parent for name in listed]))
    return folder, sorted(Path(name).relative_to(folder).as_posix() for name in dict.fromkeys(listed))


def _existing(source: Any, data: dict[str, Any], file: AnnotationFile) -> Path:
    """Return the folder or list that data.yaml names: from its `path`, which is from its own folder or the current one, or without it.

    Exports that lie in another folder than they say have "../" too much.
    """
    own = file.path.parent
    roots = [own / str(data.get("path") or "."), Path(str(data.get("path") or ".")), own]
    names = [str(source), str(source).removeprefix("../")]
    found = next((root / name for root in roots for name in names if (root / name).exists()), None)
    if found is None:
        remedy = "correct its 'path', or give the folder with --images"
        raise UserError(f"annotation file {file.path}: images {roots[0] / names[0]}: not found; {remedy}")
    return found


def _image_ids(names: Sequence[str]) -> list[tuple[int, int | str]]:
    """Return the number of each image, and its id in results."""
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() and len(stem) <= 18 for stem in stems) and len({*map(int, stems)}) == len(stems):
        return [(int(stem), int(stem)) for stem in stems]
    return [*enumerate(stems if len({*stems}) == len(stems) else names, start=1)]


# Labels


def _read_labels(image: Path, layout: Layout) -> tuple[tuple[int, int] | None, list[tuple[int, dict[str, Any]]]]:
    """Return an image's height and width, None if it cannot be read, and its people with the numbers of their lines.

    Raise UserError where a line is not of this layout.
    """
    path, people = label_path(image), []
    lines = read_text(path, "label file").splitlines() if path.is_file() else []
    try:
        size = image_size(image)
    except UserError:  # whoever needs the image says so
        return None, []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            people.append((number, _person(line.split(), layout, *size, f"label file {path}: line {number}")))
    return size, people


def _person(words: list[str], layout: Layout, height: int, width: int, place: str) -> dict[str, Any]:
    """Convert a line's words to a person as COCO has it, in pixels. Raise UserError where they are not of this layout."""
    count, expected = layout.keypoints, BOX + layout.keypoints * layout.values
    form = f"class, box x, y, width, height, and {layout.values} for each of the {count} keypoints"
    try:
        values = np.array([*map(float, words)])
    except ValueError as error:
        raise UserError(f"{place}: {str(error).rpartition(': ')[2]:.40} is not a number; expected {form}") from None
    if len(values) != expected:
        raise UserError(f"{place}: has {len(values)} numbers, expected {expected}: {form}")
    if values[0] not in layout.classes:
        raise UserError(f"{place}: its class is {words[0]}, expected one of 'names', such as {layout.classes[0]}")
    keypoints = values[BOX:].reshape(count, layout.values)
    fractions = np.concatenate([values[1:BOX], keypoints[:, :2].ravel()])
    outside = ~((fractions >= LEAST) & (fractions <= LARGEST))
    if outside.any():
        raise UserError(f"{place}: has the position {fractions[outside][0]:g}, expected fractions of the image's sides, 0 to 1")
    if min(values[3:BOX]) < 0:
        raise UserError(f"{place}: its box has a side below 0")
    points, (x, y, box_width, box_height) = keypoints[:, :2] * (width, height), values[1:BOX] * (width, height, width, height)
    # Without v, what is missing is 0 0 or below
    v = keypoints[:, 2] if layout.values == 3 else 2 * ((keypoints >= 0).all(1) & keypoints.any(1))
    box = np.round([x - box_width / 2, y - box_height / 2, box_width, box_height], 2)
    flat = np.column_stack([np.where(np.reshape(v, (-1, 1)) == 0, 0, np.round(points, 2)), v]).ravel()
    return {"category_id": int(values[0]) + 1, "iscrowd": 0, "bbox": box.tolist(), "keypoints": flat.tolist()}


# The skeleton of keypoints that no known one has


def skeleton(file: AnnotationFile, content: dict[str, Any]) -> Skeleton:
    """Return the known skeleton with all keypoints of a data set, or one that is made of its labels and flip_idx.

    Sigmas are those of known skeletons by name, else COCO's median. Limbs are of `nearest_limbs`. Raise UserError where names or flip_idx
    are missing.
    """
    place, names = f"annotation file {file.path}", next((c["keypoints"] for c in content["categories"] if c["keypoints"]), list[str]())
    if not names:
        raise UserError(f"{place}: has no 'kpt_names'; add them, or give their --skeleton and --names-from-skeleton")
    known = fitting_skeleton(names)
    if set(known.own_names(names)) <= set(known.dataset):
        return known
    mirror, numbers = content["flip_idx"], list(range(len(names)))
    if not isinstance(mirror, list) or sorted(map(str, mirror)) != sorted(map(str, numbers)) or [mirror[m] for m in mirror] != numbers:
        raise UserError(
            f"{place}: its 'flip_idx' is {mirror!r:.60}; expected for each of the {len(names)} keypoints the number of its left or right"
            " partner, or its own"
        )
    sigmas = {name: one.sigmas[own] for one in known_skeletons()[::-1] for name, own in one.dataset.items()}
    people = np.array([person["keypoints"] for person in content["annotations"]]).reshape(-1, len(names), 3)
    sides = np.array([person["bbox"][2:] for person in content["annotations"]]).reshape(-1, 2)
    limbs, tree = nearest_limbs(people, sides.max(1, initial=1), np.array(mirror))
    return Skeleton(
        name=file.path.resolve().parent.name if file.path.stem in ("data", "dataset") else file.path.stem,
        keypoints=names,
        limbs=[(names[a], names[b]) for a, b in limbs],
        flip_pairs=[(names[a], names[b]) for a, b in enumerate(mirror) if a < b],
        sigmas={name: sigmas.get(name, MEDIAN_SIGMA) for name in names},
        dataset={name: name for name in names},
        drawn=[(names[a], names[b]) for a, b in tree],
    )


Pairs = list[tuple[int, int]]


def nearest_limbs(people: np.ndarray, sizes: np.ndarray, mirror: np.ndarray) -> tuple[Pairs, Pairs]:
    """Return limbs, and those of them that draw a person: each keypoint and the two that are nearest, and a tree that connects all.

    Near is a small root mean square distance relative to the person's size, which a bone has and two parts that only meet have not.
    people (P, K, 3) x, y, v above 0 where labeled; sizes (P,) in pixels; mirror (K,) the partner of each keypoint.
    """
    from scipy.sparse.csgraph import minimum_spanning_tree

    points, labeled, count = people[..., :2] / np.maximum(sizes, 1)[:, None, None], people[..., 2] > 0, len(mirror)
    distance = np.full((count, count), FAR)
    for a in range(count):
        both = labeled & labeled[:, a : a + 1]
        squares = ((points - points[:, a : a + 1]) ** 2).sum(2) * both
        np.divide(squares.sum(0), both.sum(0), out=distance[a], where=both.any(0))
    distance = (distance + distance[mirror][:, mirror]) / 2 + np.spacing(1)  # 0 would be no edge
    tree = [*zip(*minimum_spanning_tree(np.triu(distance, 1)).nonzero())]
    np.fill_diagonal(distance, np.inf)
    nearest = [(a, b) for a, order in enumerate(np.argsort(distance, 1)) for b in order[: min(2, count - 1)]]
    drawn, limbs = (
        sorted({(min(a, b), max(a, b)) for pair in pairs for a, b in (pair, mirror[[*pair]])}) for pairs in (tree, [*tree, *nearest])
    )
    return limbs, drawn
