"""A fourth pose system, whole: one person a picture, each keypoint where its heatmap is highest.

It has what every system brings: configuration, samples, targets, network, loss, decoder. No other file knows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.schema import Config, InferenceConfig, ModelConfig
from config.section import Count, Positive, Section
from config.skeleton import UNLABELLED
from config.systems import Parts
from data.people_file import PeopleFile
from models.names import TensorNames
from utils.systems import Decoder, People, PoseSystem

STRIDE = 4


class TinyModelConfig(ModelConfig):
    width: Count = 8


class TinyTargetsConfig(Section):
    spread: Positive = 2.0  # of a drawn keypoint, map pixels


class TinyInferenceConfig(InferenceConfig):
    boxes: bool = False  # look at one box at a time, which the caller names


class TinyConfig(Config):
    system: Literal["tiny"] = "tiny"
    model: TinyModelConfig = TinyModelConfig()
    targets: TinyTargetsConfig = TinyTargetsConfig()
    inference: TinyInferenceConfig = TinyInferenceConfig()


def batch_targets(config: TinyConfig, device: torch.device, joints: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """joints (N, K, 3) in input pixels -> (N, K, h, w): a Gaussian at each labelled one; labelled (N, K) as it is."""
    sides = (torch.arange(side // STRIDE, device=device) * STRIDE + (STRIDE - 1) / 2 for side in config.data.input_size)
    points = joints.to(device)
    y, x = (axis - points[..., i, None] for axis, i in zip(sides, (1, 0)))
    squared = y[..., :, None] ** 2 + x[..., None, :] ** 2
    known = points[..., 2, None, None] != UNLABELLED
    return torch.exp(-squared / (2 * (STRIDE * config.targets.spread) ** 2)) * known, labelled.to(device)


class TinyDataset:
    """One sample an image: all of it, and whoever has most keypoints in it."""

    def __init__(self, people: PeopleFile, config: TinyConfig):
        self.people, self.config = people, config
        rows = [np.arange(*people.first[n : n + 2]) for n in range(len(people))]
        best = [int(of_image[people.num_labelled[of_image].argmax()]) for of_image in rows]
        self.chosen = [(n, row) for n, row in enumerate(best) if people.num_labelled[row]]

    def __len__(self) -> int:
        return len(self.chosen)

    def get(self, index: int, rng: np.random.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """The image (H, W, 3) uint8, its joints (K, 3) in input pixels, and which keypoints are labelled (K,)."""
        number, row = self.chosen[index]
        image, joints, size = self.people.image(number), self.people.joints(np.array([row]))[0], self.config.data.input_size
        joints[:, :2] = (joints[:, :2] + 0.5) * np.divide(size[::-1], image.shape[1::-1]) - 0.5
        image = cv2.resize(image, size[::-1])
        if rng is not None and rng.random() < 0.5:
            image, joints = image[:, ::-1], joints[self.config.skeleton.flip_keypoints]
            joints[:, 0] = size[1] - 1 - joints[:, 0]
        return tuple(map(torch.from_numpy, (np.ascontiguousarray(image), joints, self.people.labelled)))

    def image_id(self, index: int) -> int:
        return int(self.people.image_ids[self.chosen[index][0]])


def as_input(images: Sequence[np.ndarray]) -> Tensor:
    """Images (H, W, 3) uint8 of one size -> (N, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float() / 255


class TinyNetwork(nn.Module):
    """images (N, 3, H, W) -> heatmaps (N, K, H / 4, W / 4)."""

    def __init__(self, config: TinyConfig):
        super().__init__()
        width = config.model.width
        self.trunk = nn.Sequential(*(layer for inputs in (3, width) for layer in self._half(inputs, width)))
        self.head = nn.Conv2d(width, config.skeleton.num_keypoints, 1)

    @staticmethod
    def _half(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))

    def answer(self, images: Tensor) -> Tensor:
        return self(images)


