"""Simple Baselines' samples: one per person, cropped by the box (paper section 3.1)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.skeleton import UNLABELED
from config.systems.simple_baselines import SimpleBaselinesAugmentationConfig, SimpleBaselinesConfig
from data.augment import Augmentation, sample_photometric
from data.datasets import PoseDataset
from data.hdf5 import TrainingHDF5
from data.transforms import center_and_crop_size, crop_matrix, transform_points


class SimpleBaselinesSample(NamedTuple):
    """One person's crop."""

    image: Tensor  # (H, W, 3) uint8 BGR
    keypoints: Tensor  # (K, 2) float64 x, y in input pixels
    labeled: Tensor  # (K,) bool

    per_person = ()


def sample_augmentation(rng: np.random.Generator, settings: SimpleBaselinesAugmentationConfig) -> Augmentation:
    """Sample one augmentation."""
    a = settings
    scale = 1 + float(np.clip(rng.normal(0, a.scale), -a.scale, a.scale))
    rotation = float(np.clip(rng.normal(0, a.rotation), -2 * a.rotation, 2 * a.rotation))
    rotated = rng.random() < a.rotation_probability
    flip = bool(rng.random() < a.flip_probability)
    return Augmentation(rotation if rotated else 0.0, scale, flip=flip, photometric=sample_photometric(rng, a))


class SimpleBaselinesDataset(PoseDataset):
    """Each person with a labeled keypoint and a box, as a `SimpleBaselinesSample`."""

    config: SimpleBaselinesConfig

    def __init__(self, people: TrainingHDF5, config: SimpleBaselinesConfig):
        image_of = people.image_of
        boxes = people.boxes.astype(float)
        self.boxes = clean_boxes(boxes, people.sizes[image_of]) if config.data.clean_boxes else boxes
        self.chosen = np.flatnonzero((people.num_labeled > 0) & ~people.crowd & (self.boxes[:, 2:] > 0).all(1))
        super().__init__(people, config, image_of[self.chosen])

    def get(self, index: int, rng: np.random.Generator | None) -> SimpleBaselinesSample:
        """Return one sample; without a generator the box is cropped as it is."""
        return self.crop(index, Augmentation() if rng is None else sample_augmentation(rng, self.config.augmentation))

    def crop(self, index: int, augmentation: Augmentation) -> SimpleBaselinesSample:
        """Return one sample with a given augmentation."""
        row, size, a = self.chosen[index], self.config.data.input_size, augmentation
        joints = self.people.joints(row[None])[0]
        points, labeled = joints[:, :2].astype(float), joints[:, 2] != UNLABELED
        center, crop_size = center_and_crop_size(self.boxes[row], size)
        mirror = np.eye(3)
        if a.flip:
            last = self.people.sizes[self.image_of[index], 1] - 1
            mirror[0, [0, 2]] = -1, last
            center = np.array([last - center[0], center[1]])
            points, labeled = points[self.config.skeleton.flip_keypoints], labeled[self.config.skeleton.flip_keypoints]
        matrix = crop_matrix(center, crop_size[0] * a.scale, size, a.rotation) @ mirror  # the mirror image, then the crop
        heights = self.boxes[row, 3:] * size[1] / (crop_size[0] * a.scale)
        image = self.crop_image(index, matrix, a.photometric, points[None], labeled[None], heights)
        points = transform_points(points, matrix)
        return SimpleBaselinesSample(*map(torch.from_numpy, (image, points, labeled)))


def clean_boxes(boxes: np.ndarray, image_sizes: np.ndarray) -> np.ndarray:
    """Clip boxes (P, 4) x, y, width, height to their images of height, width (P, 2). A box outside has a side of at most 0."""
    corner = np.maximum(boxes[:, :2], 0)
    other = np.minimum(image_sizes[:, ::-1] - 1, corner + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([corner, other - corner], 1)
