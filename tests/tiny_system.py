"""A complete fourth pose system: one person per image, each keypoint at the maximum of its heatmap.

It has the parts of every system: configuration, dataset, targets, network, loss, decoder.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import SerializeAsAny
from torch import Tensor, nn

from config.schema import Config, InferenceConfig, ModelConfig
from config.section import ConfigSection, Count, Positive
from config.skeleton import UNLABELED
from config.systems import NetworkEntry, SystemEntry
from data.datasets import PoseDataset
from data.hdf5 import TrainingHDF5
from models import PoseNetwork
from utils.predictions import PosePredictions
from utils.systems import Decoder, Overlays
from utils.visualize.heatmaps import resize_to_image

STRIDE = 4


class TinyModelConfig(ModelConfig):
    name: Literal["tiny"] = "tiny"
    width: Count = 8


class TinyTargetsConfig(ConfigSection):
    spread: Positive = 2.0  # sigma of a keypoint's Gaussian, map pixels


class TinyInferenceConfig(InferenceConfig):
    boxes: bool = False  # crop the boxes that the caller passes


class TinyConfig(Config):
    system: Literal["tiny"] = "tiny"
    model: SerializeAsAny[ModelConfig] = TinyModelConfig()
    targets: TinyTargetsConfig = TinyTargetsConfig()
    inference: TinyInferenceConfig = TinyInferenceConfig()


class TinySample(NamedTuple):
    image: Tensor  # (H, W, 3) uint8
    joints: Tensor  # (K, 3) in input pixels
    channel_mask: Tensor  # (K,) bool

    per_person = ()


class TinyTargets(NamedTuple):
    target: Tensor  # (N, K, h, w)
    channel_mask: Tensor  # (N, K)


def render_batch(batch: TinySample, config: TinyConfig, device: torch.device) -> TinyTargets:
    """Render a Gaussian at each labeled keypoint."""
    sides = (torch.arange(side // STRIDE, device=device) * STRIDE + (STRIDE - 1) / 2 for side in config.data.input_size)
    points = batch.joints.to(device)
    y, x = (axis - points[..., i, None] for axis, i in zip(sides, (1, 0)))
    squared = y[..., :, None] ** 2 + x[..., None, :] ** 2
    known = points[..., 2, None, None] != UNLABELED
    return TinyTargets(torch.exp(-squared / (2 * (STRIDE * config.targets.spread) ** 2)) * known, batch.channel_mask.to(device))


class TinyDataset(PoseDataset):
    """One sample per image: the whole image, and the person with most labeled keypoints."""

    def __init__(self, people: TrainingHDF5, config: TinyConfig):
        rows = [np.arange(*people.first[n : n + 2]) for n in range(len(people))]
        best = [int(of_image[people.num_labeled[of_image].argmax()]) for of_image in rows]
        self.chosen = np.array([row for row in best if people.num_labeled[row]])
        super().__init__(people, config, people.image_of[self.chosen])

    def get(self, index: int, rng: np.random.Generator | None) -> TinySample:
        image, joints = self.people.image(self.image_of[index]), self.people.joints(self.chosen[[index]])[0]
        size = self.config.data.input_size
        joints[:, :2] = (joints[:, :2] + 0.5) * np.divide(size[::-1], image.shape[1::-1]) - 0.5
        image = cv2.resize(image, size[::-1])
        if rng is not None and rng.random() < 0.5:
            image, joints = image[:, ::-1], joints[self.config.skeleton.flip_keypoints]
            joints[:, 0] = size[1] - 1 - joints[:, 0]
        return TinySample(*map(torch.from_numpy, (np.ascontiguousarray(image), joints, self.people.labeled)))


class TinyNetwork(PoseNetwork):
    """images (N, 3, H, W) -> heatmaps (N, K, H / 4, W / 4)."""

    def __init__(self, config: TinyConfig):
        super().__init__()
        width = config.model.width
        halves = ([nn.Conv2d(inputs, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()] for inputs in (3, width))
        self.trunk = nn.Sequential(*sum(halves, []))
        self.head = nn.Conv2d(width, config.skeleton.num_keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))

    @staticmethod
    def convert_key(key: str) -> str:
        return key.removeprefix("theirs.")

    @staticmethod
    def is_output(key: str) -> bool:
        return key.startswith("head.")


class TinyLoss(nn.Module):
    """Mean squared error of each keypoint's heatmap, where the data set labels it."""

    def __init__(self, config: TinyConfig):
        super().__init__()
        self.keypoints = config.skeleton.keypoints

    def terms(self, heatmaps: Tensor, target: Tensor, channel_mask: Tensor) -> Tensor:
        return ((heatmaps.float() - target).square().mean((2, 3)) * channel_mask).mean(0)

    def term_name(self, keypoint: int) -> str:
        return self.keypoints[keypoint]


