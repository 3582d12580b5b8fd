"""Who is who in a video: people found in each frame get the ids of those whom they continue.

Each track is moved on to the next frame in two ways, by optical flow at its keypoints and by its speed. Somebody found continues the track
whose keypoints, moved in the better of the two ways, agree best, and whose colours do. A track that nobody is found for moves on for some
frames, less and less sure of where it is, and then ends. After Xiao, Wu, Wei (ECCV 2018), section 3.2, who have flow and OKS; the speed,
which carries people past those who hide them, and the colours are additions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from config import Skeleton
from config.schema import TrackingConfig
from utils.oks import object_keypoint_similarity

NOBODY = -1  # the id of a person without a track
FLOW_SIDE = 480  # longest side of the frame in which flow and colours are looked up, pixels
FLOW = {"winSize": (15, 15), "maxLevel": 3, "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)}
FLOW_ERROR = 1.5  # pixels of that frame: a point that flow does not bring back to nearer than this after going forth is lost
BLUR = 5  # pixels of that frame that a colour is the mean of, across
COLOUR_WIDTH = 40.0  # levels of 255: difference of two colours whose similarity is exp(-1/2)
AREA = 0.25  # a person's area, as OKS needs it: this share of the square of the longer side, whichever way the person is turned
AREA_KEPT = 0.9  # a frame: somebody half hidden is hardly smaller
SHARED = 3  # keypoints: two poses with fewer in common agree the less
NEW = 0.3  # weight of the newest speed and colours in what a track remembers
FADING, FORGOTTEN = 0.9, 0.3  # a frame, and when: score of a keypoint of somebody found without it
SLOWER = 0.95  # a frame: speed of a track that nobody is found for
WIDER = 0.15  # of a person's extent, a frame: how much less sure it is where such a track is ...
WIDEST = 4.0  # ... up to so many times


# Pure functions on arrays


def extents(keypoints: np.ndarray) -> np.ndarray:
    """(P, 4) x, y, width, height of the keypoints (P, K, 3) that are there (score > 0); zeros where there is none."""
    there = keypoints[..., 2:] > 0
    low = np.where(there, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(there, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    return np.where(there.any(1), np.concatenate([low, high - low], 1), 0)


def pose_areas(keypoints: np.ndarray) -> np.ndarray:
    """(P,) pixels squared, of keypoints (P, K, 3)."""
    return AREA * np.square(extents(keypoints)[:, 2:].max(1, initial=0))


def pose_similarity(tracks: np.ndarray, people: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(T, P) OKS of tracks (T, K, 3) with people (P, K, 3) by the keypoints that both have; less where those are few.

    areas (T,) pixels squared; sigmas (K,).
    """
    present = people[..., 2] > 0
    similarity = object_keypoint_similarity(people, tracks, areas, extents(tracks), sigmas, present).T
    shared = (tracks[..., 2] > 0).astype(float) @ present.T
    return similarity * np.minimum(shared / min(SHARED, len(sigmas)), 1)


