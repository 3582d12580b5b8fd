"""Draw people in pictures or a video, and write their keypoints as JSON.

python demo_image.py --input IMAGE|FOLDER|VIDEO [--checkpoint F] [--output DIR] [--track]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from config import Config, UserError
from config.errors import at_least, run_script
from config.files import write_json
from config.progress import track
from data.formats.posetrack import Frame, image_name, posetrack_answer
from data.images import IMAGE_SUFFIXES, encode_image, image_or_error, read_image, read_images, write_image
from utils.checkpoint import config_for
from utils.detectors import LEAST_SCORE, detector_for
from utils.inference import PoseEstimator
from utils.pictures.drawing import draw_people
from utils.pictures.sheet import Sheet
from utils.pictures.video import VIDEO_SUFFIXES, VideoReader, video_writer
from utils.tracking import Tracker

RUNS, QUICKSTART = Path("runs"), "quickstart"
MIN_SCORE = 0.3
SHEET_FRAMES = 24  # of a video, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", type=Path, required=True, help="an image, a folder of images, or a video")
    parser.add_argument("--checkpoint", type=Path, help="ours or the published format; default: the best of the configuration's own run")
    parser.add_argument("--config", help="default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--detector", metavar="CHECKPOINT|NAME", help="finds the boxes for a system that needs them: ours or torchvision's")
    parser.add_argument("--detector-weights", type=Path, metavar="FILE", help="of a torchvision detector")
    parser.add_argument("--detector-score", type=float, default=LEAST_SCORE, help=f"boxes below this do not count; default: {LEAST_SCORE}")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder to write to")
    parser.add_argument("--limit", type=int, help="only the first N pictures of a folder, or frames of a video")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also put all pictures, or some frames, on one sheet, an image file")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help=f"people below this are not drawn; default: {MIN_SCORE}")
    parser.add_argument("--track", action="store_true", help="say who is who in a video, or in a folder of its frames, by their names")
    parser.add_argument("--posetrack", type=Path, metavar="FILE", help="as --track, and write everybody as PoseTrack18's JSON")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args()
    checkpoint = options.checkpoint or RUNS / (Path(options.config).stem if options.config else QUICKSTART) / "best.pth"
    if not checkpoint.exists():
        how = f"'python train.py --config {options.config}'" if options.config else "'make quickstart'"
        raise UserError(f"checkpoint {checkpoint}: not found; train one with {how}, or name one with --checkpoint")
    if options.sheet is not None:
        encode_image(options.sheet, np.zeros((1, 1, 3), np.uint8))  # a wrong ending is told now, not after all pictures
    config = config_for(checkpoint, options.config, options.overrides)
    paths = input_paths(options.input, options.output, options.limit)
    estimator = PoseEstimator(config, checkpoint, options.device)
    estimator.detector = detector_for(estimator, options.detector, options.detector_weights, options.detector_score, options.device)
    is_video = options.input.is_file() and options.input.suffix.lower() in VIDEO_SUFFIXES
    sheet = Sheet(SHEET_FRAMES if is_video else None) if options.sheet is not None else None
    tracker = Tracker(config.skeleton, config.tracking) if options.track or options.posetrack is not None else None
    try:
        if is_video:
            frames = demo_video(options.input, options.output, sheet, estimator, options.min_score, options.limit, tracker)
        else:
            frames = demo_pictures(paths, options.output, sheet, estimator, options.min_score, tracker)
        if options.posetrack is not None:
            write_json(options.posetrack, posetrack_answer(posetrack_frames(options.input, frames), config.skeleton))
    finally:
        if sheet is not None:
            sheet.write(options.sheet)


def input_paths(path: Path, output: Path, limit: int | None) -> list[Path]:
    """The named file, or the pictures of the named folder. Raises UserError where there is none, or where the output would replace it."""
    if not path.exists():
        raise UserError(f"input {path}: not found")
    folder = path if path.is_dir() else path.parent
    if output.resolve() == folder.resolve():
        raise UserError(f"output folder {output}: holds the input, which would be overwritten; choose another --output")
    at_least(1, limit=limit)
    paths = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
    if not paths:
        raise UserError(f"input {path}: no image in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths[:limit]


def demo_pictures(
    paths: list[Path], output: Path, sheet: Sheet | None, estimator: PoseEstimator, min_score: float, tracker: Tracker | None
) -> list[dict]:
    """Write each picture with people drawn in, under its own name, and its JSON beside it; all of these.

    Of several, those that cannot be read are a UserError at the end.
    """
    failures, found = [], []
    images = read_images(paths, read_image if len(paths) == 1 else image_or_error)
    for path, image in track(zip(paths, images), len(paths), "demo", "picture"):
        if isinstance(image, UserError):
            failures.append(path.name)
            continue
        picture, people = found_in(image, path.name, estimator, min_score, sheet, tracker)
        write_image(output / path.name, picture)
        write_json(output / f"{path.name}.json", people)
        found.append(people)
    print(f"{len(paths) - len(failures)} pictures and their keypoints: {output}")
    if failures:
        raise UserError(f"{len(failures)} of {len(paths)} pictures cannot be read: {', '.join(failures)}")
    return found


def demo_video(
    path: Path,
    output: Path,
    sheet: Sheet | None,
    estimator: PoseEstimator,
    min_score: float,
    limit: int | None,
    tracker: Tracker | None,
) -> list[dict]:
    """Write the video with people drawn in, or its first frames, as MP4, and the frames' people as one JSON; what is in it."""
    video, target, people = VideoReader(path), output / f"{path.stem}.mp4", []
    count = video.count if limit is None or video.count is None else min(video.count, limit)
    with video_writer(target, video.rate) as write:
        for frame in track(islice(video, limit), count, path.name, "frame"):
            picture, of_frame = found_in(frame, len(people), estimator, min_score, sheet, tracker)
            write(picture)
            people.append(of_frame)
    write_json(output / f"{path.stem}.json", people)
    print(f"{len(people)} frames: {target}")
    return people


