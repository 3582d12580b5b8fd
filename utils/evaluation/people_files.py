"""COCO's figures on people files, by which training watches itself: AP by OKS with the skeleton's own sigmas, whatever the data set.

A people file leaves out pictures without people, so the figures are higher than those of the whole data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch

from config import Skeleton
from config.progress import Progress
from config.skeleton import UNLABELLED
from data.formats.coco import indexed
from data.people_file import PeopleFile
from utils.distributed import World
from utils.evaluation.coco import keypoint_figures, to_detections
from utils.systems import Decoder

CATEGORY = 1


def people_figures(decoder: Decoder, files: Sequence[PeopleFile], skeleton: Skeleton, batch_size: int, world: World) -> dict[str, float]:
    """The ten COCO figures of who is found in all images of the files, which the processes share out; the same in every process."""
    images = [(file, number) for file in files for number in range(len(file))]
    mine = range(world.rank, len(images), world.size)
    waiting, rows = iter(mine), [np.zeros((0, 2 + 3 * skeleton.num_keypoints))]
    with Progress(len(mine), "people found", "image", world.is_main) as progress:
        while batch := list(islice(waiting, batch_size)):
            boxes = [annotated_boxes(*images[n]) for n in batch] if decoder.needs_boxes else None
            found = decoder([file.image(number) for file, number in map(images.__getitem__, batch)], boxes)
            rows += [_rows(n, *people) for n, people in zip(batch, found)]
            progress.advance(len(batch))
    everywhere = torch.cat(world.gathered(torch.from_numpy(np.concatenate(rows)))).numpy()
    everywhere = everywhere[np.argsort(everywhere[:, 0], kind="stable")]
    count, order = len(skeleton.dataset), np.arange(len(skeleton.dataset))
    detections = [
        detection
        for row in everywhere
        for detection in to_detections(int(row[0]), row[2:].reshape(1, -1, 3), row[1:2], skeleton, CATEGORY, order, count)
    ]
    truth = indexed({"images": [{"id": n} for n in range(len(images))], "categories": [{"id": CATEGORY}], "annotations": _truth(images)})
    return keypoint_figures(truth, detections, list(range(len(images))), CATEGORY, order, skeleton.oks_sigmas)


def _rows(image: int, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(P, 2 + 3 K) an image's people, one a row: its number, score, keypoints."""
    return np.concatenate(
        [np.full((len(scores), 1), image), scores[:, None], keypoints.reshape(len(scores), 3 * keypoints.shape[1])], 1
    ).astype(np.float64)


def annotated_boxes(file: PeopleFile, number: int) -> np.ndarray:
    """(B, 5) boxes of an image's people with keypoints, and 1: what a detector would find."""
    rows = np.arange(*file.first[number : number + 2])
    boxes = file.boxes[rows[(file.num_labelled[rows] > 0) & ~file.crowd[rows]]]
    return np.concatenate([boxes, np.ones((len(boxes), 1))], 1)


def _truth(images: Sequence[tuple[PeopleFile, int]]) -> list[dict]:
    """Everybody in the images as COCO annotations."""
    people = []
    for image, (file, number) in enumerate(images):
        rows = np.arange(*file.first[number : number + 2])
        joints = file.skeleton.to_dataset(file.joints(rows))
        labelled = joints[..., 2] != UNLABELLED
        joints = np.where(labelled[..., None], joints + (0, 0, 1), 0)  # COCO's v: 0 not labelled, 1 hidden, 2 visible
        for row, of_person, count in zip(rows, joints, labelled.sum(1).tolist()):
            known = {"bbox": file.boxes[row].tolist(), "area": float(file.areas[row]), "iscrowd": int(file.crowd[row])}
            person = {"id": len(people) + 1, "image_id": image, "category_id": CATEGORY, "num_keypoints": count, **known}
            people.append({**person, "keypoints": of_person.ravel().tolist()})
    return people
