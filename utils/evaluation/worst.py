"""The images with the largest errors: annotated people on the left, predictions and their errors on the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from config.skeleton import UNLABELED, VISIBLE
from data.images import read_image, write_image
from utils.evaluation.analysis import COLORS, JITTER, KINDS, AnnotatedKeypoints, MatchedImage, image_errors, match_image
from utils.evaluation.matching import ImageResult
from utils.visualize.people import draw_people

FOLDER = "worst"
HEIGHT = 480  # pixels, of each image up to twice as wide
FONT, INK, STRIP = cv2.FONT_HERSHEY_SIMPLEX, (40, 40, 40), 26
MISSED, FALSE_POSITIVE = (255, 255, 0), (0, 150, 255)
LEGEND = {**{kind: COLORS[kind] for kind in KINDS[JITTER:]}, "missed person": MISSED, "false positive": FALSE_POSITIVE}


def remove_worst(folder: Path) -> None:
    """Remove the images of an earlier evaluation."""
    for path in (folder / FOLDER).glob("[0-9]*_*.jpg"):
        path.unlink()
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def write_worst(images: Sequence[ImageResult], keypoints: AnnotatedKeypoints, files: dict[int, Path], folder: Path, count: int) -> str:
    """Write the `count` worst images into the folder's `worst`, the worst first. Return a summary line."""
    matched = [match_image(image, keypoints) for image in images]
    errors = image_errors(matched)
    rows = [row for row in np.argsort(-errors, kind="stable")[:count] if errors[row] > 0]
    for number, row in enumerate(rows, start=1):
        file = files[matched[row].image.image_id]
        title = f"{number}. {file.name}: error {errors[row]:.2f} people"
        path = folder / FOLDER / f"{number:0{len(str(count))}d}_{file.stem}.jpg"
        write_image(path, draw_errors(read_image(file), matched[row], keypoints, title))
    return f"the {len(rows)} worst images: {folder / FOLDER}" if rows else "no image has an error"


def draw_errors(image: np.ndarray, matched: MatchedImage, keypoints: AnnotatedKeypoints, title: str) -> np.ndarray:
    """Draw annotated people on one copy of an image (H, W, 3) uint8 BGR, predictions with errors on another; place both side by side."""
    scale = min(HEIGHT / image.shape[0], 2 * HEIGHT / image.shape[1])
    image = cv2.resize(image, [max(1, round(side * scale)) for side in image.shape[1::-1]], interpolation=cv2.INTER_AREA)
    limit = 10 * max(image.shape)  # OpenCV may be unable to draw farther points
    result = matched.image
    poses, joints = (np.dstack([np.clip(p[..., :2] * scale, -limit, limit), p[..., 2:]]) for p in (result.poses, result.joints))
    matched = replace(matched, image=replace(result, poses=poses, joints=joints))
    shown = _shown(matched)
    left = draw_people(image, _skeleton_people(joints[~result.crowd], keypoints), keypoints.skeleton)
    right = draw_people(image, _skeleton_people(poses[shown], keypoints), keypoints.skeleton)
    for x, y, width, height in np.clip(result.boxes[matched.missed] * scale, -limit, limit):
        for drawing in (left, right):
            cv2.rectangle(drawing, (round(x), round(y)), (round(x + width), round(y + height)), MISSED, 2)
    for row in np.flatnonzero(shown):
        _mark_errors(right, matched, row)
    left, right = _with_strips(left, title, {"missed person": MISSED}), _with_strips(right, "predictions, each with its OKS", LEGEND)
    return np.hstack([left, np.full((len(left), 6, 3), 255, np.uint8), right])


def _shown(matched: MatchedImage) -> np.ndarray:
    """Return (P,) bool: true positives, and false positives with a higher score than one of them."""
    true_scores = matched.image.scores[matched.gt_index >= 0]
    return (matched.gt_index >= 0) | (matched.image.scores >= true_scores.min(initial=np.inf if len(true_scores) else 0))


def _skeleton_people(joints: np.ndarray, keypoints: AnnotatedKeypoints) -> np.ndarray:
    """Convert (P, D, 3) x, y, v (0: none) to (P, K, 3) in the skeleton's order with a score of 1 or 0."""
    dataset = list(keypoints.skeleton.dataset)
    full = np.zeros((len(joints), len(dataset), 3), np.float32)
    full[..., 2] = UNLABELED
    present = joints.any(-1) & (joints[..., 2] > 0)
    full[:, [dataset.index(name) for name in keypoints.names]] = np.dstack([joints[..., :2], np.where(present, VISIBLE, UNLABELED)])
    people = keypoints.skeleton.from_dataset(full)
    people[..., 2] = people[..., 2] != UNLABELED
    return people


def _mark_errors(drawing: np.ndarray, matched: MatchedImage, row: int) -> None:
    """Draw a ring around each wrong keypoint, a line to its annotated position, and the OKS; a box around a false positive."""
    pose, size = matched.image.poses[row], max(1, round(min(drawing.shape[:2]) / 200))
    points = np.rint(pose[:, :2]).astype(int).tolist()
    present = np.rint(pose[pose.any(1), :2]).astype(int)
    low, high = (present.min(0).tolist(), present.max(0).tolist()) if len(present) else ((0, 0), (0, 0))
    if matched.is_false_positive[row]:
        cv2.rectangle(drawing, low, high, FALSE_POSITIVE, 2)
        return
    for k in np.flatnonzero(matched.kinds[row] >= JITTER):
        color = COLORS[KINDS[matched.kinds[row, k]]]
        target = np.rint(matched.image.joints[matched.gt_index[row], k, :2]).astype(int).tolist()
        if pose[k].any():
            cv2.line(drawing, points[k], target, color, size, cv2.LINE_AA)
            cv2.circle(drawing, points[k], 3 * size, color, size, cv2.LINE_AA)
        else:
            cv2.drawMarker(drawing, target, COLORS["miss"], cv2.MARKER_TILTED_CROSS, 6 * size, size, cv2.LINE_AA)
    text, corner = f"{matched.oks[row]:.2f}", (max(low[0], 2), max(low[1] - 6, 12))
    width, height = cv2.getTextSize(text, FONT, 0.45, 1)[0]
    cv2.rectangle(drawing, (corner[0] - 2, corner[1] - height - 3), (corner[0] + width + 2, corner[1] + 3), (255, 255, 255), -1)
    cv2.putText(drawing, text, corner, FONT, 0.45, INK, 1, cv2.LINE_AA)


def _with_strips(image: np.ndarray, title: str, legend: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """Add a title above and the legend of the colors below."""
    widths = {name: cv2.getTextSize(name, FONT, 0.45, 1)[0][0] for name in legend}
    width = max(image.shape[1], cv2.getTextSize(title, FONT, 0.5, 1)[0][0] + 12, sum(widths.values()) + 30 * len(widths))
    image = cv2.copyMakeBorder(image, STRIP, STRIP, 0, width - image.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3)
    cv2.putText(image, title, (6, 18), FONT, 0.5, INK, 1, cv2.LINE_AA)
    x, y = 6, len(image) - 8
    for name, text_width in widths.items():
        cv2.rectangle(image, (x, y - 10), (x + 12, y), legend[name], -1)
        cv2.putText(image, name, (x + 16, y), FONT, 0.45, INK, 1, cv2.LINE_AA)
        x += text_width + 30
    return image
