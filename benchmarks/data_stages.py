"""Where a training sample's time goes: its stages, and what of them is OpenCV's. The code that is measured stays as it is."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from config import Config
from config.systems import SYSTEMS
from data import people_file
from data.datasets import MixedDataset, collate
from data.people_file import PeopleFile

# Functions of PeopleFile, of data/people_file.py and of the systems' samples, by what they do. All else is REST
STAGES = {
    "read": {"_parts"},
    "decode": {"decode_image"},
    "warp": {"warp_image", "warp_image_and_mask"},
    "masks": {"masks", "_mask", "loss_masks", "unpack_mask", "warp_mask", "at_map_size"},
    "colours": {"jitter_hsv"},
}
REST = "joints and chance"


def one_pass(dataset: MixedDataset, epoch: int, count: int, size: int, gather: Callable = collate) -> None:
    """Make batches of so many samples from all over the set, as an epoch augments them; of a small set, each several times."""
    drawn = np.resize(np.random.default_rng(epoch).permutation(len(dataset)), count)
    numbers = (drawn + np.arange(count) // len(dataset) * len(dataset)).tolist()
    for start in range(0, count, size):
        gather([dataset[epoch, number] for number in numbers[start : start + size]])


class OpenCvAlone:
    """What OpenCV has to do for the samples of a pass, and nothing else: files decoded, three channels warped once."""

    def __init__(self, dataset: MixedDataset, count: int):
        self.files: list[np.ndarray] = []
        self.warps: list[tuple[np.ndarray, tuple[int, int]]] = []  # matrix, width and height
        decode, warp = people_file.decode_image, cv2.warpAffine

        def decoding(data: np.ndarray, name: str) -> np.ndarray:
            self.files.append(data)
            return decode(data, name)

        def warping(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], **options: Any) -> np.ndarray:
            if image.ndim == 3:
                self.warps.append((matrix, size))
            return warp(image, matrix, size, **options)

        with patch.object(people_file, "decode_image", decoding), patch.object(cv2, "warpAffine", warping):
            one_pass(dataset, 0, count, 1)

    def seconds(self) -> tuple[float, float]:
        """Of decoding and of warping, a sample."""
        spent = np.zeros(2)
        for data, (matrix, size) in zip(self.files, self.warps, strict=True):
            moments = [time.process_time()]
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
            moments.append(time.process_time())
            cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
            moments.append(time.process_time())
            spent += np.diff(moments)
        return tuple((spent / len(self.files)).tolist())


class Stopwatch:
    """Processor time by stage, each stage without those that it calls for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def around(self, stage: str, function: Callable) -> Callable:
        """The function, its time counted."""

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self._turn()
            self._running.append(stage)
            try:
                return function(*arguments, **options)
            finally:
                self._turn()
                self._running.pop()

        return timed

    def _turn(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def watching(self, config: Config) -> Iterator[None]:
        """Within, the functions of STAGES are timed wherever a sample's way finds them."""
        samples = SYSTEMS[config.system].load("dataset")
        with ExitStack() as changed:
            for place in (people_file, PeopleFile, sys.modules[samples.__module__], samples):
                for stage, names in STAGES.items():
                    for name in names & vars(place).keys():
                        changed.enter_context(patch.object(place, name, self.around(stage, getattr(place, name))))
            changed.enter_context(patch.object(MixedDataset, "__getitem__", self.around(REST, MixedDataset.__getitem__)))
            yield
