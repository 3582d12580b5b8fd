"""COCO's metrics on training HDF5 files, by which training watches its network: OKS with the skeleton's own sigmas, for every data set.

A training HDF5 has no images without people, so AP is higher than on the whole data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from config import Skeleton
from config.progress import Progress
from config.skeleton import UNLABELLED
from data.formats.coco import indexed
from data.images import warn_left_out
from data.people_file import BrokenImage, PeopleFile
from utils.distributed import DistributedContext
from utils.evaluation.coco import keypoint_metrics, to_results
from utils.streaming import predict_stream, sized_batches
from utils.systems import Decoder

CATEGORY = 1
Entry = tuple[PeopleFile, int]  # an image by its number in a training HDF5


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
