#!/usr/bin/env python
"""Render synthetic images of people with COCO annotations: a small data set without a download.

    python data/synthetic.py --output DIR --count N --seed S
    python data/synthetic.py --output DIR --video FRAMES --people P --seed S

writes DIR/images/000000000001.jpg ... and DIR/annotations.json. A person is a set of capsules, painted by depth. Image i depends on
the seed and i only. With --video, people walk back and forth: frames 000000.jpg ..., DIR/video.avi, one track_id per person.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from config.errors import check_minimum, run_cli
from config.files import atomic_write, file_lock, output_folder, write_json
from config.progress import progress_bar
from data.video import video_writer

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
# COCO's own list: pairs of keypoint numbers, counted from 1.
SKELETON = [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11], [2, 3], [1, 2],
            [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]]  # fmt: skip
QUALITY, FRAME_RATE = 92, 25  # JPEG; frames per second of a video
Rendered = tuple[str, np.ndarray, list[dict]]  # file name, image, annotations

# The body. Lengths are fractions of the stature; x points to the person's left, y down, z forward; the pelvis is the origin.

POINTS = (*KEYPOINTS, "pelvis", "neck", "head", "hair", "chest", "belly", "left_hand", "right_hand", "left_toe", "right_toe")
HEAD = POINTS.index("head")
HEAD_RADIUS = 0.085
FACE = np.array([[0, 0.2, 1], [0.42, -0.15, 0.85], [-0.42, -0.15, 0.85], [1, 0, -0.1], [-1, 0, -0.1]])  # KEYPOINTS[:5] in head radii
FACE_LIMIT = np.array([0, 0, 0, -0.5, -0.5])  # a keypoint of the face that is further back than this is not labeled, in head radii
CLOTHES = (0, 25, 50), (179, 230, 240)
# Hue, saturation and value as OpenCV's, least and most; the last three are copies: of shirt or skin, trousers or skin, dark skin
COLORS = {
    "skin": ((5, 70, 90), (13, 150, 240)), "hair": ((0, 25, 12), (20, 180, 125)), "eye": ((0, 0, 10), (179, 40, 40)), "shirt": CLOTHES,
    "trim": CLOTHES, "trousers": CLOTHES, "shoe": CLOTHES, "sleeve": CLOTHES, "leg": CLOTHES, "nose": CLOTHES,
}  # fmt: skip
# Capsules: from, to, radius, color. Those of one row are painted together, at the mean depth of their ends.
PARTS = (
    [("left_shoulder", "left_hip", 0.055, "shirt"), ("right_shoulder", "right_hip", 0.055, "shirt"), ("neck", "pelvis", 0.065, "shirt"),
     ("left_hip", "right_hip", 0.055, "trousers")],
    [("chest", "belly", 0.022, "trim")],
    [("neck", "head", 0.035, "skin")],
    [("hair", "hair", 0.094, "hair")],
    [("head", "head", HEAD_RADIUS, "skin")],
    *([(f"{side}_eye", f"{side}_eye", 0.018, "eye")] for side in ("left", "right")),
    *([(f"{side}_ear", f"{side}_ear", 0.022, "skin")] for side in ("left", "right")),
    [("nose", "nose", 0.02, "nose")],
    *([(f"{side}_shoulder", f"{side}_elbow", 0.038, "shirt")] for side in ("left", "right")),
    *([(f"{side}_elbow", f"{side}_wrist", 0.03, "sleeve"), (f"{side}_wrist", f"{side}_hand", 0.03, "skin")] for side in ("left", "right")),
    *([(f"{side}_hip", f"{side}_knee", 0.052, "trousers")] for side in ("left", "right")),
    *([(f"{side}_knee", f"{side}_ankle", 0.04, "leg"), (f"{side}_ankle", f"{side}_toe", 0.034, "shoe")] for side in ("left", "right")),
)  # fmt: skip
PART = np.repeat(np.arange(len(PARTS)), [len(part) for part in PARTS])  # (C,): of each capsule
ENDS = np.array([[POINTS.index(name) for name in capsule[:2]] for part in PARTS for capsule in part])  # (C, 2)
RADII, COLOR = (np.array(values) for values in zip(*((r, list(COLORS).index(color)) for part in PARTS for *_, r, color in part)))  # (C,)
LAYERS = ((1, 0.008, 0.45), (1, 0, 1), (0.5, 0, 1.12))  # a dark rim, the capsule, a light middle: times and plus the radius, brightness
# Degrees, least and most, of: upper arm forward and outward, forearm in addition, thigh forward and outward, shin in addition
POSES = (
    ([-25, 4, 0, -25, -12, 2, -20], [25, 35, 70, 25, 18, 14, 0]),  # standing
    ([-50, 5, 0, -30, -35, 2, -90], [90, 150, 60, 60, 70, 40, 0]),  # moving
    ([-15, 5, 0, -30, 60, 2, -100], [50, 35, 80, 20, 95, 25, -60]),  # sitting
)


@dataclass(frozen=True)
class Person:
    """points (P, 3) as POINTS: x, y in image pixels and depth towards the viewer; stature in pixels; colors (10, 3) BGR as COLORS."""

    points: np.ndarray
    stature: float
    colors: np.ndarray


def random_body(rng: np.random.Generator) -> np.ndarray:
    """Sample `body_points`: mostly facing the viewer, sometimes from the side or from behind."""
    low, high = np.radians(POSES[rng.choice(len(POSES), p=[0.55, 0.33, 0.12])])
    yaw = rng.choice([rng.normal(0, 25), rng.uniform(-180, 180), rng.normal(180, 20)], p=[0.7, 0.15, 0.15])
    angles = np.radians([rng.uniform(-5, 20), rng.normal(0, 5), yaw, rng.normal(0, 20)])
    return body_points(rng.uniform(low, high, (2, len(low))), *angles)


def _limb(start: np.ndarray, forward: np.ndarray, outward: np.ndarray, length: float) -> np.ndarray:
    """Return the ends (2, 3) of a left and a right limb; with angles of 0 they hang down."""
    direction = [np.sin(outward) * [1, -1], np.cos(outward) * np.cos(forward), np.cos(outward) * np.sin(forward)]
    return start + length * np.stack(direction, 1)


def body_points(limbs: np.ndarray, lean: float, tilt: float, yaw: float, head_yaw: float) -> np.ndarray:
    """Return POINTS (P, 3) in statures, the pelvis at the origin: x to the right of the image, y down, z towards the viewer.

    Angles in radians: limbs (2, 7) of the left and the right side, as in POSES; lean forward; tilt in the image plane; yaw 0 faces the
    viewer; head_yaw is relative to the body.
    """
    arm, out, forearm, forearm_out, thigh, thigh_out, shin = limbs.T
    up, front = np.array([0, -np.cos(lean), np.sin(lean)]), np.array([0, np.sin(lean), np.cos(lean)])
    sides = np.array([[1, 0, 0], [-1, 0, 0]])
    shoulders, hips = 0.3 * up + 0.12 * sides, 0.065 * sides
    elbows = _limb(shoulders, arm, out, 0.17)
    wrists = _limb(elbows, arm + forearm, out + forearm_out, 0.15)
    knees = _limb(hips, thigh, thigh_out, 0.25)
    ankles = _limb(knees, thigh + shin, thigh_out, 0.24)
    head, turn = 0.45 * up + 0.02 * front, cv2.Rodrigues(np.array([0, head_yaw, 0]))[0]
    points = [
        head + HEAD_RADIUS * FACE @ turn.T, shoulders, elbows, wrists, hips, knees, ankles,
        [0 * up, 0.31 * up, head, head + turn @ [0, -0.02, -0.025], 0.28 * up + 0.06 * front, 0.08 * up + 0.06 * front],
        wrists + 0.25 * (wrists - elbows), ankles + [0, 0.02, 0.07],
    ]  # fmt: skip
    return np.concatenate(points) @ (cv2.Rodrigues(np.array([0, 0, tilt]))[0] @ cv2.Rodrigues(np.array([0, yaw, 0]))[0]).T


def random_colors(rng: np.random.Generator, hue: float | None = None) -> np.ndarray:
    """Sample a person's COLORS (10, 3) BGR; hue: of the shirt, from 0 to 180."""
    hsv = rng.uniform(*np.array(list(COLORS.values())).swapaxes(0, 1))
    hsv[3] = hsv[3] if hue is None else (hue % 180, 200, 200)
    skin, hair, eye, shirt, trim, trousers, shoe, *_ = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2BGR)[0].astype(float)
    trim = trim if np.abs(trim - shirt).sum() > 150 else 255 - shirt
    sleeve, leg = shirt if rng.random() < 0.5 else skin, trousers if rng.random() < 0.7 else skin
    return np.stack([skin, hair, eye, shirt, trim, trousers, shoe, sleeve, leg, 0.6 * skin])


