"""Maps to people: peaks, the evidence of limbs between them, missed keypoints at the ends of limbs, then assembly.

Everything up to the assembly works on a whole batch at once, and looks at the maps only through a `MapReader`: in NumPy here, on a
device in `device_maps.py`. Who belongs together is decided in `assembly.py`. Positions are in map pixels, so that no
map is ever resized.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from config.errors import UserError
from config.skeleton import Skeleton
from config.systems.simplepose import Channels
from config.systems.simplepose_assignment import AssignmentConfig
from utils.assignment.assembly import assemble
from utils.assignment.published import assign_published

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
COARSE_ANGLES = np.linspace(0, 2 * np.pi, 32, endpoint=False)  # directions in which a limb is looked for ...
FINE_ANGLES = np.linspace(-0.1, 0.1, 11)  # ... then directions around the best one
COARSE_RADII = np.arange(2, 13, 2)  # map pixels; most limbs are longer, and shorter ones end early
ACROSS, ALONG = 0.3, 0.6  # standard deviations of a traced end in map pixels, measured on drawn limbs
TRACE_BIAS = 0.2  # map pixels by which the run of a drawn limb ends late: rounding of its box, blur
CHUNK = 1 << 15  # pairs that are scored at once, which bounds the memory
FEW_PAIRS = 2000  # so few in an image are scored in full without a first look
PROBE = 0.25  # part of the limb threshold that a single sample in the middle of each third must reach
BROKEN = "the maps hold NaN or infinite values: the network's weights or its input are broken"
LEAST = 1e-3  # responses are raised to this before their logarithm is taken


@dataclass(frozen=True)
class Candidates:
    """N keypoints that may be somebody's. Sub-pixel x, y in map pixels; score is the response, 0 to 1."""

    image: np.ndarray  # (N,) number in the batch
    kind: np.ndarray  # (N,) keypoint number in the skeleton
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, which: np.ndarray) -> Candidates:
        """The candidates of an index or a mask."""
        return Candidates(*(array[which] for array in vars(self).values()))

    def joined(self, more: Candidates) -> Candidates:
        """These candidates, then more."""
        return Candidates(*map(np.concatenate, zip(vars(self).values(), vars(more).values())))


@dataclass(frozen=True)
class Limbs:
    """M limbs between candidates `start` and `end` (numbers into Candidates), with the evidence that they are there, 0 to 1."""

    limb: np.ndarray  # (M,) limb number in the skeleton
    start: np.ndarray
    end: np.ndarray
    evidence: np.ndarray

    def take(self, which: np.ndarray) -> Limbs:
        """The limbs of an index or a mask."""
        return Limbs(*(array[which] for array in vars(self).values()))

    def joined(self, more: Limbs) -> Limbs:
        """These limbs, then more."""
        return Limbs(*map(np.concatenate, zip(vars(self).values(), vars(more).values())))