def box_similarity(tracks: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(T, P) intersection over union of the boxes around tracks (T, K, 3) and people (P, K, 3)."""
    a, b = extents(tracks)[:, None], extents(people)[None]
    overlap = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.maximum(overlap, 0).prod(-1)
    return both / np.maximum(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both, np.spacing(1))


def colour_similarity(tracks: np.ndarray, people: np.ndarray) -> np.ndarray:
    """(T, P) in 0 to 1 by the median difference of colours (T, S, 3), (P, S, 3) at the places that both have; NaN at the others.

    1 / 2, which says nothing, where there is no such place.
    """
    difference = np.abs(tracks[:, None] - people[None]).mean(-1)
    known = np.isfinite(difference)
    middle = np.sort(np.where(known, difference, np.inf), -1)
    count = known.sum(-1)
    median = np.take_along_axis(middle, np.maximum(count - 1, 0)[..., None] // 2, -1)[..., 0] if middle.shape[-1] else np.zeros_like(count)
    return np.where(count > 0, np.exp(-np.square(median / COLOUR_WIDTH) / 2), 0.5)


def matched(similarity: np.ndarray, allowed: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (M,) of the pairs of a similarity (T, P) in 0 to 1 where `allowed` (T, P), none of them twice."""
    if method == "hungarian":
        from scipy.optimize import linear_sum_assignment  # slow to import, and most pictures are not tracked

        # a pair that is not allowed is worth nothing, so it is in the answer only where nothing else is left
        rows, columns = linear_sum_assignment(np.where(allowed, similarity, 0), maximize=True)
        keep = allowed[rows, columns]
        return rows[keep], columns[keep]
    rows, columns = np.nonzero(allowed)
    order = np.argsort(-similarity[rows, columns], kind="stable")
    free_rows, free_columns, pairs = np.ones(len(similarity), bool), np.ones(similarity.shape[1], bool), []
    for row, column in zip(rows[order], columns[order]):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    rows, columns = np.array(pairs, np.intp).reshape(-1, 2).T
    return rows, columns


def flow_at(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How points (N, 2) x, y of a grey frame (h, w) uint8 move to the next: (N, 2), and (N,) bool whether that can be trusted.

    Pyramidal Lucas-Kanade, forth and back.
    """
    if not len(points):
        return np.zeros((0, 2)), np.zeros(0, bool)
    start = points.astype(np.float32)[:, None]
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, **FLOW)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, None, **FLOW)
    good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (np.linalg.norm(back - start, axis=2)[:, 0] < FLOW_ERROR)
    return (moved - start)[:, 0].astype(float), good


def moved_by_flow(keypoints: np.ndarray, before: np.ndarray, after: np.ndarray, scale: float, otherwise: np.ndarray) -> np.ndarray:
    """Keypoints (T, K, 3) in the next frame; grey frames (h, w) are `scale` times as large as the one that keypoints are in.

    Where flow is not to be trusted, a keypoint moves as the middle one of the person's others does; where there is none, by
    `otherwise` (T, 2).
    """
    there = keypoints[..., 2] > 0
    step, good = np.zeros((*there.shape, 2)), np.zeros(there.shape, bool)
    step[there], good[there] = flow_at(before, after, keypoints[there][:, :2] * scale)
    middle = np.array([np.median(s[g], 0) / scale if g.any() else other for s, g, other in zip(step, good, otherwise)]).reshape(-1, 2)
    out = keypoints.copy()
    out[..., :2] += np.where(good[..., None], step / scale, middle[:, None]) * there[..., None]
    return out


def completed(keypoints: np.ndarray, remembered: np.ndarray, step: np.ndarray) -> np.ndarray:
    """People (M, K, 3), where keypoints are missing with those remembered of them (M, K, 3), moved by `step` (M, 2), for a while.

    The score says for how long: it falls with every frame, and below FORGOTTEN a keypoint is missing.
    """
    moved = remembered + np.nan_to_num(np.pad(step, ((0, 0), (0, 1))))[:, None]
    moved[..., 2] = np.minimum(moved[..., 2], 1) * FADING
    moved *= moved[..., 2:] >= FORGOTTEN
    return np.where(keypoints[..., 2:] > 0, keypoints, moved)


def colours_at(frame: np.ndarray, keypoints: np.ndarray, limb_ends: np.ndarray) -> np.ndarray:
    """(P, K + L, 3) BGR of the frame (h, w, 3) at keypoints (P, K, 3) and in the middle of limbs (L, 2); NaN where there are none."""
    ends = keypoints[:, limb_ends]
    middles = np.concatenate([ends[..., :2].mean(2), ends[..., 2:].min(2)], 2)
    places = np.concatenate([keypoints, middles], 1)
    column, row = np.rint(places[..., :2]).astype(int).transpose(2, 0, 1)
    height, width = frame.shape[:2]
    there = (places[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    colours = np.full((*there.shape, 3), np.nan)
    colours[there] = frame[row[there], column[there]]
    return colours


# The tracker


@dataclass
class Tracks:
    """Who is remembered, T of them, as arrays."""

    ids: np.ndarray  # (T,)
    flowed: np.ndarray  # (T, K, 3) where they are by optical flow, pixels of the frame
    coasted: np.ndarray  # (T, K, 3) where they are by their speed
    speed: np.ndarray  # (T, 2) pixels a frame
    areas: np.ndarray  # (T,) pixels squared
    colours: np.ndarray  # (T, S, 3) BGR, NaN where never seen
    missing: np.ndarray  # (T,) frames since somebody was found for them

    def some(self, chosen: np.ndarray) -> Tracks:
        """Those at `chosen`, indices or a mask."""
        return Tracks(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def and_others(self, others: Tracks) -> Tracks:
        """These, and then the others."""
        return Tracks(*(np.concatenate([getattr(self, field.name), getattr(others, field.name)]) for field in fields(self)))


class Tracker:
    """Call it with the frames of one video in their order; ids count from 0."""

    def __init__(self, skeleton: Skeleton, settings: TrackingConfig = TrackingConfig()):  # noqa: B008 (frozen)
        self.settings = settings
        self._sigmas = np.array([skeleton.sigmas[name] for name in skeleton.keypoints])
        self._limb_ends = skeleton.limb_ends
        self._started = 0  # how many tracks there were
        self._before: np.ndarray | None = None  # the last frame, small and grey
        self._tracks = self._begun(np.zeros((0, len(self._sigmas), 3)), np.zeros((0, len(self._sigmas) + len(self._limb_ends), 3)))

    def __call__(self, frame: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """ids (P,) of the people found in the next frame (H, W, 3) uint8 BGR; -1: nobody known, and too unlikely to begin a track.

        keypoints (P, K, 3) x, y, score in pixels, score 0 where missing; scores (P,).
        """
        keypoints, scores = np.asarray(keypoints, float), np.asarray(scores, float)
        small, scale = _small(frame)
        self._move(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), scale)
        colours = colours_at(cv2.blur(small, (BLUR, BLUR)), keypoints * [scale, scale, 1], self._limb_ends)
        similarity, allowed = self._similarity(keypoints, colours)
        rows, columns = matched(similarity, allowed & (scores >= self.settings.min_score), self.settings.matching)
        self._continue(rows, keypoints[columns], colours[columns])
        ids = np.full(len(keypoints), NOBODY)
        ids[columns] = self._tracks.ids[rows]
        enough = (keypoints[..., 2] > 0).sum(1) >= min(SHARED, len(self._sigmas))
        fresh = np.flatnonzero((ids == NOBODY) & (scores >= self.settings.start_score) & enough)
        others = self._begun(keypoints[fresh], colours[fresh])
        ids[fresh] = others.ids
        self._tracks = self._tracks.some(self._tracks.missing <= self.settings.keep).and_others(others)
        return ids

    def _move(self, grey: np.ndarray, scale: float) -> None:
        """All tracks to the frame of which `grey` (h, w) is a picture `scale` times as large."""
        tracks, before = self._tracks, self._before
        self._before = grey
        tracks.missing = tracks.missing + 1
        tracks.coasted[..., :2] += tracks.speed[:, None] * (tracks.coasted[..., 2:] > 0)
        if self.settings.flow and before is not None and before.shape == grey.shape:
            tracks.flowed = moved_by_flow(tracks.flowed, before, grey, scale, tracks.speed)
        else:
            tracks.flowed = tracks.coasted.copy()

    def _similarity(self, keypoints: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T, P) of the tracks with the people found, and which of them may be the same person."""
        tracks, settings = self._tracks, self.settings
        width = np.minimum(1 + WIDER * (tracks.missing - 1), WIDEST)
        ways = (tracks.flowed, tracks.coasted)
        if settings.similarity == "oks":
            place = np.maximum(*(pose_similarity(way, keypoints, tracks.areas * width**2, self._sigmas) for way in ways))
        else:
            place = np.maximum(*(box_similarity(way, keypoints) for way in ways))
        place = place / width[:, None]
        whole = (1 - settings.appearance) * place + settings.appearance * colour_similarity(tracks.colours, colours)
        return whole, place >= settings.min_similarity

    def _continue(self, rows: np.ndarray, keypoints: np.ndarray, colours: np.ndarray) -> None:
        """People found (M, K, 3) become what is known of the tracks `rows` (M,); the others slow down."""
        tracks = self._tracks
        old, age = tracks.some(rows), tracks.missing[rows]
        step = self._steps(old, keypoints)
        tracks.speed = tracks.speed * SLOWER
        tracks.speed[rows] = np.where(np.isfinite(step), old.speed + NEW * step / age[:, None], old.speed)
        whole = completed(keypoints, old.coasted, step)
        tracks.flowed[rows], tracks.coasted[rows], tracks.missing[rows] = whole, whole, 0
        tracks.areas[rows] = np.maximum(AREA_KEPT * old.areas, pose_areas(keypoints))
        mixed = old.colours + NEW * (colours - old.colours)
        tracks.colours[rows] = np.where(np.isnan(mixed), np.where(np.isnan(colours), old.colours, colours), mixed)

    @staticmethod
    def _steps(old: Tracks, keypoints: np.ndarray) -> np.ndarray:
        """(M, 2) pixels by which people are further than their speed said, by the middle keypoint of those shared; NaN: there is none."""
        both = (old.coasted[..., 2] > 0) & (keypoints[..., 2] > 0)
        ahead = keypoints[..., :2] - old.coasted[..., :2]
        return np.array([np.median(a[b], 0) if b.any() else np.full(2, np.nan) for a, b in zip(ahead, both)]).reshape(-1, 2)

    def _begun(self, keypoints: np.ndarray, colours: np.ndarray) -> Tracks:
        """Tracks of people (N, K, 3) who are new."""
        count = len(keypoints)
        ids = np.arange(self._started, self._started + count)
        self._started += count
        areas, missing = pose_areas(keypoints), np.zeros(count, int)
        return Tracks(ids, keypoints.copy(), keypoints.copy(), np.zeros((count, 2)), areas, colours.copy(), missing)


def _small(frame: np.ndarray) -> tuple[np.ndarray, float]:
    """The frame (H, W, 3) brought down to FLOW_SIDE, and its size as a share of what it was."""
    scale = min(1.0, FLOW_SIDE / max(frame.shape[:2]))
    return (frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)), scale
