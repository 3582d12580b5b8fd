"""An evaluation: the metric of the data set's format, a resumable run of the network, and the files of results."""

import sys
from functools import partial
from hashlib import sha256
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from config import UserError
from config.files import output_folder, read_json, write_json
from data.formats import FORMATS
from utils.distributed import DistributedContext
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.html_report import write_html
from utils.inference import PoseEstimator
from utils.results_log import ResultsLog, fingerprint, predict_images

IMAGES = ".images.json"  # suffix of the record beside a file of predictions
DERIVED = (  # files of `report`
    *("metrics.json", "report.html", "analysis.json", "pr_curves.png", "errors.png", "pred.mat"),
    *("person_keypoints_*_results.json", "person_keypoints_*_results.zip", "worst/[0-9]*_*.jpg"),
)


def build_metric(truth: GroundTruth, head_boxes: Path | None = None, save_images: int = 0) -> CocoMetric:
    """Return the metric of the annotation file's format. Raise UserError where it has no use for head boxes or ranks no images."""
    metric = resolve_name(FORMATS[truth.format].metric)()
    if head_boxes is not None and not hasattr(metric, "head_boxes"):
        raise UserError(f"--head-boxes {head_boxes}: is for MPII's evaluation, but annotation file {truth.path} is not MPII's")
    if save_images and not (metric.ranks_images and truth.is_annotated and truth.containers):
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
    if context.is_main:
        truth.fixes.report()
    files = [checkpoint, truth.path, *[boxes_file] * (boxes_file is not None)]
    output = output_folder(output)
    with ResultsLog(output / "detections.partial", fingerprint(config, *truth.containers, *files), context.rank) as log:
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
        record_images(output / "detections.json", truth)
        report(metric, predictions, truth, output, checkpoint, save_images, config.system)
        log.remove()
    print(f"{len(predictions)} people in {len(truth.files)} images: {output / 'detections.json'}")


def record_images(detections: Path, truth: GroundTruth) -> None:
    """Write beside a file of predictions which images it is of, for `load_predictions`."""
    images = [truth.coco.imgs[image_id]["file_id"] for image_id in truth.files]
    write_json(detections.with_suffix(IMAGES), {"sha256": sha256(detections.read_bytes()).hexdigest(), "images": images})


def recorded_images(detections: Path) -> set[Any] | None:
    """Return the annotation file's ids of the images that a file of predictions is of; None where its run has not recorded them."""
    path = detections.with_suffix(IMAGES)
    record = read_json(path, "record of images") if path.is_file() and detections.is_file() else None
    if isinstance(record, dict) and record.get("sha256") == sha256(detections.read_bytes()).hexdigest():
        return set(record["images"])
    return None


def load_predictions(metric: CocoMetric, path: Path, truth: GroundTruth) -> list[dict]:
    """Read predictions of the ground truth's images, and reduce these to those that the predictions' run has looked at, if it says so."""
    recorded, count = recorded_images(path), len(truth.files)
    if recorded is not None:
        truth.files = {number: file for number, file in truth.files.items() if truth.coco.imgs[number]["file_id"] in recorded}
        if not truth.files:
            raise UserError(f"detections {path}: none of the images that its run looked at is in annotation file {truth.path}")
        if len(truth.files) < count:
            print(f"detections {path}: evaluated on the {len(truth.files)} of {count} images that its run looked at", file=sys.stderr)
    predictions = metric.load_results(path, truth)
    truth.fixes.report()
    without = len(truth.files.keys() - {prediction["image_id"] for prediction in predictions})
    if recorded is None and without:
        remedy = "people in them count as missed; if the results are of a run with --limit N, add --limit N"
        print(f"detections {path}: {without} of {count} images have no result at all; {remedy}", file=sys.stderr)
    return predictions


def report(
    metric: CocoMetric,
    predictions: list[dict],
    truth: GroundTruth,
    output: Path,
    source: Path,
    save_images: int = 0,
    system: str = "simplepose",
) -> None:
    """Replace an earlier evaluation's files by the metric's, print its summary, and gather all in report.html.

    source: the checkpoint or file that the predictions are from. system: the method's name for a server.
    """
    for path in [path for name in DERIVED for path in output.glob(name)]:
        path.unlink()
    print(metric.report(predictions, truth, output, save_images, system))
    if (output / "metrics.json").exists():
        found = f"{len(predictions)} people in {len(truth.files)} images"
        print(f"report: {write_html(output, {'Predictions': source, 'Annotations': truth.path, 'Found': found})}")
