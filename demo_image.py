"""Draw people in images, a video or a camera's frames, and write their keypoints.

python demo_image.py --input IMAGE|FOLDER|"*.jpg"|VIDEO|URL|CAMERA ... [--checkpoint FILE|NAME] [--output DIR] [--track]
python demo_image.py --serve     # a page in the browser, to try networks on images
python demo_image.py --list      # the networks that --checkpoint takes by name
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # exported networks are opened while Python imports what follows
    from deploy.sessions import begin_to_open
    from utils.bundled_model import bundled_export

    takes_bundled = "--input" in sys.argv and not any(word.startswith("--checkpoint") for word in sys.argv)
    begin_to_open([*sys.argv, str(bundled_export())] if takes_bundled else sys.argv)

import argparse
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from config import Config, UserError
from config.errors import check_minimum, run_cli
from config.files import check_outputs, output_folder, write_json
from utils.boxes import LEAST_SCORE
from utils.bundled_model import announce, bundled_export, resolve_checkpoint
from utils.demo.exported import ExportedDetector, ExportedEstimator
from utils.demo.inputs import find_sources
from utils.demo.outputs import FORMATS, posetrack_frames
from utils.demo.page import HOST, PORT, build_page, launch_page
from utils.demo.run import DemoOptions, result_writers, run_demo
from utils.output_formats import to_posetrack
from utils.visualize.contact_sheet import MAX_IMAGES, ContactSheet
from utils.visualize.video import silence_opencv
from utils.visualize.window import Window
from utils.zoo import list_networks, networks

# PyTorch is imported where it is needed: an exported network runs without it
if TYPE_CHECKING:
    from utils.checkpoint import Checkpoint
    from utils.inference import PoseEstimator

MAX_SHEET_FRAMES = 24  # of a video
MAX_LOADED = 2  # networks of the page that stay in memory
PAGE_LACKS = ("output", "format", "limit", "batch_size", "sheet", "maps", "show", "track", "smooth", "posetrack")  # options


class ListNetworks(argparse.Action):
    """Print the networks by name, and end."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(list_networks())
        parser.exit()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source("--input", nargs="+", default=[], help="images, videos, folders, patterns such as '*.jpg', URLs, cameras' numbers")
    source("--serve", action="store_true", help="open a page for a browser, where images are given and networks are chosen; needs Gradio")
    add("--host", default=HOST, help=f"address that the page listens at, 0.0.0.0 for other machines, too; default: {HOST}")
    add("--port", type=int, default=PORT, help=f"of the page; default: {PORT}")
    add("--checkpoint", type=Path, help="our .pth, .safetensors, a published one, an exported .onnx or a name; default: the bundled model")
    add("--list", action=ListNetworks, nargs=0, help="list the networks that --checkpoint, --detector and --init take by name")
    add("--config", help="default: the one stored in the checkpoint, or the published recipe")
    add("--detector", metavar="CHECKPOINT|NAME", help="finds the boxes where a system needs them: ours or torchvision's; default: bundled")
    add("--detector-weights", type=Path, metavar="FILE", help="of a torchvision detector; default: torchvision's, downloaded")
    add("--detector-score", type=float, default=LEAST_SCORE, help=f"boxes below are ignored; default: {LEAST_SCORE}")
    add("--output", type=Path, default=Path("runs/demo"), help="folder to write to")
    add("--format", action="append", choices=FORMATS, help="of the results, several times if wanted; mot is as --track; default: json")
    add("--limit", type=int, help="only the first N images of a folder, or frames of a video")
    add("--batch-size", type=int, default=1, help="images in one run of the network; default: 1")
    add("--sheet", type=Path, metavar="FILE", help="also write an image file with thumbnails of 500 images at most, or of some frames")
    add("--maps", action="store_true", help="also write heatmap overlays of keypoints and limbs")
    add("--show", action="store_true", help="also show a window; any key for the next image, q to stop")
    add("--min-score", type=float, default=DemoOptions.min_score, help=f"people below are excluded; default: {DemoOptions.min_score}")
    add("--track", action="store_true", help="give people identities in a video, or in a folder of its frames in the order of their names")
    add("--smooth", action=argparse.BooleanOptionalAction, help="smooth the keypoints of tracked people over time; default: with --track")
    add("--posetrack", type=Path, metavar="FILE", help="as --track, and also write PoseTrack18's JSON")
    add("--tiles", action="store_true", help="also look at overlapping tiles of large images, for small people; takes longer")
    add("--device", help="such as cpu or cuda:0")
    add("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    # argparse gives --input all words up to the next option, overrides included
    words, options.input = options.input, [word for word in options.input if not is_override(word)]
    options.overrides = [word for word in words if is_override(word)] + options.overrides
    check_minimum(1, batch_size=options.batch_size)
    check_minimum(0, min_score=options.min_score, detector_score=options.detector_score)
    needless = [name for name in PAGE_LACKS if options.serve and getattr(options, name) != parser.get_default(name)]
    if needless:
        raise UserError(f"--serve: the page writes no files and takes images only; omit --{needless[0].replace('_', '-')}")
    return options


def is_override(word: str) -> bool:
    return re.match(r"[\w.]+=", word) is not None and not os.path.lexists(word)


def exported_estimator(options: argparse.Namespace) -> ExportedEstimator | None:
    """Return the estimator of an exported network, by default the bundled one, which needs no PyTorch; None where an option needs it."""
    path, detector = options.checkpoint or bundled_export(), options.detector
    if path is None or path.suffix.lower() != ".onnx" or options.config or options.overrides or options.maps or options.tiles:
        return None
    try:
        estimator = ExportedEstimator(path) if options.device in (None, "cpu") else None
        if estimator is not None and estimator.needs_boxes and detector is not None and detector.lower().endswith(".onnx"):
            estimator.detector = ExportedDetector(Path(detector), options.detector_score)
    except UserError:  # heatmaps of a system that PyTorch decodes, or an error that the usual path names
        return None
    return estimator


def set_detector(estimator: PoseEstimator | ExportedEstimator, options: argparse.Namespace) -> None:
    from utils.detectors import detector_for

    named = options.detector, options.detector_weights, options.detector_score
    estimator.detector = detector_for(estimator, *named, options.device, options.tiles)


def build_estimator(config: Config, checkpoint: Checkpoint, options: argparse.Namespace) -> PoseEstimator:
    """Return an estimator that excludes no person, with its detector."""
    from utils.inference import PoseEstimator

    estimator = PoseEstimator(config, checkpoint, options.device, min_score=0, tiles=options.tiles)
    if estimator.needs_boxes or not options.serve:  # the page's detector is for those of its networks that need one
        set_detector(estimator, options)
    return estimator


def serve(options: argparse.Namespace) -> None:
    """Serve the page until an interrupt. The overrides are for all of its networks, the configuration for the one that is named."""
    from utils.checkpoint import config_for

    @lru_cache(MAX_LOADED)
    def estimator_for(name: str) -> PoseEstimator:
        config = options.config if name == named else None
        checkpoint = resolve_checkpoint(name)
        return build_estimator(config_for(checkpoint, config, options.overrides), checkpoint, options)

    named = str(options.checkpoint or resolve_checkpoint(None, options.config).path.stem)
    page = build_page([named, *(name for name in networks() if name != named)], estimator_for, options.min_score)
    estimator_for(named)  # its errors come before the page
    print(f"page: {launch_page(page, options.host, options.port)} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def main() -> None:
    options = parse_options()
    silence_opencv()
    if options.serve:
        return serve(options)
    sources, passed_over = find_sources(options.input, options.limit)
    estimator = exported_estimator(options)
    if estimator is None:
        from utils.checkpoint import config_for

        checkpoint = resolve_checkpoint(options.checkpoint, options.config)
        path, config = checkpoint.path, config_for(checkpoint, options.config, options.overrides)
    else:
        path, config = estimator.path, estimator.config
        if options.checkpoint is None:
            announce(estimator.name, estimator.version)
    if options.posetrack is not None and len(sources) > 1:
        raise UserError(f"--posetrack: one video or folder at a time, not {len(sources)}")
    sheet_limit = MAX_SHEET_FRAMES if any(source.is_video for source in sources) else MAX_IMAGES
    demo_options = DemoOptions(
        output=options.output,
        formats=options.format or DemoOptions.formats,
        min_score=options.min_score,
        maps=options.maps,
        track=options.track or options.smooth is True or options.posetrack is not None,
        smooth=options.smooth is not False,
        batch_size=options.batch_size,
        sheet=None if options.sheet is None else ContactSheet(options.sheet, sheet_limit),
        window=Window("people") if options.show else None,
        reserved=[path for path in (options.sheet, options.posetrack) if path is not None],
    )
    files = [file for source in sources for file in source.files]
    written = [path for writer in result_writers(sources, demo_options, config.skeleton) for path in writer.paths.values()]
    folders = [options.output, *{path.parent for path in written}]  # none holds an input: its results would be the next run's input
    given = (path, options.config, options.detector, options.detector_weights)
    check_outputs([*written, *demo_options.reserved], [*files, *{file.parent for file in files}, *given], folders)
    for path in demo_options.reserved:
        output_folder(path.parent)  # fail early: these are written last
    if estimator is None:
        estimator = build_estimator(config, checkpoint, options)
    elif estimator.detector is None and (estimator.needs_boxes or options.detector or options.detector_weights):
        set_detector(estimator, options)
    try:
        results = run_demo(sources, estimator, demo_options, passed_over)
        if options.posetrack is not None:
            write_json(options.posetrack, to_posetrack(posetrack_frames(sources[0], results), config.skeleton))
    finally:
        if demo_options.sheet is not None:
            demo_options.sheet.write()


if __name__ == "__main__":
    run_cli(main)
