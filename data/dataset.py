"""Training samples from the HDF5 file: an image crop and what the network should draw for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from config import Config, UserError
from config.files import existing_file
from data.coco_masks_hdf5 import FORMAT_VERSION, unpack_mask
from data.images import decode_image
from data.targets import render_targets
from data.transforms import (
    ALL_BORDER,
    MISS_BORDER,
    Augmentation,
    affine_matrix,
    draw_augmentation,
    jitter_hsv,
    transform_joints,
    warp_image,
    warp_mask,
)


class CocoMasksDataset(Dataset):
    """Samples as (image (3, H, W) float32 BGR in [0, 1], heatmaps (C, h, w), mask_miss (1, h, w)), all float32 tensors.

    augment: draw an augmentation per sample; else only the person is cropped. Chance depends on the configuration's seed, the epoch
    (`epoch`, set before each one) and the sample alone, not on the number of workers or processes.
    """

    def __init__(self, path: str | Path, config: Config, augment: bool):
        self.path, self.config, self.augment, self.epoch = existing_file(path, "training file"), config, augment, 0
        self._file: h5py.File | None = None  # each worker opens its own: an open HDF5 file does not survive a fork
        # Neither do OpenCV's threads: a forked worker would wait for them for ever. 1 ends them; 0 would only leave them unused.
        cv2.setNumThreads(1)
        with self._open() as file:
            self.image_ids: np.ndarray = file["images/id"][:]
            self.people: np.ndarray = file["images/people"][:]
            self.joints: np.ndarray = file["people/joints"][:]
            self.boxes: np.ndarray = file["people/box"][:]
            self.sample_image: np.ndarray = file["samples/image"][:]
            self.sample_person: np.ndarray = file["samples/person"][:]
        if not len(self.sample_image):
            raise UserError(f"training file {path}: holds no sample; build it again from other annotations")

    def __len__(self) -> int:
        return len(self.sample_image)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        augmentation = Augmentation()
        if self.augment:
            rng = np.random.default_rng([self.config.train.seed, self.epoch, index])
            augmentation = draw_augmentation(rng, self.config.augmentation)
        image, heatmaps, miss = self.sample(index, augmentation)[:3]
        chw = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
        chw /= 255
        return torch.from_numpy(chw), torch.from_numpy(heatmaps), torch.from_numpy(miss[None])

    def sample(self, index: int, augmentation: Augmentation) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 BGR, maps (C, h, w), mask_miss (h, w) and joints (P, K, 3) in input pixels, the main person first."""
        config, size = self.config, self.config.data.input_size
        number, joints, box = self.image_and_people(index)
        objpos, scale_provided = box[:2] + box[2:] / 2, box[3] / size[0]
        a = augmentation
        matrix = affine_matrix(objpos, scale_provided, a.flip, a.degree, a.shift, a.scale, config)
        joints = transform_joints(joints, matrix, a.flip, config.skeleton)
        if self._file is None:
            self._file = self._open()
        images = self._file["images"]
        name = f"{self.image_ids[number]} in {self.path}"
        photograph = decode_image(images["file"][number], name)
        masks = (unpack_mask(images[which][number], *photograph.shape[:2]) for which in ("miss", "all"))
        borders, stride = (MISS_BORDER, ALL_BORDER), config.targets.stride
        miss, everyone = (warp_mask(mask, matrix, size, stride, border) for mask, border in zip(masks, borders))
        image = jitter_hsv(warp_image(photograph, matrix, size), *a.hsv)
        return image, render_targets(joints, everyone, config), miss, joints

    def image_and_people(self, index: int) -> tuple[int, np.ndarray, np.ndarray]:
        """A sample's image as a number in the file, its joints (P, K, 3) in image pixels, main person first, and that one's box (4,)."""
        number, main = self.sample_image[index], self.sample_person[index]
        first, last = self.people[number : number + 2]
        order = [first + main, *(p for p in range(first, last) if p != first + main)]
        return number, self.config.skeleton.from_dataset(self.joints[order]), self.boxes[first + main]

    def _open(self) -> h5py.File:
        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"training file {self.path}: not a whole HDF5 file; build it again with data/coco_masks_hdf5.py") from error
        found, keypoints = file.attrs.get("version"), list(file.attrs.get("keypoints", ()))
        if file.attrs.get("format") != "simplepose" or found != FORMAT_VERSION or not file.attrs.get("complete"):
            file.close()
            raise UserError(
                f"training file {self.path}: format version {found}, this code reads {FORMAT_VERSION};"
                " build it again with data/coco_masks_hdf5.py"
            )
        if keypoints != list(self.config.skeleton.dataset):
            file.close()
            raise UserError(
                f"training file {self.path}: made for {len(keypoints)} keypoints ({', '.join(keypoints[:3])}, ...),"
                f" the skeleton {self.config.skeleton.name!r} has {len(self.config.skeleton.dataset)}; build it with --skeleton"
            )
        return file
