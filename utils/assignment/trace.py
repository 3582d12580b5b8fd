"""Keypoints without a peak, found by following limbs to their ends."""

from __future__ import annotations

import numpy as np

from config.skeleton import Skeleton
from config.systems.simplepose_assignment import AssignmentConfig
from utils.assignment.candidates import Candidates, Limbs, MapReader, by_image, pixel_index

COARSE_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)  # directions in which a limb is looked for ...
FINE_ANGLES = np.linspace(-0.1, 0.1, 11)  # ... then directions around the best one
COARSE_RADII = np.arange(2, 13, 2)  # map pixels; most limbs are longer, and shorter ones end early
ACROSS, ALONG = 0.3, 0.6  # standard deviations of a traced end in map pixels, measured on drawn limbs
TRACE_BIAS = 0.2  # map pixels by which the run of a drawn limb ends late: rounding of its box, blur


def trace_limbs(
    maps: MapReader, candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig, limb_margin: float
) -> Candidates:
    """Keypoints without a peak, at the far ends of limbs that start at a candidate and lead to no other."""
    images, channels, h, w = maps.shape
    unused = candidates.kind[:, None, None] == skeleton.limb_ends  # (N, L, 2): this candidate is this end of this limb
    unused[limbs.start, limbs.limb, 0] = False
    unused[limbs.end, limbs.limb, 1] = False
    i, limb, side = np.nonzero(unused)
    channel = candidates.image[i] * channels + limb
    at_start = maps.values(pixel_index(candidates.x.clip(0, w - 1)[i], candidates.y.clip(0, h - 1)[i], channel, h, w))
    lit = at_start > parameters.trace_threshold
    if not lit.any():
        return candidates.take(np.zeros(0, np.intp))
    i, limb, side, channel, at_start = i[lit], limb[lit], side[lit], channel[lit], at_start[lit]
    x0, y0 = candidates.x[i], candidates.y[i]

    def along(angle: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Along rays at angles (T or 1, A): sum of the responses, and count of radii, until one falls below half of the start's."""
        x = x0[:, None, None] + np.cos(angle)[..., None] * radius
        y = y0[:, None, None] + np.sin(angle)[..., None] * radius
        # A ray that leaves the map goes on with the response at the border; an end out there is refused below.
        response = maps.values(pixel_index(x.clip(0, w - 1, out=x), y.clip(0, h - 1, out=y), channel[:, None, None], h, w))
        response = np.minimum(response, 1)
        run = np.logical_and.accumulate(response > 0.5 * at_start[:, None, None], 2)
        return (response * run).sum(2), run.sum(2)

    total, _ = along(COARSE_ANGLES[None], COARSE_RADII)
    fine = COARSE_ANGLES[total.argmax(1)][:, None] + FINE_ANGLES
    total, _ = along(fine, np.arange(2, parameters.trace_length + 1, 3))
    weight = np.maximum(total - 0.9 * total.max(1, keepdims=True), 1e-9)
    angle = (fine * weight).sum(1) / weight.sum(1)
    total, run = along(angle[:, None], np.arange(1, parameters.trace_length + 1))
    response, length = total[:, 0] / np.maximum(run[:, 0], 1), run[:, 0]
    ux, uy = np.cos(angle), np.sin(angle)
    length = length - limb_margin / np.maximum(abs(ux), abs(uy)) - TRACE_BIAS  # the box is grown along the axes

    kind = skeleton.limb_ends[limb, 1 - side]
    image, x, y = candidates.image[i], x0 + length * ux, y0 + length * uy
    inside = (length > 0) & (x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5)
    ends = Candidates(image, kind, x, y, parameters.trace_score * response)
    found = []
    # Image by image: what is compared with everything else must not grow with the square of the batch
    for mine, peaks in zip(by_image(image, images), by_image(candidates.image, images)):
        here = ends.take(mine)
        new = inside[mine] & ~_is_known(here, candidates.take(peaks), parameters.trace_distance)
        found.append(_merge_ends(here.take(new), ux[mine][new], uy[mine][new], parameters.trace_distance))
    return found[0] if images == 1 else Candidates(*map(np.concatenate, zip(*(vars(some).values() for some in found))))


def _is_known(ends: Candidates, candidates: Candidates, distance: float) -> np.ndarray:
    """(N,) bool: whether there is a candidate of the same kind at each end. All are of one image."""
    near = np.hypot(ends.x[:, None] - candidates.x, ends.y[:, None] - candidates.y) < distance
    return (near & (ends.kind[:, None] == candidates.kind)).any(1)


def _merge_ends(ends: Candidates, ux: np.ndarray, uy: np.ndarray, distance: float) -> Candidates:
    """Ends of several limbs at one keypoint -> one candidate at their mean, weighted by how well each knows x and y. All are of one image.

    ux, uy: (N,) direction of each end's limb; an end is known better across its limb than along it.
    """
    if not len(ends):
        return ends
    across, along = ACROSS**-2, ALONG**-2
    xx, xy, yy = across * uy**2 + along * ux**2, (along - across) * ux * uy, across * ux**2 + along * uy**2
    same = ends.kind[:, None] == ends.kind
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
    return Candidates(ends.image[lead], ends.kind[lead], x, y, score.astype(np.float32))
