"""Cutting somebody out of a photograph by the keypoints alone: which pixels are the person's, GrabCut decides between what must be and
what can be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from config.errors import UserError
from data.composed.people import ANKLES, ELBOWS, HEAD, HIPS, KNEES, SHOULDERS, WRISTS, Person, reach, whole_image
from data.formats.coco import outline_runs, runs_mask

LEAST_SIDE = 16  # pixels of the part of a photograph that shows something of a person
LONGEST = 160  # pixels of the part of a photograph that is looked at
ROUNDS = 3  # of GrabCut
ROOM = 0.8  # of a `unit` around the keypoints: head, hands and feet, and what surrounds them
# Radii of a body's parts in units: two keypoints, at either
LIMBS = [(5, 7, 0.13, 0.10), (6, 8, 0.13, 0.10), (7, 9, 0.10, 0.07), (8, 10, 0.10, 0.07), (11, 13, 0.19, 0.13), (12, 14, 0.19, 0.13),
         (13, 15, 0.13, 0.08), (14, 16, 0.13, 0.08)]  # fmt: skip
SURE, USUAL, POSSIBLE = 0.45, 1.0, 2.2  # times these radii
HEAD_RADIUS, NECK = 0.25, 0.5  # units: the head's, and its middle's distance from that of the shoulders
TRUST = (0.62, 1.75)  # the mask's area over the usual one's, where GrabCut is believed
HEAD_FOUND = 0.5  # of the disc where a head usually is, at least


@dataclass(frozen=True)
class Cutout:
    """Somebody cut out: image (H, W, 3) uint8 BGR, mask (H, W) uint8 of 0..255, keypoints (17, 3) x, y, v in its pixels, unit in pixels."""

    image: np.ndarray
    mask: np.ndarray
    keypoints: np.ndarray
    unit: float


def body_mask(size: tuple[int, int], keypoints: np.ndarray, unit: float, grown: float) -> np.ndarray:
    """(H, W) uint8 of 0 and 1: capsules around the limbs, the torso and a head, with `grown` times the usual radii. unit: pixels."""
    mask, points = np.zeros(size, np.uint8), keypoints[:, :2]
    for a, b, radius_a, radius_b in LIMBS:
        _capsule(mask, points[a], points[b], radius_a * grown * unit, radius_b * grown * unit)
    torso = points[[5, 6, 12, 11]]
    middle = torso.mean(0)
    hull = cv2.convexHull(np.float32(middle + (torso - middle) * min(0.75 + 0.25 * grown, 1.0)))
    cv2.fillPoly(mask, [_sixteenths(hull)], 1, cv2.LINE_8, 4)
    cv2.polylines(mask, [np.round(hull).astype(np.int32)], True, 1, max(round(0.22 * grown * unit), 1))
    neck, head = points[SHOULDERS].mean(0), head_middle(keypoints, unit)
    _capsule(mask, neck, head, 0.12 * grown * unit, 0.7 * HEAD_RADIUS * grown * unit)
    if grown >= USUAL:  # where exactly the head is nobody knows, nor hands and feet
        cv2.circle(mask, *_circle(head, HEAD_RADIUS * (0.4 + 0.6 * grown) * unit), 1, -1)
        for ends, joints, length in ((WRISTS, ELBOWS, 0.17), (ANKLES, KNEES, 0.12)):
            for end, before in zip(ends, joints):
                along = points[end] - points[before]
                tip = points[end] + along / max(np.linalg.norm(along), 1e-6) * length * unit
                _capsule(mask, points[end], tip, 0.09 * grown * unit, 0.09 * grown * unit)
        if grown > USUAL:
            for ankle in points[ANKLES]:
                cv2.circle(mask, *_circle(ankle, 0.42 * unit), 1, -1)
    return mask


def head_middle(keypoints: np.ndarray, unit: float) -> np.ndarray:
    """(2,) the middle of the face's keypoints, or where a head usually is: above the shoulders, as the torso points."""
    face = keypoints[HEAD]
    if (face[:, 2] > 0).any():
        return face[face[:, 2] > 0, :2].mean(0)
    neck, hips = keypoints[SHOULDERS, :2].mean(0), keypoints[HIPS, :2].mean(0)
    spine = (neck - hips) / unit
    # Of a torso that points to the viewer little is seen; then heads are above it, and less far
    return neck + NECK * unit * spine / max(np.linalg.norm(spine), 0.6)


def _capsule(mask: np.ndarray, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float) -> None:
    """Fill what is within the radii of two points and between."""
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = np.stack([np.cos(turns), np.sin(turns)], 1)
    hull = cv2.convexHull(np.float32(np.concatenate([a + ring * max(radius_a, 0.6), b + ring * max(radius_b, 0.6)])))
    cv2.fillPoly(mask, [_sixteenths(hull)], 1, cv2.LINE_8, 4)


def _sixteenths(points: np.ndarray) -> np.ndarray:
    return np.round(points * 16).astype(np.int32)


def _circle(middle: np.ndarray, radius: float) -> tuple[tuple[int, int], int]:
    return tuple(np.round(middle).astype(int).tolist()), max(round(radius), 1)


