"""A pose system: the four things that belong together, chosen by one name in the configuration.

The trainers, checkpoints, evaluation and demo know only this. Another system joins by an entry in SYSTEMS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from config import Config
from data.dataset import CocoMasksDataset
from losses import build_loss
from models import build_model
from utils.drawing import draw_maps
from utils.heatmaps import estimate_people

People = tuple[np.ndarray, np.ndarray]  # keypoints (P, K, 3) x, y, score in image pixels; scores (P,)


@dataclass(frozen=True)
class PoseSystem:
    """How a sample is cut and drawn, the network, the loss, and how an answer becomes people."""

    dataset: Callable[[Path, Config, bool], Dataset]  # path, configuration, augment -> samples (image, *targets)
    model: Callable[[Config], nn.Module]  # images (N, 3, H, W) -> outputs
    loss: Callable[[Config], nn.Module]  # (outputs, *targets) -> scalar; see losses/__init__.py
    estimate: Callable[[nn.Module, np.ndarray, Config], People]  # network, image (H, W, 3) uint8 BGR -> people
    pictures: Callable[[Tensor, Any, tuple[Tensor, ...], Config], list[np.ndarray]]  # images, outputs, targets -> each (H, W, 3) uint8 BGR


def _map_pictures(images: Tensor, outputs: list[list[Tensor]], targets: tuple[Tensor, ...], config: Config) -> list[np.ndarray]:
    finest = outputs[-1][0].float().cpu().numpy()
    return [draw_maps(*maps, config.skeleton) for maps in zip(images.cpu().numpy(), finest, targets[0].cpu().numpy())]


SYSTEMS = {
    "simplepose": PoseSystem(
        dataset=CocoMasksDataset, model=build_model, loss=build_loss, estimate=estimate_people, pictures=_map_pictures
    ),
}


def pose_system(config: Config) -> PoseSystem:
    """The system that `config.system` names."""
    return SYSTEMS[config.system]
