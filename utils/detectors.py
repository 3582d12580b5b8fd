"""Person detectors, for top-down pose systems."""

import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from config import UserError
from config.errors import suggestion
from utils.boxes import LEAST_SCORE
from utils.checkpoint import Checkpoint
from utils.device import as_images, default_device, limit_threads
from utils.inference import Detector, PoseDetector, PoseEstimator, bundled_detector
from utils.zoo import cached_file, download, is_network, networks

PERSON = 1  # torchvision's category, which is COCO's
DETECTOR_OPTIONS = "--detector, a bottom-up system's checkpoint or network's name, or a torchvision detector's name"


class TorchvisionDetector:
    """A detection network of torchvision, on a device.

    A call returns, for each image, boxes (B, 5) x, y, width, height in pixels and a score above `least_score`, best first.
    """

    def __init__(self, name: str, weights: str | Path | None = None, least_score: float = LEAST_SCORE, device: str | None = None):
        """Build the network of a name with the weights of a file, or torchvision's. Raise UserError where they do not fit."""
        from torchvision.models import detection, get_model, get_model_weights, list_models  # takes longer than a detection

        names = list_models(module=detection)
        if name not in names:
            found, known = "unknown to torchvision", names
            if weights is None:
                found, known = f"not found; use {DETECTOR_OPTIONS}", [*names, *networks()]
            raise UserError(f"detector {name}: {found}; {suggestion(name, known)}")
        weights = weights or torchvision_weights(name, get_model_weights(name).DEFAULT.url)
        self.least_score = least_score
        try:
            # As the estimator's, for forks: it runs the network once
            with ThreadPoolExecutor(1) as thread, limit_threads(1):
                self.network = thread.submit(get_model, name, weights=None, weights_backbone=None).result()
                self.network.load_state_dict(Checkpoint(weights).weights)
        except RuntimeError as error:
            reason = textwrap.shorten(str(error), 200, placeholder=" ...")
            raise UserError(f"detector weights {weights}: not those of torchvision's {name}: {reason}") from error
        self.device = default_device(device)
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


def torchvision_weights(name: str, url: str) -> Path:
    """Return the file of torchvision's own weights, where torchvision keeps it, downloaded if needed. Its name ends in the hash."""
    path = cached_file(url)
    if not path.is_file():
        download(url, path.stem.rpartition("-")[2], f"detector {name}", "name the file with --detector-weights")
    return path


def load_detector(
    name: str | Path, weights: str | Path | None = None, least_score: float = LEAST_SCORE, device: str | None = None, tiles: bool = False
) -> Detector:
    """Return a detector.

    name: a bottom-up system's checkpoint, a network's name of `utils.zoo`, or a torchvision detector's name. weights: the file of a
    torchvision detector's weights; None takes torchvision's own, downloaded once. tiles: as `PoseEstimator` takes it.

    Raises UserError where a torchvision detector is to look at tiles.
    """
    if weights is None and (Path(name).is_file() or is_network(name)):
        return PoseDetector(name, least_score, device, tiles)
    if tiles:
        raise UserError(f"--tiles: detector {name} is torchvision's and takes whole images; name a bottom-up one, or omit --tiles")
    return TorchvisionDetector(str(name), weights, least_score, device)


def detector_for(
    estimator: PoseEstimator, name: str | Path | None, weights: Path | None, least_score: float, device: str | None, tiles: bool = False
) -> Detector | None:
    """Return the detector named on a command line, or else the bundled model, which is announced on stdout; None for a bottom-up system.

    Raise UserError where it is needless, or where only its weights are named.
    """
    system, given = estimator.config.system, name or weights
    if not estimator.needs_boxes:
        if given is not None:
            raise UserError(f"--detector {given}: system {system!r} is bottom-up; omit the detector")
        return None
    if name is None and weights is not None:
        raise UserError(f"--detector-weights {weights}: add the torchvision detector's name, such as --detector fasterrcnn_resnet50_fpn")
    if name is None:
        return bundled_detector(system, least_score, device, tiles)
    return load_detector(name, weights, least_score, device, tiles)
