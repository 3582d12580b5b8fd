"""How good the network is: its loss on the validation samples, and COCO's metrics on the images of the validation HDF5 files.

OKS uses the skeleton's own sigmas, for every data set. A training HDF5 has no images without people, so AP is higher than on the data set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from config import Skeleton
from config.progress import Progress
from config.skeleton import UNLABELLED
from data.formats.coco import indexed
from data.images import warn_left_out
from data.people_file import BrokenImage, PeopleFile
from utils.distributed import DistributedContext
from utils.evaluation.coco import keypoint_metrics, to_results
from utils.streaming import predict_stream, sized_batches
from utils.systems import Decoder, build_decoder
from utils.training.state import Run
from utils.training.step import TrainingStep, batch_on
from utils.visualize.people import draw_people

CATEGORY = 1
Entry = tuple[PeopleFile, int]  # an image by its number in a training HDF5


@torch.no_grad()
def validate(run: Run, loader: Iterable[NamedTuple], epoch: int, average: nn.Module | None = None) -> float:
    """The mean loss over all validation samples of all processes; a few pictures go to TensorBoard.

    The same to the last bit, however the batches are shared out; on a GPU with `train.deterministic`.
    average: a network of the same kind in the place of the run's.
    """
    spread, world = run.step, run.world
    if average is not None:
        spread = TrainingStep(average, world.unwrap(run.step).loss, run.config.train.precision)
    world.broadcast_buffers(world.unwrap(spread))
    spread.eval()
    step = world.local_module(spread)
    sums = [torch.zeros(0, 2, device=world.device, dtype=torch.float64)]  # of each batch: sum over samples, their number
    for i, batch in enumerate(loader):
        run.interrupts.check()
        images, targets = batch_on(world.device, batch, run.config)
        total = step(images, targets).sum().double()
        sums.append(torch.stack([total, total.new_tensor(len(images))])[None])
        count = run.config.train.val_images
        if i == 0 and run.curves is not None and count and average is None:
            heatmaps = world.unwrap(spread).predict(images[:count])[0]
            decoder = build_decoder(run.network, run.config)
            run.curves.pictures(epoch + 1, "validation", decoder.draw(images[:count], heatmaps, targets[0][:count]))
    losses, counts = torch.cat(world.all_gather(torch.cat(sums))).T.tolist()
    return math.fsum(losses) / sum(counts)


@torch.no_grad()
def find_people(run: Run, epoch: int, average: nn.Module | None = None) -> dict[str, float]:
    """COCO's figures of the people found in the validation files; a few pictures of them go to TensorBoard."""
    config, network = run.config, run.network if average is None else average
    files = [PeopleFile(path, config.skeleton) for path in config.data.val_files]
    run.world.broadcast_buffers(network)
    network.eval()
    decoder = build_decoder(network, config)
    figures = validation_metrics(decoder, files, config.skeleton, config.train.batch_size, run.world)
    count = min(config.train.val_images, len(files[0]))
    if run.curves is not None and count and average is None:
        shown = predict_images(decoder, [(files[0], number) for number in range(count)], count, run.world.device)
        pictures = [draw_people(files[0].image(number), keypoints, config.skeleton) for number, keypoints, _ in shown]
        run.curves.pictures(epoch + 1, "people", pictures)
    return figures


def validation_metrics(
    decoder: Decoder, files: Sequence[PeopleFile], skeleton: Skeleton, batch_size: int, world: DistributedContext
) -> dict[str, float]:
    """Return COCO's ten metrics over all images of the files, which the ranks share; the same on every rank. Skip corrupt images."""
    images = [(file, number) for file in files for number in range(len(file))]
    batches = sized_batches(range(len(images)), lambda i: decoder.alike(tuple(images[i][0].sizes[images[i][1]].tolist())), batch_size)
    own = [i for batch in batches[world.rank :: world.size] for i in batch]
    rows, seen = [np.zeros((0, 2 + 3 * skeleton.num_keypoints))], []
    with Progress(len(own), "validation AP", "image", world.is_main) as progress:
        for place, keypoints, scores in predict_images(decoder, [images[i] for i in own], batch_size, world.device):
            seen.append(own[place])
            flat = keypoints.reshape(len(scores), 3 * skeleton.num_keypoints)
            rows.append(np.column_stack([np.full(len(scores), own[place]), scores, flat]))
            progress.advance()
    found = torch.cat(world.all_gather(torch.from_numpy(np.concatenate(rows)))).numpy()
    found = found[np.argsort(found[:, 0], kind="stable")]
    seen = sorted(torch.cat(world.all_gather(torch.tensor(seen, dtype=torch.int64))).tolist())
    count, order = len(skeleton.dataset), np.arange(len(skeleton.dataset))
    results = [
        result for row in found for result in to_results(int(row[0]), row[2:].reshape(1, -1, 3), row[1:2], skeleton, CATEGORY, order, count)
    ]
    truth = indexed({"images": [{"id": i} for i in seen], "categories": [{"id": CATEGORY}], "annotations": _annotations(images, seen)})
    return keypoint_metrics(truth, results, seen, CATEGORY, order, skeleton.oks_sigmas)


def predict_images(
    decoder: Decoder, images: Sequence[Entry], batch_size: int, device: torch.device
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield index, keypoints (P, K, 3) and scores (P,) of each image in order; name the corrupt ones and skip them."""
    readable: list[int] = []

    def pixels_and_boxes() -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
        for i, (file, number) in enumerate(images):
            try:
                image = file.image(number)
            except BrokenImage as error:
                warn_left_out(str(error))
                continue
            readable.append(i)
            yield image, annotated_boxes(file, number) if decoder.needs_boxes else None

    for place, (keypoints, scores) in enumerate(predict_stream(decoder, pixels_and_boxes(), batch_size, device)):
        yield readable[place], keypoints, scores


def annotated_boxes(file: PeopleFile, number: int) -> np.ndarray:
    """Return (B, 5): the boxes of an image's people with keypoints and the score 1, as a perfect detector's."""
    rows = np.arange(*file.first[number : number + 2])
    boxes = file.boxes[rows[(file.num_labelled[rows] > 0) & ~file.crowd[rows]]]
    return np.concatenate([boxes, np.ones((len(boxes), 1))], 1)


def _annotations(images: Sequence[Entry], seen: Sequence[int]) -> list[dict]:
    """Return all people of the images with these indices as COCO annotations."""
    people = []
    for i in seen:
        file, number = images[i]
        rows = np.arange(*file.first[number : number + 2])
        keypoints = file.skeleton.to_dataset(file.joints(rows))
        labeled = keypoints[..., 2] != UNLABELLED
        keypoints = np.where(labeled[..., None], keypoints + (0, 0, 1), 0)  # COCO's v: 0 unlabeled, 1 occluded, 2 visible
        for row, of_person, count in zip(rows, keypoints, labeled.sum(1).tolist()):
            shape = {"bbox": file.boxes[row].tolist(), "area": float(file.areas[row]), "iscrowd": int(file.crowd[row])}
            person = {"id": len(people) + 1, "image_id": i, "category_id": CATEGORY, "num_keypoints": count, **shape}
            people.append({**person, "keypoints": of_person.ravel().tolist()})
    return people