class Crops(NamedTuple):
    """The boxes of one image, and the network's input or output for each."""

    image_size: tuple[int, int]
    boxes: np.ndarray  # (B, 4) left, top, right, bottom; whole pixels inside the image
    scores: np.ndarray  # (B,)
    maps: Tensor  # (B, 3, H, W) or (B, K, h, w)

    @property
    def scale(self) -> np.ndarray:
        """(B, 2) x, y: image pixels of a map pixel."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]) / self.maps.shape[:1:-1]


class TinyDecoder(Decoder):
    fixed_input_size = True

    def __init__(self, network: nn.Module, config: TinyConfig):
        super().__init__(network, config)
        self.needs_boxes = config.inference.boxes

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> list[Crops]:
        boxes = boxes or [np.array([[0, 0, *image.shape[1::-1]]]) for image in images]
        return [self._crops(image, of_image) for image, of_image in zip(images, boxes)]

    def _crops(self, image: np.ndarray, boxes: np.ndarray) -> Crops:
        low, high = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, :2] + boxes[:, 2:4], image.shape[1::-1])
        corners = np.concatenate([low, high], 1).astype(int)
        inside = (corners[:, :2] < corners[:, 2:]).all(1)
        height, width = self.config.data.input_size
        crops = [cv2.resize(image[y:b, x:r], (width, height)) for x, y, r, b in corners[inside]]
        inputs = torch.from_numpy(np.array(crops, np.float32).reshape(-1, height, width, 3) / 255).permute(0, 3, 1, 2)
        return Crops(image.shape[:2], corners[inside], boxes[inside, 4] if boxes.shape[1] > 4 else np.ones(len(crops)), inputs)

    @torch.inference_mode()
    def forward(self, inputs: list[Crops]) -> list[Crops]:
        device = next(self.network.parameters()).device
        return [crops._replace(maps=self.network.predict(crops.maps.to(device))) for crops in inputs]

    def decode(self, outputs: list[Crops]) -> list[PosePredictions]:
        return [self._people(crops) for crops in outputs]

    def _people(self, crops: Crops) -> PosePredictions:
        score, place = (t.cpu().numpy() for t in crops.maps.flatten(2).max(2))
        y, x = np.divmod(place, crops.maps.shape[3])
        points = (np.stack([x, y], 2) + 0.5) * crops.scale[:, None] - 0.5 + crops.boxes[:, None, :2]
        keypoints = np.concatenate([points, score.clip(0.01, 1)[..., None]], 2).astype(np.float32)
        scores = keypoints[..., 2].mean(1) * crops.scores
        order = np.argsort(-scores, kind="stable")
        return PosePredictions(keypoints[order], scores[order], self.config.skeleton)

    def overlays(self, outputs: list[Crops]) -> list[Overlays]:
        return [{"keypoints": self._overlay(crops)} for crops in outputs]

    def _overlay(self, crops: Crops) -> np.ndarray:
        overlay = np.zeros(crops.image_size, np.float32)
        for maps, box, scale in zip(crops.maps.amax(1).cpu().numpy(), crops.boxes, crops.scale):
            overlay = np.maximum(overlay, resize_to_image(maps, tuple(scale), tuple(box[:2] + (scale - 1) / 2), crops.image_size))
        return overlay

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        return {"keypoints": heatmaps}


ENTRY = SystemEntry(
    config="tiny_system:TinyConfig",
    dataset="tiny_system:TinyDataset",
    targets="tiny_system:render_batch",
    networks={"tiny": NetworkEntry("tiny_system:TinyModelConfig", "tiny_system:TinyNetwork")},
    loss="tiny_system:TinyLoss",
    decoder="tiny_system:TinyDecoder",
)
