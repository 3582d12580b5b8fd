"""Predict people's poses in images with the pose system that the configuration names."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from config import Config, UserError
from config.load import with_overrides
from data.images import ColorOrder, ImageInput, to_bgr
from models.fuse import fuse_conv_bn
from utils.batching import LOOKAHEAD, batch_by_key, num_workers, ordered_map, worker_pool
from utils.boxes import LEAST_SCORE, MIN_SCORE, scored_boxes
from utils.bundled_model import bundled_checkpoint, resolve_checkpoint
from utils.checkpoint import Checkpoint, config_for, load_network
from utils.device import PerProcess, limit_threads, uses_compile
from utils.predictions import PosePredictions
from utils.systems import Overlays, build_decoder, decoder_class

Detector = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # images (H, W, 3) uint8 BGR -> boxes (B, 5) of each: x, y, w, h, score
Sample = tuple[np.ndarray, np.ndarray | None]  # an image and its boxes, if they are known


class PoseEstimator:
    """Predict the people of an image by a call, of several images by `batch`, of any number by `stream`.

        import cv2
        from utils.inference import PoseEstimator

        estimator = PoseEstimator("best.pth")  # PoseEstimator() takes the bundled model
        people = estimator("photo.jpg")  # a PosePredictions
        for keypoints, score, box in zip(people.keypoints, people.scores, people.boxes):
            print(score, box, keypoints[people.names.index("nose")])  # a nose is x, y in pixels and its score
        cv2.imwrite("drawn.jpg", people.draw("photo.jpg"))

    An image is a file's name, a PIL image of any mode, or an array (H, W, 3) uint8 in the order of `color`. Files and PIL images are turned
    upright by their EXIF orientation, and positions are in pixels of the upright image.

    config: PoseEstimator(checkpoint) takes the checkpoint's own; PoseEstimator(config, checkpoint) another, such as
        `utils.checkpoint.config_for(checkpoint, overrides=["inference.flip=false"])`.
    checkpoint: a file of this project, .safetensors, a published one or an exported .onnx, or a network's name (docs/model_zoo.md), whose
        file is downloaded once. None takes random weights with a configuration, and the bundled model, which is announced on stdout,
        without one.
    device: such as "cpu" or "cuda:0"; None takes a GPU if there is one.
    detector: gives the boxes where a system needs them (`needs_boxes`) and none are passed: `utils.detectors.load_detector(...)`. None
        takes the bundled model once it is needed, which is announced on stdout.
    min_score: people below are excluded; 0 returns all.
    tiles: also look at overlapping tiles of large images, for small people (`inference.tiles`). Of a top-down system, its bundled
        detector does.
    color: order of the channels of arrays, "bgr" as OpenCV has them or "rgb"; also of what `PosePredictions.draw` returns.

    Threads may share an estimator, and a process that is forked or that gets a pickled one can use it (docs/inference.md).

    Raises `config.UserError`, with what is expected, for a checkpoint, a device, an image or boxes that cannot be used.

    `seconds` sums the time of each part so far: "detection", "input" (resize, pad, crop), "network" (until its outputs are complete),
    "assignment" (from outputs to people), "overlays". Two threads work at a time, so the sum may exceed the elapsed time.
    """

    def __init__(
        self,
        config: Config | str | Path | Checkpoint | None = None,
        checkpoint: str | Path | Checkpoint | None = None,
        device: str | None = None,
        detector: Detector | None = None,
        min_score: float = MIN_SCORE,
        color: ColorOrder = "bgr",
        tiles: bool = False,
    ):
        if config is not None and not isinstance(config, Config):
            if checkpoint is not None or not isinstance(config, (str, Path, Checkpoint)):
                expected = "expected a checkpoint alone, or a configuration, as load_config returns it, and a checkpoint"
                raise UserError(f"PoseEstimator with {str(config)!r} first: {expected}")
            config, checkpoint = None, config
        if color not in get_args(ColorOrder):
            raise UserError(f"color {color!r}: expected 'bgr' or 'rgb'")
        if config is None:
            checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else resolve_checkpoint(checkpoint)
            config = config_for(checkpoint)
        if tiles and not decoder_class(config).needs_boxes:
            config = with_overrides(config, ["inference.tiles=true"])
        self.config, self.detector, self.min_score, self.color, self.tiles = config, detector, min_score, color, tiles
        self.network = load_network(config, checkpoint, device)
        self.device = next(self.network.parameters()).device
        with limit_threads(1):
            self.network.to(memory_format=torch.channels_last)
            if self.device.type == "cpu":
                fuse_conv_bn(self.network)
        if uses_compile(config.inference.compile, self.device):
            self.network.predict = torch.compile(self.network.predict)
        self.decoder = build_decoder(self.network, config)
        self.needs_boxes = self.decoder.needs_boxes
        self.workers = num_workers(self.device)
        self._pool = PerProcess(worker_pool, self.workers, self.device)
        self.seconds: dict[str, float] = defaultdict(float)
        self._seconds_lock, self._detector_lock = PerProcess(Lock), PerProcess(Lock)

    def __call__(self, image: ImageInput, boxes: np.ndarray | None = None) -> PosePredictions:
        """Return the people in one image.

        boxes: for a top-down system (B, 4) x, y, width, height in pixels, or (B, 5) with a detector's score.
        """
        return self.batch([image], None if boxes is None else [boxes])[0]

    def batch(self, images: Sequence[ImageInput], boxes: Sequence[np.ndarray] | None = None) -> list[PosePredictions]:
        """Return the people of each of several images of any sizes; the network takes those of one size together.

        boxes: those of each image, as in a call.
        """
        samples = list(self._samples(images, boxes))
        if len(samples) == 1:
            return self._pool().submit(self._predict_alone, samples, torch.get_num_threads()).result()
        # On a CPU two halves on half of the threads each are faster than all on all
        batch_size = -(-len(samples) // self.workers) if self.device.type == "cpu" else len(samples)
        return list(self._map(self._predict, samples, batch_size, lookahead=len(samples)))

    def stream(
        self, images: Iterable[ImageInput], batch_size: int = 1, boxes: Iterable[np.ndarray] | None = None
    ) -> Iterator[PosePredictions]:
        """Yield the people of each image in order; images may come one by one, as a video's.

        The network takes `batch_size` images of one size together where a few batches hold so many; no more is read ahead. boxes: those of
        each image, as in a call.
        """
        yield from self._map(self._predict, self._samples(images, boxes), batch_size, LOOKAHEAD * batch_size)

    def stream_with_overlays(self, images: Iterable[ImageInput], batch_size: int = 1) -> Iterator[tuple[PosePredictions, Overlays]]:
        """Yield, as `stream`, the predictions for each image, and the network's outputs as overlays of the image's size."""
        yield from self._map(partial(self._predict, overlays=True), self._samples(images), batch_size, LOOKAHEAD * batch_size)

    def _map(self, work: Callable, samples: Iterable[Sample], batch_size: int, lookahead: int) -> Iterator[Any]:
        batches = batch_by_key(samples, lambda sample: self.decoder.batch_key(sample[0].shape[:2]), batch_size, lookahead)
        return ordered_map(batches, work, self._pool(), self.workers)

    def _predict_alone(self, samples: Sequence[Sample], threads: int) -> list[PosePredictions]:
        """Predict with all threads of the caller, and not in its thread: PyTorch hangs in a thread that forked after it had computed."""
        with limit_threads(threads):
            return self._predict(samples)

    def _predict(self, samples: Sequence[Sample], overlays: bool = False) -> list[Any]:
        """Return the predictions for images of one batch key, each with its overlays if asked."""
        images, boxes = zip(*samples)
        if self.needs_boxes and any(of_image is None for of_image in boxes):
            with self._detector_lock(), self._timed("detection"):
                if self.detector is None:
                    self.detector = bundled_detector(self.config.system, device=str(self.device), tiles=self.tiles)
                boxes = [_checked_boxes(of_image) for of_image in self.detector(images)]
        with self._timed("input"):
            inputs = self.decoder.preprocess(images, boxes if self.needs_boxes else None)
        with self._timed("network"):
            outputs = self.decoder.forward(inputs)
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
        with self._timed("assignment"):
            people = [replace(p.select(p.scores >= self.min_score), color=self.color) for p in self.decoder.decode(outputs)]
        if not overlays:
            return people
        with self._timed("overlays"):
            return list(zip(people, self.decoder.overlays(outputs)))

    def _samples(self, images: Iterable[ImageInput], boxes: Iterable[np.ndarray] | None = None) -> Iterator[Sample]:
        """Yield each image as BGR, with its boxes. Raises ValueError where there are fewer of one than of the other."""
        if not isinstance(images, Iterable) or isinstance(images, (str, Image.Image)) or isinstance(images, np.ndarray) and images.ndim < 4:
            raise UserError(f"images of type {type(images).__name__}: expected several images; one goes to a call, estimator(image)")
        for image, of_image in zip(images, repeat(None) if boxes is None else boxes, strict=boxes is not None):
            yield to_bgr(image, self.color), None if of_image is None else _checked_boxes(of_image)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = perf_counter()
        yield
        with self._seconds_lock():
            self.seconds[part] += perf_counter() - start


class PoseDetector:
    """A bottom-up pose system as a detector: it returns boxes around its people with a score above `least_score`."""

    def __init__(self, checkpoint: str | Path, least_score: float = LEAST_SCORE, device: str | None = None, tiles: bool = False):
        self.estimator, self.least_score = PoseEstimator(checkpoint=checkpoint, device=device, min_score=0, tiles=tiles), least_score
        if self.estimator.needs_boxes:
            system = self.estimator.config.system
            raise UserError(f"detector {checkpoint}: system {system!r} needs person boxes itself; use a bottom-up one")

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [scored_boxes(people.keypoints, people.scores, people.boxes, self.least_score) for people in self.estimator.batch(images)]


def bundled_detector(system: str, least_score: float = LEAST_SCORE, device: str | None = None, tiles: bool = False) -> Detector:
    """Return the bundled model as the detector of a system that needs boxes, and announce it on stdout."""
    checkpoint = bundled_checkpoint()
    print(f"detector: {checkpoint.stem}, the bundled model; none was named, and system {system!r} needs person boxes", flush=True)
    return PoseDetector(checkpoint, least_score, device, tiles)


def _checked_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return one image's boxes as (B, 4 or 5) float. Raises UserError where they are something else."""
    expected = "expected (B, 4) or (B, 5), x, y, width, height and maybe a score, finite numbers"
    try:
        boxes = np.asarray(boxes, float)
    except (TypeError, ValueError) as error:
        raise UserError(f"boxes are no array of numbers: {expected}") from error
    if not boxes.size:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or not np.isfinite(boxes).all():
        raise UserError(f"boxes of shape {boxes.shape}: {expected}")
    return boxes
