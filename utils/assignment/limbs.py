"""The evidence of limbs between keypoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from config.errors import UserError
from config.skeleton import Skeleton
from config.systems.simplepose_assignment import AssignmentConfig
from utils.assignment.candidates import BROKEN, Candidates, Limbs, MapReader, pixel_index, strongest

CHUNK = 1 << 15  # pairs that are scored at once, which bounds the memory
FEW_PAIRS = 2000  # so few in an image are scored in full without a first look
PROBE = 0.25  # part of the limb threshold that a single sample in the middle of each third must reach


@dataclass(frozen=True)
class Pairs:
    """All limbs that could lie between some starts and some ends, counted by limb, then start, then end.

    A crowd has a million of them, of which nearly all are sorted out by a look at their middles before anything else is written down.
    """

    starts: np.ndarray  # (S,) candidate numbers, one kind after the other
    ends: np.ndarray
    first_start: np.ndarray  # (L,) where each limb's starts begin in `starts`
    first_end: np.ndarray
    count: np.ndarray  # (L,) pairs of each limb
    wide: np.ndarray  # (L,) ends of each limb

    @classmethod
    def between(cls, starts: np.ndarray, ends: np.ndarray, group: np.ndarray, limb_ends: np.ndarray) -> Pairs:
        """starts, ends: candidate numbers. group: (N,) kind of each candidate. limb_ends: (L, 2) kinds at a limb's two ends."""
        a, b = limb_ends.T
        groups = limb_ends.max(initial=-1) + 1
        at_start, at_end = group[starts], group[ends]
        high, wide = np.bincount(at_start, minlength=groups), np.bincount(at_end, minlength=groups)
        first_start, first_end = np.cumsum(high) - high, np.cumsum(wide) - wide
        starts, ends = starts[np.argsort(at_start, kind="stable")], ends[np.argsort(at_end, kind="stable")]
        return cls(starts, ends, first_start[a], first_end[b], high[a] * wide[b], wide[b])

    def likely(
        self, crowded: np.ndarray, maps: MapReader, position: np.ndarray, planes: np.ndarray, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(M,) limb, start and end of each; of the `crowded` limbs (L,) of those alone whose middle has a response over `threshold`.

        position: (2, N) x, y of the candidates. planes: (L,) channel of each limb, counted over the batch.
        """
        last = np.cumsum(self.count)
        number = np.arange(last[-1] if len(last) else 0)
        if crowded.any():
            keep = np.ones(len(number), bool)
            keep[np.repeat(crowded, self.count)] = maps.values(self._middles(crowded, maps, position, planes)) > threshold
            number = number[keep]
        limb = np.searchsorted(last, number, side="right")
        i, j = np.divmod(number - (last - self.count)[limb], self.wide[limb])
        return limb, self.starts[self.first_start[limb] + i], self.ends[self.first_end[limb] + j]

    def _middles(self, which: np.ndarray, maps: MapReader, position: np.ndarray, planes: np.ndarray) -> np.ndarray:
        """Index of the pixel in the middle of each pair of some limbs."""
        _, _, h, w = maps.shape
        half = position / 2
        index, place = np.empty(self.count[which].sum(), np.intp), 0
        for n in np.flatnonzero(which & (self.count > 0)).tolist():
            wide = self.wide[n]
            start, end = self.starts[self.first_start[n] :][: self.count[n] // wide], self.ends[self.first_end[n] :][:wide]
            middle = pixel_index(half[0, start, None] + half[0, end], half[1, start, None] + half[1, end], planes[n], h, w)
            index[place : place + middle.size] = middle.ravel()
            place += middle.size
        return index


def score_limbs(maps: MapReader, candidates: Candidates, skeleton: Skeleton, parameters: AssignmentConfig, first: int = 0) -> Limbs:
    """Every limb with evidence between two candidates, of which at least one is numbered `first` or higher."""
    images, channels, h, w = maps.shape
    ends, planes = skeleton.limb_ends, np.arange(skeleton.num_limbs)
    # A batch is scored as one picture with N times as many keypoints and limbs, so that no limb crosses from image to image.
    group = candidates.kind
    if images > 1:
        group = group + candidates.image * skeleton.num_keypoints
        ends = (ends + skeleton.num_keypoints * np.arange(images)[:, None, None]).reshape(-1, 2)
        planes = (planes + channels * np.arange(images)[:, None]).ravel()
    everybody = np.arange(len(candidates))
    old, new = everybody[:first], everybody[first:]
    pairs = [Pairs.between(new, everybody, group, ends)] + ([Pairs.between(old, new, group, ends)] if first else [])
    position = np.stack([candidates.x, candidates.y])
    position = np.clip(position, 0, [[w - 1], [h - 1]], out=position)

    def evidence(limb: np.ndarray, start: np.ndarray, end: np.ndarray, samples: int) -> np.ndarray:
        """Of some pairs, from samples in the middles of equal pieces of the way."""
        steps = (np.arange(samples) + 0.5) / samples
        found = [np.zeros(0, np.float32)]
        for n in range(0, len(limb), CHUNK):
            here = position[:, start[n : n + CHUNK]]
            way = position[:, end[n : n + CHUNK]] - here
            x, y = here[..., None] + way[..., None] * steps
            found.append(maps.weakest_third(pixel_index(x, y, planes[limb[n : n + CHUNK], None], h, w)))
        return np.concatenate(found)

    # A look at one point, then at three, sorts out nearly all pairs of a crowd. What else is in the batch must not matter to an image.
    crowded = sum(some.count.reshape(images, -1).sum(1) for some in pairs) > FEW_PAIRS
    threshold = PROBE * parameters.limb_threshold
    found = [some.likely(np.repeat(crowded, skeleton.num_limbs), maps, position, planes, threshold) for some in pairs]
    limb, start, end = found[0] if len(found) == 1 else (np.concatenate(parts) for parts in zip(*found))
    if crowded.any():
        keep = ~crowded[candidates.image[start]]
        crowd = np.flatnonzero(~keep)
        probe = evidence(limb[crowd], start[crowd], end[crowd], 3)
        crowd, probe = crowd[probe > threshold], probe[probe > threshold]
        seen = Limbs(limb[crowd], start[crowd], end[crowd], probe)
        keep[crowd[_best_at_ends(seen, candidates, 2 * parameters.max_rivals)]] = True
        limb, start, end = limb[keep], start[keep], end[keep]
    strength = evidence(limb, start, end, parameters.limb_samples)
    if not np.isfinite(strength).all():
        raise UserError(BROKEN)
    keep = strength > parameters.limb_threshold
    return Limbs(limb[keep] % skeleton.num_limbs, start[keep], end[keep], strength[keep])


def drop_rivals(limbs: Limbs, candidates: Candidates, skeleton: Skeleton, parameters: AssignmentConfig) -> Limbs:
    """Without the limbs that are weak beside another one of their start and beside another one of their end."""
    at_start = limbs.start * skeleton.num_limbs + limbs.limb
    at_end = limbs.end * skeleton.num_limbs + limbs.limb
    best_start, best_end = np.zeros((2, len(candidates) * skeleton.num_limbs), np.float32)
    np.maximum.at(best_start, at_start, limbs.evidence)
    np.maximum.at(best_end, at_end, limbs.evidence)
    keep = limbs.evidence >= parameters.limb_rival * np.minimum(best_start[at_start], best_end[at_end])
    keep &= _best_at_ends(limbs, candidates, parameters.max_rivals)
    return limbs if keep.all() else limbs.take(keep)


def _best_at_ends(limbs: Limbs, candidates: Candidates, count: int) -> np.ndarray:
    """Mask of the limbs that are among the best `count` of a kind at both their ends; all, unless an image has very many."""
    image = candidates.image[limbs.start]
    peaks = np.bincount(candidates.image)
    noisy = np.bincount(image, minlength=len(peaks)) > count * peaks  # where every pair looks like a limb
    keep = ~noisy[image]
    if not keep.all():
        some = np.flatnonzero(~keep)
        few = limbs.take(some)
        best = [strongest(end * (few.limb.max() + 1) + few.limb, few.evidence, count) for end in (few.start, few.end)]
        keep[some] = best[0] & best[1]
    return keep
