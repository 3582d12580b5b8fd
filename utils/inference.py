"""Estimate people in photographs with whichever pose system the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from config import Config, UserError
from models import build_model
from utils.checkpoint import load_weights
from utils.device import default_device
from utils.systems import People, pose_system


class PoseEstimator:
    """A network with its weights on a device; call it with a photograph, or `batch` with several.

    checkpoint: ours or the published format; None leaves the freshly drawn weights. device: such as "cuda:0"; None takes a GPU if there
    is one. detector: finds the boxes of images (see `utils.detectors`), where a system needs them and they are not given.
    """

    def __init__(
        self,
        config: Config,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        detector: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None = None,
    ):
        self.config, self.detector = config, detector
        self.network = build_model(config)
        if checkpoint is not None:
            load_weights(self.network, checkpoint)
        self.network.to(default_device(device)).eval()
        self.decoder = pose_system(config).decoder(self.network, config)
        self.needs_boxes = self.decoder.needs_boxes

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> People:
        """image (H, W, 3) uint8 BGR -> keypoints (P, K, 3) x, y, score in image pixels, 0 0 0 where missing; scores (P,), best first.

        boxes (B, 4) x, y, width, height of the people in it, or (B, 5) with a detector's score, for a pose system that looks at one at a
        time.
        """
        return self.batch([image], None if boxes is None else [boxes])[0]

    def batch(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> list[People]:
        """As a call, for several photographs of any sizes, which the network sees together as far as their sizes allow."""
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise UserError(f"image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8, BGR")
        if boxes is None and self.needs_boxes:
            if self.detector is None:
                raise UserError(f"system {self.config.system!r} looks at one person at a time and must be told where they are: give boxes")
            boxes = self.detector(images)
        if boxes is not None and len(boxes) != len(images):
            raise UserError(f"boxes for {len(boxes)} of {len(images)} images: expected an array of boxes for each image")
        return self.decoder(images, None if boxes is None else [_checked(of_image) for of_image in boxes])


def _checked(boxes: np.ndarray) -> np.ndarray:
    """One image's boxes. Raises UserError where they are not of a box's shape, or not finite numbers."""
    try:
        values = np.asarray(boxes)
    except ValueError:  # lists of several lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] not in (4, 5) or not np.isfinite(values).all():
        shape = f"of shape {values.shape} and type {values.dtype}"
        raise UserError(f"boxes {shape}: expected (B, 4) or (B, 5), x, y, width, height and maybe a score, finite numbers")
    return values
