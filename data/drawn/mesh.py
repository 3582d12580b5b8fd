"""Bodies and things as tubes of rings, and the tubes as one net of triangles.

Every tube has RINGS rings of COLUMNS points, so that all of them are computed at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

RINGS, COLUMNS = 16, 17  # the last column is the first once more
THIN_BELOW = 8  # pixels: the net of a thinner tube has every second ring and column only
EVEN = np.linspace(0, 1, RINGS - 2)
ANGLES = np.linspace(-np.pi, np.pi, COLUMNS)  # 0 is the front


@dataclass(frozen=True)
class Tube:
    """Ring k is centres[k] + sin(angle) across[k] + cos(angle) deep[k]; from ring to ring is across x deep's third direction.

    centres, across, deep (K, 3) in statures; along (K,) the place on the tube in statures; material and label (K,) of what follows ring k.
    square: 1 for round rings, less for boxes.
    """

    centres: np.ndarray
    across: np.ndarray
    deep: np.ndarray
    along: np.ndarray
    material: np.ndarray
    label: np.ndarray
    square: float = 1.0


@dataclass(frozen=True)
class Mesh:
    """points, normals (V, 3); uv (V, 3): angle round the tube, place along it and radius; triangles (T, 3); material, label (T,)."""

    points: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray
    material: np.ndarray
    label: np.ndarray


def tube(
    start: np.ndarray,
    end: np.ndarray,
    left: np.ndarray,
    profile: np.ndarray,
    material: int,
    label: int,
    square: float = 1.0,
    bow: np.ndarray | float = 0.0,
) -> Tube:
    """A straight tube. profile (N, 3): place from start (0) to end (1), half width towards `left`, half depth; it is closed at both ends.

    bow (3,): how far the middle of the tube is pushed aside.
    """
    places = np.interp(EVEN, np.arange(len(profile)) / (len(profile) - 1), profile[:, 0])
    places = np.concatenate([places[:1], places, places[-1:]])
    way = end - start
    length = np.linalg.norm(way)
    forward = way / max(length, 1e-9)
    left = left - forward * (left @ forward)
    left = left / max(np.linalg.norm(left), 1e-9)
    front = left[[1, 2, 0]] * forward[[2, 0, 1]] - left[[2, 0, 1]] * forward[[1, 2, 0]]
    width, depth = np.interp(places, profile[:, 0], profile[:, 1]), np.interp(places, profile[:, 0], profile[:, 2])
    width[[0, -1]] = depth[[0, -1]] = 0
    centres = start + places[:, None] * way + (np.sin(np.pi * places))[:, None] * bow
    kinds = np.full(RINGS, material), np.full(RINGS, label)
    return Tube(centres, width[:, None] * left, depth[:, None] * front, places * length, *kinds, square)


def box(centre: np.ndarray, left: np.ndarray, down: np.ndarray, front: np.ndarray, material: int, label: int) -> Tube:
    """A box with half its edges given (3,) each."""
    width, depth = np.linalg.norm(left), np.linalg.norm(front)
    return tube(centre - down, centre + down, left, np.array([[0, width, depth], [1, width, depth]]), material, label, 0.25)


def ball(centre: np.ndarray, radius: float, frame: np.ndarray, material: int, label: int) -> Tube:
    """A ball, whose pattern is turned as the frame (3, 3) is."""
    turns = np.linspace(0, np.pi, RINGS)
    places = (1 - np.cos(turns)) / 2
    round_it = radius * np.stack([places, np.sin(turns), np.sin(turns)], 1)
    return tube(centre - radius * frame[1], centre + radius * frame[1], frame[0], np.c_[places, round_it[:, 1:]], material, label)


@cache
def _grid(step: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) triangles of one tube, of every ring and column or every second, and (T,) the ring above each.

    Seen from outside their corners run clockwise in the picture.
    """
    rings, columns = np.unique(np.append(np.arange(0, RINGS, step), RINGS - 1)), np.arange(0, COLUMNS, step)
    corner = rings[:, None] * COLUMNS + columns
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]
    triangles = np.stack([a, b, c, b, d, c], -1).reshape(-1, 3).astype(np.int32)
    return triangles, np.repeat(rings[:-1], 2 * (len(columns) - 1))


def _triangles(tubes: list[Tube], coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, 3) of all tubes, each coarse or not (B,), and their material and label (T,)."""
    material, label = (np.array([getattr(t, name) for t in tubes]) for name in ("material", "label"))
    parts = []
    for step, which in ((1, np.flatnonzero(~coarse)), (2, np.flatnonzero(coarse))):
        base, ring = _grid(step)
        triangles = base + (RINGS * COLUMNS * which.astype(np.int32))[:, None, None]
        parts.append((triangles.reshape(-1, 3), material[which][:, ring].ravel(), label[which][:, ring].ravel()))
    return tuple(np.concatenate(part) for part in zip(*parts))


def mesh_of(tubes: list[Tube], stature: float) -> Mesh:
    """One net of all tubes; what is thin at so many pixels of stature has a quarter of the triangles."""
    stacked = np.array([[t.centres, t.across, t.deep] for t in tubes])  # (B, 3, K, 3)
    square = np.array([t.square for t in tubes])[:, None, None, None]
    sin, cos = np.sin(ANGLES)[:, None], np.cos(ANGLES)[:, None]
    if (square < 1).any():
        sin, cos = np.sign(sin) * np.abs(sin) ** square, np.sign(cos) * np.abs(cos) ** square
    centres, across, deep = stacked[:, 0, :, None], stacked[:, 1, :, None], stacked[:, 2, :, None]
    points = centres + sin * across + cos * deep  # (B, K, C, 3)
    down = np.empty_like(points)
    down[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[:, 0], down[:, -1] = points[:, 1] - points[:, 0], points[:, -1] - points[:, -2]
    round_it = np.empty_like(points)
    round_it[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    round_it[:, :, 0] = round_it[:, :, -1] = points[:, :, 1] - points[:, :, -2]
    round_it[:, 0], round_it[:, -1] = round_it[:, 1], round_it[:, -2]  # at the tips the rings are points
    (ax, ay, az), (bx, by, bz) = (np.moveaxis(v, -1, 0) for v in (round_it, down))
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)
    normals /= np.sqrt(np.maximum((normals * normals) @ np.ones((3, 1)), 1e-24))
    radius = np.sqrt((stacked[:, 1] ** 2).sum(-1).max(1))[:, None, None]
    shape = points.shape[:3]
    along = np.array([t.along for t in tubes])[..., None]
    uv = np.stack([np.broadcast_to(v, shape) for v in (ANGLES, along, radius)], -1)
    triangles, material, label = _triangles(tubes, radius[:, 0, 0] * stature < THIN_BELOW)
    return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 3), triangles, material, label)
