"""DEKR's samples: one an image, cut about its centre, with everybody in it (paper section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from config.skeleton import UNLABELLED
from config.systems.dekr import STRIDE, DekrAugmentationConfig, DekrConfig
from data.people_file import PeopleFile, unpack_mask
from data.transforms import warp_image

UNIT = 200  # image pixels of a crop at which shifts are as large as configured


@dataclass(frozen=True)
class Augmentation:
    """What is drawn by chance for one sample; the defaults change nothing."""

    rotation: float = 0.0  # degrees
    scale: float = 1.0  # of the crop, over the image's short side
    shift: tuple[int, int] = (0, 0)  # dx, dy of the crop's centre, image pixels
    flip: bool = False


def draw_augmentation(rng: np.random.Generator, settings: DekrAugmentationConfig, short_side: int) -> Augmentation:
    """Draw one sample's augmentation; the shift grows with the crop."""
    rotation, scale = rng.uniform(-settings.rotation, settings.rotation), rng.uniform(*settings.scale)
    most = int(settings.shift * short_side / UNIT * scale)
    dx, dy = rng.integers(-most, most, 2, endpoint=True).tolist()
    return Augmentation(rotation, scale, (dx, dy), bool(rng.random() < settings.flip_probability))


class DekrDataset:
    """Samples of a people file as (image (H, W, 3) uint8 BGR, joints (P, K + 1, 3), sizes (P,), mask (h, w) bool, labelled (K + 1,) bool).

    joints and sizes as `data.targets.dekr.render_targets` has them. mask: where the loss counts, not over crowd regions and people without
    keypoints, where the data set has outlines. labelled: the keypoints that it labels, and the centre.
    """

    def __init__(self, people: PeopleFile, config: DekrConfig):
        self.people, self.config = people, config

    def __len__(self) -> int:
        return len(self.people)

    def get(self, index: int, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """One sample; without a generator the image's middle, as large as its short side."""
        short_side = int(self.people.sizes[index].min())
        augmentation = Augmentation() if rng is None else draw_augmentation(rng, self.config.augmentation, short_side)
        image, mask, joints, sizes = self.crop(index, augmentation)
        return tuple(map(torch.from_numpy, (image, joints, sizes, mask, np.append(self.people.labelled, True))))

    def image_id(self, index: int) -> int:
        """The image that a sample is."""
        return int(self.people.image_ids[index])

    def crop(self, index: int, augmentation: Augmentation) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 BGR, mask (h, w) bool, joints (P, K + 1, 3) in map pixels with the centre last, sizes (P,)."""
        a, skeleton, side = augmentation, self.config.skeleton, self.config.data.input_size[0]
        photograph = self.people.image(index)
        to_input, to_maps = (crop_matrix(photograph.shape[:2], a, res) for res in (side, side // STRIDE))
        image = warp_image(photograph, to_input, (side, side))
        mask = self._mask(index, to_maps, side // STRIDE)
        joints, sizes = self.joints_and_sizes(index)
        labelled = joints[..., 2:]
        joints[..., :2] = (joints[..., :2] @ to_maps[:, :2].T + to_maps[:, 2]) * labelled
        if a.flip:
            image, mask = cv2.flip(image, 1), np.ascontiguousarray(mask[:, ::-1])
            joints[..., :1] = (mask.shape[1] - 1 - joints[..., :1]) * labelled
            joints[:, :-1] = joints[:, skeleton.flip_keypoints]
        return image, mask, joints, sizes * (side / (min(photograph.shape[:2]) * a.scale)) ** 2

    def joints_and_sizes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Of an image, joints (P, K + 1, 3) of everybody with a keypoint, x, y in image pixels and v 1 where labelled, else zeros; the
        centre last. And sizes (P,): width^2 + height^2 of the keypoints' extent, and at least twice the area.
        """
        people, settings = self.people, self.config.targets
        rows = np.arange(*people.first[index : index + 2])
        rows = rows[(people.num_labelled[rows] > 0) & ~people.crowd[rows]]
        joints = people.joints(rows).astype(float)
        labelled = joints[..., 2:] != UNLABELLED
        joints = np.concatenate([joints[..., :2] * labelled, labelled], 2)
        centre = joints[..., :2].sum(1) / labelled.sum(1).clip(1)
        has_centre = people.areas[rows] >= settings.min_area
        centres = np.column_stack([centre, np.ones(len(rows))]) * has_centre[:, None]
        sizes = extents(joints[..., :2], labelled | settings.published_faults)
        if not settings.published_faults:
            sizes = np.maximum(sizes, 2 * people.areas[rows])
        return np.concatenate([joints, centres[:, None]], 1), np.maximum(sizes, 1)

    def _mask(self, index: int, matrix: np.ndarray, side: int) -> np.ndarray:
        """(side, side) bool: where the loss counts, inside the image and not over those whose keypoints nobody labelled."""
        if not self.people.outlines:
            return np.ones((side, side), bool)
        _, unlabelled, crowd = self.people.masks(index)
        counts = unpack_mask(~(unlabelled | crowd), *self.people.sizes[index])
        return cv2.warpAffine(counts, matrix, (side, side), flags=cv2.INTER_LINEAR) > 255 / 2


def extents(points: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(P,) width^2 + height^2 of each one's points (P, K, 2) that are counted (P, K, 1) bool, at least one."""
    low, high = (np.where(counted, points, limit) for limit in (np.inf, -np.inf))
    return np.square(high.max(1) - low.min(1)).sum(1)


def crop_matrix(size: tuple[int, int], augmentation: Augmentation, side: int) -> np.ndarray:
    """(2, 3) from image pixels to those of a square crop of `side` pixels about the image's centre. size: the image's height, width."""
    (height, width), a = size, augmentation
    factor = side / (min(height, width) * a.scale)
    middle = np.array([width / 2 + a.shift[0], height / 2 + a.shift[1]])
    turn = np.radians(-a.rotation)
    linear = factor * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([linear, side / 2 - linear @ middle])
