"""Evaluate a checkpoint on COCO's, CrowdPose's or MPII's people: figures where there are annotations, and answers for their servers.

python evaluate.py --checkpoint F --annotations A.json --images DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

from config import UserError
from config.errors import at_least, run_script
from utils.checkpoint import config_for
from utils.evaluation import load_task
from utils.evaluation.coco import CocoTask
from utils.evaluation.evaluate import evaluate
from utils.inference import PoseEstimator

BATCH_SIZE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="ours, or the published format")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO, CrowdPose or MPII file; one without annotations: no figures")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--config", help="YAML file; default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--head-boxes", type=Path, help="for MPII's PCKh; default: gt_NAME.mat or gt_valid.mat beside NAME.json")
    parser.add_argument("--output", type=Path, help="folder for detections.json; default: evaluation/ beside the checkpoint")
    parser.add_argument("--scales", nargs="+", metavar="SCALE", help="scale search, such as 0.5 1 1.5 2 3")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirror image")
    parser.add_argument("--boxes", type=Path, metavar="FILE", help="a detector's, for a system that needs boxes; default: the annotated")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=f"images that are run together; default: {BATCH_SIZE}")
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
    at_least(1, limit=options.limit, batch_size=options.batch_size)
    config = config_for(options.checkpoint, options.config, overrides)
    task = load_task(options.annotations, options.images, config.skeleton, options.limit, options.head_boxes)
    estimator = PoseEstimator(config, options.checkpoint, options.device)
    use_boxes(options.boxes, task, estimator)
    output = options.output or options.checkpoint.parent / "evaluation"
    try:
        evaluate(task, estimator, options.checkpoint, output, options.batch_size, options.boxes)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None


def use_boxes(path: Path | None, task: CocoTask, estimator: PoseEstimator) -> None:
    """Have the task know where people are, if the system must be told. Raises UserError where nobody says it, or the system won't hear."""
    system = estimator.config.system
    if path is not None and not estimator.needs_boxes:
        raise UserError(f"--boxes {path}: system {system!r} finds people by itself; leave it out")
    if path is not None:
        task.take_boxes(path)
    elif estimator.needs_boxes and not task.has_boxes:
        raise UserError(
            f"system {system!r} must be told where people are, and {task.path} has no annotations: give a detector's --boxes FILE"
        )


if __name__ == "__main__":
    run_script(main)
