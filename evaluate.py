"""Evaluate a checkpoint, or predictions of any origin, by the metrics of COCO, CrowdPose, MPII or PoseTrack18.

python evaluate.py --checkpoint F --annotations A.json --images DIR
torchrun --nproc_per_node=N evaluate.py ...                 # N processes share the images
python evaluate.py --detections R.json --annotations A.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from config import Skeleton, UserError
from config.errors import check_minimum, run_cli
from config.files import check_outputs
from config.load import load_skeleton
from data.formats import NAMES_HELP, SPLIT_HELP
from data.formats.coco import Split
from utils.bundled_model import resolve_checkpoint
from utils.checkpoint import config_for
from utils.distributed import DistributedContext, evaluation_context
from utils.evaluation.coco import GroundTruth
from utils.evaluation.metrics import DERIVED, IMAGES, build_metric, evaluate, load_predictions, report
from utils.inference import PoseEstimator
from utils.zoo import is_network


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    source, add = parser.add_mutually_exclusive_group(), parser.add_argument
    source.add_argument("--checkpoint", type=Path, help="ours, .safetensors, published, .onnx, or a network's name; default: bundled")
    source.add_argument("--detections", type=Path, metavar="FILE", help="predictions in COCO's format, in place of a checkpoint")
    add("--annotations", type=Path, required=True, help="COCO, CrowdPose, MPII, PoseTrack18 file or YOLO data.yaml; can be unannotated")
    add("--images", nargs="+", metavar="PATH", help="folders or zip files of the images; data.yaml says where they are")
    add("--split", choices=get_args(Split), help=f"{SPLIT_HELP}; default: val")
    add("--config", help="YAML file; default: the one stored in the checkpoint, or the published recipe")
    add("--head-boxes", type=Path, help="for MPII's PCKh; default: gt_NAME.mat or gt_valid.mat beside NAME.json")
    add("--output", type=Path, help="folder; default: evaluation/ beside the checkpoint or detections, else below runs/")
    add("--save-images", type=int, metavar="N", default=0, help="write the N worst images, annotations and predictions side by side")
    add("--scales", nargs="+", metavar="SCALE", help="multi-scale testing, such as 0.5 1 1.5 2 3")
    add("--no-flip", action="store_true", help="do not average with the horizontally flipped image")
    add("--tiles", action="store_true", help="also look at overlapping tiles of large images, for small people")
    add("--boxes", type=Path, metavar="FILE", help="detections for a top-down system; default: the annotated boxes")
    add("--limit", type=int, help="only the first N images")
    add("--batch-size", type=int, default=4, help="images of a batch; default: 4")
    add("--strict", action="store_true", help="what would be fixed or omitted in annotations and predictions is an error")
    add("--names-from-skeleton", action="store_true", help=NAMES_HELP)
    add("--device", help="such as cpu or cuda:0")
    add("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    for name in ("images", "scales"):  # argparse gives such an option all words up to the next one, overrides included
        words = getattr(options, name) or []
        options.overrides += [word for word in words if "=" in word and not Path(word).exists()]
        setattr(options, name, [word for word in words if word not in options.overrides])
    check_minimum(1, limit=options.limit, batch_size=options.batch_size)
    check_minimum(0, save_images=options.save_images)
    if options.detections is not None:
        evaluate_detections(options)
        return
    try:
        with evaluation_context() as context:
            evaluate_network(options, context)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command continues") from None


def evaluate_network(options: argparse.Namespace, context: DistributedContext) -> None:
    """Evaluate a checkpoint, or the bundled model, on this rank's part of the images."""
    checkpoint = resolve_checkpoint(options.checkpoint, options.config, context.is_main)
    overrides = ["inference.flip=false"] * options.no_flip + ["inference.tiles=true"] * options.tiles + options.overrides
    if options.scales:
        overrides.append(f"inference.scales=[{', '.join(options.scales)}]")
    config = config_for(checkpoint, options.config, overrides)
    truth = ground_truth(options, config.skeleton)
    if not truth.containers:
        raise UserError("--images: missing; add the folder of the images, or evaluate predictions with --detections")
    metric = build_metric(truth, options.head_boxes, options.save_images)
    output = options.output or evaluation_folder(options.checkpoint)
    check_results(output, ["detections.json", f"detections{IMAGES}", *DERIVED], options, truth)
    estimator = PoseEstimator(config, checkpoint, options.device or context.shared_gpu())
    evaluate(metric, truth, estimator, checkpoint.path, output, context, options.batch_size, options.boxes, options.save_images)


def evaluation_folder(checkpoint: Path | None) -> Path:
    """Return the folder beside a checkpoint, or below runs/ for a network by name."""
    if checkpoint is not None and not is_network(checkpoint):
        return checkpoint.parent / "evaluation"
    return Path("runs", checkpoint or "", "evaluation")


def ground_truth(options: argparse.Namespace, skeleton: Skeleton | None) -> GroundTruth:
    """Return the annotations that the options name."""
    images = [Path(path) for path in options.images]
    return GroundTruth(options.annotations, images, skeleton, options.limit, options.names_from_skeleton, options.strict, options.split)


def evaluate_detections(options: argparse.Namespace) -> None:
    """Evaluate predictions of any origin."""
    unused = [f"--{name}" for name in ("config", "scales", "tiles", "boxes", "device") if getattr(options, name)]
    unused += [word for word in options.overrides if not word.startswith("skeleton=")]
    if unused:
        raise UserError(f"--detections: needs no network; omit {unused[0]}")
    skeleton = load_skeleton(options.overrides[-1].partition("=")[2]) if options.overrides else None
    truth = ground_truth(options, skeleton)
    metric = build_metric(truth, options.head_boxes, options.save_images)
    output = options.output or options.detections.parent / "evaluation"
    check_results(output, DERIVED, options, truth)
    report(metric, load_predictions(metric, options.detections, truth), truth, output, options.detections, options.save_images)


def check_results(output: Path, names: Sequence[str], options: argparse.Namespace, truth: GroundTruth) -> None:
    """Raise UserError where a file of these names, or the folder of the worst images, is an input."""
    given = [getattr(options, name) for name in ("checkpoint", "detections", "annotations", "config", "head_boxes", "boxes")]
    written = [path for name in names for path in output.glob(name)]
    check_outputs(written, [*given, *truth.containers, *(file.path for file in truth.files.values())], [output / "worst"])


if __name__ == "__main__":
    run_cli(main)
