"""The way from a source to its output: read ahead, find people, say who is who, draw, write; one line about what cannot be read."""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from config import UserError
from config.progress import Progress
from utils.demo.clock import Clock
from utils.demo.inputs import Frames, Source
from utils.demo.outputs import Found, Output
from utils.inference import PoseEstimator
from utils.systems import Overlays, People
from utils.tracking import Tracker
from utils.visualize.contact_sheet import ContactSheet
from utils.visualize.heatmaps import draw_overlays
from utils.visualize.people import draw_people
from utils.visualize.window import Window

SHOWN = 5  # names in a message
PEOPLE = "network and assignment"


@dataclass(frozen=True)
class Wanted:
    """What is to be made of every source."""

    folder: Path
    formats: Sequence[str] = ("json",)
    min_score: float = 0.2  # people below this are not drawn
    maps: bool = False
    tracked: bool = False
    batch_size: int = 1  # pictures that the network sees together
    sheet: ContactSheet | None = None
    window: Window | None = None


def look_at(sources: Sequence[Source], estimator: PoseEstimator, wanted: Wanted) -> list[Found]:
    """Write what is wanted of each source, and say how long it took. Returns everybody found.

    Of several, pictures and videos that cannot be read are named as they come; at the end they are a UserError.
    """
    moving = any(isinstance(source, Frames) for source in sources)
    alone = len(sources) == 1 and (moving or sources[0].count == 1)
    clock, failures, everybody = Clock(), Failures(alone, "files" if moving else "pictures"), []
    with ended_tidily():
        for source in sources:
            try:
                everybody += _written(source, estimator, wanted, clock, failures)
            except UserError as error:
                if not isinstance(source, Frames):
                    raise
                failures.add(source.label, error)
            if wanted.window is not None and wanted.window.closed:
                break
    if everybody:
        unit = sources[0].unit if len({source.unit for source in sources}) == 1 else "picture"
        print(clock.report(len(everybody), unit, PEOPLE, estimator.seconds))
    failures.tell(sum(1 if isinstance(source, Frames) else source.count for source in sources))
    return everybody


@contextmanager
def ended_tidily() -> Iterator[None]:
    """Within, a SIGTERM is as Ctrl-C: nothing half-written is left."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Failures:
    """What could not be read, or not written. alone: there is nothing else, so that the first one is raised; what: the word for all."""

    def __init__(self, alone: bool, what: str):
        self.alone, self.what, self.names = alone, what, []

    def add(self, name: str | int, error: UserError) -> None:
        if self.alone:
            raise error
        self.names.append(str(name))
        tqdm.write(" ".join(str(error).split()), file=sys.stderr)

    def tell(self, whole: int) -> None:
        """Raise UserError where there are any: the first names, and how many of the whole."""
        if self.names:
            more = f", and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
            raise UserError(f"{len(self.names)} of {whole} {self.what} cannot be read: {', '.join(self.names[:SHOWN])}{more}")


def _written(source: Source, estimator: PoseEstimator, wanted: Wanted, clock: Clock, failures: Failures) -> list[Found]:
    """Who was found in a source, after everything is written of it."""
    config = estimator.config
    tracker = Tracker(config.skeleton, config.tracking) if wanted.tracked else None
    output = Output(wanted.folder, source, config.skeleton, wanted.formats, wanted.maps)
    with output, Progress(source.count, source.label, source.unit) as progress:
        shots = readable(clock.waiting(source, "decode"), failures, progress)
        for name, image, people, overlays in clock.waiting(with_people(shots, estimator, wanted.batch_size, wanted.maps), PEOPLE):
            with clock.part("tracking") if tracker is not None else nullcontext():
                ids = None if tracker is None else tracker(image, *people)
            found = Found(name, image.shape[:2], *people, ids)
            pictures = drawn(image, found, overlays, estimator, wanted, clock)
            with clock.part("write"):
                try:
                    output.add(found, pictures)
                except UserError as error:  # of a picture alone, such as one that its format has no room for
                    if isinstance(source, Frames) or not wanted.folder.is_dir():
                        raise
                    failures.add(name, error)
            if wanted.sheet is not None:
                wanted.sheet.add(pictures[0])
            progress.advance()
            if wanted.window is not None and not wanted.window.show(pictures[-1], wait=not isinstance(source, Frames)):
                break
    with clock.part("write"):
        output.finish()
    print(output.said())
    return output.found


def readable(
    shots: Iterable[tuple[str | int, np.ndarray | UserError]], failures: Failures, progress: Progress
) -> Iterator[tuple[str | int, np.ndarray]]:
    """Those of the pictures that could be read; about each of the others a line."""
    for name, image in shots:
        if isinstance(image, UserError):
            failures.add(name, image)
            progress.advance(1, f"{len(failures.names)} failed")
        else:
            yield name, image


def with_people(
    shots: Iterable[tuple[str | int, np.ndarray]], estimator: PoseEstimator, batch_size: int, overlays: bool = False
) -> Iterator[tuple[str | int, np.ndarray, People, Overlays | None]]:
    """The same pictures in their order, and of each its people, and if wanted what the network sees."""
    waiting: deque[tuple[str | int, np.ndarray]] = deque()

    def images() -> Iterator[np.ndarray]:
        for shot in shots:
            waiting.append(shot)
            yield shot[1]

    try:
        if overlays:
            for found in estimator.stream_with_overlays(images(), batch_size):
                yield *waiting.popleft(), *found
        else:
            for people in estimator.stream(images(), batch_size):
                yield *waiting.popleft(), people, None
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is used up; lower --batch-size, or data.input_size") from error


def drawn(
    image: np.ndarray, found: Found, overlays: Overlays | None, estimator: PoseEstimator, wanted: Wanted, clock: Clock
) -> list[np.ndarray]:
    """The picture (H, W, 3) uint8 BGR with the likely people drawn in; if wanted, another one that shows what the network sees."""
    with clock.part("draw"):
        likely = found.scores >= wanted.min_score
        ids = None if found.ids is None else found.ids[likely]
        picture = draw_people(image, found.keypoints[likely], estimator.config.skeleton, ids)
    if overlays is None:
        return [picture]
    with clock.part("maps"):
        return [picture, draw_overlays(picture, image, overlays)]