def _region(person: Person, height: int, width: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the part of the photograph that can show something of the person; without any pixel where nothing can."""
    x0, y0, x1, y1 = reach(person.keypoints) + ROOM * person.unit * np.array([-1, -1, 1, 1])
    return max(int(x0), 0), max(int(y0), 0), max(min(int(np.ceil(x1)), width), 0), max(min(int(np.ceil(y1)), height), 0)


def grab_mask(image: np.ndarray, keypoints: np.ndarray, others: np.ndarray, unit: float) -> np.ndarray | None:
    """(H, W) uint8 of 0 and 1, the person's pixels in a small image (H, W, 3); None where what is found cannot be a person.

    others (O, 17, 3): keypoints of people whose pixels are not the person's. unit: pixels.
    """
    size = image.shape[:2]
    sure, usual, possible = (body_mask(size, keypoints, unit, grown) for grown in (SURE, USUAL, POSSIBLE))
    labels = np.where(usual > 0, cv2.GC_PR_FGD, np.where(possible > 0, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    for other in others[(others[:, 5:, 2] > 0).all(1)]:
        labels[(body_mask(size, other, unit, SURE) > 0) & (sure == 0)] = cv2.GC_BGD
    labels[sure > 0] = cv2.GC_FGD
    if (labels == cv2.GC_BGD).sum() < 50:
        return None
    cv2.setRNGSeed(0)  # of its k-means: the same person is cut out the same way whoever comes before
    cv2.grabCut(image, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    found = cv2.medianBlur(cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) | sure, 5) | sure
    found = _filled(_connected(found, sure), 0.04 * unit * unit)
    ratio = found.sum() / max(usual.sum(), 1)
    frame = cv2.dilate(possible, np.ones((3, 3), np.uint8)) - possible
    touching = (cv2.dilate(found, np.ones((3, 3), np.uint8)) & frame).sum() / max(frame.sum(), 1)
    disc = cv2.circle(np.zeros_like(found), *_circle(head_middle(keypoints, unit), 1.1 * HEAD_RADIUS * unit), 1, -1)
    headless = (found & disc).sum() < HEAD_FOUND * disc.sum()
    return found if TRUST[0] < ratio < TRUST[1] and touching < 0.15 and not headless else None


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The pieces of a mask that hold seeds."""
    _, pieces = cv2.connectedComponents(mask)
    kept = np.unique(pieces[(seeds > 0) & (mask > 0)])
    return np.isin(pieces, kept[kept > 0]).astype(np.uint8)


def _filled(mask: np.ndarray, most: float) -> np.ndarray:
    """With holes of at most so many pixels closed."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = [piece for piece in range(1, count) if stats[piece, cv2.CC_STAT_AREA] <= most]
    return (mask | np.isin(pieces, small)).astype(np.uint8)


@lru_cache(maxsize=20_000)  # the same person is in several pictures; a few kilobytes each
def _packed_mask(person: Person) -> tuple[bytes, tuple[int, int]] | None:
    """The mask of a person's region of the photograph at its reduced size, as packed bits, and that size; None: not to be used."""
    image = whole_image(person.image, person.listed)
    if image is None:
        return None
    x0, y0, x1, y1 = _region(person, *image.shape[:2])
    crop = image[y0:y1, x0:x1]
    if _outside(person.keypoints, image.shape) or not contrast(crop):
        return None
    scale = min(LONGEST / max(crop.shape[:2]), 1.0)
    small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    in_part = [_in_part(points, x0, y0, scale) for points in (person.keypoints, person.others)]
    mask = grab_mask(small, *in_part, person.unit * scale)
    return None if mask is None else (np.packbits(mask).tobytes(), mask.shape)


def _outside(keypoints: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a keypoint of the body is not in the picture, which would be cut off by its border."""
    points = keypoints[5:, :2]
    return bool(((points < 1) | (points > np.array(shape[1::-1]) - 2)).any())


def contrast(image: np.ndarray) -> bool:
    """Whether enough is to be seen in an image (H, W, 3) uint8: not all dark or of one colour."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return float(grey.std()) > 14 and float(grey.mean()) > 18


def _in_part(keypoints: np.ndarray, x0: float, y0: float, scale: float) -> np.ndarray:
    """(..., 17, 3) in pixels of a part that begins at x0, y0 and is scaled."""
    out = keypoints.astype(float)
    out[..., :2] = (out[..., :2] - [x0, y0] + 0.5) * scale - 0.5
    return out


def cut_out(person: Person) -> Cutout | None:
    """The person with a mask whose edge is soft; None where there is no credible one, or the photograph is of no use.

    An annotated outline is taken as it is.
    """
    image = whole_image(person.image, person.listed)
    if image is None:
        return None
    height, width = image.shape[:2]
    x0, y0, x1, y1 = _region(person, height, width)
    if min(x1 - x0, y1 - y0) < LEAST_SIDE:
        return None
    if person.annotation is not None:
        try:
            mask = runs_mask(outline_runs(person.annotation, height, width), height, width)[y0:y1, x0:x1].astype(np.float32)
        except UserError:
            return None
        if not mask.any():
            return None
    else:
        packed = _packed_mask(person)
        if packed is None:
            return None
        bits, (rows, columns) = packed
        small = np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * columns).reshape(rows, columns)
        mask = cv2.resize(small.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.012 * person.unit, 0.6))
    soft = np.clip((soft - 0.4) * 2.5, 0, 1)  # a little inwards: at the edge colours are mixed
    keypoints = _in_part(person.keypoints, x0, y0, 1.0)
    return Cutout(image[y0:y1, x0:x1], np.round(soft * 255).astype(np.uint8), keypoints, person.unit)
