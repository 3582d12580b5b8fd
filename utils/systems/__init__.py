"""What a pose system is above the floor of networks and losses, and which one a configuration names.

Trainers, evaluation and demo know only this. The systems are listed in `config/systems`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from config import Config
from config.systems import SYSTEMS

People = tuple[np.ndarray, np.ndarray]  # keypoints (P, K, 3) x, y, score in image pixels, 0 0 0 where missing; scores (P,), best first

# A network, an image (H, W, 3) uint8 BGR and, where a system needs them, boxes (B, 4 or 5) of people in it -> for each kind of map the
# strongest response at each pixel of the image, (H, W) in [0, 1]
Responses = Callable[[nn.Module, np.ndarray, np.ndarray | None, Any], dict[str, np.ndarray]]


class Decoder(ABC):
    """From photographs to people; built once with a network and its configuration, of which it calls `answer` alone.

    The way has three parts, of which one batch's can be done beside another's: only `maps` needs the network.
    """

    needs_boxes = False  # whether it must be told where people are

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> list[People]:
        """images: each (H, W, 3) uint8 BGR. boxes: for each image (B, 4) x, y, width, height in its pixels, or (B, 5) with a score; None
        where none are needed. Returns of each image keypoints (P, K, 3) x, y, score in image pixels, scores (P,), best first.
        """
        return self.people(self.maps(self.inputs(images, boxes)))

    def alike(self, image_size: tuple[int, int]) -> Hashable:
        """Of an image's height and width: the network sees images together where this is equal."""
        return None

    @abstractmethod
    def inputs(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> Any:
        """What the network is to see, in memory, and what else is needed later."""

    @abstractmethod
    def maps(self, inputs: Any) -> Any:
        """What it answers, on its device."""

    @abstractmethod
    def people(self, maps: Any) -> list[People]:
        """Who that is."""


@dataclass(frozen=True)
class PoseSystem:
    """What `config/systems` names as a system's `system`."""

    decoder: Callable[[nn.Module, Config], Decoder]  # how the network's answer becomes people
    pictures: Callable[[Tensor, Any, tuple[Tensor, ...], Config], list[np.ndarray]]  # images, outputs, targets -> each (H, W, 3) uint8 BGR
    answers: tuple[str, ...] = ("heatmaps",)  # what to call what `network.answer` gives
    input_multiple: Callable[[Config], int] | None = None  # the network takes all sides that are multiples of it; None: data.input_size
    maps: Responses | None = None  # what the network sees in a photograph, for the demo


def pose_system(config: Config) -> PoseSystem:
    """The system that `config.system` names."""
    return SYSTEMS[config.system].load("system")
