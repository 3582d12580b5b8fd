"""Run the demo: read frames ahead, predict, track, draw and write. Print one line for each file that cannot be read."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from tqdm import tqdm

from config import UserError
from config.files import output_folder
from config.progress import Progress
from utils.demo.inputs import Frame, Source, VideoSource
from utils.demo.outputs import FrameResult, ResultWriter
from utils.inference import PoseEstimator
from utils.systems import Overlays, PosePredictions
from utils.tracking import Tracker
from utils.visualize.contact_sheet import ContactSheet
from utils.visualize.heatmaps import draw_overlays
from utils.visualize.people import draw_people
from utils.visualize.window import Window

NAMES_SHOWN = 5  # in an error message


@dataclass(frozen=True)
class DemoOptions:
    """The options that apply to every source."""

    output: Path
    formats: Sequence[str] = ("json",)
    min_score: float = 0.2  # people below are not drawn
    maps: bool = False  # also write heatmap overlays
    track: bool = False
    batch_size: int = 1
    sheet: ContactSheet | None = None
    window: Window | None = None


class ReadErrors:
    """Collects the errors of single files. alone: there is one file only, so its error is raised. unit: names all files in the message."""

    def __init__(self, alone: bool, unit: str):
        self.alone, self.unit, self.names = alone, unit, []

    def add(self, name: str | int, error: UserError) -> None:
        if self.alone:
            raise error
        self.names.append(str(name))
        tqdm.write(" ".join(str(error).split()), file=sys.stderr)

    def raise_all(self, count: int) -> None:
        """Raise one UserError with the first names where there were errors in `count` files."""
        if self.names:
            more = f", and {len(self.names) - NAMES_SHOWN} more" if len(self.names) > NAMES_SHOWN else ""
            names = ", ".join(self.names[:NAMES_SHOWN])
            raise UserError(f"{len(self.names)} of {count} {self.unit} cannot be read: {names}{more}")


def run_demo(sources: Sequence[Source], estimator: PoseEstimator, options: DemoOptions) -> list[FrameResult]:
    """Write the outputs of each source and print the rate. Returns the results of all frames.

    Files that cannot be read are skipped with a line each; a UserError names them at the end.
    """
    started, results = perf_counter(), []
    videos = [isinstance(source, VideoSource) for source in sources]
    errors = ReadErrors(len(sources) == 1 and (videos[0] or sources[0].count == 1), "files" if any(videos) else "images")
    for source, is_video in zip(sources, videos):
        try:
            results += _run_source(source, estimator, options, errors)
        except UserError as error:
            if not is_video:
                raise
            errors.add(source.label, error)
        if options.window is not None and options.window.closed:
            break
    if results:
        seconds = perf_counter() - started
        print(f"{'frames' if all(videos) else 'images'}: {len(results)} in {seconds:.1f} s, {len(results) / seconds:.1f} per second")
    errors.raise_all(sum(1 if is_video else source.count for source, is_video in zip(sources, videos)))
    return results


def _run_source(source: Source, estimator: PoseEstimator, options: DemoOptions, errors: ReadErrors) -> list[FrameResult]:
    config, is_video = estimator.config, isinstance(source, VideoSource)
    tracker = Tracker(config.skeleton, config.tracking) if options.track else None
    with (
        ResultWriter(options.output, source, config.skeleton, options.formats, options.maps) as writer,
        Progress(source.count, source.label, source.unit) as progress,
    ):
        try:
            for (name, image), (keypoints, scores), overlays in _predict(_readable(source, errors, progress), estimator, options):
                ids = None if tracker is None else tracker(image, keypoints, scores)
                result = FrameResult(name, image.shape[:2], keypoints, scores, ids)
                shown = scores >= options.min_score
                images = [draw_people(image, keypoints[shown], config.skeleton, None if ids is None else ids[shown])]
                if overlays is not None:
                    images.append(draw_overlays(images[0], image, overlays))
                if not writer.results:
                    output_folder(options.output)
                writer.add(result, images)
                if options.sheet is not None:
                    options.sheet.add(images[0])
                progress.advance()
                if options.window is not None and not options.window.show(images[-1], wait=not is_video):
                    break
        except KeyboardInterrupt:  # ends a camera; its frames so far are kept
            if not (is_video and source.is_camera and writer.results):
                raise
    writer.finish()
    print(writer.summary())
    return writer.results


def _readable(frames: Iterable[Frame], errors: ReadErrors, progress: Progress) -> Iterator[Frame]:
    """Yield the frames that could be read; collect the errors of the others."""
    for frame in frames:
        if isinstance(frame.image, UserError):
            errors.add(frame.name, frame.image)
            progress.advance(1, f"{len(errors.names)} failed")
        else:
            yield frame


def _predict(
    frames: Iterable[Frame], estimator: PoseEstimator, options: DemoOptions
) -> Iterator[tuple[Frame, PosePredictions, Overlays | None]]:
    """Yield each frame with its people and, with `options.maps`, its heatmap overlays."""
    waiting: deque[Frame] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            yield frame.image

    try:
        if options.maps:
            for people, overlays in estimator.stream_with_overlays(images(), options.batch_size):
                yield waiting.popleft(), people, overlays
        else:
            for people in estimator.stream(images(), options.batch_size):
                yield waiting.popleft(), people, None
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is used up; lower --batch-size, or data.input_size") from error
