"""Summarize a training HDF5, list possible label issues, and draw a contact sheet of its samples.

python -m utils.inspect F.h5
python -m utils.inspect F.h5 --config C.yaml --output sheet.png
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import h5py
import numpy as np

from config import Config, Skeleton, UserError, load_config
from config.errors import check_minimum, run_cli
from config.files import existing_file
from config.load import known_skeletons, load_skeleton
from config.progress import progress_bar
from data.datasets import PoseDataset, build_dataset
from data.hdf5 import TrainingHDF5
from data.images import encode_image, write_image
from utils.inspect.issues import LabelIssue, find_label_issues
from utils.inspect.report import summary
from utils.inspect.sheet import image_row, legend, render_sample
from utils.visualize.contact_sheet import contact_sheet

COLUMNS = 3  # of images without samples


def fitting_skeleton(path: Path) -> Skeleton:
    """Return the known skeleton that has all keypoints of the file, and fewest others; any for a file that TrainingHDF5 refuses."""
    try:
        with h5py.File(existing_file(path, "training file"), "r") as file:
            names = set(file.attrs.get("keypoints", ()))
    except OSError:
        names = set()
    fitting = [skeleton for skeleton in map(load_skeleton, known_skeletons()) if names <= set(skeleton.dataset)]
    if not fitting:
        first = ", ".join([*map(str, sorted(names)[:3]), "..."])
        raise UserError(f"training file {path}: labels {first}, which none of config/skeletons has; name its skeleton with --skeleton")
    return min(fitting, key=lambda skeleton: len(skeleton.dataset))


def chosen_images(issues: dict[str, list[LabelIssue]], candidates: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """Return `count` images at most for the sheet: some of each kind of issue, up to half of the sheet, then random candidates."""
    suspected = [listed[turn].image for turn in range(count) for listed in issues.values() if turn < len(listed)]
    suspected = list(dict.fromkeys(suspected))[: -(-count // 2)]
    others = [number for number in rng.permutation(candidates).tolist() if number not in suspected]
    return [*suspected, *others][:count]


def draw_sheet(
    people: TrainingHDF5, config: Config | None, samples: PoseDataset | None, issues: dict[str, list[LabelIssue]], count: int, seed: int
) -> np.ndarray:
    """Draw the sheet (H, W, 3) uint8 BGR; without a configuration, of images without samples."""
    numbers = {int(image_id): number for number, image_id in reversed(list(enumerate(people.image_ids)))}
    samples_of = defaultdict(list)
    for index in range(0 if samples is None else len(samples)):
        samples_of[numbers[samples.image_id(index)]].append(index)
    issues_of = defaultdict(list)
    for kind, listed in issues.items():
        for issue in listed:
            issues_of[issue.image].append((kind, issue))
    candidates = list(range(len(people))) if samples is None else sorted(samples_of)
    chosen, rows = chosen_images(issues, candidates, count, np.random.default_rng(seed)), []
    for number in progress_bar(chosen, len(chosen), "sheet", "image"):
        rng, rendered = np.random.default_rng([seed, number]), []
        if number in samples_of:
            index = int(rng.choice(samples_of[number]))
            rendered = [render_sample(samples, config, index, generator) for generator in (None, rng)]
        rows.append(image_row(people, number, issues_of[number], rendered))
    return contact_sheet([legend(people.skeleton), contact_sheet(rows, COLUMNS if samples is None else 1)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m utils.inspect", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="as data/coco_masks_hdf5.py builds it")
    parser.add_argument("--config", type=Path, help="count and draw the samples that this configuration's system makes of the file")
    parser.add_argument("--skeleton", help="name in config/skeletons, or path of a YAML file; default: the configuration's, or what fits")
    parser.add_argument("--output", type=Path, help="image to draw samples on, those with possible issues first")
    parser.add_argument("--count", type=int, default=8, help="images on the sheet")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images and their augmentation")
    options = parser.parse_args()
    check_minimum(1, count=options.count)
    check_minimum(0, seed=options.seed)
    cv2.setNumThreads(1)
    config = samples = None
    if options.config is not None:
        config = load_config(options.config, [f"skeleton={options.skeleton}"] if options.skeleton else [])
        skeleton = config.skeleton
    else:
        skeleton = load_skeleton(options.skeleton) if options.skeleton else fitting_skeleton(options.file)
    if options.output is not None:
        encode_image(options.output, np.zeros((1, 1, 3), np.uint8))  # fail early if the format is unknown
    people = TrainingHDF5(options.file, skeleton)
    if config is not None:
        samples = build_dataset(people, config)
    issues = find_label_issues(people)
    print(summary(people, issues, None if samples is None else f"{len(samples):,} of the system {config.system!r}"))
    if options.output is not None:
        write_image(options.output, draw_sheet(people, config, samples, issues, options.count, options.seed))
        print(options.output)


if __name__ == "__main__":
    run_cli(main)
