"""Estimate people in a photograph with whichever pose system the configuration names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from config import Config, UserError
from utils.checkpoint import load_weights
from utils.distributed import default_device
from utils.pose_system import People, pose_system


class PoseEstimator:
    """A network with its weights on a device; call it with a photograph.

    checkpoint: ours or the published format; None leaves the freshly drawn weights. device: such as "cuda:0"; None takes a GPU if there
    is one.
    """

    def __init__(self, config: Config, checkpoint: str | Path | None = None, device: str | None = None):
        self.config, self.system = config, pose_system(config)
        self.network = self.system.model(config)
        if checkpoint is not None:
            load_weights(self.network, checkpoint)
        self.network.to(default_device(device)).eval()

    def __call__(self, image: np.ndarray) -> People:
        """image (H, W, 3) uint8 BGR -> keypoints (P, K, 3) x, y, score in image pixels, 0 0 0 where missing; scores (P,), best first."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8, BGR")
        return self.system.estimate(self.network, image, self.config)
