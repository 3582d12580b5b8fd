"""What the default network's photographs need before they can teach it: the labels of faces, and their parts that show nobody.

    python examples/default_model/prepare.py --photos DIR --output OUT

DIR has a folder for each data set, lsp_extended and mpii_photos, with annotations.json (COCO's format, 12 keypoints from shoulders to
ankles) and images. OUT/faces.json gets the people whose faces are labelled in `faces.json` beside this script, with COCO's 17 keypoints;
OUT/bodies.json everybody else, with 12; OUT/backgrounds the parts that show nobody, which `backgrounds.json` names. All of both
annotation files' images lie below DIR.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a script, Python looks in this folder first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse

import numpy as np

from config.errors import UserError, run_script
from config.files import existing_folder, output_folder, read_json, write_json
from config.load import load_skeleton
from data.formats.coco import load_coco, naming_file, person_box
from data.images import read_image, write_image

HERE = Path(__file__).parent
DATASETS = ("lsp_extended", "mpii_photos")
FACE = 5  # keypoints, the first of COCO's


def overlaps(box: np.ndarray, others: list[np.ndarray]) -> bool:
    """Whether one of the boxes, each (4,) x, y, width, height, meets a box."""
    x, y, width, height = box
    return any(x < a + w and a < x + width and y < b + h and b < y + height for a, b, w, h in others)


def by_face_labels(people: list[dict[str, Any]], faces: dict[str, list[float | None]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The people of one image with 17 keypoints, and those with 12.

    faces: of an annotation's id the places of nose, eyes and ears, x, y, ..., pixels, None where there is nothing to see. Whose box meets
    that of somebody of the others is one of them: what is said about the one box would be wrong of the other. Raises UserError where
    somebody has no box.
    """
    rest = [person for person in people if str(person["id"]) not in faces]
    labelled = [person for person in people if str(person["id"]) in faces]
    while met := [person for person in labelled if overlaps(person_box(person), list(map(person_box, rest)))]:
        rest += met
        labelled = [person for person in labelled if person not in met]
    return [with_face(person, faces[str(person["id"])]) for person in labelled], rest


def with_face(person: dict[str, Any], places: list[float | None]) -> dict[str, Any]:
    """Somebody's annotation with the face's keypoints before the 12."""
    face = [value for x, y in zip(places[::2], places[1::2]) for value in ((0, 0, 0) if x is None else (x, y, 2))]
    keypoints = face + person["keypoints"]
    return {**person, "keypoints": keypoints, "num_keypoints": int(np.count_nonzero(keypoints[2::3]))}


def annotation_files(photos: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of faces.json and of bodies.json: each image once, and crowd regions, in every file that has somebody of it."""
    labels, names = read_json(HERE / "faces.json", "labels of faces"), list(load_skeleton("coco").dataset)
    contents = [
        {"images": [], "annotations": [], "categories": [_category(names)]},
        {"images": [], "annotations": [], "categories": [_category(names[FACE:])]},
    ]
    for dataset in DATASETS:
        path = photos / dataset / "annotations.json"
        coco = load_coco(path)
        for number in coco.getImgIds():
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[number]))
            people = [person for person in annotations if not person.get("iscrowd")]
            crowds = [person for person in annotations if person.get("iscrowd")]
            with naming_file(path):
                parts = by_face_labels(people, labels[dataset])
            for content, some in zip(contents, parts):
                if some:
                    _add(content, {**coco.loadImgs([number])[0]}, dataset, some + crowds)
    return contents[0], contents[1]


def _category(names: list[str]) -> dict[str, Any]:
    return {"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": []}


def _add(content: dict[str, Any], image: dict[str, Any], dataset: str, annotations: list[dict[str, Any]]) -> None:
    keypoints = 3 * len(content["categories"][0]["keypoints"])
    image.update(id=len(content["images"]) + 1, file_name=f"{dataset}/images/{image['file_name']}")
    content["images"].append(image)
    for annotation in annotations:
        more = {"keypoints": [0] * keypoints} if annotation.get("iscrowd") else {}
        number = len(content["annotations"]) + 1
        content["annotations"].append({**annotation, **more, "id": number, "image_id": image["id"], "category_id": 1})


def cut_backgrounds(photos: Path, folder: Path) -> int:
    """Write the parts of photographs that show nobody, x0, y0, x1, y1 in pixels, as PNG, in place of those of an earlier run; how many.

    Raises UserError where a photograph is smaller than where its part ends.
    """
    count, listed = 0, read_json(HERE / "backgrounds.json", "list of backgrounds")
    for earlier in [path for dataset in listed for path in folder.glob(f"{dataset}_*.png")]:
        earlier.unlink()
    for dataset, parts in listed.items():
        for name, (x0, y0, x1, y1) in parts.items():
            path = photos / dataset / "images" / name
            image = read_image(path)
            height, width = image.shape[:2]
            if x1 > width or y1 > height:
                part = f"the part that shows nobody reaches to {x1}, {y1}"
                raise UserError(f"image {path}: is {width} x {height}, but {part}; take the sizes that docs/default_model.md tells")
            write_image(folder / f"{dataset}_{Path(name).stem}.png", image[y0:y1, x0:x1])
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="folder with lsp_extended and mpii_photos")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder to write to")
    options = parser.parse_args()
    photos, output = existing_folder(options.photos, "--photos"), output_folder(options.output)
    for name, content in zip(("faces", "bodies"), annotation_files(photos)):
        write_json(output / f"{name}.json", content)
        people = sum(not annotation.get("iscrowd") for annotation in content["annotations"])
        print(f"{output / name}.json: {len(content['images'])} images, {people} people")
    print(f"{output / 'backgrounds'}: {cut_backgrounds(photos, output_folder(output / 'backgrounds'))} pictures")


if __name__ == "__main__":
    run_script(main)
