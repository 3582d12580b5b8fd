"""Triangles to pixels, all at once, with a depth buffer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_CANDIDATES = 1_500_000  # pixels of the triangles' boxes that are looked at in one go


@dataclass(frozen=True)
class Surface:
    """What is seen: for each covered pixel (N,) its row and column, the triangle, the weights (N, 3) of its corners, and the depth (N,)."""

    rows: np.ndarray
    columns: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray


def rasterised(points: np.ndarray, depth: np.ndarray, triangles: np.ndarray, height: int, width: int) -> Surface:
    """points (V, 2) x, y in pixels, depth (V,) larger when nearer, triangles (T, 3); a pixel is where its middle is."""
    x, y = (points[:, i].astype(np.float32)[triangles.T] for i in (0, 1))  # (3, T)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    kept = np.flatnonzero(area > 1e-5)
    x, y = x[:, kept], y[:, kept]
    left, right = np.ceil(_least(x) - 0.5).astype(np.int32), np.floor(-_least(-x) - 0.5).astype(np.int32)
    top, bottom = np.ceil(_least(y) - 0.5).astype(np.int32), np.floor(-_least(-y) - 0.5).astype(np.int32)
    left, right = np.maximum(left, 0), np.minimum(right, width - 1)
    top, bottom = np.maximum(top, 0), np.minimum(bottom, height - 1)
    inside = np.flatnonzero((right >= left) & (bottom >= top))
    kept, x, y, left, top = kept[inside], x[:, inside], y[:, inside], left[inside], top[inside]
    area, wide = area[kept], right[inside] - left + 1
    count = wide * (bottom[inside] - top + 1)
    # weights of the second and third corner are b + b_x column + b_y row
    z = depth.astype(np.float32)[triangles[kept].T]
    plane = np.empty((len(kept), 9), np.float32)
    for i, (a, b) in enumerate(((2, 0), (0, 1))):
        gx, gy = (y[a] - y[b]) / area, (x[b] - x[a]) / area
        at = (0.5 + left - x[b]) * gx + (0.5 + top - y[b]) * gy
        plane[:, 3 * i], plane[:, 3 * i + 1], plane[:, 3 * i + 2] = at, gx, gy
    plane[:, 6:] = plane[:, :3] * (z[1] - z[0])[:, None] + plane[:, 3:6] * (z[2] - z[0])[:, None]
    plane[:, 6] += z[0]
    low, scale = float(depth.min()) - 0.1 * float(np.ptp(depth)), 2.0**22 / max(float(np.ptp(depth)), 1e-6)
    nearest = np.full(height * width, -1, np.int64)
    for part in np.split(np.arange(len(kept)), np.flatnonzero(np.diff(np.cumsum(count) // MOST_CANDIDATES)) + 1):
        _write_nearest(nearest, part, count[part], wide[part], left, top, plane, (low, scale, width))
    pixels = np.flatnonzero(nearest >= 0)
    owner = nearest[pixels] & 0xFFFFFF
    rows, columns = np.divmod(pixels, width)
    dx, dy, of = (columns - left[owner]).astype(np.float32), (rows - top[owner]).astype(np.float32), plane[owner]
    second, third = of[:, 0] + of[:, 1] * dx + of[:, 2] * dy, of[:, 3] + of[:, 4] * dx + of[:, 5] * dy
    depth_there = of[:, 6] + of[:, 7] * dx + of[:, 8] * dy
    return Surface(rows, columns, kept[owner], np.stack([1 - second - third, second, third], 1), depth_there)


def _least(rows: np.ndarray) -> np.ndarray:
    """(N,) of (3, N); NumPy's own reduction of three is slower."""
    return np.minimum(np.minimum(rows[0], rows[1]), rows[2])


def _write_nearest(
    nearest: np.ndarray,
    part: np.ndarray,
    count: np.ndarray,
    wide: np.ndarray,
    left: np.ndarray,
    top: np.ndarray,
    plane: np.ndarray,
    scaling: tuple[float, float, int],
) -> None:
    """Into nearest (H * W,): depth and, in the last 24 bits, the triangle, whichever is the nearest."""
    if not len(part):
        return
    low, scale, width = scaling
    owner = np.repeat(part.astype(np.int32), count)
    step = np.arange(len(owner), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    wide = wide.astype(np.float32)
    down = ((step + np.float32(0.5)) / np.repeat(wide, count)).astype(np.int32)
    across = step - down * np.repeat(wide.astype(np.int32), count)
    dx, dy = across.astype(np.float32), down.astype(np.float32)
    of = plane.T
    second = of[0][owner] + of[1][owner] * dx + of[2][owner] * dy
    third = of[3][owner] + of[4][owner] * dx + of[5][owner] * dy
    inside = np.flatnonzero((second >= -1e-5) & (third >= -1e-5) & (second + third <= 1 + 1e-5))
    owner, dx, dy = owner[inside], dx[inside], dy[inside]
    z = of[6][owner] + of[7][owner] * dx + of[8][owner] * dy
    key = (((z - low) * scale).astype(np.int64) << 24) | owner
    at = (down[inside] + top[owner]) * width + across[inside] + left[owner]
    np.maximum.at(nearest, at, key)
