"""Say what is in a people file, what in it looks like a mistake, and draw a sheet of its samples.

python -m data.inspect F.h5
python -m data.inspect F.h5 --config C.yaml --output sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import h5py
import numpy as np

from config import Config, Skeleton, UserError, load_config
from config.errors import at_least, run_script
from config.files import existing_file
from config.load import known_skeletons, load_skeleton
from config.progress import track
from data.datasets import build_dataset
from data.images import encode_image, write_image
from data.inspect import report
from data.inspect.sheet import drawing, row, stacked
from data.inspect.suspects import Suspect, find_suspects, read_files
from data.people_file import PeopleFile

COLUMNS = 3  # of photographs alone


def fitting_skeleton(path: Path) -> Skeleton:
    """The skeleton that the project has for the keypoints that a file labels; the first one's people file says what is wrong with it."""
    try:
        with h5py.File(existing_file(path, "training file"), "r") as file:
            names = set(file.attrs.get("keypoints", ()))
    except OSError:
        names = set()
    skeletons = [load_skeleton(name) for name in known_skeletons()]
    fitting = [skeleton for skeleton in skeletons if names <= set(skeleton.dataset)]
    if not fitting and names:
        first = ", ".join([*map(str, sorted(names)[:3]), "..."])
        raise UserError(f"training file {path}: labels {first}, which none of config/skeletons has; name its skeleton with --skeleton")
    return min(fitting or skeletons, key=lambda skeleton: len(set(skeleton.dataset) - names))


def chosen_images(found: dict[str, list[Suspect]], of_image: dict[int, list[int]], count: int, seed: int) -> list[int]:
    """(count,) numbers of the images on the sheet: some of each kind of suspects, half of the sheet at most, then any by chance."""
    rng = np.random.default_rng(seed)
    suspected: list[int] = []
    for turn in range(count):
        suspected += [some[turn].image for some in found.values() if turn < len(some)]
    suspected = list(dict.fromkeys(suspected))[: -(-count // 2)]
    others = [number for number in rng.permutation(sorted(of_image)).tolist() if number not in suspected]
    return [*suspected, *others[: count - len(suspected)]]


def draw_sheet(people: PeopleFile, config: Config | None, found: dict[str, list[Suspect]], count: int, seed: int) -> np.ndarray:
    """The sheet (H, W, 3) uint8 BGR; without a configuration the photographs alone."""
    draw = None
    if config is None:
        of_image: dict[int, list[int]] = {number: [] for number in range(len(people))}
    else:
        samples = build_dataset(people, config)
        draw = drawing(samples, config)
        numbers = {int(image_id): number for number, image_id in reversed(list(enumerate(people.image_ids)))}
        of_image = {}
        for index in range(len(samples)):
            of_image.setdefault(numbers[samples.image_id(index)], []).append(index)
    suspects: dict[int, list[tuple[str, Suspect]]] = {}
    for kind, some in found.items():
        for suspect in some:
            suspects.setdefault(suspect.image, []).append((kind, suspect))
    chosen, rows = chosen_images(found, of_image, count, seed), []
    for number in track(chosen, len(chosen), "sheet", "image"):
        rng = np.random.default_rng([seed, number])
        here = of_image.get(number) or [None]
        rows.append(row(people, number, suspects.get(number, []), draw, here[int(rng.integers(len(here)))], rng))
    return stacked(rows, people.skeleton, COLUMNS if config is None else 1)


def inspect(path: Path, config: Config | None, skeleton: Skeleton, output: Path | None, count: int, seed: int) -> None:
    """Print the report; write the sheet where there is an `output`."""
    if output is not None:
        encode_image(output, np.zeros((1, 1, 3), np.uint8))  # better now than after all that follows
    people = PeopleFile(path, skeleton)
    digests, sizes = read_files(people)
    lines = report.counts(people, sizes)
    if config is not None:
        lines.append(f"samples          {len(build_dataset(people, config)):,} of the system {config.system!r}")
    print(report.titled(str(path), lines))
    print(report.titled("keypoints of people who have any: # visible, - labelled but hidden", report.keypoints(people)))
    print(report.titled("heights of people's boxes, pixels", report.heights(people)))
    print(report.titled("areas of people, pixels", report.areas(people)))
    print(report.titled("people an image", report.people_an_image(people)))
    found = find_suspects(people, digests)
    print(report.titled("suspicious, to be looked at", report.suspects(people, found)))
    if output is not None:
        write_image(output, draw_sheet(people, config, found, count, seed))
        print(output)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data.inspect", description="What is in a people file, and what in it looks wrong.")
    parser.add_argument("file", type=Path, help="as data/coco_masks_hdf5.py builds it")
    parser.add_argument("--config", type=Path, help="count and draw the samples that this configuration's system makes of the file")
    parser.add_argument(
        "--skeleton", help="name in config/skeletons, or path of a YAML file; as it stands the configuration's, or what fits"
    )
    parser.add_argument("--output", type=Path, help="picture to draw samples on, suspected ones first")
    parser.add_argument("--count", type=int, default=8, help="images on the sheet")
    parser.add_argument("--seed", type=int, default=0, help="which images are drawn, and how they are augmented")
    options = parser.parse_args()
    at_least(1, count=options.count)
    at_least(0, seed=options.seed)
    cv2.setNumThreads(1)
    config = None
    if options.config is not None:
        config = load_config(options.config, [f"skeleton={options.skeleton}"] if options.skeleton else [])
    if config is not None:
        skeleton = config.skeleton
    else:
        skeleton = load_skeleton(options.skeleton) if options.skeleton else fitting_skeleton(options.file)
    inspect(options.file, config, skeleton, options.output, options.count, options.seed)


if __name__ == "__main__":
    run_script(main)
