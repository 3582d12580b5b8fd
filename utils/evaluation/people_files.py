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
from data.images import warn_left_out
from data.people_file import BrokenImage, PeopleFile
from utils.distributed import World
from utils.evaluation.coco import keypoint_figures, to_detections
from utils.systems import Decoder, People

CATEGORY = 1
Place = tuple[PeopleFile, int]  # an image by its number in a people file


def people_figures(decoder: Decoder, files: Sequence[PeopleFile], skeleton: Skeleton, batch_size: int, world: World) -> dict[str, float]:
    """The ten COCO figures of who is found in all images of the files, which the processes share out; the same in every process.

    Images whose bytes are damaged are named and left out.
    """
    images = [(file, number) for file in files for number in range(len(file))]
    mine = range(world.rank, len(images), world.size)
    waiting, rows, seen = iter(mine), [np.zeros((0, 2 + 3 * skeleton.num_keypoints))], []
    with Progress(len(mine), "people found", "image", world.is_main) as progress:
        while batch := list(islice(waiting, batch_size)):
            whole, found = people_in([images[n] for n in batch], decoder)
            seen += [batch[i] for i in whole]
            rows += [_rows(batch[i], *people) for i, people in zip(whole, found)]
            progress.advance(len(batch))
    everywhere = torch.cat(world.gathered(torch.from_numpy(np.concatenate(rows)))).numpy()
    everywhere = everywhere[np.argsort(everywhere[:, 0], kind="stable")]
    seen = sorted(torch.cat(world.gathered(torch.tensor(seen, dtype=torch.int64))).tolist())
    count, order = len(skeleton.dataset), np.arange(len(skeleton.dataset))
    detections = [
        detection
        for row in everywhere
        for detection in to_detections(int(row[0]), row[2:].reshape(1, -1, 3), row[1:2], skeleton, CATEGORY, order, count)
    ]
    truth = indexed({"images": [{"id": n} for n in seen], "categories": [{"id": CATEGORY}], "annotations": _truth(images, seen)})
    return keypoint_figures(truth, detections, seen, CATEGORY, order, skeleton.oks_sigmas)


def people_in(images: Sequence[Place], decoder: Decoder) -> tuple[dict[int, np.ndarray], list[People]]:
    """The images that can be read, by their place in the sequence, and who is found in each of these; others are named and left out."""
    whole = {}
    for i, (file, number) in enumerate(images):
        try:
            whole[i] = file.image(number)
        except BrokenImage as error:
            warn_left_out(str(error))
    boxes = [annotated_boxes(*images[i]) for i in whole] if decoder.needs_boxes else None
    return whole, list(decoder(list(whole.values()), boxes)) if whole else []


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


def _truth(images: Sequence[Place], seen: Sequence[int]) -> list[dict]:
    """Everybody in those of the images that were seen as COCO annotations."""
    people = []
    for image in seen:
        file, number = images[image]
        rows = np.arange(*file.first[number : number + 2])
        joints = file.skeleton.to_dataset(file.joints(rows))
        labelled = joints[..., 2] != UNLABELLED
        joints = np.where(labelled[..., None], joints + (0, 0, 1), 0)  # COCO's v: 0 not labelled, 1 hidden, 2 visible
        for row, of_person, count in zip(rows, joints, labelled.sum(1).tolist()):
            known = {"bbox": file.boxes[row].tolist(), "area": float(file.areas[row]), "iscrowd": int(file.crowd[row])}
            person = {"id": len(people) + 1, "image_id": image, "category_id": CATEGORY, "num_keypoints": count, **known}
            people.append({**person, "keypoints": of_person.ravel().tolist()})
    return people
