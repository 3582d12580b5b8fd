"""SimplePose's samples: one around each main person, with all other people in the image (paper section 4.1)."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from config.skeleton import UNLABELED
from config.systems.simplepose import SimplePoseAugmentationConfig, SimplePoseConfig
from data.augment import Augmentation, apply_occlusion, apply_photometric, happens, log_uniform, sample_photometric
from data.datasets import PoseDataset
from data.hdf5 import TrainingHDF5, unpack_mask
from data.transforms import affine_matrix, to_map_size, transform_points, warp_mask

MIN_KEYPOINTS, OF_KEYPOINTS = 5, 17  # of a main person, of COCO's; where the data set has fewer, at least the same part of them
MIN_AREA = 32 * 32  # of a main person's segment, pixels
MIN_DISTANCE = 0.3  # of a main person's center to an earlier one's, in that one's longer box side
IMAGE_BORDER = (124, 127, 127)  # BGR around the image


class SimplePoseSample(NamedTuple):
    """The crop around a main person."""

    image: Tensor  # (H, W, 3) uint8 BGR
    keypoints: Tensor  # (P, K, 2) float32 x, y in input pixels, the main person first
    labeled: Tensor  # (P, K) bool
    mask_miss: Tensor  # (h, w) uint8 at map size, 255 where the loss counts
    mask_all: Tensor  # (h, w) uint8 at map size, 255 over people and crowd regions
    channel_mask: Tensor  # (C,) bool: the maps that the data set annotates

    per_person = ("keypoints", "labeled")


def sample_augmentation(rng: np.random.Generator, settings: SimplePoseAugmentationConfig) -> Augmentation:
    """Sample one augmentation."""
    a = settings
    rotation = rng.uniform(-a.rotation, a.rotation)
    scale = rng.uniform(*a.scale) if rng.random() < a.scale_probability else 1.0
    dx, dy = rng.integers(-a.shift, a.shift, 2, endpoint=True).tolist()
    flip = bool(rng.random() < a.flip_probability)
    if happens(rng, a.wide_scale_probability):
        scale = log_uniform(rng, *a.wide_scale)
    center_keypoint = rng.random() if happens(rng, a.joint_centre_probability) else None
    return Augmentation(rotation, scale, (dx, dy), flip, center_keypoint, sample_photometric(rng, a))


class SimplePoseDataset(PoseDataset):
    """The main people of a training file, each as a `SimplePoseSample`; with `data.negatives` also the images without people.

    `main` (S,): the row of each sample's main person, -1 of an image without people.
    """

    config: SimplePoseConfig

    def __init__(self, people: TrainingHDF5, config: SimplePoseConfig):
        least = min(MIN_KEYPOINTS, math.ceil(MIN_KEYPOINTS / OF_KEYPOINTS * len(people.keypoints)))
        main = main_people(people, least)
        negatives = people.negatives if config.data.negatives else people.negatives[:0]
        self.main = np.append(main, np.full(len(negatives), -1))
        super().__init__(people, config, np.append(people.image_of[main], negatives))
        self.channel_masks = [config.channels.annotated(labeled, people.outlines) for labeled in self.labeled_channels]

    def get(self, index: int, rng: np.random.Generator | None) -> SimplePoseSample:
        """Return one sample; without a generator the person is cropped only."""
        return self.crop(index, Augmentation() if rng is None else sample_augmentation(rng, self.config.augmentation))

    def crop(self, index: int, augmentation: Augmentation) -> SimplePoseSample:
        """Return one sample with a given augmentation."""
        config, size, stride, a = self.config, self.config.data.input_size, self.config.targets.stride, augmentation
        joints, number = self.people.joints(self.rows(index)), self.image_of[index]
        is_negative = self.main[index] < 0
        box = np.array([0, 0, *self.people.sizes[number][::-1]]) if is_negative else self.people.boxes[self.main[index]]
        points, labeled = joints[..., :2], joints[..., 2] != UNLABELED
        at_box = is_negative or a.center_keypoint is None
        center = box[:2] + box[2:] / 2 if at_box else keypoint_center(points[0, labeled[0]], a.center_keypoint)
        matrix = affine_matrix(center, box[3] / size[0], a.flip, a.rotation, a.shift, a.scale, config)
        points = transform_points(points, matrix).astype(np.float32)
        if a.flip:
            points, labeled = points[:, config.skeleton.flip_keypoints], labeled[:, config.skeleton.flip_keypoints]
        people, unlabeled, crowd = self.people.masks(number)
        # The loss ignores people without keypoints, and crowd regions except for the people annotated in them
        ignored, mask_all = (unpack_mask(bits, *self.people.sizes[number]) for bits in (unlabeled | (crowd & ~people), people | crowd))
        image, mask_all = self.warp(number, mask_all, matrix, IMAGE_BORDER)
        if a.photometric.occlusion is not None and not is_negative:
            height = config.augmentation.person_size * size[0] * a.scale
            apply_occlusion(image, mask_all, points[:1], labeled[:1], np.array([height]), a.photometric.occlusion)
        mask_miss, mask_all = 255 - warp_mask(ignored, matrix, size, stride), to_map_size(mask_all, stride)
        arrays = apply_photometric(image, a.photometric), points, labeled, mask_miss, mask_all, self.channel_masks[a.flip]
        return SimplePoseSample(*map(torch.from_numpy, arrays))

    def rows(self, index: int) -> np.ndarray:
        """Return the rows, in the file, of a sample's people: the main person, if any, then all others with a labeled keypoint."""
        main, rows = self.main[[index]], self.labeled_people(index)
        return np.append(main[main >= 0], rows[rows != main])


def main_people(people: TrainingHDF5, least: int) -> np.ndarray:
    """Return (S,) rows of the main people: `least` labeled keypoints, large enough, with a box, not on top of an earlier one."""
    boxes, image_of = people.boxes, people.image_of
    usable = (people.num_labeled >= least) & (people.areas >= MIN_AREA) & (boxes[:, 2:] > 0).all(1) & ~people.crowd
    centers = (boxes[:, :2] + boxes[:, 2:] / 2).tolist()
    reaches = (MIN_DISTANCE * boxes[:, 2:].max(1, initial=0)).tolist()
    main: list[int] = []
    first = 0  # index in `main` of this image's first person
    for person in np.flatnonzero(usable).tolist():
        if main and image_of[main[-1]] != image_of[person]:
            first = len(main)
        if all(math.dist(centers[person], centers[earlier]) >= reaches[earlier] for earlier in main[first:]):
            main.append(person)
    return np.array(main, np.intp)


def keypoint_center(points: np.ndarray, choice: float) -> np.ndarray:
    """Return (2,) x, y of one of a person's labeled keypoints (K, 2), at least one; choice in [0, 1) selects it.

    Half of all choices are in the upper quarter: photographs cut people off below rather than above.
    """
    downwards = points[np.argsort(points[:, 1], kind="stable")]
    return downwards[int(choice**2 * len(downwards))]