class MapReader(Protocol):
    """What assignment asks of maps (N, C, h, w), wherever they lie. `index` counts their values in that order."""

    shape: tuple[int, int, int, int]

    def peaks(self, skeleton: Skeleton, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """(P,) index of each 3 x 3 maximum above `threshold` in a keypoint channel, and (P, 9) the responses around it, row by row."""

    def values(self, index: np.ndarray) -> np.ndarray:
        """The responses at any array of indices."""

    def weakest_third(self, index: np.ndarray) -> np.ndarray:
        """(M, S) indices along M limbs -> (M,) the least mean response of a third."""


class ArrayMaps:
    """A `MapReader` of one image's maps (C, h, w) in NumPy."""

    def __init__(self, maps: np.ndarray):
        self.shape = (1, *maps.shape)
        self.flat = np.ascontiguousarray(maps, np.float32).reshape(-1)

    def peaks(self, skeleton: Skeleton, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        _, _, h, w = self.shape
        keypoints = Channels(skeleton).keypoints
        first = keypoints.start * h * w
        limbs, flat = self.flat[:first], self.flat[first : keypoints.stop * h * w]
        index = _not_below(flat, threshold)
        value = flat[index]
        # Reading the maps takes a good part of the whole time, so each is read once: limbs by a minimum, which NaN survives
        if not (np.isfinite(limbs.min(initial=0)) and np.isfinite(value).all()):
            raise UserError(BROKEN)
        # Of equal neighbours the first is the peak: a keypoint in the middle of two pixels gives both the same response.
        # One axis after the other, which leaves few pixels for the next step.
        column = index % w
        keep = (value > flat.take(index - 1, mode="clip")) | (column == 0)
        keep &= (value >= flat.take(index + 1, mode="clip")) | (column == w - 1)
        index, value = index[keep], value[keep]
        row = index // w % h
        keep = (value > flat.take(index - w, mode="clip")) | (row == 0)
        keep &= (value >= flat.take(index + w, mode="clip")) | (row == h - 1)
        index = index[keep]
        windows = self._windows(flat, index, h, w)
        centre = windows[:, 4:5]
        keep = (centre > windows[:, :4]).all(1) & (centre >= windows[:, 5:]).all(1)
        return index[keep] + first, windows[keep]

    @staticmethod
    def _windows(flat: np.ndarray, index: np.ndarray, h: int, w: int) -> np.ndarray:
        """(P, 9) responses around each pixel; -1 outside of the map."""
        around = np.array([-w - 1, -w, -w + 1, -1, 0, 1, w - 1, w, w + 1])
        windows = flat.take(index[:, None] + around, mode="clip")
        row, column = index // w % h, index % w
        for edge, outside in ((row == 0, [0, 1, 2]), (row == h - 1, [6, 7, 8]), (column == 0, [0, 3, 6]), (column == w - 1, [2, 5, 8])):
            if edge.any():
                windows[np.ix_(edge, outside)] = -1
        return windows

    def values(self, index: np.ndarray) -> np.ndarray:
        return self.flat.take(index)

    def weakest_third(self, index: np.ndarray) -> np.ndarray:
        count, samples = index.shape
        return self.flat.take(index).reshape(count, 3, samples // 3).mean(2).min(1)


def _not_below(flat: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of the values that are not at most `threshold`: those above it, and NaN."""
    # Few pixels are above: eight comparisons are looked at as one word, which halves the time of a plain flatnonzero.
    below = np.empty(-(-flat.size // 8) * 8, bool)
    below[flat.size :] = True
    np.less_equal(flat, threshold, out=below[: flat.size])
    words = below.view(np.uint64)
    mixed = np.flatnonzero(words != 0x0101010101010101)
    word, byte = np.nonzero(~below.reshape(-1, 8)[mixed])
    return mixed[word] * 8 + byte


def without_collection(assign: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same without a round of the garbage collector, which walks every object of the program: 20 ms in the middle of a frame where
    COCO's annotations are loaded. Assignment makes no cycles, so that reference counts free everything that it leaves."""

    @wraps(assign)
    def uninterrupted(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not gc.isenabled():  # the caller's wish, or another thread is here too
            return assign(*args, **kwargs)
        gc.disable()
        try:
            return assign(*args, **kwargs)
        finally:
            gc.enable()

    return uninterrupted


@without_collection
def assign_people(
    maps: np.ndarray,
    skeleton: Skeleton,
    parameters: AssignmentConfig,
    image_size: tuple[int, int],
    map_to_image: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """The people in one image, best first.

    maps: (C, h, w) float32, limb channels, then keypoint channels; the last two (person mask, keypoint maximum) may be left out.
    image_size: (height, width) in pixels. map_to_image: (sx, sy), image x = (map x + 0.5) * sx - 0.5.
    Returns keypoints (P, K, 3) x, y, score in image pixels (0, 0, 0 where missing) and scores (P,), 0 to 1 as far as responses are.
    UserError where the maps have another skeleton's shape, or hold NaN or an infinity that matters.
    """
    maps = np.asarray(maps)
    check_shape(maps.shape[-3:] if maps.ndim == 3 else maps.shape, skeleton)
    if parameters.preset == "published":
        return assign_published(maps, skeleton, parameters, image_size, map_to_image)
    return assign_batch(ArrayMaps(maps), skeleton, parameters, [map_to_image])[0]


def check_shape(shape: tuple[int, ...], skeleton: Skeleton) -> None:
    """UserError unless (C, h, w) has the skeleton's channels, with or without the last two."""
    channels = Channels(skeleton)
    expected = channels.keypoints.stop, channels.count
    if len(shape) != 3 or shape[0] not in expected or 0 in shape:
        needed = f"{expected[1]} channels ({expected[0]} will do)"
        raise UserError(f"maps of shape {tuple(shape)}: skeleton {skeleton.name!r} needs {needed}, height and width")


def assign_batch(
    maps: MapReader, skeleton: Skeleton, parameters: AssignmentConfig, map_to_images: list[tuple[float, float]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Keypoints and scores of each image of a batch, as `assign_people` returns them."""
    candidates = find_peaks(maps, skeleton, parameters)
    limbs = score_limbs(maps, candidates, skeleton, parameters)
    if parameters.trace:
        traced = trace_limbs(maps, candidates, limbs, skeleton, parameters)
        if len(traced):
            first = len(candidates)
            candidates = candidates.joined(traced)
            limbs = limbs.joined(score_limbs(maps, candidates, skeleton, parameters, first))
    limbs = drop_rivals(limbs, candidates, skeleton, parameters)
    people = []
    for image, scale in enumerate(map_to_images):
        if maps.shape[0] == 1:
            mine, my_limbs = candidates, limbs
        else:
            which = np.flatnonzero(candidates.image == image)
            mine = candidates.take(which)
            my_limbs = limbs.take(candidates.image[limbs.start] == image)
            my_limbs = Limbs(my_limbs.limb, np.searchsorted(which, my_limbs.start), np.searchsorted(which, my_limbs.end), my_limbs.evidence)
        clusters = assemble(mine, my_limbs, skeleton, parameters)
        people.append(read_people(mine, clusters, skeleton, scale))
    return people


def find_peaks(maps: MapReader, skeleton: Skeleton, parameters: AssignmentConfig) -> Candidates:
    """The keypoint channels' maxima, the strongest `max_peaks` of each, with sub-pixel positions."""
    _, channels, h, w = maps.shape
    index, windows = maps.peaks(skeleton, parameters.keypoint_threshold)
    channel, pixel = np.divmod(index, h * w)
    y, x = np.divmod(pixel, w)
    image, kind = np.divmod(channel, channels)
    kind -= Channels(skeleton).keypoints.start
    # The logarithm of a Gaussian is a parabola: its vertex is exact from three points, whatever the Gaussian's width and height.
    log = np.log(np.maximum(windows, LEAST))
    variance = parameters.keypoint_sigma**2
    dx = _vertex(log[:, 3], log[:, 4], log[:, 5], x == 0, x == w - 1, variance)
    dy = _vertex(log[:, 1], log[:, 4], log[:, 7], y == 0, y == h - 1, variance)
    found = Candidates(image, kind, x + dx, y + dy, windows[:, 4])
    if len(found) > parameters.max_peaks:
        found = found.take(_strongest(image * skeleton.num_keypoints + kind, found.score, parameters.max_peaks))
    return found


def _vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray, first: np.ndarray, last: np.ndarray, variance: float) -> np.ndarray:
    """Offset of a peak from its pixel, from logarithms; at the border, where one neighbour is missing, from the known variance."""
    offset = (after - before) / (2 * np.maximum(2 * at - before - after, 1e-6))
    if first.any() or last.any():
        offset = np.where(first, variance * (after - at) + 0.5, offset)
        offset = np.where(last, np.where(first, 0, variance * (at - before) - 0.5), offset)
    return offset.clip(-1.5, 1.5)


def _strongest(group: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Mask of the `count` highest scores of each group."""
    order = np.lexsort((-score, group))
    ordered = group[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    keep = np.zeros(len(group), bool)
    keep[order[rank < count]] = True
    return keep


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
            middle = _index(half[0, start, None] + half[0, end], half[1, start, None] + half[1, end], planes[n], h, w)
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
            found.append(maps.weakest_third(_index(x, y, planes[limb[n : n + CHUNK], None], h, w)))
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


def _index(x: np.ndarray, y: np.ndarray, channel: np.ndarray, h: int, w: int) -> np.ndarray:
    """Index of the pixel nearest to x, y, which lie inside of the map, in a channel counted over the batch."""
    index = np.rint(y)
    index *= w
    index += np.rint(x)
    index += channel * (h * w)
    return index.astype(np.intp)


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
        best = [_strongest(end * (few.limb.max() + 1) + few.limb, few.evidence, count) for end in (few.start, few.end)]
        keep[some] = best[0] & best[1]
    return keep


def trace_limbs(maps: MapReader, candidates: Candidates, limbs: Limbs, skeleton: Skeleton, parameters: AssignmentConfig) -> Candidates:
    """Keypoints without a peak, at the far ends of limbs that start at a candidate and lead to no other."""
    _, channels, h, w = maps.shape
    unused = candidates.kind[:, None, None] == skeleton.limb_ends  # (N, L, 2): this candidate is this end of this limb
    unused[limbs.start, limbs.limb, 0] = False
    unused[limbs.end, limbs.limb, 1] = False
    i, limb, side = np.nonzero(unused)
    channel = candidates.image[i] * channels + limb
    at_start = maps.values(_index(candidates.x.clip(0, w - 1)[i], candidates.y.clip(0, h - 1)[i], channel, h, w))
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
        response = maps.values(_index(x.clip(0, w - 1, out=x), y.clip(0, h - 1, out=y), channel[:, None, None], h, w))
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
    length = length - parameters.limb_margin / np.maximum(abs(ux), abs(uy)) - TRACE_BIAS  # the box is grown along the axes

    kind = skeleton.limb_ends[limb, 1 - side]
    image, x, y = candidates.image[i], x0 + length * ux, y0 + length * uy
    near = np.hypot(x[:, None] - candidates.x, y[:, None] - candidates.y) < parameters.trace_distance
    known = (near & (kind[:, None] == candidates.kind) & (image[:, None] == candidates.image)).any(1)
    good = (length > 0) & (x > -0.5) & (x < w - 0.5) & (y > -0.5) & (y < h - 0.5) & ~known
    ends = Candidates(image, kind, x, y, parameters.trace_score * response).take(good)
    return _merge_ends(ends, ux[good], uy[good], parameters.trace_distance)


def _merge_ends(ends: Candidates, ux: np.ndarray, uy: np.ndarray, distance: float) -> Candidates:
    """Ends of several limbs at one keypoint -> one candidate at their mean, weighted by how well each knows x and y.

    ux, uy: (N,) direction of each end's limb; an end is known better across its limb than along it.
    """
    if not len(ends):
        return ends
    across, along = ACROSS**-2, ALONG**-2
    xx, xy, yy = across * uy**2 + along * ux**2, (along - across) * ux * uy, across * ux**2 + along * uy**2
    same = (ends.kind[:, None] == ends.kind) & (ends.image[:, None] == ends.image)
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


def read_people(
    candidates: Candidates, clusters: list[list[int]], skeleton: Skeleton, map_to_image: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of candidates -> keypoints (P, K, 3) in image pixels and scores (P,), best first.

    A person's score is the sum of its responses over the skeleton's number of keypoints: many sure keypoints rank above few.
    """
    sizes = [len(cluster) for cluster in clusters]
    row = np.repeat(np.arange(len(clusters)), sizes)
    member = np.array([candidate for cluster in clusters for candidate in cluster], np.intp)
    keypoints = np.zeros((len(clusters), skeleton.num_keypoints, 3), np.float32)
    kind, score = candidates.kind[member], candidates.score[member]
    keypoints[row, kind, 0] = (candidates.x[member] + 0.5) * map_to_image[0] - 0.5
    keypoints[row, kind, 1] = (candidates.y[member] + 0.5) * map_to_image[1] - 0.5
    keypoints[row, kind, 2] = score
    scores = keypoints[..., 2].sum(1) / skeleton.num_keypoints
    order = np.argsort(-scores, kind="stable")
    return keypoints[order], scores[order]