def _placed(body: np.ndarray, colors: np.ndarray, stature: float, x: float, feet: float) -> Person:
    """Put a body into an image: the pelvis at x, the lowest point at y = feet, both in pixels."""
    return Person(stature * body + [x, feet - stature * body[:, 1].max(), 0], stature, colors)


def paint_person(image: np.ndarray, ids: np.ndarray, person: Person, number: int) -> None:
    """Paint a person over an image (H, W, 3) uint8, and its number over ids (H, W)."""
    ends = (16 * person.points[ENDS, :2]).round().astype(int).tolist()
    depth = np.bincount(PART, person.points[ENDS, 2].mean(1)) / np.bincount(PART)
    times, plus, light = (np.array(values)[:, None] for values in zip(*LAYERS))
    widths = (2 * person.stature * (times * RADII + plus)).round().astype(int).clip(1).tolist()
    colors = (light[..., None] * person.colors[COLOR]).clip(0, 255).tolist()
    for part in np.argsort(depth, kind="stable"):
        for layer, c in itertools.product(range(len(LAYERS)), np.flatnonzero(part == PART)):
            cv2.line(image, *ends[c], colors[layer][c], widths[layer][c], cv2.LINE_AA, shift=4)
            if layer == 0:
                cv2.line(ids, *ends[c], number, widths[layer][c], shift=4)