NAMES = TensorNames(ours=lambda name: name.removeprefix("theirs."), is_output=lambda name: name.startswith("head."))


class TinyLoss(nn.Module):
    """The mean squared error of each keypoint's map, where the data set labels it."""

    def __init__(self, config: TinyConfig):
        super().__init__()
        self.keypoints = config.skeleton.keypoints

    def parts(self, heatmaps: Tensor, wanted: Tensor, labelled: Tensor) -> Tensor:
        return ((heatmaps.float() - wanted).square().mean((2, 3)) * labelled).mean(0)

    def forward(self, heatmaps: Tensor, wanted: Tensor, labelled: Tensor) -> Tensor:
        return self.parts(heatmaps, wanted, labelled).sum()

    def part_name(self, keypoint: int) -> str:
        return self.keypoints[keypoint]


class TinyDecoder(Decoder):
    def __init__(self, network: nn.Module, config: TinyConfig):
        self.network, self.config, self.needs_boxes = network, config, config.inference.boxes

    def inputs(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each image with its boxes."""
        return list(zip(images, boxes or [np.array([[0, 0, *image.shape[1::-1]]]) for image in images]))

    @torch.inference_mode()
    def maps(self, inputs: list[tuple[np.ndarray, np.ndarray]]) -> list[People]:
        """Of each image keypoints and what its boxes score."""
        found = []
        for image, of_image in inputs:
            corner, end = np.maximum(of_image[:, :2], 0).astype(int), (of_image[:, :2] + of_image[:, 2:4]).astype(int)
            inside = (corner < np.minimum(end, image.shape[1::-1])).all(1)
            people = [self._person(image[y:b, x:r]) + (x, y, 0) for (x, y), (r, b) in zip(corner[inside], end[inside])]
            keypoints = np.array(people, np.float32).reshape(-1, self.config.skeleton.num_keypoints, 3)
            found.append((keypoints, of_image[inside, 4] if of_image.shape[1] > 4 else np.ones(len(people))))
        return found

    def people(self, maps: list[People]) -> list[People]:
        scores = [keypoints[..., 2].mean(1) * of_boxes for keypoints, of_boxes in maps]
        order = [np.argsort(-of_image, kind="stable") for of_image in scores]
        return [(keypoints[best], of_image[best]) for (keypoints, _), of_image, best in zip(maps, scores, order)]

    def _person(self, crop: np.ndarray) -> np.ndarray:
        height, width = self.config.data.input_size
        maps = self.network.answer(as_input([cv2.resize(crop, (width, height))]).to(next(self.network.parameters()).device))[0]
        score, place = maps.flatten(1).max(1)
        y, x = np.divmod(place.cpu().numpy(), maps.shape[2])
        scale = np.divide(crop.shape[1::-1], maps.shape[:0:-1])
        return np.stack([(x + 0.5) * scale[0] - 0.5, (y + 0.5) * scale[1] - 0.5, score.clamp(0.01, 1).cpu().numpy()], 1)


def pictures(images: Tensor, heatmaps: Tensor, targets: tuple[Tensor, ...], config: TinyConfig) -> list[np.ndarray]:
    wanted, answered = (F.interpolate(maps.float().amax(1, keepdim=True), images.shape[2:]).clamp(0, 1) for maps in (targets[0], heatmaps))
    rows = torch.cat([images.mean(1, keepdim=True), wanted, answered], 3).mul(255).byte()
    return [cv2.cvtColor(row[0].cpu().numpy(), cv2.COLOR_GRAY2BGR) for row in rows]


SYSTEM = PoseSystem(TinyDecoder, pictures)
PARTS = Parts(
    config="tiny_system:TinyConfig",
    dataset="tiny_system:TinyDataset",
    targets="tiny_system:batch_targets",
    model="tiny_system:TinyNetwork",
    loss="tiny_system:TinyLoss",
    system="tiny_system:SYSTEM",
)
