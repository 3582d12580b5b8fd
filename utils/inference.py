"""Estimate people in photographs with whichever pose system the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import repeat, zip_longest
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
import torch

from config import Config, UserError
from models.fuse import fuse_conv_bn
from utils.batching import WINDOW, batch_by_key, num_workers, ordered_map, worker_pool
from utils.bundled_model import resolve_checkpoint
from utils.checkpoint import Checkpoint, config_for, load_network, opened
from utils.device import in_one_thread
from utils.systems import Overlays, PosePredictions, build_decoder

Given = tuple[np.ndarray, np.ndarray | None]  # an image and its boxes, if they are known


class PoseEstimator:
    """A network with its weights on a device; call it with a photograph, `batch` with several, `stream` with any number.

    config: None takes the checkpoint's own. checkpoint: ours, .safetensors, the published format, or an exported .onnx; without both it is
    the network that comes with the project, and a line says so; with a configuration None leaves the freshly drawn weights. device: such
    as "cuda:0"; None takes a GPU if there is one. detector: finds the boxes of images (see `utils.detectors`), where a system needs them
    and they are not given.

    `seconds` counts what everything so far took, by part: "detection", "input" (resized, padded, or cut out), "network" (its outputs, until
    they are there), "assignment" (from them to people), "overlays" (where asked for). Two threads work at a time, so that their sum may
    exceed the time on the clock.
    """

    def __init__(
        self,
        config: Config | None = None,
        checkpoint: str | Path | Checkpoint | None = None,
        device: str | None = None,
        detector: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None = None,
    ):
        if config is None:
            checkpoint = opened(resolve_checkpoint(checkpoint))
            config = config_for(checkpoint)
        self.config, self.detector = config, detector
        self.network = load_network(config, checkpoint, device)
        self.device = next(self.network.parameters()).device
        on_cpu = self.device.type == "cpu"
        with in_one_thread():
            self.network.to(memory_format=torch.channels_last)
            if on_cpu:
                fuse_conv_bn(self.network)
        self.decoder = build_decoder(self.network, config)
        self.needs_boxes = self.decoder.needs_boxes
        self.workers = num_workers(self.device)
        self.seconds = dict.fromkeys((*(["detection"] if self.needs_boxes else []), "input", "network", "assignment"), 0.0)
        self._counting, self._detecting = Lock(), Lock()

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> PosePredictions:
        """image (H, W, 3) uint8 BGR -> keypoints (P, K, 3) x, y, score in image pixels, 0 0 0 where missing; scores (P,), best first.

        boxes (B, 4) x, y, width, height of the people in it, or (B, 5) with a detector's score, for a pose system that looks at one at a
        time.
        """
        return self.batch([image], None if boxes is None else [boxes])[0]

    def batch(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> list[PosePredictions]:
        """As a call, for several photographs of any sizes, which the network sees together as far as their sizes allow."""
        for image in images:
            _check_image(image)
        if boxes is None and self.needs_boxes:
            boxes = self._detected(images)
        elif boxes is not None:
            boxes = _checked(boxes, images)
        given = list(zip(images, repeat(None) if boxes is None else boxes))
        if len(given) > 1 and self.workers > 1 and self.device.type == "cpu":
            share = -(-len(given) // self.workers)  # on half of the threads each, two halves are faster than all on all
            return list(self._through_workers(self._people, given, share, window=len(given)))
        return self._people(given)

    def stream(
        self, images: Iterable[np.ndarray], batch_size: int = 1, boxes: Iterable[np.ndarray] | None = None
    ) -> Iterator[PosePredictions]:
        """As a call, for photographs that come one by one, such as a video's: the people of each, in their order.

        The network sees `batch_size` images of one size together, if so many come within a few batches; how much is read ahead does not
        grow with the stream. boxes: as a call's, of each image.
        """
        pairs = zip(images, repeat(None)) if boxes is None else _pairs(images, boxes)
        given = ((_check_image(image), None if of_image is None else _checked([of_image], [image])[0]) for image, of_image in pairs)
        yield from self._through_workers(self._people, given, batch_size, window=WINDOW * batch_size)

    def stream_with_overlays(self, images: Iterable[np.ndarray], batch_size: int = 1) -> Iterator[tuple[PosePredictions, Overlays]]:
        """As `stream`, and with the people of each image what the network answered, on its pixels."""
        given = ((_check_image(image), None) for image in images)
        yield from self._through_workers(self._people_and_overlays, given, batch_size, window=WINDOW * batch_size)

    def _through_workers(self, work: Callable, given: Iterable[Given], batch_size: int, window: int) -> Iterator[Any]:
        batches = batch_by_key(given, lambda pair: self.decoder.batch_key(pair[0].shape[:2]), batch_size, window)
        return ordered_map(batches, work, self._pool, self.workers)

    def _people(self, given: Sequence[Given]) -> list[PosePredictions]:
        """One batch all the way."""
        return self._decoded(self._outputs(given))

    def _people_and_overlays(self, given: Sequence[Given]) -> list[tuple[PosePredictions, Overlays]]:
        outputs = self._outputs(given)
        people = self._decoded(outputs)
        with self._counted("overlays"):
            return list(zip(people, self.decoder.overlays(outputs)))

    def _outputs(self, given: Sequence[Given]) -> Any:
        """What the network answers to one batch."""
        images, boxes = [image for image, _ in given], [of_image for _, of_image in given]
        if any(of_image is None for of_image in boxes):
            boxes = self._detected(images) if self.needs_boxes else None
        with self._counted("input"):
            inputs = self.decoder.preprocess(images, boxes)
        with self._counted("network"):
            outputs = self.decoder.forward(inputs)
            if self.device.type == "cuda":
                torch.cuda.current_stream(self.device).synchronize()
        return outputs

    def _decoded(self, outputs: Any) -> list[PosePredictions]:
        with self._counted("assignment"):
            return self.decoder.decode(outputs)

    def _detected(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The detector's boxes of each image."""
        if self.detector is None:
            raise UserError(f"system {self.config.system!r} looks at one person at a time and must be told where they are: give boxes")
        with self._detecting, self._counted("detection"):
            return _checked(self.detector(images), images)

    @contextmanager
    def _counted(self, part: str) -> Iterator[None]:
        begun = perf_counter()
        yield
        with self._counting:
            self.seconds[part] = self.seconds.get(part, 0.0) + perf_counter() - begun

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return worker_pool(self.workers, self.device)


