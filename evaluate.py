"""Evaluate a checkpoint on COCO keypoints: ten figures where the file has annotations, an archive for COCO's server where it has none.

python evaluate.py --config config/simplepose_coco_512.yaml --checkpoint F --annotations A.json --images DIR
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from config import Config, UserError, load_config
from config.errors import run_script
from config.files import existing_folder, output_folder, write_json
from config.progress import Progress
from data.formats.coco import keypoint_category, load_coco, naming_file
from data.images import read_images
from utils.evaluation.coco import (
    FIGURES_NAME,
    figures_table,
    ground_truth,
    keypoint_figures,
    remove_derived,
    to_detections,
    write_submission,
)
from utils.evaluation.journal import Journal
from utils.inference import PoseEstimator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="YAML file that the checkpoint was trained with")
    parser.add_argument("--checkpoint", type=Path, required=True, help="ours, or the published format")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO file; without annotations in it (test-dev) no figures")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, help="folder for detections.json; default: evaluation/ beside the checkpoint")
    parser.add_argument("--scales", nargs="+", metavar="SCALE", help="scale search, such as 0.5 1 1.5 2 3")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirror image")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    overrides = list(options.overrides)
    if options.scales:
        # argparse hands everything up to the next option to --scales: overrides at the command's end too
        overrides += [word for word in options.scales if "=" in word]
        overrides.append(f"inference.scales=[{', '.join(word for word in options.scales if '=' not in word)}]")
    if options.no_flip:
        overrides.append("inference.flip=false")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: expected at least 1")
    try:
        evaluate(load_config(options.config, overrides), options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None


def evaluate(config: Config, options: argparse.Namespace) -> None:
    """Detect people in every image, write them down, and compare with the annotations if there are any."""
    coco = load_coco(options.annotations)
    existing_folder(options.images, "image folder")
    annotated = bool(coco.anns)
    category, order = 1, np.arange(len(config.skeleton.dataset))  # what the server expects for test-dev
    count = len(order)
    if annotated:
        category, order = keypoint_category(coco, config.skeleton, options.annotations)
        count = len(coco.cats[category]["keypoints"])
        with naming_file(options.annotations):
            truth = ground_truth(coco, category, order)  # already here: what is wrong with it should not be told after an hour
    images = [coco.imgs[i] for i in sorted(coco.imgs)][: options.limit]
    _check_images(images, options)
    estimator = PoseEstimator(config, options.checkpoint, options.device)
    output = output_folder(options.output or options.checkpoint.parent / "evaluation")

    with Journal(output / "detections.partial", _fingerprint(config, options)) as journal:
        waiting = [image for image in images if image["id"] not in journal.done]
        with Progress(len(images), "evaluate", "image") as progress:
            progress.advance(len(images) - len(waiting))
            for image, pixels in zip(waiting, read_images(options.images / image["file_name"] for image in waiting)):
                keypoints, scores = estimator(pixels)
                journal.add(image["id"], to_detections(image["id"], keypoints, scores, config.skeleton, category, order, count))
                progress.advance()
        detections = [detection for image in images for detection in journal.done[image["id"]]]
        write_json(output / "detections.json", detections)
        remove_derived(output)
        if annotated:
            ids = [image["id"] for image in images]
            figures = keypoint_figures(truth, detections, ids, category, order, config.skeleton.oks_sigmas)
            write_json(output / FIGURES_NAME, figures)
            print(figures_table(figures))
        else:
            print(f"no annotations to compare with; for the COCO server: {write_submission(output, detections)}")
        journal.finish()
    print(f"{len(detections)} people in {len(images)} images: {output / 'detections.json'}")


def _check_images(images: list[dict], options: argparse.Namespace) -> None:
    """Better now than after an hour."""
    if not images:
        raise UserError(f"annotation file {options.annotations}: lists no image")
    missing = [image["file_name"] for image in images if not (options.images / image["file_name"]).is_file()]
    if missing:
        raise UserError(f"image folder {options.images}: lacks {len(missing)} of the {len(images)} images listed, such as {missing[0]}")


def _fingerprint(config: Config, options: argparse.Namespace) -> str:
    """What an evaluation's detections depend on."""
    parts = [config.model_dump_json(), str(options.images.resolve())]
    for file in (options.checkpoint, options.annotations):
        parts += [str(file.resolve()), str(file.stat().st_size), str(file.stat().st_mtime_ns)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    run_script(main)
