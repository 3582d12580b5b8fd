"""Run the demo: read frames ahead, predict, track, draw and write. Print one line for each file that cannot be read."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from config import Skeleton, UserError
from config.progress import Progress
from data.images import write_image
from data.video import video_writer
from utils.boxes import MIN_SCORE
from utils.demo.inputs import Frame, Source
from utils.demo.outputs import FrameResult, OutputNames, ResultWriter
from utils.smoothing import PoseSmoother
from utils.tracking import Tracker
from utils.visualize.contact_sheet import ContactSheet
from utils.visualize.heatmaps import draw_overlays
from utils.visualize.window import Window

if TYPE_CHECKING:
    from utils.demo.exported import ExportedEstimator
    from utils.inference import PoseEstimator

SHOWN = 10  # of the files that are passed over


@dataclass(frozen=True)
class DemoOptions:
    """The options that apply to every source."""

    output: Path
    formats: Sequence[str] = ("json",)
    min_score: float = MIN_SCORE  # people below are neither drawn nor written, but for COCO's format
    maps: bool = False  # also write heatmap overlays
    track: bool = False  # MOT's format does it, too
    smooth: bool = True  # the keypoints of tracked people
    batch_size: int = 1
    sheet: ContactSheet | None = None
    window: Window | None = None
    reserved: Sequence[Path] = ()  # files that are written besides


def result_writers(sources: Sequence[Source], options: DemoOptions, skeleton: Skeleton) -> list[ResultWriter]:
    """Return the writer of each source, which knows its files."""
    names, kinds = OutputNames(options.output, options.reserved), ("", ".maps") if options.maps else ("",)
    return [ResultWriter(names, source, skeleton, options.formats, kinds) for source in sources]


def run_demo(
    sources: Sequence[Source], estimator: PoseEstimator | ExportedEstimator, options: DemoOptions, passed_over: Sequence[Path] = ()
) -> list[FrameResult]:
    """Write the outputs of each source and print the rate. Returns the results of all frames.

    A file that cannot be read, or a video that cannot be written, is skipped with a line; a UserError counts them at the end, with those
    that were passed over. If it is the only file, its error is raised.
    """
    started, results, failed = perf_counter(), [], len(passed_over)
    count = failed + sum(1 if source.is_video else source.count for source in sources)
    if passed_over:
        more = [f"and {failed - SHOWN} more"] if failed > SHOWN else []
        names = " ".join(", ".join([*map(str, passed_over[:SHOWN]), *more]).split())
        print(f"passed over, no image or video by their endings: {names}", file=sys.stderr)

    def skip(error: UserError) -> None:
        nonlocal failed
        if count == 1:
            raise error
        failed += 1
        tqdm.write(" ".join(str(error).split()), file=sys.stderr)

    for source, writer in zip(sources, result_writers(sources, options, estimator.config.skeleton)):
        try:
            results += _run_source(source, estimator, options, writer, skip)
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
        raise UserError(f"{failed} of {count} files failed, for the reasons above")
    return results


def _run_source(
    source: Source,
    estimator: PoseEstimator | ExportedEstimator,
    options: DemoOptions,
    writer: ResultWriter,
    skip: Callable[[UserError], None],
) -> list[FrameResult]:
    skeleton, waiting = estimator.config.skeleton, deque[Frame]()
    tracking = estimator.config.tracking
    tracker = Tracker(skeleton, tracking) if options.track or "mot" in options.formats else None
    smoother = PoseSmoother(tracking) if tracker is not None and options.smooth else None

    def images() -> Iterator[np.ndarray]:
        for frame in source:
            if isinstance(frame.image, UserError):
                skip(frame.image)
            else:
                waiting.append(frame)
                yield frame.image

    if options.maps:
        kinds, predictions = ("", ".maps"), estimator.stream_with_overlays(images(), options.batch_size)
    else:
        kinds, predictions = ("",), ((people, {}) for people in estimator.stream(images(), options.batch_size))
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(source.count, source.label, source.unit))
        if source.is_video:
            rate, sound = source.reader.rate, source.reader.sound
            videos = {kind: stack.enter_context(video_writer(writer.paths[None, kind], rate, sound=sound)) for kind in kinds}
        try:
            for people, overlays in predictions:
                name, image, time = waiting.popleft()
                people = people if tracker is None else tracker(image, people)
                people = people if smoother is None else smoother(people, time)
                everyone = FrameResult(name, image.shape[:2], people, time)
                shown = replace(everyone, people=people.select(people.scores >= options.min_score))
                drawn = shown.people.draw(image)
                panels = draw_overlays(drawn, image, overlays)
                for kind, output in zip(kinds, (drawn, panels)):
                    if source.is_video:
                        videos[kind](output, time)
                    else:
                        write_image(writer.paths[name, kind], output)
                writer.add(everyone, shown)
                if options.sheet is not None:
                    options.sheet.add(drawn)
                progress.advance()
                if options.window is not None and not options.window.show(panels, wait=not source.is_video):
                    break
        except KeyboardInterrupt:  # ends a camera; its frames so far are kept
            if not (source.is_camera and writer.results):
                raise
        writer.finish()  # before the videos, which take the most space
    print(f"{len(writer.results)} {source.unit}s and their keypoints: {options.output}")
    return writer.results
