#!/usr/bin/env python
"""Put new pictures together from annotated photographs: people are cut out, by their keypoints, and put before backgrounds without people.

    python data/compose.py --annotations A.json [B.json ...] --images DIR [DIR ...] --output OUT --count N --seed S [--backgrounds DIR]

writes OUT/images/000000000001.jpg ... and OUT/annotations.json in COCO's format, with outlines and with the keypoints that the sources
label. Picture i depends on the seed, the sources, the backgrounds and i alone. Everybody in it is known, so that it teaches what is no
person, too. Backgrounds are the pictures of --backgrounds, in which nobody must be; without it, the parts of the photographs that are
outside of everybody's boxes and of crowd regions, and drawn ones where no photograph has such parts. Pictures that are damaged,
and photographs that are not as large as their annotation file says, are named and left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
from typing import Any

import cv2
import numpy as np

from config.errors import at_least, run_script
from config.files import check_apart, output_folder, write_json, written_whole
from config.progress import track
from data.composed.backdrop import Pieces, free_piece, largest_piece
from data.composed.cutout import Cutout, cut_out
from data.composed.people import Photograph, Sources, read_sources
from data.composed.scene import ENLARGED, Find, compose
from data.images import any_image, picture_files
from data.processes import in_processes

SHAPES = ((4, 3), (3, 4), (3, 2), (1, 1), (2, 3))  # width : height of the pictures
SHARES = (0.5, 0.2, 0.12, 0.1, 0.08)  # of the pictures that have each
QUALITY = 88  # of the JPEGs
TRIES = 12  # people who are tried before one less is in the picture
LOOKED_AT = 24  # photographs in which backgrounds are looked for, before it is said that there are none
UPRIGHT = 0.7  # `Person.uprightness` of people who stand, at least: they lean by 45 degrees at most
NOT_UPRIGHT = 0.3  # of the draws of people who do not stand that are taken: sports pictures have more of them than others
LEAST_LONGEST = 96  # pixels of the longest side
Given = tuple[tuple[Path, ...], tuple[Path, ...]]  # annotation files and their folders of images


def _compose_one(
    index: int, seed: int, longest: int, given: Given, backgrounds: Path | None, folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write picture `index` (from 1) into a folder; give back its image entry and its annotations, without their ids."""
    rng = np.random.default_rng([seed, index])
    sources = read_sources(*given)
    shape = np.array(SHAPES[rng.choice(len(SHAPES), p=SHARES)])
    width, height = np.round(shape / shape.max() * longest).astype(int).tolist()
    image, people = compose(rng, _finder(sources), _pieces(sources, backgrounds), sources.labelled, height, width)
    name = f"{index:012d}.jpg"
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with written_whole(folder / name) as path:
        path.write_bytes(encoded.tobytes())
    return {"id": index, "file_name": name, "height": height, "width": width}, [{"image_id": index, **person} for person in people]


def _finder(sources: Sources) -> Find:
    """Finds somebody by chance whom the wanted size enlarges not too much; most of them upright."""

    def find(rng: np.random.Generator, unit: float) -> Cutout | None:
        least = min(unit / ENLARGED, float(np.percentile(sources.sizes, 95)))
        fitting = np.flatnonzero(sources.sizes >= least)
        for number in rng.choice(fitting, TRIES).tolist():
            if sources.uprightness[number] < UPRIGHT and rng.random() > NOT_UPRIGHT:
                continue
            if (cutout := cut_out(sources.people[number])) is not None:
                return cutout
        return None

    return find


def _pieces(sources: Sources, backgrounds: Path | None) -> Pieces:
    if backgrounds is None:
        return lambda rng: free_piece(rng, sources.photographs)
    files = picture_files(backgrounds, "--backgrounds")
    return lambda rng: any_image(rng, files)


def write_composed(
    annotations: list[Path],
    folders: list[Path],
    output: Path,
    count: int,
    seed: int,
    backgrounds: Path | None = None,
    longest: int = 448,
    workers: int = 1,
) -> Path:
    """Write `count` pictures, the longest side so many pixels, and their annotations below `output`; the path of the annotation file.

    The annotation file comes last and whole: where it is, every picture it names is there.
    """
    at_least(1, count=count, workers=workers)
    at_least(0, seed=seed)
    at_least(LEAST_LONGEST, longest=longest)
    for known in (read_sources, picture_files):
        known.cache_clear()  # the files may have changed since another call
    given = tuple(map(Path, annotations)), tuple(map(Path, folders))
    check_apart(output, filter(None, [*given[0], *given[1], backgrounds]))
    sources = read_sources(*given)  # what is wrong with them is told before anything is written
    if backgrounds is not None:
        picture_files(backgrounds, "--backgrounds")
    else:
        _warn_of_drawn(sources.photographs)
    (output_folder(output) / "annotations.json").unlink(missing_ok=True)  # an earlier one does not describe the pictures from here on
    pictures = output_folder(output / "images")
    jobs = ((index, seed, longest, given, backgrounds, pictures) for index in range(1, count + 1))
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for image, of_image in track(in_processes(_compose_one, jobs, min(workers, count)), count, "composing", unit="pictures"):
        images.append(image)
        people += [{"id": len(people) + i, **annotation} for i, annotation in enumerate(of_image, start=1)]
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": sources.names, "skeleton": []}
    content = {"info": {"description": f"people of other photographs, seed {seed}"}, "images": images, "annotations": people}
    write_json(output / "annotations.json", {**content, "categories": [category]})
    return output / "annotations.json"


def _warn_of_drawn(photographs: list[Photograph]) -> None:
    """Say where some of the photographs, from the first to the last, have no part without people."""
    some = [photographs[i] for i in np.linspace(0, len(photographs) - 1, min(len(photographs), LOOKED_AT)).astype(int)]
    if all(largest_piece(photograph) is None for photograph in some):
        print(
            f"warning: no part without people found in {len(some)} photographs; where there is none, backgrounds are drawn;"
            " better give --backgrounds",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--annotations", type=Path, nargs="+", required=True, metavar="A.json", help="photographs' annotations, COCO's format"
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, metavar="DIR", help="folder of the images, of each file or for all"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder for images/ and annotations.json")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="how many pictures")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="the same seed composes the same files")
    parser.add_argument("--backgrounds", type=Path, metavar="DIR", help="folder of pictures without people")
    parser.add_argument("--longest", type=int, default=448, metavar="PIXELS", help="longest side of the pictures (448)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one per core)")
    options = parser.parse_args()
    path = write_composed(
        options.annotations,
        options.images,
        options.output,
        count=options.count,
        seed=options.seed,
        backgrounds=options.backgrounds,
        longest=options.longest,
        workers=options.workers,
    )
    print(f"{options.count} pictures: {path}")


if __name__ == "__main__":
    run_script(main)
