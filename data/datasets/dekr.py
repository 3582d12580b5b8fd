"""DEKR's samples: one per image, cropped about its center, with all people in it (paper section 4.1)."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from config.skeleton import UNLABELED
from config.systems.dekr import DekrAugmentationConfig, DekrConfig
from data.augment import Augmentation, sample_photometric
from data.datasets import PoseDataset
from data.hdf5 import TrainingHDF5, unpack_mask
from data.transforms import crop_matrix, transform_points

UNIT = 200  # image pixels of a crop at which shifts are as large as configured


class DekrSample(NamedTuple):
    """The crop of an image."""

    image: Tensor  # (H, W, 3) uint8 BGR
    keypoints: Tensor  # (P, K + 1, 2) float64 x, y in map pixels, 0 0 if not labeled; the person's center last
    labeled: Tensor  # (P, K + 1) bool
    person_area: Tensor  # (P,) float64 width^2 + height^2, input pixels squared
    mask_miss: Tensor  # (h, w) bool at map size: where the loss counts
    channel_mask: Tensor  # (K + 1,) bool: the keypoints that the data set annotates, and the center

    per_person = ("keypoints", "labeled", "person_area")


def sample_augmentation(rng: np.random.Generator, settings: DekrAugmentationConfig, short_side: int) -> Augmentation:
    """Sample one augmentation: scale is the crop's side over the image's short side, shift in image pixels grows with it."""
    rotation, scale = rng.uniform(-settings.rotation, settings.rotation), rng.uniform(*settings.scale)
    most = int(settings.shift * short_side / UNIT * scale)
    dx, dy = rng.integers(-most, most, 2, endpoint=True).tolist()
    flip = bool(rng.random() < settings.flip_probability)
    return Augmentation(rotation, scale, (dx, dy), flip, photometric=sample_photometric(rng, settings))


class DekrDataset(PoseDataset):
    """The images of a training file, each as a `DekrSample`; with `data.negatives` also those without people."""

    config: DekrConfig

    def __init__(self, people: TrainingHDF5, config: DekrConfig):
        super().__init__(people, config, np.arange(len(people) + config.data.negatives * len(people.negatives)))
        self.channel_masks = [np.append(labeled, True) for labeled in self.labeled_channels]

    def get(self, index: int, rng: np.random.Generator | None) -> DekrSample:
        """Return one sample; without a generator the image's middle, as large as its short side."""
        short_side = int(self.people.sizes[index].min())
        return self.crop(index, Augmentation() if rng is None else sample_augmentation(rng, self.config.augmentation, short_side))

    def crop(self, index: int, augmentation: Augmentation) -> DekrSample:
        """Return one sample with a given augmentation."""
        a, skeleton, side = augmentation, self.config.skeleton, self.config.data.input_size[0]
        map_side = side // self.config.model.stride
        height, width = self.people.sizes[index].tolist()
        center, crop_side = np.array([width / 2 + a.shift[0], height / 2 + a.shift[1]]), min(height, width) * a.scale
        to_input, to_maps = (crop_matrix(center, crop_side, (pixels, pixels), a.rotation) for pixels in (side, map_side))
        points, labeled, person_area = self.annotated(index)
        heights = self.people.boxes[self.labeled_people(index), 3] * side / crop_side
        image = self.crop_image(index, to_input, a.photometric, points[:, :-1], labeled[:, :-1], heights)
        mask = self._mask_miss(index, to_maps, map_side)
        points = transform_points(points, to_maps) - self.config.model.pixel_center
        if a.flip:
            image, mask = cv2.flip(image, 1), np.ascontiguousarray(mask[:, ::-1])
            points[..., 0] = mask.shape[1] - 1 - points[..., 0]
            partner = np.append(skeleton.flip_keypoints, skeleton.num_keypoints)  # the center is its own
            points, labeled = points[:, partner], labeled[:, partner]
        person_area = person_area * (side / crop_side) ** 2
        arrays = image, points * labeled[..., None], labeled, person_area, mask, self.channel_masks[a.flip]
        return DekrSample(*map(torch.from_numpy, arrays))

    def annotated(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the keypoints (P, K + 1, 2) in image pixels, labeled (P, K + 1) and areas (P,) of an image's people with a keypoint.

        The center, the mean of the labeled keypoints, comes last. The area is width^2 + height^2 of their extent, and at least twice the
        person's annotated area.
        """
        people, settings, rows = self.people, self.config.targets, self.labeled_people(index)
        joints = people.joints(rows).astype(float)
        labeled = joints[..., 2:] != UNLABELED
        points = joints[..., :2] * labeled
        center = points.sum(1) / labeled.sum(1).clip(1)
        has_center = people.areas[rows] >= settings.min_area
        if settings.published_faults:  # the center's row is still 0, 0
            person_area = np.square(points.max(1, initial=0) - points.min(1, initial=0)).sum(1)
        else:
            low, high = (np.where(labeled, points, limit) for limit in (np.inf, -np.inf))
            person_area = np.maximum(np.square(high.max(1) - low.min(1)).sum(1), 2 * people.areas[rows])
        points, labeled = np.concatenate([points, center[:, None]], 1), np.column_stack([labeled[..., 0], has_center])
        return points, labeled, np.maximum(person_area, 1)

    def _mask_miss(self, index: int, matrix: np.ndarray, side: int) -> np.ndarray:
        """Return (side, side) bool: inside the image, outside of people without keypoints and of crowd regions; or everywhere.

        Annotated people inside a crowd region count, but for published code.
        """
        if not self.config.targets.mask_ignored:
            return np.ones((side, side), bool)
        people, unlabeled, crowd = self.people.masks(index)
        if not self.config.targets.published_faults:
            crowd = crowd & ~people
        counts = unpack_mask(~(unlabeled | crowd), *self.people.sizes[index])
        return cv2.warpAffine(counts, matrix, (side, side), flags=cv2.INTER_LINEAR) > 255 / 2