def random_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Sample a background (H, W, 3) uint8 BGR: a gradient with spots of color, bars and noise, each weak or strong."""
    rows, columns = rng.integers(2, 12, 2)
    gradient = 60 * (np.linspace(-1, 1, rows)[:, None] * rng.normal() + np.linspace(-1, 1, columns) * rng.normal()) * rng.random()
    spots = rng.uniform(40, 200, 3) + gradient[..., None] + rng.normal(0, rng.uniform(0, 25), (rows, columns, 3))
    image = cv2.resize(spots.clip(0, 235).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(4)):
        start, end = (rng.uniform(0, 1, (2, 2)) * [width, height]).astype(int).tolist()
        cv2.line(image, start, end, rng.uniform(20, 235, 3).tolist(), int(rng.uniform(0.01, 0.06) * height) + 1, cv2.LINE_AA)
    return with_noise(rng, image, int(rng.integers(1, 24)))


def with_noise(rng: np.random.Generator, image: np.ndarray, strength: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 with noise, the same in all colors, of at most `strength` levels."""
    return cv2.add(image, cv2.merge([rng.integers(0, strength + 1, image.shape[:2], np.uint8)] * 3))


def polygons(mask: np.ndarray, x: int, y: int) -> list[list[float]]:
    """Return the outlines of a mask (H, W) uint8 whose corner is at x, y: [x1, y1, x2, y2, ...] in pixels, without holes."""
    # at twice the size, so that the outline runs near the pixels' borders, not through their centers
    doubled = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(2 * x, 2 * y))
    outlines = [cv2.approxPolyDP(contour, 1.5, True)[:, 0] for contour in contours if cv2.contourArea(contour) > 12]
    return [((outline + 0.5) / 2).ravel().tolist() for outline in outlines if len(outline) >= 3]


