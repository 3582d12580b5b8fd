"""Run the demo: read frames ahead, predict, track, draw and write. Print one line for each file that cannot be read."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from tqdm import tqdm

from config import UserError
from config.progress import Progress
from utils.demo.inputs import Frame, Source
from utils.demo.outputs import FrameResult, ResultWriter
from utils.inference import PoseEstimator
from utils.systems import Overlays, PosePredictions
from utils.tracking import Tracker
from utils.visualize.contact_sheet import ContactSheet
from utils.visualize.heatmaps import draw_overlays
from utils.visualize.people import draw_people
from utils.visualize.window import Window


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


def run_demo(sources: Sequence[Source], estimator: PoseEstimator, options: DemoOptions) -> list[FrameResult]:
    """Write the outputs of each source and print the rate. Returns the results of all frames.

    A file that cannot be read is skipped with a line; a UserError counts them at the end. If it is the only file, its error is raised.
    """
    started, results, failed = perf_counter(), [], 0
    count = sum(1 if source.is_video else source.count for source in sources)

    def skip(error: UserError) -> None:
        nonlocal failed
        if count == 1:
            raise error
        failed += 1
        tqdm.write(" ".join(str(error).split()), file=sys.stderr)

    for source in sources:
        try:
            results += _run_source(source, estimator, options, skip)
        except UserError as error:
            if not source.is_video:
                raise
            skip(error)
        if options.window is not None and options.window.closed:
            break
    if results:
        seconds = perf_counter() - started
        print(f"{source.unit}s: {len(results)} in {seconds:.1f} s, {len(results) / seconds:.1f} per second")
    if failed:
        raise UserError(f"{failed} of {count} files cannot be read")
    return results


def _run_source(source: Source, estimator: PoseEstimator, options: DemoOptions, skip: Callable[[UserError], None]) -> list[FrameResult]:
    skeleton = estimator.config.skeleton
    tracker = Tracker(skeleton, estimator.config.tracking) if options.track else None
    with (
        ResultWriter(options.output, source, skeleton, options.formats, options.maps) as writer,
        Progress(source.count, source.label, source.unit) as progress,
    ):
        try:
            for (name, image), (keypoints, scores), overlays in _predict(source, estimator, options, skip):
                ids = None if tracker is None else tracker(image, keypoints, scores)
                shown = scores >= options.min_score
                images = [draw_people(image, keypoints[shown], skeleton, None if ids is None else ids[shown])]
                if overlays is not None:
                    images.append(draw_overlays(images[0], image, overlays))
                writer.add(FrameResult(name, image.shape[:2], keypoints, scores, ids), images)
                if options.sheet is not None:
                    options.sheet.add(images[0])
                progress.advance()
                if options.window is not None and not options.window.show(images[-1], wait=not source.is_video):
                    break
        except KeyboardInterrupt:  # ends a camera; its frames so far are kept
            if not (source.is_camera and writer.results):
                raise
    writer.finish()
    print(f"{len(writer.results)} {source.unit}s and their keypoints: {options.output}")
    return writer.results


def _predict(
    source: Source, estimator: PoseEstimator, options: DemoOptions, skip: Callable[[UserError], None]
) -> Iterator[tuple[Frame, PosePredictions, Overlays | None]]:
    """Yield each frame that can be read with its people and, with `options.maps`, its heatmap overlays."""
    waiting: deque[Frame] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in source:
            if isinstance(frame.image, UserError):
                skip(frame.image)
            else:
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
