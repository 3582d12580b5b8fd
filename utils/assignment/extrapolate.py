"""Extrapolate limbs: place keypoints without a peak where a limb ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utils.assignment.candidates import Candidates, HeatmapReader, Limbs, by_image, pixel_index

if TYPE_CHECKING:
    from config.skeleton import Skeleton
    from config.systems.simplepose import AssignmentConfig

COARSE_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)  # directions that are searched for a limb ...
FINE_ANGLES = np.linspace(-0.1, 0.1, 11)  # ... then directions around the best one
COARSE_RADII = np.arange(2, 13, 2)  # map pixels; most limbs are longer, and shorter ones end early
ACROSS, ALONG = 0.3, 0.6  # standard deviations of a limb's end in map pixels, measured on rendered limbs
LENGTH_BIAS = 0.2  # map pixels by which a rendered limb is measured too long: rounding of its box, blur


def extrapolate_limbs(
    maps: HeatmapReader, candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig, limb_margin: float
) -> Candidates:
    """Return candidates at the far ends of limbs that start at a candidate and lead to no other.

    limb_margin: how far a rendered limb's box reaches beyond its ends, map pixels.
    """
    images, channels, h, w = maps.shape
    unused = candidates.keypoint_type[:, None, None] == skeleton.limb_ends  # (N, L, 2): this candidate is this end of this limb
    unused[limbs.start, limbs.limb, 0] = False
    unused[limbs.end, limbs.limb, 1] = False
    i, limb, side = np.nonzero(unused)
    channel = candidates.image[i] * channels + limb
    at_start = maps.values(pixel_index(candidates.x.clip(0, w - 1)[i], candidates.y.clip(0, h - 1)[i], channel, h, w))
    on_limb = at_start > parameters.trace_threshold
    if not on_limb.any():
        return candidates.take(np.zeros(0, np.intp))
    i, limb, side, channel, at_start = i[on_limb], limb[on_limb], side[on_limb], channel[on_limb], at_start[on_limb]
    x0, y0 = candidates.x[i], candidates.y[i]

    def along(angle: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Follow rays at angles (T or 1, A) until a value falls below half of the start's. Return the values' sum and number."""
        x = x0[:, None, None] + np.cos(angle)[..., None] * radius
        y = y0[:, None, None] + np.sin(angle)[..., None] * radius
        # A ray that leaves the map continues with the border's value; an end outside is dropped below.
        value = maps.values(pixel_index(x.clip(0, w - 1, out=x), y.clip(0, h - 1, out=y), channel[:, None, None], h, w))
        value = np.minimum(value, 1)
        run = np.logical_and.accumulate(value > 0.5 * at_start[:, None, None], 2)
        return (value * run).sum(2), run.sum(2)

    total, _ = along(COARSE_ANGLES[None], COARSE_RADII)
    fine = COARSE_ANGLES[total.argmax(1)][:, None] + FINE_ANGLES
    total, _ = along(fine, np.arange(2, parameters.trace_length + 1, 3))
    weight = np.maximum(total - 0.9 * total.max(1, keepdims=True), 1e-9)
    angle = (fine * weight).sum(1) / weight.sum(1)
    total, run = along(angle[:, None], np.arange(1, parameters.trace_length + 1))
    mean, length = total[:, 0] / np.maximum(run[:, 0], 1), run[:, 0]
    ux, uy = np.cos(angle), np.sin(angle)
    length = length - limb_margin / np.maximum(abs(ux), abs(uy)) - LENGTH_BIAS  # the box is grown along the axes

    keypoint_type = skeleton.limb_ends[limb, 1 - side]
    image, x, y = candidates.image[i], x0 + length * ux, y0 + length * uy
    inside = (length > 0) & (x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5)
    ends = Candidates(image, keypoint_type, x, y, parameters.trace_score * mean)
    merged = []
    # Image by image: comparing all pairs of a batch would grow with its square
    for own_ends, own_peaks in zip(by_image(image, images), by_image(candidates.image, images)):
        own = ends.take(own_ends)
        new = inside[own_ends] & ~_near_candidate(own, candidates.take(own_peaks), parameters.trace_distance)
        merged.append(_merge_ends(own.take(new), ux[own_ends][new], uy[own_ends][new], parameters.trace_distance))
    return merged[0].append(*merged[1:])


def _near_candidate(ends: Candidates, candidates: Candidates, distance: float) -> np.ndarray:
    """Return (N,) bool: whether a candidate of the same keypoint type is near each end. All are of one image."""
    near = np.hypot(ends.x[:, None] - candidates.x, ends.y[:, None] - candidates.y) < distance
    return (near & (ends.keypoint_type[:, None] == candidates.keypoint_type)).any(1)


def _merge_ends(ends: Candidates, ux: np.ndarray, uy: np.ndarray, distance: float) -> Candidates:
    """Merge ends of several limbs at one keypoint into one candidate at their mean, weighted by the precision of each in x and y.

    All are of one image. ux, uy: (N,) direction of each end's limb; an end is more precise across its limb than along it.
    """
    if not len(ends):
        return ends
    across, along = ACROSS**-2, ALONG**-2
    xx, xy, yy = across * uy**2 + along * ux**2, (along - across) * ux * uy, across * ux**2 + along * uy**2
    same = ends.keypoint_type[:, None] == ends.keypoint_type
    same &= np.hypot(ends.x[:, None] - ends.x, ends.y[:, None] - ends.y) < distance
    group = np.full(len(ends), -1)
    for n in range(len(ends)):
        if group[n] < 0:
            group[same[n] & (group < 0)] = n
    lead = np.flatnonzero(group == np.arange(len(ends)))
    members = (lead[:, None] == group).astype(float)  # (groups, N)
    a, b, c = members @ xx, members @ xy, members @ yy
    p, q = members @ (xx * ends.x + xy * ends.y), members @ (xy * ends.x + yy * ends.y)
    determinant = a * c - b * b
    x, y = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    score = (members @ ends.score) / members.sum(1)
    return Candidates(ends.image[lead], ends.keypoint_type[lead], x, y, score.astype(np.float32))
