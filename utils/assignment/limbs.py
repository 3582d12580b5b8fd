"""Score limbs between candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from config.errors import UserError
from config.skeleton import Skeleton
from config.systems.simplepose import AssignmentConfig
from utils.assignment.candidates import NOT_FINITE, Candidates, HeatmapReader, Limbs, pixel_index, strongest

CHUNK = 1 << 15  # pairs that are scored at once, which bounds the memory
FEW_PAIRS = 2000  # an image with at most so many is scored in full at once
PROBE = 0.25  # fraction of the limb threshold that a single sample in the middle of each third must reach


@dataclass(frozen=True)
class Pairs:
    """All limbs that could lie between some starts and some ends, counted by limb, then start, then end.

    A crowd has a million of them. A look at their middles excludes nearly all before anything else is written down.
    """

    starts: np.ndarray  # (S,) candidate indices, one keypoint type after the other
    ends: np.ndarray
    first_start: np.ndarray  # (L,) where each limb's starts begin in `starts`
    first_end: np.ndarray
    count: np.ndarray  # (L,) pairs of each limb
    num_ends: np.ndarray  # (L,) ends of each limb

    @classmethod
    def between(cls, starts: np.ndarray, ends: np.ndarray, group: np.ndarray, limb_ends: np.ndarray) -> Pairs:
        """starts, ends: candidate indices. group: (N,) keypoint type of each candidate. limb_ends: (L, 2) types at a limb's two ends."""
        a, b = limb_ends.T
        groups = limb_ends.max(initial=-1) + 1
        at_start, at_end = group[starts], group[ends]
        num_starts, num_ends = np.bincount(at_start, minlength=groups), np.bincount(at_end, minlength=groups)
        first_start, first_end = np.cumsum(num_starts) - num_starts, np.cumsum(num_ends) - num_ends
        starts, ends = starts[np.argsort(at_start, kind="stable")], ends[np.argsort(at_end, kind="stable")]
        return cls(starts, ends, first_start[a], first_end[b], num_starts[a] * num_ends[b], num_ends[b])

    def likely(
        self, crowded: np.ndarray, maps: HeatmapReader, position: np.ndarray, planes: np.ndarray, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (M,) limb, start and end of each pair. Of the `crowded` limbs (L,) keep only pairs whose middle is over `threshold`.

        position: (2, N) x, y of the candidates. planes: (L,) channel of each limb, counted over the batch.
        """
        last = np.cumsum(self.count)
        pair = np.arange(last[-1] if len(last) else 0)
        if crowded.any():
            keep = np.ones(len(pair), bool)
            keep[np.repeat(crowded, self.count)] = maps.values(self._middles(crowded, maps, position, planes)) > threshold
            pair = pair[keep]
        limb = np.searchsorted(last, pair, side="right")
        i, j = np.divmod(pair - (last - self.count)[limb], self.num_ends[limb])
        return limb, self.starts[self.first_start[limb] + i], self.ends[self.first_end[limb] + j]

    def _middles(self, limbs: np.ndarray, maps: HeatmapReader, position: np.ndarray, planes: np.ndarray) -> np.ndarray:
        """Return the index of the pixel in the middle of each pair of some limbs (L,) bool."""
        _, _, h, w = maps.shape
        half = position / 2
        index, filled = np.empty(self.count[limbs].sum(), np.intp), 0
        for n in np.flatnonzero(limbs & (self.count > 0)).tolist():
            num_ends = self.num_ends[n]
            start, end = self.starts[self.first_start[n] :][: self.count[n] // num_ends], self.ends[self.first_end[n] :][:num_ends]
            middle = pixel_index(half[0, start, None] + half[0, end], half[1, start, None] + half[1, end], planes[n], h, w)
            index[filled : filled + middle.size] = middle.ravel()
            filled += middle.size
        return index


def score_limbs(maps: HeatmapReader, candidates: Candidates, skeleton: Skeleton, parameters: AssignmentConfig, first: int = 0) -> Limbs:
    """Return every limb over the threshold between two candidates, of which at least one has an index of `first` or higher."""
    images, channels, h, w = maps.shape
    ends, planes = skeleton.limb_ends, np.arange(skeleton.num_limbs)
    # A batch is scored as one image with N times as many keypoint types and limbs, so that no limb connects two images.
    group = candidates.keypoint_type
    if images > 1:
        group = group + candidates.image * skeleton.num_keypoints
        ends = (ends + skeleton.num_keypoints * np.arange(images)[:, None, None]).reshape(-1, 2)
        planes = (planes + channels * np.arange(images)[:, None]).ravel()
    every = np.arange(len(candidates))
    old, new = every[:first], every[first:]
    pairs = [Pairs.between(new, every, group, ends)] + ([Pairs.between(old, new, group, ends)] if first else [])
    position = np.stack([candidates.x, candidates.y])
    position = np.clip(position, 0, [[w - 1], [h - 1]], out=position)

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

    # One sample, then three, exclude nearly all pairs of a crowd. Each image decides alone, so that its batch does not change it.
    crowded = sum(some.count.reshape(images, -1).sum(1) for some in pairs) > FEW_PAIRS
    threshold = PROBE * parameters.limb_threshold
    likely = [some.likely(np.repeat(crowded, skeleton.num_limbs), maps, position, planes, threshold) for some in pairs]
    limb, start, end = likely[0] if len(likely) == 1 else (np.concatenate(parts) for parts in zip(*likely))
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
