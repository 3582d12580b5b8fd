"""The images with the largest errors: annotated people on the left, predictions and their errors on the right."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from config.skeleton import UNLABELED, VISIBLE
from data.image_source import ImageEntry
from data.images import write_image
from utils.evaluation.analysis import COLORS, JITTER, KINDS, AnnotatedKeypoints, MatchedImage, image_errors, match_image
from utils.evaluation.matching import ImageResult
from utils.visualize.people import draw_people

HEIGHT, STRIP = 480, 26  # pixels, of each image up to twice as wide, and of a line of text
FONT, INK = cv2.FONT_HERSHEY_SIMPLEX, (40, 40, 40)
MISSED, FALSE_POSITIVE = (255, 255, 0), (0, 150, 255)
LEGEND = {**COLORS, "missed person": MISSED, "false positive": FALSE_POSITIVE}


def write_worst(
    images: Sequence[ImageResult], keypoints: AnnotatedKeypoints, files: dict[int, ImageEntry], folder: Path, count: int
) -> str:
    """Write the `count` worst images into the folder, the worst first. Return a summary line."""
    matched = [match_image(image, keypoints) for image in images]
    errors = image_errors(matched)
    rows = [row for row in np.argsort(-errors, kind="stable")[:count] if errors[row] > 0]
    for number, row in enumerate(rows, start=1):
        file = files[matched[row].image.image_id]
        title = f"{number}. {file.path.name}: error {errors[row]:.2f} people"
        drawing = draw_errors(file.read_image(), matched[row], keypoints, title)
        write_image(folder / f"{number:0{len(str(count))}d}_{file.path.stem}.jpg", drawing)
    return f"the {len(rows)} worst images: {folder}" if rows else "no image has an error"


def draw_errors(image: np.ndarray, matched: MatchedImage, keypoints: AnnotatedKeypoints, title: str) -> np.ndarray:
    """Draw annotated people on one copy of an image (H, W, 3) uint8 BGR, predictions with errors on another; place both side by side."""
    scale = min(HEIGHT / image.shape[0], 2 * HEIGHT / image.shape[1])
    left = cv2.resize(image, [max(1, round(side * scale)) for side in image.shape[1::-1]], interpolation=cv2.INTER_AREA)
    limit = 10 * max(left.shape)  # OpenCV may be unable to draw farther points
    result = matched.image
    poses, joints = (np.dstack([np.clip(p[..., :2] * scale, -limit, limit), p[..., 2:]]) for p in (result.poses, result.joints))
    # False positives below all true positives do no harm
    shown = (result.scores >= min(result.scores[~matched.is_false_positive], default=0)) & poses.any((1, 2))
    right = draw_people(left, _skeleton_people(poses[shown], keypoints), keypoints.skeleton)
    left = draw_people(left, _skeleton_people(joints[~result.crowd], keypoints), keypoints.skeleton)
    for x, y, width, height in np.rint(np.clip(result.boxes[matched.missed] * scale, -limit, limit)).astype(int).tolist():
        for drawing in (left, right):
            cv2.rectangle(drawing, (x, y), (x + width, y + height), MISSED, 2)
    matched = replace(matched, image=replace(result, poses=poses, joints=joints))
    for row in np.flatnonzero(shown):
        _mark_errors(right, matched, row)
    both = np.hstack([left, np.full((len(left), 6, 3), 255, np.uint8), right])
    title = f"{title}; on the right predictions, each with its OKS"
    return np.vstack([_text_strip(both.shape[1], {title: INK}), both, _text_strip(both.shape[1], LEGEND)])


def _skeleton_people(joints: np.ndarray, keypoints: AnnotatedKeypoints) -> np.ndarray:
    """Convert (P, D, 3) x, y, v (0: none) to (P, K, 3) in the skeleton's order with a score of 1 or 0."""
    full = np.full((len(joints), len(keypoints.present), 3), (0, 0, UNLABELED), float)
    full[:, keypoints.present] = joints
    full[..., 2] = np.where((full[..., 2] > 0) & keypoints.present, VISIBLE, UNLABELED)
    people = keypoints.skeleton.from_dataset(full)
    people[..., 2] = people[..., 2] != UNLABELED
    return people


def _mark_errors(drawing: np.ndarray, matched: MatchedImage, row: int) -> None:
    """Draw a ring around each wrong keypoint, a line to its annotated position, and the OKS; a box around a false positive."""
    pose, size = np.rint(matched.image.poses[row, :, :2]).astype(int), max(1, round(min(drawing.shape[:2]) / 200))
    predicted = matched.image.poses[row].any(1)
    low, high = pose[predicted].min(0).tolist(), pose[predicted].max(0).tolist()
    if matched.is_false_positive[row]:
        cv2.rectangle(drawing, low, high, FALSE_POSITIVE, 2)
        return
    for k in np.flatnonzero(matched.kinds[row] >= JITTER):
        color = COLORS[KINDS[matched.kinds[row, k]]]
        target = np.rint(matched.image.joints[matched.gt_index[row], k, :2]).astype(int).tolist()
        if predicted[k]:
            cv2.line(drawing, pose[k].tolist(), target, color, size, cv2.LINE_AA)
            cv2.circle(drawing, pose[k].tolist(), 3 * size, color, size, cv2.LINE_AA)
        else:
            cv2.drawMarker(drawing, target, color, cv2.MARKER_TILTED_CROSS, 6 * size, size, cv2.LINE_AA)
    corner = max(low[0], 2), max(low[1] - 6, 12)
    for color, width in (((255, 255, 255), 4), (INK, 1)):
        cv2.putText(drawing, f"{matched.oks[row]:.2f}", corner, FONT, 0.45, color, width, cv2.LINE_AA)


def _text_strip(width: int, texts: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """Write texts in their colors beside each other on white. Return (STRIP, width, 3) uint8 BGR."""
    strip, x = np.full((STRIP, width, 3), 255, np.uint8), 6
    for text, color in texts.items():
        cv2.putText(strip, text, (x, 18), FONT, 0.45, color, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, FONT, 0.45, 1)[0][0] + 16
    return strip
