"""Validation: the loss on the validation samples, and COCO's metrics on the images of the validation HDF5 files.

OKS uses the skeleton's own sigmas, for every data set. A training HDF5 has no images without people, so AP is higher than on the data set.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from config import Skeleton
from config.progress import Progress
from config.signals import StopSignal
from config.skeleton import UNLABELED
from data.formats.coco import indexed
from data.hdf5 import CorruptImageError, TrainingHDF5
from data.images import warn_skipped
from utils.batching import predict_stream, sized_batches
from utils.distributed import DistributedContext
from utils.evaluation.coco import keypoint_metrics, to_results
from utils.predictions import PosePredictions
from utils.systems import Decoder, build_decoder
from utils.training.state import TrainState
from utils.training.step import TrainingStep, to_device

CATEGORY = 1
Entry = tuple[TrainingHDF5, int]  # an image by its number in a training HDF5


@torch.no_grad()
def validate(state: TrainState, loader: Iterable[NamedTuple], epoch: int, average: nn.Module | None = None) -> float:
    """Return the mean loss over all validation samples of all ranks. A few images with heatmaps go to TensorBoard.

    It is the same to the last bit, however the batches are shared out; on a GPU with `train.deterministic`.
    average: a network to validate in place of the run's.
    """
    wrapped, context = state.step, state.context
    if average is not None:
        wrapped = TrainingStep(average, context.unwrap(state.step).loss, state.config.train.precision)
    context.broadcast_buffers(context.unwrap(wrapped))
    wrapped.eval()
    # Ranks may have different numbers of batches: none waits for the others in a step
    step, shown = context.unwrap(wrapped) if context.parallel == "distributed" else wrapped, state.config.train.val_images
    sums = []  # of each batch: loss times samples, on the device; samples
    for i, batch in enumerate(loader):
        state.stop.check()
        images, targets = to_device(context.device, batch, state.config)
        sums.append((step(images, targets).sum(), len(images)))
        if i == 0 and state.metrics is not None and shown and average is None:
            heatmaps = context.unwrap(wrapped).predict(images[:shown])[0]
            decoder = build_decoder(state.network, state.config)
            state.metrics.add_images(epoch + 1, "validation", decoder.draw(images[:shown], heatmaps, targets[0][:shown]))
    own = [(total.item(), count) for total, count in sums]
    losses, counts = zip(*chain.from_iterable(context.all_gather(own)))
    return math.fsum(losses) / sum(counts)


@torch.no_grad()
def validation_ap(state: TrainState, epoch: int, average: nn.Module | None = None) -> float:
    """Return COCO's AP of the predictions on the validation files' images, a few of which go to TensorBoard."""
    config, network = state.config, state.network if average is None else average
    files = [TrainingHDF5(path, config.skeleton) for path in config.data.val_files]
    state.context.broadcast_buffers(network)
    network.eval()
    decoder, images = build_decoder(network, config), [(file, number) for file in files for number in range(len(file))]
    metrics = validation_metrics(decoder, images, config.skeleton, config.train.batch_size, state.context, state.stop)
    shown = range(min(config.train.val_images, len(images)))
    if state.metrics is not None and shown and average is None:
        predictions = predict_images(decoder, images, shown, len(shown), state.context.device)
        overlays = [people.draw(images[i][0].image(images[i][1])) for i, people in predictions]
        state.metrics.add_images(epoch + 1, "people", overlays)
    return metrics["AP"]


def validation_metrics(
    decoder: Decoder, images: Sequence[Entry], skeleton: Skeleton, batch_size: int, context: DistributedContext, stop: StopSignal
) -> dict[str, float]:
    """Return COCO's ten metrics over the images, which the ranks share; the same on every rank. Skip corrupt images."""
    batches = sized_batches(range(len(images)), lambda i: decoder.batch_key(tuple(images[i][0].sizes[images[i][1]].tolist())), batch_size)
    own = [i for batch in batches[context.rank :: context.size] for i in batch]
    count, order = len(skeleton.dataset), np.arange(len(skeleton.dataset))
    seen, results = [], []
    with Progress(len(own), "validation AP", "image", context.is_main) as progress:
        for i, people in predict_images(decoder, images, own, batch_size, context.device):
            stop.check()
            seen.append(i)
            results += to_results(i, people, skeleton, CATEGORY, order, count)
            progress.advance()
    of_ranks = context.all_gather((seen, results))
    seen = sorted(i for images_of_rank, _ in of_ranks for i in images_of_rank)
    results = sorted((result for _, of_rank in of_ranks for result in of_rank), key=lambda result: result["image_id"])
    truth = indexed({"images": [{"id": i} for i in seen], "categories": [{"id": CATEGORY}], "annotations": _annotations(images, seen)})
    return keypoint_metrics(truth, results, seen, CATEGORY, order, skeleton.oks_sigmas)


def predict_images(
    decoder: Decoder, images: Sequence[Entry], indices: Iterable[int], batch_size: int, device: torch.device
) -> Iterator[tuple[int, PosePredictions]]:
    """Yield index and people of the images with these indices; name the corrupt ones and skip them."""

    def inputs() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        for i in indices:
            file, number = images[i]
            try:
                yield i, file.image(number), annotated_boxes(file, number)
            except CorruptImageError as error:
                warn_skipped(str(error))

    return predict_stream(decoder, inputs(), batch_size, device)


def annotated_boxes(file: TrainingHDF5, number: int) -> np.ndarray:
    """Return (B, 5): the boxes of an image's people with keypoints and the score 1, as a perfect detector's."""
    rows = np.arange(*file.first[number : number + 2])
    boxes = file.boxes[rows[(file.num_labeled[rows] > 0) & ~file.crowd[rows]]]
    return np.concatenate([boxes, np.ones((len(boxes), 1))], 1)


def _annotations(images: Sequence[Entry], seen: Sequence[int]) -> list[dict]:
    """Return all people of the images with these indices as COCO annotations."""
    people: list[dict] = []
    for i in seen:
        file, number = images[i]
        rows = np.arange(*file.first[number : number + 2])
        keypoints = file.skeleton.to_dataset(file.joints(rows))
        labeled = keypoints[..., 2] != UNLABELED
        keypoints = np.where(labeled[..., None], keypoints + (0, 0, 1), 0)  # COCO's v: 0 unlabeled, 1 occluded, 2 visible
        for row, of_person, count in zip(rows, keypoints, labeled.sum(1).tolist()):
            shape = {"bbox": file.boxes[row].tolist(), "area": float(file.areas[row]), "iscrowd": int(file.crowd[row])}
            person = {"id": len(people) + 1, "image_id": i, "category_id": CATEGORY, "num_keypoints": count, **shape}
            people.append({**person, "keypoints": of_person.ravel().tolist()})
    return people
