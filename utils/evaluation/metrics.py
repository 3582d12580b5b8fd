"""An evaluation: the metric of the data set's format, a resumable run of the network, and the files of results."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from config import UserError
from config.files import output_folder, write_json
from data.formats import FORMATS
from utils.distributed import DistributedContext
from utils.evaluation.analysis import ANALYSIS_NAME, CURVES_NAME, ERRORS_NAME
from utils.evaluation.coco import METRICS_NAME, SUBMISSION_NAME, CocoMetric, GroundTruth
from utils.evaluation.mpii import PREDICTIONS_NAME
from utils.evaluation.worst import remove_worst
from utils.inference import PoseEstimator
from utils.results_log import ResultsLog, fingerprint, predict_images

LOG_NAME, DETECTIONS_NAME = "detections.partial", "detections.json"
DERIVED = (METRICS_NAME, ANALYSIS_NAME, CURVES_NAME, ERRORS_NAME, PREDICTIONS_NAME, f"{SUBMISSION_NAME.format('*', '*')}.*")


def build_metric(ground_truth: GroundTruth, head_boxes: Path | None = None) -> CocoMetric:
    """Return the metric of the annotation file's format. head_boxes: file for PCKh; a UserError where the format is not MPII's."""
    metric = resolve_name(FORMATS[ground_truth.format].metric)()
    if head_boxes is not None:
        if not hasattr(metric, "head_boxes"):
            raise UserError(f"--head-boxes {head_boxes}: is for MPII's evaluation, but annotation file {ground_truth.path} is not MPII's")
        metric.head_boxes = head_boxes
    return metric


def evaluate(
    metric: CocoMetric,
    ground_truth: GroundTruth,
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
    inputs = metric.inputs(ground_truth, estimator.needs_boxes, boxes_file)
    files = [checkpoint, ground_truth.path, *[boxes_file] * (boxes_file is not None)]
    output = output_folder(output)
    with ResultsLog(output / LOG_NAME, fingerprint(config, ground_truth.folder, *files), context.rank) as log:
        context.barrier()  # no rank writes before rank 0 has locked the log
        to_results = partial(metric.to_results, ground_truth)
        ranks = (context.rank, context.size)
        predict_images(log, estimator.decoder, inputs, to_results, batch_size, estimator.device, "evaluate", *ranks)
        context.barrier()
        if not context.is_main:
            return
        results = log.results()
        predictions = [result for input_id in inputs for result in results[input_id]]
        write_json(output / DETECTIONS_NAME, predictions)
        report(metric, predictions, ground_truth, output, save_images, config.system)
        log.remove()
    print(f"{len(predictions)} people in {len(ground_truth.files)} images: {output / DETECTIONS_NAME}")


def report(
    metric: CocoMetric, predictions: list[dict], ground_truth: GroundTruth, output: Path, save_images: int = 0, system: str = "simplepose"
) -> None:
    """Replace an earlier evaluation's files by the metric's, and print its summary. system: the method's name for a server."""
    for name in DERIVED:
        for path in output.glob(name):
            path.unlink()
    remove_worst(output)
    with np.errstate(over="ignore"):  # the squared distance of a far prediction may be infinite: its OKS is 0
        print(metric.report(predictions, ground_truth, output, save_images, system))
