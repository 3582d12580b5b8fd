"""What a pose system is above the floor of networks and losses, and which one a configuration names.

Trainers, evaluation and demo know only this. The systems are listed in `config/systems`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from config import Config
from config.systems import SYSTEMS
from data.people_file import PeopleFile
from data.samples import Samples

People = tuple[np.ndarray, np.ndarray]  # keypoints (P, K, 3) x, y, score in image pixels, 0 0 0 where missing; scores (P,), best first

# A network, an image (H, W, 3) uint8 BGR and, where a system needs them, boxes (B, 4 or 5) of people in it -> for each kind of map the
# strongest response at each pixel of the image, (H, W) in [0, 1]
Responses = Callable[[nn.Module, np.ndarray, np.ndarray | None, Any], dict[str, np.ndarray]]


class Decoder(Protocol):
    """From photographs to people; built once with a network and its configuration."""

    needs_boxes: bool  # whether it must be told where people are

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> list[People]:
        """images: each (H, W, 3) uint8 BGR. boxes: for each image (B, 4) x, y, width, height in its pixels; None where none are needed."""


@dataclass(frozen=True)
class PoseSystem:
    """What `config/systems` names as a system's `system`."""

    samples: Callable[[PeopleFile, Config], Samples]  # how a training sample is cut and drawn
    decoder: Callable[[nn.Module, Config], Decoder]  # how the network's answer becomes people
    pictures: Callable[[Tensor, Any, tuple[Tensor, ...], Config], list[np.ndarray]]  # images, outputs, targets -> each (H, W, 3) uint8 BGR
    maps: Responses | None = None  # what the network sees in a photograph, for the demo


def pose_system(config: Config) -> PoseSystem:
    """The system that `config.system` names."""
    return SYSTEMS[config.system].load("system")