def annotate(person: Person, mask: np.ndarray) -> dict | None:
    """Return a person's COCO annotation without ids, or None if too little is visible; mask (H, W) uint8: where the person is visible.

    A keypoint is 2 where the person is visible, 1 where another one is in front, 0 outside the image; in the face also 0 if turned away.
    """
    x, y, w, h = cv2.boundingRect(mask)
    outlines = polygons(mask[y : y + h, x : x + w], x, y) if w else []
    if not outlines:
        return None
    keypoints, (height, width) = person.points[: len(KEYPOINTS)].round(1), mask.shape
    inside = np.all((keypoints[:, :2] >= 0) & (keypoints[:, :2] <= [width - 1, height - 1]), axis=1)
    depth = (person.points[: len(FACE), 2] - person.points[HEAD, 2]) / (HEAD_RADIUS * person.stature)
    inside[: len(FACE)] &= depth >= FACE_LIMIT
    columns, rows = np.where(inside[:, None], keypoints[:, :2], 0).round().astype(int).T
    keypoints[:, 2] = np.where(mask[rows, columns], 2, 1)
    keypoints[~inside] = 0
    if (keypoints[:, 2] == 2).sum() < 0.25 * inside.sum():
        keypoints[:] = 0  # annotators do not label keypoints of mostly occluded people
    return {
        "category_id": 1, "iscrowd": 0, "segmentation": outlines, "area": float(np.count_nonzero(mask)), "bbox": [x, y, w, h],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [int(v) if v.is_integer() else v for v in keypoints.ravel().tolist()],
    }  # fmt: skip


def render(image: np.ndarray, people: list[Person]) -> list[dict | None]:
    """Paint people, from far to near, over an image (H, W, 3) uint8; return the `annotate` of each."""
    ids = np.zeros(image.shape[:2], np.int32)
    for number, person in enumerate(people, start=1):
        paint_person(image, ids, person, number)
    return [annotate(person, (ids == number).view(np.uint8)) for number, person in enumerate(people, start=1)]


def random_people(rng: np.random.Generator, height: int, width: int) -> list[Person]:
    """Sample one to four people for an image, from far to near: nearer people are larger and stand lower."""
    count = 1 + rng.choice(4, p=[0.3, 0.35, 0.2, 0.15])
    largest = min(height, width) * rng.uniform(0.5, 1.0)
    statures = largest * np.sort(np.append(rng.uniform(0.5, 1, count - 1), 1))
    feet = height * rng.uniform(0.88, 1.08) - rng.uniform(0.2, 0.8) * (largest - statures)
    x = width * (rng.permutation(count) + rng.uniform(0.1, 0.9, count)) / count
    return [_placed(random_body(rng), random_colors(rng), *place) for place in zip(statures, x, feet)]


def walk(frame: int, colors: np.ndarray, stature: float, feet: float, reach: float, speed: float, start: float, step: float) -> Person:
    """Return a person walking back and forth, in a frame: `reach` pixels from the middle of the path to its ends, `speed` pixels per frame.

    In frame 0 the path is at `start` (0: in its middle and to the right, pi: to the left), the legs at `step`, both in radians.
    """
    # a triangle wave with round turns, in which the walker faces the viewer
    angle, sharpness = start + np.pi / 2 * speed * frame / reach, 0.97
    x = 0.3 * stature + reach * (1 + np.arcsin(sharpness * np.sin(angle)) / np.arcsin(sharpness))
    pace = np.cos(angle) / np.sqrt(1 - np.square(sharpness * np.sin(angle)))  # -1 to 1: of full speed, to the right
    phase = step + 2 * np.pi * speed * frame / (0.9 * stature) + np.array([0, np.pi])
    swing = (0.18 + 0.32 * abs(pace)) * np.sin(phase)
    flex = 0.12 + 1.6 * (0.18 + 0.32 * abs(pace)) * np.cos(phase).clip(0)
    limbs = [-0.9 * swing, np.full(2, 0.14), np.full(2, 0.3), np.full(2, -0.1), swing, np.full(2, 0.05), -flex]
    body = body_points(np.stack(limbs, 1), lean=0.05, tilt=0.0, yaw=np.radians(75) * pace, head_yaw=0.0)
    return _placed(body, colors, stature, x, feet)


