"""Summarize a training HDF5, list possible label issues, and draw a contact sheet of its samples.

python -m utils.inspect F.h5
python -m utils.inspect F.h5 --config C.yaml --output sheet.png

Colors of the sheet: keypoints orange on one side of the body and blue on the other, occluded ones faint; boxes yellow, those of possible
issues red; masks of people green, of people without keypoints red, of crowd regions violet.
"""

import argparse
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from config import load_config
from config.errors import check_minimum, run_cli
from config.files import check_outputs
from config.load import load_skeleton
from config.progress import progress_bar
from data.datasets import PoseDataset, build_dataset
from data.hdf5 import TrainingHDF5
from data.images import encode_image, write_image
from utils.inspect.issues import LabelIssue, find_label_issues
from utils.inspect.report import summary
from utils.inspect.sheet import image_row, render_sample
from utils.visualize.contact_sheet import contact_sheet

WIDTH = 2400  # pixels of the sheet
Issues = dict[str, list[LabelIssue]]


def choose_images(issues: Issues, candidates: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Return `count` images at most for the sheet: some of each kind of issue, up to half of the sheet, then random candidates."""
    suspected = dict.fromkeys(issue.image for of_each_kind in zip_longest(*issues.values()) for issue in of_each_kind if issue)
    return list(dict.fromkeys([*[*suspected][: -(-count // 2)], *rng.permutation(candidates).tolist()]))[:count]


def draw_sheet(people: TrainingHDF5, samples: PoseDataset | None, issues: Issues, count: int, seed: int) -> np.ndarray:
    """Draw the sheet (H, W, 3) uint8 BGR."""
    candidates = range(len(people)) if samples is None else np.unique(samples.image_of)
    rows, chosen = [], choose_images(issues, candidates, count, np.random.default_rng(seed))
    for number in progress_bar(chosen, len(chosen), "sheet", "image"):
        rng, rendered = np.random.default_rng([seed, number]), []
        own = np.flatnonzero(() if samples is None else samples.image_of == number)
        if len(own):
            index = int(rng.choice(own))
            rendered = [render_sample(samples, index, generator) for generator in (None, rng)]
        own_issues = [(kind, issue) for kind, of_kind in issues.items() for issue in of_kind if issue.image == number]
        rows.append(image_row(people, number, own_issues, rendered))
    return contact_sheet(rows, max(map(len, rows)), WIDTH)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m utils.inspect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    if options.output is not None:
        check_outputs([options.output], [options.file, options.config, options.skeleton])
        encode_image(options.output, np.zeros((1, 1, 3), np.uint8))  # fail early if the format is unknown
    skeleton, samples = load_skeleton(options.skeleton) if options.skeleton else None, None
    if options.config is None:
        people = TrainingHDF5(options.file, skeleton)
    else:
        config = load_config(options.config, [f"skeleton={options.skeleton}"] if skeleton else [])
        people = TrainingHDF5(options.file, config.skeleton)
        samples = build_dataset(people, config)
    issues = find_label_issues(people)
    print(summary(people, issues, samples))
    if options.output is not None:
        write_image(options.output, draw_sheet(people, samples, issues, options.count, options.seed))
        print(options.output)


if __name__ == "__main__":
    run_cli(main)
