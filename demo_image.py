"""Draw people in pictures, a video or what a camera sees, and write their keypoints.

python demo_image.py --input IMAGE|FOLDER|"*.jpg"|VIDEO|CAMERA [--checkpoint F] [--output DIR] [--track]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from config import UserError
from config.errors import at_least, run_script
from config.files import write_json
from data.images import encode_image
from utils.checkpoint import config_for
from utils.default_network import named_or_default
from utils.demo.inputs import Frames, find_sources
from utils.demo.outputs import FORMATS, posetrack_frames
from utils.demo.run import Wanted, look_at
from utils.detectors import LEAST_SCORE, detector_for
from utils.inference import PoseEstimator
from utils.output_formats import to_posetrack
from utils.visualize.contact_sheet import ContactSheet
from utils.visualize.window import Window

MIN_SCORE = 0.2
SHEET_FRAMES = 24  # of a video, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--input", required=True, help="an image, a folder of them, a pattern such as '*.jpg', a video, or a camera's number"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="ours, .safetensors, a published one or an exported .onnx; default: the network that comes with the project",
    )
    parser.add_argument("--config", help="default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--detector", metavar="CHECKPOINT|NAME", help="finds the boxes for a system that needs them: ours or torchvision's")
    parser.add_argument("--detector-weights", type=Path, metavar="FILE", help="of a torchvision detector")
    parser.add_argument("--detector-score", type=float, default=LEAST_SCORE, help=f"boxes below this do not count; default: {LEAST_SCORE}")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder to write to")
    parser.add_argument("--format", action="append", choices=FORMATS, help="of the keypoints, may be given again; default: json")
    parser.add_argument("--limit", type=int, help="only the first N pictures of a folder, or frames of a video")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures that the network sees together; default: 1")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also put all pictures, or some frames, on one sheet, an image file")
    parser.add_argument("--maps", action="store_true", help="also write what the network sees: its maps of keypoints and limbs")
    parser.add_argument("--show", action="store_true", help="in a window too; any key for the next picture, q to stop")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help=f"people below this are not drawn; default: {MIN_SCORE}")
    parser.add_argument("--track", action="store_true", help="say who is who in a video, or in a folder of its frames, by their names")
    parser.add_argument("--posetrack", type=Path, metavar="FILE", help="as --track, and write everybody as PoseTrack18's JSON")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    at_least(1, batch_size=options.batch_size)
    at_least(0, min_score=options.min_score, detector_score=options.detector_score)
    checkpoint = named_or_default(options.checkpoint, options.config)
    if options.sheet is not None:
        encode_image(options.sheet, np.zeros((1, 1, 3), np.uint8))  # a wrong ending is told now, not after all pictures
    config = config_for(checkpoint, options.config, options.overrides)
    sources = find_sources(options.input, options.output, options.limit)
    if options.posetrack is not None and len(sources) > 1:
        raise UserError(f"--posetrack: one video or folder at a time, not the {len(sources)} of --input {options.input}")
    window = Window("people") if options.show else None
    estimator = PoseEstimator(config, checkpoint, options.device)
    estimator.detector = detector_for(estimator, options.detector, options.detector_weights, options.detector_score, options.device)
    moving = any(isinstance(source, Frames) for source in sources)
    sheet = ContactSheet(SHEET_FRAMES if moving else None) if options.sheet is not None else None
    wanted = Wanted(
        folder=options.output,
        formats=options.format or ("json",),
        min_score=options.min_score,
        maps=options.maps,
        tracked=options.track or options.posetrack is not None,
        batch_size=options.batch_size,
        sheet=sheet,
        window=window,
    )
    try:
        everybody = look_at(sources, estimator, wanted)
        if options.posetrack is not None:
            write_json(options.posetrack, to_posetrack(posetrack_frames(sources[0], everybody), config.skeleton))
    finally:
        if sheet is not None:
            sheet.write(options.sheet)


if __name__ == "__main__":
    run_script(main)
