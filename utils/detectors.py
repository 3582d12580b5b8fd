"""Person detectors, for top-down pose systems."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config import UserError
from utils.checkpoint import read_checkpoint
from utils.device import as_images, default_device
from utils.inference import PoseEstimator

Detector = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # images (H, W, 3) uint8 BGR -> boxes (B, 5) of each

PERSON = 1  # torchvision's category, which is COCO's
LEAST_SCORE = 0.3
MARGIN = 0.1  # around a pose, of its longer side: keypoints end at eyes, wrists and ankles, people do not
DETECTOR_OPTIONS = "--detector, a bottom-up system's checkpoint, or a torchvision detector's name with --detector-weights"


class TorchvisionDetector:
    """A detection network of torchvision, on a device.

    A call returns, for each image, boxes (B, 5) x, y, width, height in pixels and a score above `least_score`, best first.
    """

    def __init__(self, name: str, weights: str | Path, least_score: float = LEAST_SCORE, device: str | None = None):
        self.network, self.least_score, self.device = torchvision_network(name, weights), least_score, default_device(device)
        self.network.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        pixels = [as_images(np.ascontiguousarray(image)[None], self.device)[0].flip(0) for image in images]
        detected = []
        for output in self.network(pixels) if pixels else []:
            selected = (output["labels"] == PERSON) & (output["scores"] > self.least_score)
            corner, end = output["boxes"][selected].split(2, 1)
            detected.append(torch.cat([corner, end - corner, output["scores"][selected, None]], 1).cpu().numpy())
        return detected


class PoseDetector:
    """A bottom-up pose system that returns boxes around its people, as `TorchvisionDetector` does."""

    def __init__(self, checkpoint: str | Path, least_score: float = LEAST_SCORE, device: str | None = None):
        self.estimator, self.least_score = PoseEstimator(checkpoint=checkpoint, device=device), least_score
        if self.estimator.needs_boxes:
            system = self.estimator.config.system
            raise UserError(f"detector {checkpoint}: system {system!r} needs person boxes itself; use a bottom-up one")

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [boxes_around(keypoints, scores, self.least_score) for keypoints, scores in self.estimator.batch(images)]


def boxes_around(keypoints: np.ndarray, scores: np.ndarray, least_score: float) -> np.ndarray:
    """Return boxes (B, 5) of the people with a score above the least one and two keypoints or more.

    keypoints: (P, K, 3) x, y, score, 0 where missing. scores: (P,).
    """
    selected = (scores > least_score) & ((keypoints[..., 2] > 0).sum(1) > 1)
    present, points = keypoints[selected, :, 2:] > 0, keypoints[selected, :, :2]
    corner, end = np.where(present, points, np.inf).min(1), np.where(present, points, -np.inf).max(1)
    margin = MARGIN * (end - corner).max(1, keepdims=True)
    return np.concatenate([corner - margin, end - corner + 2 * margin, scores[selected, None]], 1)


def torchvision_names() -> list[str]:
    """Return the names of its detection networks. The import takes longer than a detection, so it waits until it is needed."""
    from torchvision.models import detection, list_models

    return list_models(module=detection)


def torchvision_network(name: str, path: str | Path) -> nn.Module:
    """Return torchvision's detection network of a name, with the weights of a file. Raises UserError where they do not fit."""
    from torchvision.models import get_model

    if name not in torchvision_names():
        raise UserError(f"detector {name}: unknown to torchvision; known: {', '.join(torchvision_names())}")
    content = read_checkpoint(path)
    weights = content.get("model", content.get("weights", content))  # torchvision's trainer, .safetensors, or the weights alone
    network = get_model(name, weights=None, weights_backbone=None)
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = textwrap.shorten(str(error).partition("\n")[2] or "no tensors by their names", 160, placeholder=" ...")
        raise UserError(f"detector weights {path}: not those of torchvision's {name}: {reason}") from error
    return network


def load_detector(
    name: str | Path, weights: str | Path | None = None, least_score: float = LEAST_SCORE, device: str | None = None
) -> Detector:
    """Return a detector. name: a bottom-up system's checkpoint, or with `weights` a torchvision detector's name."""
    if weights is not None:
        return TorchvisionDetector(str(name), weights, least_score, device)
    if not Path(name).is_file():
        if str(name) in torchvision_names():
            raise UserError(f"detector {name}: no weights given; add a file with --detector-weights")
        raise UserError(f"detector {name}: not found; use {DETECTOR_OPTIONS}")
    return PoseDetector(name, least_score, device)


def detector_for(
    estimator: PoseEstimator, name: str | None, weights: Path | None, least_score: float = LEAST_SCORE, device: str | None = None
) -> Detector | None:
    """Return the detector named on a command line, None for a bottom-up system. Raises UserError where it is missing or needless."""
    system = estimator.config.system
    if not estimator.needs_boxes:
        if name is not None or weights is not None:
            raise UserError(f"--detector {name or weights}: system {system!r} is bottom-up; omit the detector")
        return None
    if name is None:
        raise UserError(f"system {system!r}: needs person boxes; use {DETECTOR_OPTIONS}")
    return load_detector(name, weights, least_score, device)
