"""Datasets: the samples that a pose system makes of one or more people files.

What a sample is, each system says in a file of its own name here, as a class with

    __len__()               how many samples there are
    get(index, rng)         one of them as a tuple of tensors, the image (H, W, 3) uint8 BGR first, then what its targets are drawn from
                            (data/targets); augmented by `rng`, unless that is None. Tensors as long as there are people may differ in
                            length, and zeros in them must mean nobody: see `collate`
    image_id(index)         the image that it is cut from, by its number in the annotation file
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from config import Config, UserError
from config.systems import SYSTEMS
from data.people_file import BrokenImage, PeopleFile


class PoseDataset(Protocol):
    """One people file's samples."""

    def __len__(self) -> int: ...

    def get(self, index: int, rng: np.random.Generator | None) -> tuple[Tensor, ...]: ...

    def image_id(self, index: int) -> int: ...


def collate(samples: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """A batch of samples: their tensors stacked, those as long as there are people filled up with zeros, which are nobody."""
    columns = []
    for tensors in zip(*samples):
        lengths = [len(tensor) for tensor in tensors]
        if columns and len(set(lengths)) > 1:  # never the images
            longest = max(lengths)
            tensors = [torch.cat([tensor, tensor.new_zeros(longest - len(tensor), *tensor.shape[1:])]) for tensor in tensors]
        columns.append(tensors)
    return default_collate(list(zip(*columns)))


def build_dataset(people: PeopleFile, config: Config) -> PoseDataset:
    """The samples that `config.system` makes of a people file."""
    return SYSTEMS[config.system].load("dataset")(people, config)


class MixedDataset(Dataset):
    """The samples of some people files, one file after the other.

    An item is an epoch and the number of a sample; numbers from `len` on are further draws of the same samples: number n + len is sample n
    with another augmentation. Chance depends on the configuration's seed, the epoch and the number alone, not on how many workers or
    processes read.
    The place of a sample whose image is damaged is taken by the next one of its file that is not. Such an image is named once on stderr;
    more of them than `data.max_broken`, which all workers count together, are a UserError.
    """

    def __init__(self, paths: Sequence[Path], config: Config, augment: bool):
        # OpenCV's threads do not survive a fork: a worker would wait for them for ever. 1 ends them; 0 would only leave them unused.
        cv2.setNumThreads(1)
        files = [PeopleFile(path, config.skeleton) for path in paths]
        self.parts = [build_dataset(file, config) for file in files]
        # (images,) of each file, in memory that the workers share. Each sets only to True, so no lock is needed.
        self.broken = [torch.zeros(len(file), dtype=torch.bool).share_memory_() for file in files]
        self.paths, self.max_broken = paths, config.data.max_broken
        self.seed, self.augment = config.train.seed, augment
        self.sizes = [len(part) for part in self.parts]
        self._last = np.cumsum(self.sizes)
        for path, size in zip(paths, self.sizes):
            if not size:
                raise UserError(f"training file {path}: holds no sample; nobody in it is large enough, in pixels, and labelled enough")

    def __len__(self) -> int:
        return int(self._last[-1])

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, ...]:
        epoch, number = item
        draw, place = divmod(number, len(self))
        file, first = self._place(place)
        size = self.sizes[file]
        for index in range(first, first + size):
            rng = np.random.default_rng([self.seed, epoch, place, *[draw] * (draw > 0)]) if self.augment else None
            try:
                return self.parts[file].get(index % size, rng)
            except BrokenImage as error:
                self._count(file, error)
        raise UserError(f"training file {self.paths[file]}: the images of all its samples are damaged; build it again")

    def image_id(self, number: int) -> int:
        """The image that a sample is cut from, by its number in the annotation file."""
        file, index = self._place(number % len(self))
        return self.parts[file].image_id(index)

    def _count(self, file: int, error: BrokenImage) -> None:
        """Name a damaged image, once; raise UserError where they are too many."""
        if self.broken[file][error.number]:
            return
        self.broken[file][error.number] = True
        count = sum(int(broken.sum()) for broken in self.broken)
        if count > self.max_broken:
            raise UserError(f"{error}; {count} images are damaged, more than data.max_broken={self.max_broken}; build the file again")
        print(f"warning: {error}; another sample takes its place ({count} damaged so far)", file=sys.stderr, flush=True)

    def _place(self, place: int) -> tuple[int, int]:
        """The number of a sample's file, and its own in there."""
        part = int(np.searchsorted(self._last, place, side="right"))
        return part, place - int(self._last[part]) + self.sizes[part]
