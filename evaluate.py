"""Evaluate a checkpoint, or predictions of any origin, by the metrics of COCO, CrowdPose or MPII; write what their servers take.

python evaluate.py --checkpoint F --annotations A.json --images DIR
torchrun --nproc_per_node=N evaluate.py ...                 # N processes share the images
python evaluate.py --detections R.json --annotations A.json
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from config import UserError
from config.errors import check_minimum, run_cli
from config.files import output_folder
from config.load import load_skeleton
from utils.bundled_model import resolve_checkpoint
from utils.checkpoint import Checkpoint, config_for
from utils.distributed import DistributedContext, evaluation_context
from utils.evaluation.coco import GroundTruth
from utils.evaluation.metrics import build_metric, evaluate, report
from utils.inference import PoseEstimator

BATCH_SIZE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, help="ours, .safetensors, published, an exported .onnx; default: the project's own")
    parser.add_argument("--detections", type=Path, metavar="FILE", help="COCO's JSON of people found, in a checkpoint's place")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO, CrowdPose or MPII file; one without annotations: no metrics")
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
    check_minimum(1, limit=options.limit, batch_size=options.batch_size, save_images=options.save_images)
    if options.detections is not None:
        evaluate_detections(options)
        return
    try:
        with evaluation_context() as context:
            evaluate_network(options, context)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None


def evaluate_network(options: argparse.Namespace, context: DistributedContext) -> None:
    """Evaluate a checkpoint, or the network that comes with the project, on this rank's part of the images."""
    if options.images is None:
        raise UserError("--images is missing: a network is evaluated with --images, people found with --detections")
    checkpoint = resolve_checkpoint(options.checkpoint, options.config, context.is_main)
    overrides = list(options.overrides)
    if options.scales:
        # argparse hands everything up to the next option to --scales: overrides at the command's end too
        overrides += [word for word in options.scales if "=" in word]
        overrides.append(f"inference.scales=[{', '.join(word for word in options.scales if '=' not in word)}]")
    if options.no_flip:
        overrides.append("inference.flip=false")
    opened = Checkpoint(checkpoint)
    config = config_for(opened, options.config, overrides)
    truth = GroundTruth(options.annotations, options.images, config.skeleton, options.limit)
    metric = build_metric(truth, options.head_boxes)
    if options.save_images:
        metric.check_save_images(truth)
    estimator = PoseEstimator(config, opened, options.device or context.shared_gpu())
    output = options.output or (checkpoint.parent if options.checkpoint else Path("runs")) / "evaluation"
    evaluate(metric, truth, estimator, checkpoint, output, context, options.batch_size, options.boxes, options.save_images or 0)


def evaluate_detections(options: argparse.Namespace) -> None:
    """Evaluate predictions of any origin. One rank does it; torchrun's others have nothing to do."""
    of_network = {name: getattr(options, name) for name in ("checkpoint", "config", "scales", "no_flip", "boxes", "device")}
    unused = [f"--{name.replace('_', '-')}" for name, value in of_network.items() if value]
    unused += [word for word in options.overrides if not word.startswith("skeleton=")]
    if unused:
        raise UserError(f"--detections needs no network: leave out {unused[0]}")
    skeleton = load_skeleton(options.overrides[-1].partition("=")[2]) if options.overrides else None
    truth = GroundTruth(options.annotations, options.images, skeleton, options.limit)
    metric = build_metric(truth, options.head_boxes)
    if options.save_images:
        metric.check_save_images(truth)
    predictions = metric.load_results(options.detections, truth)
    if int(os.environ.get("RANK", 0)) == 0:
        folder = output_folder(options.output or options.detections.parent / "evaluation")
        report(metric, predictions, truth, folder, options.save_images or 0)


if __name__ == "__main__":
    run_cli(main)