def _check_image(image: np.ndarray) -> np.ndarray:
    """The image. Raises UserError where it is none."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8, BGR")
    return image


def _pairs(images: Iterable[np.ndarray], boxes: Iterable[np.ndarray]) -> Iterator[Given]:
    """Each image with its boxes. Raises UserError where there are fewer of one than of the other."""
    nothing = object()
    for number, (image, of_image) in enumerate(zip_longest(images, boxes, fillvalue=nothing)):
        if image is nothing or of_image is nothing:
            fewer, more = ("images", "boxes") if image is nothing else ("boxes", "images")
            raise UserError(f"{fewer} end after {number}, {more} do not: expected an array of boxes for each image")
        yield image, of_image


def _checked(boxes: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each image's boxes."""
    if len(boxes) != len(images):
        raise UserError(f"boxes for {len(boxes)} of {len(images)} images: expected an array of boxes for each image")
    return [_checked_boxes(of_image) for of_image in boxes]


def _checked_boxes(boxes: np.ndarray) -> np.ndarray:
    """One image's boxes. Raises UserError where they are not of a box's shape, or not finite numbers."""
    try:
        values = np.asarray(boxes)
    except ValueError:  # lists of several lengths
        values = np.asarray(None)
    if values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[1] not in (4, 5) or not np.isfinite(values).all():
        shape = f"of shape {values.shape} and type {values.dtype}"
        raise UserError(f"boxes {shape}: expected (B, 4) or (B, 5), x, y, width, height and maybe a score, finite numbers")
    return values
