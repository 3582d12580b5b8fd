"""Pictures of the images that are farthest from what is annotated: the annotated people, and beside them those found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from config.skeleton import UNLABELLED, VISIBLE
from data.images import read_image, write_image
from utils.evaluation.details import COLOURS, Labelled
from utils.evaluation.errors import GOOD, KINDS, MISS, Found, shortfalls
from utils.evaluation.matching import Scene
from utils.visualize.people import draw_people

FOLDER = "worst"
HEIGHT = 480  # of each image, pixels, where it is not twice as wide
FONT, INK, STRIP = cv2.FONT_HERSHEY_SIMPLEX, (40, 40, 40), 26
UNFOUND, NOBODY = (255, 255, 0), (0, 150, 255)


def remove_worst(folder: Path) -> None:
    """Remove the pictures of an earlier evaluation."""
    for path in (folder / FOLDER).glob("[0-9]*_*.jpg"):
        path.unlink()
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def write_worst(scenes: Sequence[Scene], labelled: Labelled, files: dict[int, Path], folder: Path, count: int) -> str:
    """Write the `count` worst into the folder's `worst`, the worst first; returns what is to be said about it."""
    found = labelled.errors(scenes)
    short = shortfalls(found)
    chosen = [row for row in np.argsort(-short, kind="stable")[:count] if short[row] > 0]
    for place, row in enumerate(chosen, start=1):
        file = files[found[row].scene.image_id]
        picture = side_by_side(read_image(file), found[row], labelled, f"{place}. {file.name}: {short[row]:.2f} people short")
        write_image(folder / FOLDER / f"{place:0{len(str(count))}d}_{file.stem}.jpg", picture)
    return f"the {len(chosen)} worst images: {folder / FOLDER}" if chosen else "no image is short of what is annotated"


def side_by_side(image: np.ndarray, found: Found, labelled: Labelled, title: str) -> np.ndarray:
    """The image with who is annotated, and with who was found and what is wrong with them. image (H, W, 3) uint8 BGR."""
    scale = min(HEIGHT / image.shape[0], 2 * HEIGHT / image.shape[1])
    image = cv2.resize(image, [max(1, round(side * scale)) for side in image.shape[1::-1]], interpolation=cv2.INTER_AREA)
    reach = 10 * max(image.shape) / scale  # what is farther off OpenCV may not be able to draw
    poses, joints, boxes = (np.clip(values, -reach, reach) for values in (found.scene.poses, found.scene.joints, found.scene.boxes))
    scene = replace(found.scene, poses=poses, joints=joints, boxes=boxes)
    found = replace(found, scene=scene)
    annotated = draw_people(image, _drawable(scene.joints[~scene.crowd], labelled, scale), labelled.skeleton)
    answer = draw_people(image, _drawable(scene.poses[_shown(found)], labelled, scale), labelled.skeleton)
    for person in np.flatnonzero(found.unfound):
        x, y, width, height = scene.boxes[person] * scale
        for picture in (annotated, answer):
            cv2.rectangle(picture, (round(x), round(y)), (round(x + width), round(y + height)), UNFOUND, 2)
    for row in np.flatnonzero(_shown(found)):
        _mark_errors(answer, found, row, scale)
    left, right = _titled(annotated, title, {"person not found": UNFOUND}), _titled(answer, "found, each with the OKS", _legend())
    return np.hstack([left, np.full((len(left), 6, 3), 255, np.uint8), right])


def _shown(found: Found) -> np.ndarray:
    """(P,) bool: who is somebody, and of the others those who are ranked above one who is."""
    right = found.scene.scores[found.whom >= 0]
    return (found.whom >= 0) | (found.scene.scores >= (right.min() if len(right) else 0))


def _drawable(joints: np.ndarray, labelled: Labelled, scale: float) -> np.ndarray:
    """(P, D, 3) x, y, v, 0: none, -> (P, K, 3) in the skeleton's order and the picture's size."""
    full = np.zeros((len(joints), len(labelled.skeleton.dataset), 3), np.float32)
    full[..., 2] = UNLABELLED
    places = {name: number for number, name in enumerate(labelled.skeleton.dataset)}
    for number, name in enumerate(labelled.names):
        there = joints[:, number].any(-1) & (joints[:, number, 2] > 0)
        full[:, places[name]] = np.c_[joints[:, number, :2] * scale, np.where(there, VISIBLE, UNLABELLED)]
    out = labelled.skeleton.from_dataset(full)
    out[..., 2] = out[..., 2] != UNLABELLED
    return out


def _mark_errors(picture: np.ndarray, found: Found, row: int, scale: float) -> None:
    """A ring round each wrong keypoint in the colour of its error, a line to where it is annotated, and the OKS; round nobody a box."""
    pose, size = found.scene.poses[row], max(1, round(min(picture.shape[:2]) / 200))
    there = pose[pose.any(1), :2] * scale
    low, high = (np.rint(edge(there, 0)).astype(int).tolist() for edge in (np.min, np.max)) if len(there) else ((0, 0), (0, 0))
    if found.false[row]:
        cv2.rectangle(picture, low, high, NOBODY, 2)
        return
    for k in np.flatnonzero(found.kinds[row] > GOOD):
        colour, wanted = (
            COLOURS[KINDS[found.kinds[row, k]]],
            np.rint(found.scene.joints[found.whom[row], k, :2] * scale).astype(int).tolist(),
        )
        if not pose[k].any():
            cv2.drawMarker(picture, wanted, COLOURS[KINDS[MISS]], cv2.MARKER_TILTED_CROSS, 6 * size, size, cv2.LINE_AA)
            continue
        place = np.rint(pose[k, :2] * scale).astype(int).tolist()
        cv2.line(picture, place, wanted, colour, size, cv2.LINE_AA)
        cv2.circle(picture, place, 3 * size, colour, size, cv2.LINE_AA)
    text, place = f"{found.oks[row]:.2f}", (max(low[0], 2), max(low[1] - 6, 12))
    width, height = cv2.getTextSize(text, FONT, 0.45, 1)[0]
    cv2.rectangle(picture, (place[0] - 2, place[1] - height - 3), (place[0] + width + 2, place[1] + 3), (255, 255, 255), -1)
    cv2.putText(picture, text, place, FONT, 0.45, INK, 1, cv2.LINE_AA)


def _legend() -> dict[str, tuple[int, int, int]]:
    return {**{kind: COLOURS[kind] for kind in KINDS[GOOD + 1 :]}, "person not found": UNFOUND, "nobody": NOBODY}


def _titled(picture: np.ndarray, title: str, legend: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """The picture with a title above and what the colours mean below."""
    entries = {name: cv2.getTextSize(name, FONT, 0.45, 1)[0][0] for name in legend}
    width = max(picture.shape[1], cv2.getTextSize(title, FONT, 0.5, 1)[0][0] + 12, sum(entries.values()) + 30 * len(entries))
    picture = cv2.copyMakeBorder(picture, STRIP, STRIP, 0, width - picture.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3)
    cv2.putText(picture, title, (6, 18), FONT, 0.5, INK, 1, cv2.LINE_AA)
    x, y = 6, len(picture) - 8
    for name, text in entries.items():
        cv2.rectangle(picture, (x, y - 10), (x + 12, y), legend[name], -1)
        cv2.putText(picture, name, (x + 16, y), FONT, 0.45, INK, 1, cv2.LINE_AA)
        x += text + 30
    return picture
