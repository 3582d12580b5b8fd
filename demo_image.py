"""Draw people in pictures or a video, and write their keypoints as JSON.

python demo_image.py --input IMAGE|FOLDER|VIDEO [--checkpoint F] [--output DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from config import Config, UserError, load_config
from config.errors import run_script
from config.files import existing_file, output_folder, write_json, written_whole
from config.load import with_overrides
from config.progress import Progress, track
from data.images import IMAGE_SUFFIXES, read_image, write_image
from utils.checkpoint import checkpoint_config
from utils.drawing import contact_sheet, draw_people
from utils.inference import PoseEstimator

CHECKPOINT = Path("runs/quickstart/best.pth")
PUBLISHED = Path(__file__).parent / "config" / "simplepose_coco_512.yaml"
MIN_SCORE = 0.3
SHEET_COLUMNS, SHEET_HEIGHT = 4, 240  # pictures in a row, and their height in pixels
VIDEO_SUFFIXES = {".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="an image, a folder of images, or a video")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help=f"ours or the published format; default: {CHECKPOINT}")
    parser.add_argument("--config", help="default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder to write to")
    parser.add_argument("--limit", type=int, help="only the first N pictures of a folder")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also put all pictures on one sheet, an image file")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help=f"people below this are not drawn; default: {MIN_SCORE}")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    if not options.checkpoint.exists():
        raise UserError(f"checkpoint {options.checkpoint}: not found; train one with 'make quickstart', or name one with --checkpoint")
    config = demo_config(options.config, options.checkpoint, options.overrides)
    if not options.input.exists():
        raise UserError(f"input {options.input}: not found")
    folder = options.input if options.input.is_dir() else options.input.parent
    if options.output.resolve() == folder.resolve():
        raise UserError(f"output folder {options.output}: holds the input, which would be overwritten; choose another --output")
    output_folder(options.output)
    if options.input.suffix.lower() in VIDEO_SUFFIXES:
        demo_video(options.input, options.output, PoseEstimator(config, options.checkpoint, options.device), options.min_score)
        return
    paths = [options.input]
    if options.input.is_dir():
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[: options.limit]
    if not paths:
        raise UserError(f"input {options.input}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    estimator = PoseEstimator(config, options.checkpoint, options.device)
    pictures = [demo_picture(path, options.output, estimator, options.min_score) for path in track(paths, len(paths), "demo", "picture")]
    if options.sheet is not None:
        write_image(options.sheet, contact_sheet(pictures, SHEET_COLUMNS, SHEET_HEIGHT))
    print(f"{len(paths)} pictures and their keypoints: {options.output}")


def demo_config(path: str | None, checkpoint: Path, overrides: list[str]) -> Config:
    """The named configuration; else the checkpoint's own; else, for a published checkpoint, the published recipe."""
    if path is None:
        stored = checkpoint_config(checkpoint)
        if stored is not None:
            return with_overrides(stored, overrides)
    return load_config(path or PUBLISHED, overrides)


def demo_picture(path: Path, output: Path, estimator: PoseEstimator, min_score: float) -> np.ndarray:
    """Write the picture with people drawn in, under its own name, and its JSON beside it. Returns the picture (H, W, 3) uint8 BGR."""
    image = read_image(path)
    keypoints, scores = estimator(image)
    picture = draw_people(image, keypoints[scores >= min_score], estimator.config.skeleton)
    write_image(output / path.name, picture)
    write_json(output / f"{path.name}.json", _as_json(path.name, image, keypoints, scores, estimator.config))
    return picture


def demo_video(path: Path, output: Path, estimator: PoseEstimator, min_score: float) -> None:
    """Write the video with people drawn in, as MP4, and its frames' people as one JSON."""
    capture = cv2.VideoCapture(str(existing_file(path, "video")))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames, writer, target = [], None, output / f"{path.stem}.mp4"
    with written_whole(target) as partial:
        with Progress(count if count > 0 else None, path.name, "frame") as progress:
            for frame in _frames(capture):
                if writer is None:
                    writer = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), rate, frame.shape[1::-1])
                keypoints, scores = estimator(frame)
                writer.write(draw_people(frame, keypoints[scores >= min_score], estimator.config.skeleton))
                frames.append(_as_json(len(frames), frame, keypoints, scores, estimator.config))
                progress.advance()
        if writer is None:
            raise UserError(f"video {path}: no frame can be read from it")
        writer.release()
    write_json(output / f"{path.stem}.json", frames)
    print(f"{len(frames)} frames: {target}")


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


def _as_json(name: str | int, image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, config: Config) -> dict:
    """One picture's or frame's people; keypoints are x, y in pixels and a score, 0 0 0 where missing."""
    people = [{"score": round(float(s), 4), "keypoints": np.round(k, 2).tolist()} for k, s in zip(keypoints.astype(float), scores)]
    height, width = image.shape[:2]
    return {"image": name, "width": width, "height": height, "keypoints": list(config.skeleton.keypoints), "people": people}


if __name__ == "__main__":
    run_script(main)
