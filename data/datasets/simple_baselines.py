"""Simple Baselines' samples: one a person, cut out by the box (paper section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from config.skeleton import UNLABELLED
from config.systems.simple_baselines import SimpleBaselinesAugmentationConfig, SimpleBaselinesConfig
from data.people_file import PeopleFile
from data.transforms import warp_image

PADDING = 1.25  # a crop's sides over those of the box
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Augmentation:
    """What is drawn by chance for one sample; the defaults change nothing."""

    scale: float = 1.0
    rotation: float = 0.0  # degrees
    flip: bool = False


def draw_augmentation(rng: np.random.Generator, settings: SimpleBaselinesAugmentationConfig) -> Augmentation:
    """Draw one sample's augmentation."""
    a = settings
    scale = 1 + float(np.clip(rng.normal(0, a.scale), -a.scale, a.scale))
    rotation = float(np.clip(rng.normal(0, a.rotation), -2 * a.rotation, 2 * a.rotation))
    rotated = rng.random() < a.rotation_probability
    return Augmentation(scale, rotation if rotated else 0.0, bool(rng.random() < a.flip_probability))


class SimpleBaselinesDataset:
    """Samples of a people file as (image (H, W, 3) uint8 BGR, joints (K, 3)): everybody with a keypoint and a box.

    joints: x, y in input pixels and 1 where labelled, else 0.
    """

    def __init__(self, people: PeopleFile, config: SimpleBaselinesConfig):
        self.people, self.config = people, config
        image_of = people.image_of
        boxes = people.boxes.astype(float)
        self.boxes = clean_boxes(boxes, people.sizes[image_of]) if config.data.clean_boxes else boxes
        self.chosen = np.flatnonzero((people.num_labelled > 0) & ~people.crowd & (self.boxes[:, 2:] > 0).all(1))
        self.image_of = image_of[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def get(self, index: int, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """One sample; without a generator the box as it is."""
        augmentation = Augmentation() if rng is None else draw_augmentation(rng, self.config.augmentation)
        image, joints, labelled = self.crop(index, augmentation)
        return torch.from_numpy(image), torch.from_numpy(np.column_stack([joints, labelled]))

    def image_id(self, index: int) -> int:
        """The image that a sample is cut from."""
        return int(self.people.image_ids[self.image_of[index]])

    def crop(self, index: int, augmentation: Augmentation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 BGR, joints (K, 2) in input pixels, labelled (K,) bool."""
        row, size, a = self.chosen[index], self.config.data.input_size, augmentation
        photograph = self.people.image(self.image_of[index])
        joints = self.people.joints(row[None])[0]
        points, labelled = joints[:, :2].astype(float), joints[:, 2] != UNLABELLED
        centre, crop = centre_and_size(self.boxes[row], size)
        mirror = np.eye(3)
        if a.flip:
            last = photograph.shape[1] - 1
            mirror[0, [0, 2]] = -1, last
            centre = np.array([last - centre[0], centre[1]])
            flip = self.config.skeleton.flip_keypoints
            points, labelled = points[flip], labelled[flip]
        matrix = crop_matrix(centre, crop * a.scale, size, a.rotation) @ mirror  # the mirror image, then the crop
        image = warp_image(photograph, matrix, size)
        return image, points @ matrix[:, :2].T + matrix[:, 2], labelled


def clean_boxes(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes (P, 4) x, y, width, height within their images, of height and width (P, 2); a box that is not has a side of at most 0."""
    corner = np.maximum(boxes[:, :2], 0)
    other = np.minimum(sizes[:, ::-1] - 1, corner + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([corner, other - corner], 1)


def centre_and_size(boxes: np.ndarray, input_size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (..., 4) x, y, width, height -> centres (..., 2) and sizes (..., 2), width and height, of the crops: the boxes extended to the
    input's shape and enlarged by PADDING."""
    aspect = input_size[1] / input_size[0]
    width = np.maximum(boxes[..., 2], boxes[..., 3] * aspect)
    return boxes[..., :2] + boxes[..., 2:] / 2, np.stack([width, width / aspect], -1) * PADDING


def crop_matrix(centre: np.ndarray, size: np.ndarray, output_size: Size, rotation: float = 0.0) -> np.ndarray:
    """(2, 3) from image pixels to those of an output of height, width: the centre to the middle, the crop's width to the output's.

    centre x, y and size width, height of the crop, image pixels; rotation: degrees that the crop is turned by, clockwise as seen.
    """
    height, width = output_size
    turn = np.radians(-rotation)
    linear = width / size[0] * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ centre])
