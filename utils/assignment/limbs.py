"""Score limbs between candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from config.errors import UserError
from utils.assignment.candidates import NOT_FINITE, Candidates, HeatmapReader, Limbs, pixel_index, strongest

if TYPE_CHECKING:
    from config.skeleton import Skeleton
    from config.systems.simplepose import AssignmentConfig

CHUNK = 1 << 15  # pairs that are scored at once, which bounds the memory
FEW_PAIRS = 2000  # an image with at most so many is scored in full at once
PROBE = 0.25  # fraction of the limb threshold that a single sample in the middle of each third must reach


def score_limbs(maps: HeatmapReader, candidates: Candidates, skeleton: Skeleton, parameters: AssignmentConfig, first: int = 0) -> Limbs:
    """Return every limb over the threshold between two candidates, of which at least one has an index of `first` or higher."""
    images, channels, h, w = maps.shape
    # A batch is scored as one image with N times as many keypoint types and limbs, so that no limb connects two images.
    group = candidates.keypoint_type + candidates.image * skeleton.num_keypoints
    a, b = (skeleton.limb_ends + skeleton.num_keypoints * np.arange(images)[:, None, None]).reshape(-1, 2).T
    planes = (np.arange(skeleton.num_limbs) + channels * np.arange(images)[:, None]).ravel()
    position = np.clip([candidates.x, candidates.y], 0, [[w - 1], [h - 1]])
    # One sample, then three, exclude nearly all pairs of a crowd. Each image decides alone, so that its batch does not change it.
    threshold = PROBE * parameters.limb_threshold
    every, old = (np.bincount(group[:end], minlength=images * skeleton.num_keypoints) for end in (len(group), first))
    crowded = (every[a] * every[b] - old[a] * old[b]).reshape(images, -1).sum(1) > FEW_PAIRS

    def likely_pairs(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (M,) limb, start and end of the pairs of some candidates. In a crowd the middle of each pair is over the threshold.

        A crowd has a million pairs. They are counted, by limb, then start, then end, and only the likely ones are written down.
        """
        starts, ends = (some[np.argsort(group[some], kind="stable")] for some in (starts, ends))
        first_start, last_start = (np.searchsorted(group[starts], a, side) for side in ("left", "right"))
        first_end, last_end = (np.searchsorted(group[ends], b, side) for side in ("left", "right"))
        count = (last_start - first_start) * (last_end - first_end)
        last = np.cumsum(count)
        keep = np.ones(count.sum(), bool)
        for n in np.flatnonzero(np.repeat(crowded, skeleton.num_limbs) & (count > 0)):
            start, end = position[:, starts[first_start[n] : last_start[n]]], position[:, ends[first_end[n] : last_end[n]]]
            x, y = (start[..., None] + end[:, None]) / 2
            keep[last[n] - count[n] : last[n]] = maps.values(pixel_index(x, y, planes[n], h, w).ravel()) > threshold
        pair = np.flatnonzero(keep)
        limb = np.searchsorted(last, pair, side="right")
        i, j = np.divmod(pair - (last - count)[limb], (last_end - first_end)[limb])
        return limb, starts[first_start[limb] + i], ends[first_end[limb] + j]

    def score(limb: np.ndarray, start: np.ndarray, end: np.ndarray, samples: int) -> np.ndarray:
        """Score pairs from samples in the middles of equal pieces of the line between their ends."""
        steps = (np.arange(samples) + 0.5) / samples
        scores = [np.zeros(0, np.float32)]
        for n in range(0, len(limb), CHUNK):
            origin = position[:, start[n : n + CHUNK]]
            offset = position[:, end[n : n + CHUNK]] - origin
            x, y = origin[..., None] + offset[..., None] * steps
            scores.append(maps.weakest_third(pixel_index(x, y, planes[limb[n : n + CHUNK], None], h, w)))
        return np.concatenate(scores)

    index = np.arange(len(candidates))
    likely = [likely_pairs(index[first:], index)] + ([likely_pairs(index[:first], index[first:])] if first else [])
    limb, start, end = (np.concatenate(parts) for parts in zip(*likely))
    if crowded.any():
        keep = ~crowded[candidates.image[start]]
        crowd = np.flatnonzero(~keep)
        probe = score(limb[crowd], start[crowd], end[crowd], 3)
        crowd, probe = crowd[probe > threshold], probe[probe > threshold]
        probed = Limbs(limb[crowd], start[crowd], end[crowd], probe)
        keep[crowd[_best_at_ends(probed, candidates, 2 * parameters.max_rivals)]] = True
        limb, start, end = limb[keep], start[keep], end[keep]
    scores = score(limb, start, end, parameters.limb_samples)
    if not np.isfinite(scores).all():
        raise UserError(NOT_FINITE)
    keep = scores > parameters.limb_threshold
    return Limbs(limb[keep] % skeleton.num_limbs, start[keep], end[keep], scores[keep])


def suppress_competing_limbs(limbs: Limbs, candidates: Candidates, skeleton: Skeleton, parameters: AssignmentConfig) -> Limbs:
    """Drop the limbs that are weak beside another limb of their start and beside another limb of their end."""
    at_start = limbs.start * skeleton.num_limbs + limbs.limb
    at_end = limbs.end * skeleton.num_limbs + limbs.limb
    best_start, best_end = np.zeros((2, len(candidates) * skeleton.num_limbs), np.float32)
    np.maximum.at(best_start, at_start, limbs.score)
    np.maximum.at(best_end, at_end, limbs.score)
    keep = limbs.score >= parameters.limb_rival * np.minimum(best_start[at_start], best_end[at_end])
    keep &= _best_at_ends(limbs, candidates, parameters.max_rivals)
    return limbs if keep.all() else limbs.take(keep)


def _best_at_ends(limbs: Limbs, candidates: Candidates, count: int) -> np.ndarray:
    """Return a mask of the limbs that are among the best `count` of their type at both ends; of all, unless an image has very many."""
    image = candidates.image[limbs.start]
    peaks = np.bincount(candidates.image)
    noisy = np.bincount(image, minlength=len(peaks)) > count * peaks  # where every pair looks like a limb
    keep = ~noisy[image]
    if not keep.all():
        crowd = np.flatnonzero(~keep)
        few = limbs.take(crowd)
        best = [strongest(end * (few.limb.max() + 1) + few.limb, few.score, count) for end in (few.start, few.end)]
        keep[crowd] = best[0] & best[1]
    return keep
