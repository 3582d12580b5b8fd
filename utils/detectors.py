"""Where people are in photographs, for pose systems that look at one person at a time and must be told."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config import UserError
from utils.checkpoint import read_checkpoint
from utils.device import default_device
from utils.inference import PoseEstimator

Detector = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # images, each (H, W, 3) uint8 BGR -> boxes of each, see below

PERSON = 1  # of torchvision's categories, which are COCO's
LEAST_SCORE = 0.3
MARGIN = 0.1  # of a pose's longer side, around it: keypoints end at eyes, wrists and ankles, people do not
HOW = "--detector, a checkpoint of a system that finds people by itself, or a torchvision detector's name with --detector-weights"


class TorchvisionDetector:
    """A detection network of torchvision with its weights on a device.

    Called with images, gives boxes (B, 5) x, y, width, height in pixels and a score above `least_score`, of each, best first.
    """

    def __init__(self, name: str, weights: str | Path, least_score: float = LEAST_SCORE, device: str | None = None):
        self.network, self.least_score, self.device = torchvision_network(name, weights), least_score, default_device(device)
        self.network.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        pixels = [
            torch.from_numpy(np.ascontiguousarray(image)).to(self.device).flip(2).permute(2, 0, 1).float().div_(255) for image in images
        ]
        return [self._people(**found) for found in self.network(pixels)] if pixels else []

    def _people(self, boxes: torch.Tensor, labels: torch.Tensor, scores: torch.Tensor, **_: torch.Tensor) -> np.ndarray:
        """boxes (D, 4) left, top, right, bottom, of all categories."""
        chosen = (labels == PERSON) & (scores > self.least_score)
        corner, end = boxes[chosen].split(2, 1)
        return torch.cat([corner, end - corner, scores[chosen, None]], 1).cpu().numpy()


class PoseDetector:
    """A pose system that finds people by itself: boxes around them, as `TorchvisionDetector` gives them."""

    def __init__(self, checkpoint: str | Path, least_score: float = LEAST_SCORE, device: str | None = None):
        self.estimator, self.least_score = PoseEstimator(checkpoint=checkpoint, device=device), least_score
        if self.estimator.needs_boxes:
            raise UserError(f"detector {checkpoint}: system {self.estimator.config.system!r} must be told where people are itself")

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [boxes_around(keypoints, scores, self.least_score) for keypoints, scores in self.estimator.batch(images)]


def boxes_around(keypoints: np.ndarray, scores: np.ndarray, least_score: float) -> np.ndarray:
    """keypoints (P, K, 3) x, y, score, 0 where missing; scores (P,) -> (B, 5) of those with a higher score and two keypoints or more."""
    chosen = (scores > least_score) & ((keypoints[..., 2] > 0).sum(1) > 1)
    there, places = keypoints[chosen, :, 2:] > 0, keypoints[chosen, :, :2]
    corner, end = np.where(there, places, np.inf).min(1), np.where(there, places, -np.inf).max(1)
    margin = MARGIN * (end - corner).max(1, keepdims=True)
    return np.concatenate([corner - margin, end - corner + 2 * margin, scores[chosen, None]], 1)


def torchvision_names() -> list[str]:
    """Of all its detection networks. It is imported only when asked for: that takes longer than to find people in an image."""
    from torchvision.models import detection, list_models

    return list_models(module=detection)


def torchvision_network(name: str, path: str | Path) -> nn.Module:
    """A detection network by its name in torchvision, with the weights of a file. Raises UserError where one is not the other's."""
    from torchvision.models import get_model

    if name not in torchvision_names():
        raise UserError(f"detector {name}: torchvision has none of that name; it has {', '.join(torchvision_names())}")
    content = read_checkpoint(path)
    weights = content.get(
        "model", content.get("weights", content)
    )  # as torchvision's own trainer writes them, a .safetensors, or the weights alone
    network = get_model(name, weights=None, weights_backbone=None)
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        said = textwrap.shorten(str(error).partition("\n")[2] or "no tensors by their names", 160, placeholder=" ...")
        raise UserError(f"detector weights {path}: not those of torchvision's {name}: {said}") from error
    return network


def load_detector(
    name: str | Path, weights: str | Path | None = None, least_score: float = LEAST_SCORE, device: str | None = None
) -> Detector:
    """name: a checkpoint of a pose system that finds people by itself, or with `weights` a torchvision detector's name."""
    if weights is not None:
        return TorchvisionDetector(str(name), weights, least_score, device)
    if not Path(name).is_file():
        known = str(name) in torchvision_names()
        raise UserError(f"detector {name}: " + ("give its weights, a file, with --detector-weights" if known else f"not found; give {HOW}"))
    return PoseDetector(name, least_score, device)


def detector_for(
    estimator: PoseEstimator, name: str | None, weights: Path | None, least_score: float = LEAST_SCORE, device: str | None = None
) -> Detector | None:
    """The detector named on a command line; None for a system that needs none. Raises UserError where one is missing, or one too many."""
    system = estimator.config.system
    if not estimator.needs_boxes:
        if name is not None or weights is not None:
            raise UserError(f"--detector {name or weights}: system {system!r} finds people by itself; leave it out")
        return None
    if name is None:
        raise UserError(f"system {system!r} must be told where people are; give {HOW}")
    return load_detector(name, weights, least_score, device)
