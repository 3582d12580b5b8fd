"""Evaluate a checkpoint, or people found before, on COCO's, CrowdPose's or MPII's: figures, errors, and answers for their servers.

python evaluate.py --checkpoint F --annotations A.json --images DIR
torchrun --nproc_per_node=N evaluate.py ...                 # N processes share the images
python evaluate.py --detections R.json --annotations A.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from config import UserError
from config.errors import at_least, run_script
from config.files import output_folder
from config.load import load_skeleton
from utils.checkpoint import config_for
from utils.default_network import named_or_default
from utils.evaluation import load_task
from utils.evaluation.coco import CocoTask
from utils.evaluation.evaluate import evaluate, report
from utils.evaluation.shares import Share, joined
from utils.inference import PoseEstimator

BATCH_SIZE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="ours, .safetensors, published, an exported .onnx; default: the project's own")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="COCO's JSON of people found, in a checkpoint's place")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO, CrowdPose or MPII file; one without annotations: no figures")
    parser.add_argument("--images", type=Path, help="folder of the images")
    parser.add_argument("--config", help="YAML file; default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--head-boxes", type=Path, help="for MPII's PCKh; default: gt_NAME.mat or gt_valid.mat beside NAME.json")
    parser.add_argument("--output", type=Path, help="folder; default: evaluation/ beside the checkpoint or detections, else below runs/")
    parser.add_argument("--save-images", type=int, metavar="N", help="write the N worst images, annotated and found side by side")
    parser.add_argument("--scales", nargs="+", metavar="SCALE", help="scale search, such as 0.5 1 1.5 2 3")
    parser.add_argument("--no-flip", action="store_true", help="do not average with the mirror image")
    parser.add_argument("--boxes", type=Path, metavar="FILE", help="a detector's, for a system that needs boxes; default: the annotated")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=f"images that are run together; default: {BATCH_SIZE}")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    at_least(1, limit=options.limit, batch_size=options.batch_size, save_images=options.save_images)
    if options.detections is not None:
        run_detections(options)
        return
    try:
        with joined() as share:
            run_network(options, share)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None


def run_network(options: argparse.Namespace, share: Share) -> None:
    """Evaluate a checkpoint, or the network that comes with the project: this process's share of the images, the first one everything."""
    if options.images is None:
        raise UserError("--images is missing: a network is evaluated with --images, people found with --detections")
    checkpoint = named_or_default(options.checkpoint, options.config, share.is_first)
    overrides = list(options.overrides)
    if options.scales:
        # argparse hands everything up to the next option to --scales: overrides at the command's end too
        overrides += [word for word in options.scales if "=" in word]
        overrides.append(f"inference.scales=[{', '.join(word for word in options.scales if '=' not in word)}]")
    if options.no_flip:
        overrides.append("inference.flip=false")
    config = config_for(checkpoint, options.config, overrides)
    task = load_task(options.annotations, options.images, config.skeleton, options.limit, options.head_boxes)
    task.take_worst(options.save_images)
    task.method = config.system
    estimator = PoseEstimator(config, checkpoint, share.device(options.device))
    use_boxes(options.boxes, task, estimator)
    output = options.output or (checkpoint.parent if options.checkpoint else Path("runs")) / "evaluation"
    evaluate(task, estimator, checkpoint, output, options.batch_size, options.boxes, share)


def run_detections(options: argparse.Namespace) -> None:
    """Evaluate people found before, by whatever. One process does it; torchrun's others have nothing to do."""
    of_network = {name: getattr(options, name) for name in ("checkpoint", "config", "scales", "no_flip", "boxes", "device")}
    unused = [name.replace("_", "-") for name, value in of_network.items() if value]
    others = [word for word in options.overrides if not word.startswith("skeleton=")]
    if unused or others:
        raise UserError(f"--detections needs no network: leave out {f'--{unused[0]}' if unused else others[0]}")
    skeleton = load_skeleton(options.overrides[-1].partition("=")[2]) if options.overrides else None
    task = load_task(options.annotations, options.images, skeleton, options.limit, options.head_boxes)
    task.take_worst(options.save_images)
    detections = task.load(options.detections)
    if Share.of_environment().is_first:
        report(task, detections, output_folder(options.output or options.detections.parent / "evaluation"))


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