def random_walkers(rng: np.random.Generator, count: int, height: int, width: int) -> list[Callable[[int], Person]]:
    """Sample walkers, functions of the frame, from far to near. Every other one starts in the other direction; shirts differ in hue."""
    walkers: list[Callable[[int], Person]] = []
    hue = 180 * rng.random()
    for number, nearness in enumerate(np.linspace(0, 1, count)):
        colors, step = random_colors(rng, hue + 180 * number / count), rng.uniform(0, 2 * np.pi)
        stature, feet = min(height, 0.9 * width) * (0.62 + 0.14 * nearness) * rng.uniform(0.95, 1.05), height * (0.84 + 0.12 * nearness)
        reach, speed = width / 2 - 0.3 * stature, stature * rng.uniform(0.02, 0.03)
        start = np.pi * (number + (number // 2) / ((count + 1) // 2)) + rng.uniform(-0.2, 0.2)
        walkers.append(partial(walk, colors=colors, stature=stature, feet=feet, reach=reach, speed=speed, start=start, step=step))
    return walkers


def render_frame(background: np.ndarray, walkers: list[Callable[[int], Person]], frame: int) -> tuple[np.ndarray, list[dict]]:
    """Return a frame (H, W, 3) uint8 BGR of the walkers before a background, and its annotations; `track_id` is the walker's number."""
    image = background.copy()
    annotations = render(image, [walker(frame) for walker in walkers])
    image = with_noise(np.random.default_rng(frame), image, 8)
    return image, [{**annotation, "track_id": number} for number, annotation in enumerate(annotations, start=1) if annotation]


def write_synthetic(output: Path, count: int, seed: int, size: tuple[int, int] = (256, 320)) -> Path:
    """Write `count` images of `size` (height, width) and their annotations below `output`; return the path of the annotation file."""
    check_minimum(1, count=count)
    check_minimum(0, seed=seed)

    def images() -> Iterator[Rendered]:
        for number in range(1, count + 1):
            rng = np.random.default_rng([seed, number])
            image = random_background(rng, *size)
            yield f"{number:012d}.jpg", image, list(filter(None, render(image, random_people(rng, *size))))

    with file_lock(output_folder(output)):
        return _write(output, images(), count, f"synthetic people, seed {seed}")


def write_video(output: Path, frames: int, people: int, seed: int, size: tuple[int, int] = (256, 320)) -> Path:
    """Write the frames of a video of `people` walkers, the video and the annotations below `output`; return the annotation file's path."""
    check_minimum(1, video=frames, people=people)
    check_minimum(0, seed=seed)
    rng = np.random.default_rng(seed)
    background, walkers = random_background(rng, *size), random_walkers(rng, people, *size)

    def images(write: Callable[[np.ndarray], None]) -> Iterator[Rendered]:
        for number in range(frames):
            image, annotations = render_frame(background, walkers, number)
            write(image)
            yield f"{number:06d}.jpg", image, annotations

    with file_lock(output_folder(output)), video_writer(output / "video.avi", FRAME_RATE, "mjpeg") as write:
        return _write(output, images(write), frames, f"{people} synthetic walkers, seed {seed}")


def _write(output: Path, images: Iterator[Rendered], count: int, description: str) -> Path:
    """Write images and, last and whole, the annotation file; return its path."""
    annotation_file, folder = output / "annotations.json", output_folder(output / "images")
    annotation_file.unlink(missing_ok=True)  # an earlier one does not describe the new images
    entries, annotations = list[dict](), list[dict]()
    for number, (name, image, of_image) in enumerate(progress_bar(images, count, "rendering", unit="images"), start=1):
        with atomic_write(folder / name, sync=False) as partial:
            partial.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
        entries.append({"id": number, "file_name": name, "height": image.shape[0], "width": image.shape[1]})
        annotations += [{"id": len(annotations) + i, "image_id": number, **one} for i, one in enumerate(of_image, start=1)]
    category = {"supercategory": "person", "id": 1, "name": "person", "keypoints": KEYPOINTS, "skeleton": SKELETON}
    info = {"description": description, "version": "1.0"}
    write_json(annotation_file, {"info": info, "images": entries, "annotations": annotations, "categories": [category]})
    return annotation_file


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for images/ and annotations.json")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--count", type=int, metavar="N", help="number of images")
    kind.add_argument("--video", type=int, metavar="FRAMES", help="number of frames of a video of walking people, instead of images")
    parser.add_argument("--people", type=int, default=4, metavar="P", help="number of people in the video (4)")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="the same seed gives the same files")
    options = parser.parse_args()
    if options.video is not None:
        path = write_video(options.output, options.video, options.people, options.seed)
    else:
        path = write_synthetic(options.output, options.count, options.seed)
    print(f"{options.video or options.count} images: {path}")


if __name__ == "__main__":
    run_cli(main)