def posetrack_frames(path: Path, frames: list[dict]) -> Iterator[Frame]:
    """What `posetrack_answer` takes, of the written frames of a video, a folder or one picture."""
    folder = path.with_suffix("") if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES else path if path.is_dir() else path.parent
    for frame in frames:
        name = frame["image"] if isinstance(frame["image"], str) else f"{frame['image']:06d}.jpg"
        keypoints = np.array([person["keypoints"] for person in frame["people"]]).reshape(-1, len(frame["keypoints"]), 3)
        yield image_name(folder / name), keypoints, np.array([person["id"] for person in frame["people"]], int)


def found_in(
    image: np.ndarray, name: str | int, estimator: PoseEstimator, min_score: float, sheet: Sheet | None, tracker: Tracker | None
) -> tuple[np.ndarray, dict]:
    """The picture (H, W, 3) uint8 BGR with the likely people drawn in, also put on the sheet, and all people for a JSON file."""
    keypoints, scores = estimator(image)
    ids = None if tracker is None else tracker(image, keypoints, scores)
    likely = scores >= min_score
    picture = draw_people(image, keypoints[likely], estimator.config.skeleton, None if ids is None else ids[likely])
    if sheet is not None:
        sheet.add(picture)
    return picture, _as_json(name, image, keypoints, scores, ids, estimator.config)


def _as_json(name: str | int, image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, ids: np.ndarray | None, config: Config) -> dict:
    """One picture's or frame's people; keypoints are x, y in pixels and a score, 0 0 0 where missing; id -1: nobody knows who."""
    people = [{"score": round(float(s), 4), "keypoints": np.round(k, 2).tolist()} for k, s in zip(keypoints.astype(float), scores)]
    if ids is not None:
        people = [{"id": int(number), **person} for number, person in zip(ids, people)]
    height, width = image.shape[:2]
    return {"image": name, "width": width, "height": height, "keypoints": list(config.skeleton.keypoints), "people": people}


if __name__ == "__main__":
    run_script(main)
