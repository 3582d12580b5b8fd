"""An evaluation: the metric of the data set's format, a resumable run of the network, and the files of results."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from pkgutil import resolve_name

from config import UserError
from config.files import output_folder, write_json
from data.formats import FORMATS
from utils.distributed import DistributedContext
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.inference import PoseEstimator
from utils.results_log import ResultsLog, fingerprint, predict_images

DERIVED = (  # files of `report`
    *("metrics.json", "analysis.json", "pr_curves.png", "errors.png", "pred.mat"),
    *("person_keypoints_*_results.json", "person_keypoints_*_results.zip", "worst/[0-9]*_*.jpg"),
)


def build_metric(truth: GroundTruth, head_boxes: Path | None = None, save_images: int = 0) -> CocoMetric:
    """Return the metric of the annotation file's format. Raise UserError where it has no use for head boxes or ranks no images."""
    metric = resolve_name(FORMATS[truth.format].metric)()
    if head_boxes is not None and not hasattr(metric, "head_boxes"):
        raise UserError(f"--head-boxes {head_boxes}: is for MPII's evaluation, but annotation file {truth.path} is not MPII's")
    if save_images and not (metric.ranks_images and truth.is_annotated and truth.folder):
        raise UserError("--save-images: needs annotations of another format than MPII's, and the folder of --images; omit it")
    metric.head_boxes = head_boxes
    return metric


def evaluate(
    metric: CocoMetric,
    truth: GroundTruth,
    estimator: PoseEstimator,
    checkpoint: Path,
    output: Path,
    context: DistributedContext,
    batch_size: int = 1,
    boxes_file: Path | None = None,
    save_images: int = 0,
) -> None:
    """Run the network on all images, shared by the ranks; rank 0 writes the predictions and calls `report`.

    boxes_file: a detector's, in place of the annotated boxes. Raises UserError where an image cannot be read or has another size than
    listed.
    """
    config = estimator.config
    if boxes_file is not None and not estimator.needs_boxes:
        raise UserError(f"--boxes {boxes_file}: system {config.system!r} is bottom-up and needs no boxes; omit it")
    inputs = metric.inputs(truth, estimator.needs_boxes, boxes_file)
    files = [checkpoint, truth.path, *[boxes_file] * (boxes_file is not None)]
    output = output_folder(output)
    with ResultsLog(output / "detections.partial", fingerprint(config, truth.folder, *files), context.rank) as log:
        context.barrier()  # no rank writes before rank 0 has locked the log
        to_results = partial(metric.to_results, truth)
        ranks = (context.rank, context.size)
        predict_images(log, estimator.decoder, inputs, to_results, batch_size, estimator.device, "evaluate", *ranks)
        context.barrier()
        if not context.is_main:
            return
        results = log.results()
        predictions = [result for input_id in inputs for result in results[input_id]]
        write_json(output / "detections.json", truth.with_file_ids(predictions))
        report(metric, predictions, truth, output, save_images, config.system)
        log.remove()
    print(f"{len(predictions)} people in {len(truth.files)} images: {output / 'detections.json'}")


def report(
    metric: CocoMetric, predictions: list[dict], truth: GroundTruth, output: Path, save_images: int = 0, system: str = "simplepose"
) -> None:
    """Replace an earlier evaluation's files by the metric's, and print its summary. system: the method's name for a server."""
    for path in [path for name in DERIVED for path in output.glob(name)]:
        path.unlink()
    print(metric.report(predictions, truth, output, save_images, system))
