"""Datasets: the samples that a pose system makes of one or more training files.

Each system has a module of its own name here, with two classes:

    a NamedTuple    one sample: `image` (H, W, 3) uint8 BGR first, then the tensors that its targets are rendered from (data/targets). A
                    batch is the same class with an axis N in front. `per_person` names the fields whose first axis is the number of
                    people, which differs; zeros there must mean no person.
    a PoseDataset   all samples of one training file
"""

import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset, default_collate

from config import Config, UserError
from config.systems import SYSTEMS
from data.augment import PhotometricParams, apply_occlusion, apply_photometric
from data.hdf5 import CorruptImageError, TrainingHDF5, unpack_mask
from data.transforms import transform_points, warp_image


class PoseDataset(ABC):
    """The samples of one training file. image_of (S,): the number of each sample's image in the file."""

    def __init__(self, people: TrainingHDF5, config: Config, image_of: np.ndarray):
        self.people, self.config, self.image_of = people, config, image_of

    def __len__(self) -> int:
        return len(self.image_of)

    @abstractmethod
    def get(self, index: int, rng: np.random.Generator | None) -> NamedTuple:
        """Return one sample, augmented by `rng`; None: not augmented."""

    @property
    def labeled_channels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (K,) bool, the keypoints that the data set labels: their channels in a sample, and in a flipped one."""
        return self.people.labeled, self.people.labeled[self.config.skeleton.flip_keypoints]

    def image_id(self, index: int) -> int:
        """Return the annotation file's id of the image that a sample is cropped from."""
        return int(self.people.image_ids[self.image_of[index]])

    def labeled_people(self, index: int) -> np.ndarray:
        """Return the rows, in the file, of the people with a labeled keypoint in a sample's image."""
        number = self.image_of[index]
        rows = np.arange(*self.people.first[number : number + 2])
        return rows[(self.people.num_labeled[rows] > 0) & ~self.people.crowd[rows]]

    def crop_image(
        self, index: int, matrix: np.ndarray, params: PhotometricParams, points: np.ndarray, labeled: np.ndarray, heights: np.ndarray
    ) -> np.ndarray:
        """Return a sample's crop (H, W, 3) uint8 with its photometric augmentation; a patch is over one of the points.

        matrix (2, 3): image to input pixels. points (P, K, 2) in image pixels, labeled (P, K); heights (P,): of boxes, input pixels.
        """
        number, mask_all = self.image_of[index], None
        if params.occlusion is not None:
            people, _, crowd = self.people.masks(number)
            mask_all = unpack_mask(people | crowd, *self.people.sizes[number])
        image, mask_all = self.warp(number, mask_all, matrix)
        if params.occlusion is not None:
            apply_occlusion(image, mask_all, transform_points(points, matrix), labeled, heights, params.occlusion)
        return apply_photometric(image, params)

    def warp(
        self, number: int, mask: np.ndarray | None, matrix: np.ndarray, border: tuple[int, int, int] = (0, 0, 0)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Warp the image of a number and a mask of its size to the input, as `warp_image` does."""
        size = self.config.data.input_size
        image, image_matrix = self.people.image_to_warp(number, matrix)
        if mask is None or mask.shape == image.shape[:2]:
            return warp_image(image, mask, image_matrix, size, border)
        return warp_image(image, None, image_matrix, size, border)[0], cv2.warpAffine(mask, matrix, size[::-1], flags=cv2.INTER_LINEAR)


def build_dataset(people: TrainingHDF5, config: Config) -> PoseDataset:
    """Return the samples that `config.system` makes of a training file."""
    return SYSTEMS[config.system].load("dataset")(people, config)


def collate(samples: Sequence[NamedTuple]) -> NamedTuple:
    """Return a batch: each field stacked; those of `per_person` zero-padded to the largest number of people."""
    kind: Any = type(samples[0])
    return kind(
        *(
            pad_sequence(tensors, batch_first=True) if name in kind.per_person else default_collate(tensors)
            for name, tensors in zip(kind._fields, zip(*samples))
        )
    )


class MixedDataset(ConcatDataset):
    """The samples of several training files, one file after the other.

    An item is an epoch and the number of a sample. Numbers from `len` on repeat the samples: number n + len is sample n with another
    augmentation. The augmentation depends on the configuration's seed, the epoch and the number alone, not on the number of workers or
    ranks.
    If an image is corrupt, the next readable sample of the same file takes its place. Each corrupt image is named once on stderr. More
    than `data.max_broken` of them, counted over all workers, raise UserError.
    """

    def __init__(self, paths: Sequence[Path], config: Config, augment: bool):
        files = [TrainingHDF5(path, config.skeleton) for path in paths]
        self.of_files = [build_dataset(file, config) for file in files]
        super().__init__(self.of_files)
        # (images,) of each file, in memory that the workers share. Each sets only to True, so no lock is needed.
        self.broken = [torch.zeros(len(file.image_ids), dtype=torch.bool).share_memory_() for file in files]
        self.paths, self.max_broken = paths, config.data.max_broken
        self.seed, self.augment = config.train.seed, augment
        self.sizes = [len(dataset) for dataset in self.of_files]
        for path, size in zip(paths, self.sizes):
            if not size:
                raise UserError(f"training file {path}: holds no sample; no person is large enough and has enough labeled keypoints")

    def __getitem__(self, item: tuple[int, int]) -> NamedTuple:
        epoch, number = item
        repeat, position = divmod(number, len(self))
        file, first = self._locate(position)
        size = self.sizes[file]
        for index in range(first, first + size):
            rng = np.random.default_rng([self.seed, epoch, position, *[repeat] * (repeat > 0)]) if self.augment else None
            try:
                return self.of_files[file].get(index % size, rng)
            except CorruptImageError as error:
                self._count_corrupt(file, self.of_files[file].image_of[index % size], error)
        raise UserError(f"training file {self.paths[file]}: the images of all its samples are corrupt; build it again")

    def image_id(self, number: int) -> int:
        """Return the annotation file's id of the image that a sample is cropped from."""
        file, index = self._locate(number % len(self))
        return self.of_files[file].image_id(index)

    def _locate(self, position: int) -> tuple[int, int]:
        """Return the index of a sample's file, and the sample's index in that file."""
        file = bisect_right(self.cumulative_sizes, position)
        return file, position - self.cumulative_sizes[file] + self.sizes[file]

    def _count_corrupt(self, file: int, image: int, error: CorruptImageError) -> None:
        """Name a corrupt image once; raise UserError if there are too many."""
        if self.broken[file][image]:
            return
        self.broken[file][image] = True
        count = sum(int(broken.sum()) for broken in self.broken)
        if count > self.max_broken:
            raise UserError(f"{error}; {count} images are corrupt, more than data.max_broken={self.max_broken}; build the file again")
        print(f"warning: {error}; another sample takes its place ({count} corrupt so far)", file=sys.stderr, flush=True)
