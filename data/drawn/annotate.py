"""COCO annotations of drawn people, from the buffer of ids that tells what is hidden by what."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from data.drawn.paint import PERSON_STEP, Placed

CROWD = -1  # the id of everybody in a crowd


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines of a mask (H, W) uint8, without holes, as COCO's are: [x1, y1, x2, y2, ...] in pixels from the picture's corner."""
    x, y, w, h = cv2.boundingRect(mask)
    # at twice the size, so that the outline runs near the pixels' borders, not through their centres
    doubled = cv2.resize(mask[y : y + h, x : x + w], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) if w else mask
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(2 * x, 2 * y))
    outlines = [cv2.approxPolyDP(contour, 1.5, True)[:, 0] for contour in contours if cv2.contourArea(contour) > 12]
    return [((outline + 0.5) / 2).ravel().tolist() for outline in outlines if len(outline) >= 3]


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed RLE: lengths of runs of 0, 1, 0, ... down the columns."""
    flat = np.concatenate([[0], mask.T.ravel() != 0, [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    counts = counts[:-1] if counts[-1] == 0 else counts
    return {"counts": counts.tolist(), "size": list(mask.shape)}


def annotation_of(segmentation: list | dict, mask_rle: dict, keypoints: np.ndarray, crowd: bool) -> dict[str, Any]:
    """Box and area are those of the segmentation as pycocotools decodes it."""
    return {
        "category_id": 1,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
        "area": float(coco_mask.area(mask_rle)),
        "bbox": [float(v) for v in coco_mask.toBbox(mask_rle)],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [int(v) if float(v).is_integer() else round(float(v), 1) for v in keypoints.ravel()],
    }


def labelled_keypoints(rng: np.random.Generator, person: Placed, number: int, ids: np.ndarray, unhidden: float) -> np.ndarray:
    """(17, 3) x, y, v in pixels. What turns away from the viewer in a face is not labelled; what something covers is, mostly.

    `unhidden` is the share of the person that nothing covers: the less there is, the less an annotator would guess.
    """
    figure, stature, origin = person
    height, width = ids.shape
    points = np.round(figure.keypoints * stature + origin, 1)
    keypoints = np.zeros((len(points), 3))
    reach = int(np.clip(round(0.012 * stature), 1, 3))
    guessed = rng.random(len(points)) < 1.6 * unhidden - 0.25
    for k, (x, y) in enumerate(points):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        column, row = round(x), round(y)
        near = ids[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        seen = any((near == number * PERSON_STEP + label).any() for label in figure.labels[k])
        if seen or (guessed[k] and figure.labels[k]):
            keypoints[k] = x, y, 2 if seen else 1
    return keypoints


def person_annotation(outlines: list[list[float]], keypoints: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Of somebody with these polygons and keypoints (17, 3) x, y, v; size (height, width) of the picture."""
    return annotation_of(outlines, coco_mask.merge(coco_mask.frPyObjects(outlines, *size)), keypoints, crowd=False)


def _hidden_beside(outlines: list[list[float]], keypoints: np.ndarray, size: tuple[int, int]) -> None:
    """Change keypoints (17, 3) that are seen in specks too small for an outline to hidden ones."""
    mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(outlines, *size)))
    near = cv2.dilate(mask, np.ones((7, 7), np.uint8))
    columns, rows = np.round(keypoints[:, :2]).astype(int).T
    keypoints[(keypoints[:, 2] == 2) & (near[rows, columns] == 0), 2] = 1


def annotate(rng: np.random.Generator, people: list[Placed], painted: list[int], ids: np.ndarray) -> list[dict[str, Any]]:
    """`painted[i]` is how many pixels person i had when painted, before anything covered them."""
    annotations = []
    owners = ids // PERSON_STEP
    for number, (person, before) in enumerate(zip(people, painted), start=1):
        mask = (owners == number).astype(np.uint8)
        outlines = polygons(mask)
        if not outlines:
            continue
        unhidden = np.count_nonzero(mask) / before
        keypoints = labelled_keypoints(rng, person, number, ids, unhidden)
        _hidden_beside(outlines, keypoints, ids.shape)
        if person[1] < 0.16 * min(ids.shape) or unhidden < 0.15 or (keypoints[:, 2] == 2).sum() < 2:
            keypoints[:] = 0  # too small or too hidden for an annotator
        annotations.append(person_annotation(outlines, keypoints, ids.shape))
    crowd = (ids == CROWD).astype(np.uint8)
    crowd = cv2.morphologyEx(crowd, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) * (ids <= 0)
    if crowd.sum() > 50:
        runs = run_lengths(crowd)
        annotations.append(annotation_of(runs, coco_mask.frPyObjects(runs, *ids.shape), np.zeros((17, 3)), crowd=True))
    return annotations


def annotate_tracks(people: list[Placed], ids: np.ndarray) -> list[dict[str, Any]]:
    """Of a frame of a video: `track_id` is the person's number from 1; all keypoints in the frame are labelled, 1 where hidden.

    Left out are those of whom nothing is to be seen, and what turns away from the viewer in a face.
    """
    annotations = []
    for number, person in enumerate(people, start=1):
        outlines = polygons((ids // PERSON_STEP == number).astype(np.uint8))
        if outlines:
            keypoints = labelled_keypoints(np.random.default_rng(0), person, number, ids, unhidden=1.0)
            annotations.append({**person_annotation(outlines, keypoints, ids.shape), "track_id": number})
    return annotations
