"""SimplePose's samples: one around each main person, with everybody else in the picture (paper section 4.1)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from config.skeleton import UNLABELLED
from config.systems.simplepose import SimplePoseConfig
from data.people_file import PeopleFile, unpack_mask
from data.transforms import (
    IMAGE_BORDER,
    Augmentation,
    affine_matrix,
    at_map_size,
    changed_look,
    draw_augmentation,
    jitter_hsv,
    occlude,
    transform_joints,
    warp_image_and_mask,
    warp_mask,
)

MIN_KEYPOINTS, OF_KEYPOINTS = 5, 17  # of a main person, of COCO's; where the data set has fewer, at least the same part of them
MIN_AREA = 32 * 32  # of a main person's segment, pixels
MIN_DISTANCE = 0.3  # of a main person's centre to an earlier one's, in that one's longer box side


class SimplePoseDataset:
    """Samples of a people file as (image (H, W, 3) uint8 BGR, joints (P, K, 3), miss (h, w), everyone (h, w), known (C,) bool).

    joints: x, y in input pixels and 1 where labelled, else 0, the main person first. miss and everyone: uint8 of 0..255 at map size, 255
    where the loss counts and where people are. known: the channels that the file's data set labels; the loss leaves the others out.
    """

    def __init__(self, people: PeopleFile, config: SimplePoseConfig):
        self.people, self.config = people, config
        least = min(MIN_KEYPOINTS, math.ceil(MIN_KEYPOINTS / OF_KEYPOINTS * len(people.keypoints)))
        self.main = main_people(people.num_labelled, people.boxes, people.areas, people.crowd, people.image_of, least)
        self.image_of = people.image_of[self.main]
        self.known = torch.from_numpy(config.channels.known(people.labelled, people.outlines))

    def __len__(self) -> int:
        return len(self.main)

    def get(self, index: int, rng: np.random.Generator | None) -> tuple[Tensor, ...]:
        """One sample; without a generator only the person is cropped."""
        augmentation = Augmentation() if rng is None else draw_augmentation(rng, self.config.augmentation)
        image, joints, miss, everyone = self.crop(index, augmentation)
        joints[..., 2] = joints[..., 2] != UNLABELLED
        return *map(torch.from_numpy, (image, joints, miss, everyone)), self.known

    def image_id(self, index: int) -> int:
        """The image that a sample is cut from."""
        return int(self.people.image_ids[self.image_of[index]])

    def crop(self, index: int, augmentation: Augmentation) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 BGR, joints (P, K, 3) in input pixels, the main person first, and masks (h, w) uint8: miss, everyone."""
        config, size, a = self.config, self.config.data.input_size, augmentation
        joints, box = self.joints_and_box(index)
        middle = box[:2] + box[2:] / 2 if a.joint is None else chosen_joint(joints[0], a.joint)
        matrix = affine_matrix(middle, box[3] / size[0], a.flip, a.degree, a.shift, a.scale, config)
        joints = transform_joints(joints, matrix, a.flip, config.skeleton)
        number, stride = self.image_of[index], config.targets.stride
        photograph = self.people.image(number)
        left_out, everyone = (unpack_mask(bits, *photograph.shape[:2]) for bits in loss_masks(*self.people.masks(number)))
        image, everyone = warp_image_and_mask(photograph, everyone, matrix, size, IMAGE_BORDER)
        if a.look.patch is not None:
            occlude(image, everyone, joints[0], config.augmentation.person_size * size[0] * a.scale, a.look.patch)
        miss = 255 - warp_mask(left_out, matrix, size, stride)
        return changed_look(jitter_hsv(image, *a.hsv), a.look), joints, miss, at_map_size(everyone, stride)

    def joints_and_box(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a sample, joints (P, K, 3) in image pixels of everybody with a keypoint, main person first, and that one's box (4,)."""
        people, main = self.people, self.main[index]
        rows = np.arange(*people.first[self.image_of[index] : self.image_of[index] + 2])
        others = rows[(people.num_labelled[rows] > 0) & ~people.crowd[rows] & (rows != main)]
        return people.joints(np.concatenate([[main], others])), people.boxes[main]


def main_people(
    num_labelled: np.ndarray, boxes: np.ndarray, areas: np.ndarray, crowd: np.ndarray, image_of: np.ndarray, least: int = MIN_KEYPOINTS
) -> np.ndarray:
    """(S,) numbers of those whom a sample is made around: well labelled, large enough, with a box to cut out, not on top of an earlier one.

    Of P people: num_labelled (P,) keypoints, at least `least`; boxes (P, 4) x, y, width, height; areas (P,); crowd (P,) bool; image_of
    (P,) the image's number, those of one image together.
    """
    usable = (num_labelled >= least) & (areas >= MIN_AREA) & (boxes[:, 2:] > 0).all(1) & ~crowd
    centres = (boxes[:, :2] + boxes[:, 2:] / 2).tolist()
    reaches = (MIN_DISTANCE * boxes[:, 2:].max(1, initial=0)).tolist()
    chosen: list[int] = []
    first = 0  # of the chosen ones, where those of this image begin
    for person in np.flatnonzero(usable).tolist():
        if chosen and image_of[chosen[-1]] != image_of[person]:
            first = len(chosen)
        if all(math.dist(centres[person], centres[earlier]) >= reaches[earlier] for earlier in chosen[first:]):
            chosen.append(person)
    return np.array(chosen, np.intp)


def chosen_joint(joints: np.ndarray, choice: float) -> np.ndarray:
    """(2,) x, y of one of a person's labelled joints (K, 3), of which there is one at least; choice: in [0, 1), which.

    Half of all choices are in the upper quarter: photographs cut people off below rather than above.
    """
    labelled = joints[joints[:, 2] != UNLABELLED, :2]
    downwards = labelled[np.argsort(labelled[:, 1], kind="stable")]
    return downwards[int(choice**2 * len(downwards))]


def loss_masks(people: np.ndarray, unlabelled: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of people, people without keypoints and crowd regions, as bool or packed bits -> likewise, what the loss leaves out, and
    everyone. The loss leaves out people without keypoints, and crowd regions but for the people in them: those are known.
    """
    return unlabelled | (crowd & ~people), people | crowd
