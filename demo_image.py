"""Draw people in pictures or a video, and write their keypoints as JSON.

python demo_image.py --input IMAGE|FOLDER|VIDEO [--checkpoint F] [--output DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from config import Config, UserError, load_config
from config.errors import run_script
from config.files import write_json
from config.load import with_overrides
from config.progress import track
from data.images import IMAGE_SUFFIXES, encode_image, image_or_error, read_image, read_images, write_image
from utils.checkpoint import checkpoint_config
from utils.inference import PoseEstimator
from utils.pictures.drawing import contact_sheet, draw_people, thumbnail
from utils.pictures.video import VIDEO_SUFFIXES, VideoReader, video_writer

CHECKPOINT = Path("runs/quickstart/best.pth")
PUBLISHED = Path(__file__).parent / "config" / "simplepose_coco_512.yaml"
MIN_SCORE = 0.3
SHEET_COLUMNS, SHEET_HEIGHT = 4, 240  # pictures in a row, and their height in pixels


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
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    if not options.checkpoint.exists():
        raise UserError(f"checkpoint {options.checkpoint}: not found; train one with 'make quickstart', or name one with --checkpoint")
    if options.sheet is not None:
        encode_image(options.sheet, np.zeros((1, 1, 3), np.uint8))  # a wrong ending is told now, not after all pictures
    config = demo_config(options.config, options.checkpoint, options.overrides)
    paths = input_paths(options.input, options.output, options.limit)
    estimator = PoseEstimator(config, options.checkpoint, options.device)
    if options.input.is_file() and options.input.suffix.lower() in VIDEO_SUFFIXES:
        demo_video(options.input, options.output, estimator, options.min_score)
    else:
        demo_pictures(paths, options.output, options.sheet, estimator, options.min_score)


def input_paths(path: Path, output: Path, limit: int | None) -> list[Path]:
    """The named file, or the pictures of the named folder. Raises UserError where there is none, or where the output would replace it."""
    if not path.exists():
        raise UserError(f"input {path}: not found")
    folder = path if path.is_dir() else path.parent
    if output.resolve() == folder.resolve():
        raise UserError(f"output folder {output}: holds the input, which would be overwritten; choose another --output")
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: expected at least 1")
    paths = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
    if not paths:
        raise UserError(f"input {path}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths[:limit]


def demo_config(path: str | None, checkpoint: Path, overrides: list[str]) -> Config:
    """The named configuration; else the checkpoint's own; else, for a published checkpoint, the published recipe."""
    if path is None:
        stored = checkpoint_config(checkpoint)
        if stored is not None:
            return with_overrides(stored, overrides)
    return load_config(path or PUBLISHED, overrides)


def demo_pictures(paths: list[Path], output: Path, sheet: Path | None, estimator: PoseEstimator, min_score: float) -> None:
    """Each picture as `demo_picture` does it, and a sheet of them. Of several, those that cannot be read are a UserError at the end."""
    thumbnails, failures = [], []
    images = read_images(paths, read_image if len(paths) == 1 else image_or_error)
    for path, image in track(zip(paths, images), len(paths), "demo", "picture"):
        if isinstance(image, UserError):
            failures.append(path.name)
            continue
        picture = demo_picture(path.name, image, output, estimator, min_score)
        if sheet is not None:
            thumbnails.append(thumbnail(picture, SHEET_HEIGHT))
    if thumbnails:
        write_image(sheet, contact_sheet(thumbnails, SHEET_COLUMNS))
    print(f"{len(paths) - len(failures)} pictures and their keypoints: {output}")
    if failures:
        raise UserError(f"{len(failures)} of {len(paths)} pictures cannot be read: {', '.join(failures)}")


def demo_picture(name: str, image: np.ndarray, output: Path, estimator: PoseEstimator, min_score: float) -> np.ndarray:
    """Write the picture with people drawn in, under its own name, and its JSON beside it. Returns the picture (H, W, 3) uint8 BGR."""
    keypoints, scores = estimator(image)
    picture = draw_people(image, keypoints[scores >= min_score], estimator.config.skeleton)
    write_image(output / name, picture)
    write_json(output / f"{name}.json", _as_json(name, image, keypoints, scores, estimator.config))
    return picture


def demo_video(path: Path, output: Path, estimator: PoseEstimator, min_score: float) -> None:
    """Write the video with people drawn in, as MP4, and its frames' people as one JSON."""
    video, target, people = VideoReader(path), output / f"{path.stem}.mp4", []
    with video_writer(target, video.rate) as write:
        for frame in track(video, video.count, path.name, "frame"):
            keypoints, scores = estimator(frame)
            write(draw_people(frame, keypoints[scores >= min_score], estimator.config.skeleton))
            people.append(_as_json(len(people), frame, keypoints, scores, estimator.config))
    write_json(output / f"{path.stem}.json", people)
    print(f"{len(people)} frames: {target}")


def _as_json(name: str | int, image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, config: Config) -> dict:
    """One picture's or frame's people; keypoints are x, y in pixels and a score, 0 0 0 where missing."""
    people = [{"score": round(float(s), 4), "keypoints": np.round(k, 2).tolist()} for k, s in zip(keypoints.astype(float), scores)]
    height, width = image.shape[:2]
    return {"image": name, "width": width, "height": height, "keypoints": list(config.skeleton.keypoints), "people": people}


if __name__ == "__main__":
    run_script(main)
