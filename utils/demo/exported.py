"""The demo's estimator of exported networks, without PyTorch, which takes seconds to import."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from config import UserError
from config.load import parse_config
from data.images import read_images
from utils.boxes import scored_boxes
from utils.predictions import PosePredictions

THREADS = 2  # one runs the network while the other assigns keypoints


class ExportedEstimator:
    """What the demo needs of a `PoseEstimator`, for an .onnx that `deploy` runs.

    detector: takes images and returns boxes (B, 5) of each; for a top-down system.

    Raises UserError where `deploy` cannot run the file, or ONNX Runtime is not installed.
    """

    def __init__(self, path: Path):
        from deploy.runner import PoseRunner

        self.path, self.runner = path, PoseRunner(path)
        stored = self.runner.session.get_modelmeta().custom_metadata_map
        self.name, self.version = (stored[f"simplepose.{key}"] for key in ("name", "version"))
        self.config = parse_config(json.loads(stored["simplepose.config"]), f"checkpoint {path}")
        self.needs_boxes, self.detector = self.runner.needs_boxes, None

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> PosePredictions:
        if self.needs_boxes and boxes is None:
            boxes = self.detector([image])[0]
        keypoints, scores, boxes = self.runner(image, boxes)
        return PosePredictions(keypoints, scores, self.config.skeleton, boxes)

    def stream(self, images: Iterable[np.ndarray], batch_size: int = 1) -> Iterator[PosePredictions]:
        """Yield the people of each image in order; on a CPU batches are no faster."""
        return read_images(images, self, THREADS)


class ExportedDetector:
    """A bottom-up exported network as a detector: it returns boxes around its people with a score above `least_score`."""

    def __init__(self, path: Path, least_score: float):
        self.estimator, self.least_score = ExportedEstimator(path), least_score
        if self.estimator.needs_boxes:
            raise UserError(f"detector {path}: system {self.estimator.config.system!r} needs person boxes itself; use a bottom-up one")

    def __call__(self, images: Iterable[np.ndarray]) -> list[np.ndarray]:
        return [scored_boxes(p.keypoints, p.scores, p.boxes, self.least_score) for p in map(self.estimator, images)]
