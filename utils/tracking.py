"""Tracking: the people of each frame of a video get the identities of the tracks they continue.

Each track is moved to the next frame twice, by optical flow at its keypoints and at constant velocity. A person continues the track whose
keypoints, in the better of the two predictions, and whose colors agree best. A track without a person moves on for some frames, less and
less certain of its position, and then ends. Flow and OKS follow Xiao, Wu, Wei (ECCV 2018, section 3.2); the constant velocity, which
carries people past those who hide them, and the colors are additions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools.mask import iou

from config import Skeleton
from config.schema import TrackingConfig
from utils.boxes import extents
from utils.oks import object_keypoint_similarity
from utils.predictions import PosePredictions

NO_TRACK = -1  # the id of a person without a track
FLOW_SIDE = 480  # pixels: longest side of the frame that flow and colors are read from
FLOW = {"winSize": (15, 15), "maxLevel": 3, "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)}
FLOW_ERROR = 1.5  # pixels of that frame: largest distance from a point to where flow forward and back takes it
BLUR = 5  # pixels of that frame over which a color is averaged
COLOR_WIDTH = 40.0  # levels of 255: difference of two colors whose similarity is exp(-1/2)
AREA = 0.25  # a person's area for OKS, of the square of the longer side, so that it does not depend on how the person turns
AREA_DECAY = 0.9  # per frame: a person half hidden is hardly smaller
MIN_SHARED = 3  # keypoints: poses that share fewer are less similar
NEW_WEIGHT = 0.3  # of the newest velocity and colors in a track's average
SCORE_DECAY, MIN_REMEMBERED = 0.9, 0.3  # per frame: score of a keypoint that the person lacks; below the minimum it is forgotten
VELOCITY_DECAY = 0.95  # per frame without a person
SPREAD, MAX_SPREAD = 0.15, 4.0  # growth of the position's uncertainty per frame without a person, as a fraction; largest factor


def pose_areas(keypoints: np.ndarray) -> np.ndarray:
    """Return (P,) areas in square pixels of people (P, K, 3)."""
    return AREA * np.square(extents(keypoints)[:, 2:].max(1, initial=0))


def track_similarity(tracks: np.ndarray, people: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Return (T, P) OKS of tracks (T, K, 3) and people (P, K, 3) over the keypoints that both have, reduced where those are few.

    areas (T,) square pixels; sigmas (K,).
    """
    present = people[..., 2] > 0
    similarity = object_keypoint_similarity(people, tracks, areas, extents(tracks), sigmas, present).T
    shared = (tracks[..., 2] > 0).astype(float) @ present.T
    return similarity * np.minimum(shared / min(MIN_SHARED, len(sigmas)), 1)


def box_similarity(tracks: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Return (T, P) IoU of the boxes around tracks (T, K, 3) and people (P, K, 3)."""
    return np.reshape(iou(extents(tracks), extents(people), np.zeros(len(people), np.uint8)), (len(tracks), len(people)))


def color_similarity(tracks: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Return (T, P) in 0 to 1 by the median difference of colors (T, S, 3), (P, S, 3) over the samples that both have; NaN: none.

    1/2, which is neutral, where they share no sample.
    """
    difference = np.sort(np.abs(tracks[:, None] - people[None]).mean(-1), -1)  # NaN last
    middle = np.maximum(np.isfinite(difference).sum(-1, keepdims=True) - 1, 0) // 2
    median = np.take_along_axis(difference, middle, -1)[..., 0]
    return np.nan_to_num(np.exp(-np.square(median / COLOR_WIDTH) / 2), nan=0.5)


def colors_at(frame: np.ndarray, keypoints: np.ndarray, limb_ends: np.ndarray) -> np.ndarray:
    """Return (P, K + L, 3) BGR of a frame (h, w, 3) at keypoints (P, K, 3) and in the middle of limbs (L, 2); NaN where missing."""
    ends = keypoints[:, limb_ends]
    middles = np.concatenate([ends[..., :2].mean(2), ends[..., 2:].min(2)], 2)
    samples = np.concatenate([keypoints, middles], 1)
    column, row = np.rint(samples[..., :2]).astype(int).transpose(2, 0, 1)
    height, width = frame.shape[:2]
    inside = (samples[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    colors = np.full((*inside.shape, 3), np.nan)
    colors[inside] = frame[row[inside], column[inside]]
    return colors


def associate(similarity: np.ndarray, allowed: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns (M,) of pairs in a similarity (T, P) in 0 to 1, each at most once and only where `allowed` (T, P).

    method: "hungarian" for the largest sum, "greedy" for the most similar pair first.
    """
    if method == "hungarian":
        from scipy.optimize import linear_sum_assignment  # slow to import, and few users track

        rows, columns = linear_sum_assignment(np.where(allowed, similarity, 0), maximize=True)
        keep = allowed[rows, columns]
        return rows[keep], columns[keep]
    remaining, pairs = np.where(allowed, similarity, -1), []
    while remaining.max(initial=-1) >= 0:
        row, column = np.unravel_index(remaining.argmax(), remaining.shape)
        remaining[row], remaining[:, column] = -1, -1
        pairs.append((row, column))
    rows, columns = np.array(pairs, np.intp).reshape(-1, 2).T
    return rows, columns


def propagate_by_flow(keypoints: np.ndarray, before: np.ndarray, after: np.ndarray, scale: float, velocity: np.ndarray) -> np.ndarray:
    """Move keypoints (T, K, 3) to the next frame by pyramidal Lucas-Kanade flow between two gray frames (h, w) uint8.

    scale: of the gray frames, relative to the frame of the keypoints. A keypoint whose flow forward and back does not return moves by the
    median of the person's others; without any, by `velocity` (T, 2).
    """
    present = keypoints[..., 2] > 0
    step, reliable = np.zeros((*present.shape, 2)), np.zeros(present.shape, bool)
    if present.any():
        start = (keypoints[present][:, None, :2] * scale).astype(np.float32)
        end, forward, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, **FLOW)
        back, backward, _ = cv2.calcOpticalFlowPyrLK(after, before, end, None, **FLOW)
        step[present] = (end - start)[:, 0]
        reliable[present] = ((forward > 0) & (backward > 0) & (np.linalg.norm(back - start, axis=2) < FLOW_ERROR))[:, 0]
    medians = [np.median(s[r], 0) / scale if r.any() else v for s, r, v in zip(step, reliable, velocity)]
    out = keypoints.copy()
    out[..., :2] += np.where(reliable[..., None], step / scale, np.reshape(medians, (-1, 1, 2))) * present[..., None]
    return out


def fill_missing(keypoints: np.ndarray, remembered: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Fill keypoints that people (M, K, 3) lack with those remembered of them (M, K, 3), moved by `step` (M, 2).

    The score of a remembered keypoint decreases with each frame; below MIN_REMEMBERED it is missing.
    """
    moved = remembered + np.nan_to_num(np.pad(step, ((0, 0), (0, 1))))[:, None]
    moved[..., 2] = np.minimum(moved[..., 2], 1) * SCORE_DECAY
    moved *= moved[..., 2:] >= MIN_REMEMBERED
    return np.where(keypoints[..., 2:] > 0, keypoints, moved)


class Tracks(NamedTuple):
    """T tracks as arrays; positions in pixels of the frame."""

    ids: np.ndarray  # (T,)
    by_flow: np.ndarray  # (T, K, 3) flow-propagated keypoints
    by_velocity: np.ndarray  # (T, K, 3) constant-velocity prediction
    velocity: np.ndarray  # (T, 2) pixels per frame
    areas: np.ndarray  # (T,) square pixels
    colors: np.ndarray  # (T, S, 3) BGR, NaN where never seen
    frames_since_update: np.ndarray  # (T,)

    def select(self, rows: np.ndarray) -> Tracks:
        """Return copies of the tracks at `rows`, indices or a mask."""
        return Tracks(*(values[rows] for values in self))


class Tracker:
    """Call it with the frames of one video in order; ids count from 0."""

    def __init__(self, skeleton: Skeleton, settings: TrackingConfig = TrackingConfig()):  # noqa: B008 (frozen)
        self.settings = settings
        self._sigmas = np.array([skeleton.sigmas[name] for name in skeleton.keypoints])
        self._limb_ends = skeleton.limb_ends
        self._next_id = 0
        self._gray: np.ndarray | None = None  # the last frame, scaled down
        self._tracks = self._start(np.zeros((0, len(self._sigmas), 3)), np.zeros((0, len(self._sigmas) + len(self._limb_ends), 3)))

    def __call__(self, frame: np.ndarray, people: PosePredictions) -> PosePredictions:
        """Return the people with their `ids`. frame: the video's next one, (H, W, 3) uint8 BGR, in which they were predicted.

        An id of -1: no track, and too low a score to start one.
        """
        keypoints, scores = (np.asarray(values, float) for values in people)
        scale = min(1.0, FLOW_SIDE / max(frame.shape[:2]))
        small = frame if scale == 1 else cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._predict(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), scale)
        colors = colors_at(cv2.blur(small, (BLUR, BLUR)), keypoints * [scale, scale, 1], self._limb_ends)
        similarity, allowed = self._similarity(keypoints, colors)
        rows, columns = associate(similarity, allowed & (scores >= self.settings.min_score), self.settings.matching)
        self._update(rows, keypoints[columns], colors[columns])
        ids = np.full(len(keypoints), NO_TRACK)
        ids[columns] = self._tracks.ids[rows]
        enough = (keypoints[..., 2] > 0).sum(1) >= min(MIN_SHARED, len(self._sigmas))
        new = np.flatnonzero((ids == NO_TRACK) & (scores >= self.settings.start_score) & enough)
        started = self._start(keypoints[new], colors[new])
        ids[new] = started.ids
        active = self._tracks.select(self._tracks.frames_since_update <= self.settings.keep)
        self._tracks = Tracks(*map(np.concatenate, zip(active, started)))
        return replace(people, ids=ids)

    def _predict(self, gray: np.ndarray, scale: float) -> None:
        """Move all tracks to the next frame, of which `gray` (h, w) is a copy scaled by `scale`."""
        tracks, before, self._gray = self._tracks, self._gray, gray
        tracks.frames_since_update[:] += 1
        tracks.by_velocity[..., :2] += tracks.velocity[:, None] * (tracks.by_velocity[..., 2:] > 0)
        if self.settings.flow and before is not None and before.shape == gray.shape:
            tracks.by_flow[:] = propagate_by_flow(tracks.by_flow, before, gray, scale, tracks.velocity)
        else:
            tracks.by_flow[:] = tracks.by_velocity

    def _similarity(self, keypoints: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (T, P) similarities of tracks and people, and (T, P) bool where they may be the same person."""
        tracks, settings = self._tracks, self.settings
        spread = np.minimum(1 + SPREAD * (tracks.frames_since_update - 1), MAX_SPREAD)
        predictions = (tracks.by_flow, tracks.by_velocity)
        if settings.similarity == "oks":
            positions = [track_similarity(p, keypoints, tracks.areas * spread**2, self._sigmas) for p in predictions]
        else:
            positions = [box_similarity(p, keypoints) for p in predictions]
        position = np.maximum(*positions) / spread[:, None]
        total = (1 - settings.appearance) * position + settings.appearance * color_similarity(tracks.colors, colors)
        return total, position >= settings.min_similarity

    def _update(self, rows: np.ndarray, keypoints: np.ndarray, colors: np.ndarray) -> None:
        """Update the tracks `rows` (M,) with people (M, K, 3); the other tracks slow down."""
        tracks, old = self._tracks, self._tracks.select(rows)
        shared = (old.by_velocity[..., 2] > 0) & (keypoints[..., 2] > 0)
        errors = keypoints[..., :2] - old.by_velocity[..., :2]
        step = np.array([np.median(e[s], 0) if s.any() else [np.nan] * 2 for e, s in zip(errors, shared)]).reshape(-1, 2)
        tracks.velocity[:] *= VELOCITY_DECAY
        faster = old.velocity + NEW_WEIGHT * step / old.frames_since_update[:, None]
        tracks.velocity[rows] = np.where(np.isfinite(step), faster, old.velocity)
        tracks.by_flow[rows] = tracks.by_velocity[rows] = fill_missing(keypoints, old.by_velocity, step)
        tracks.frames_since_update[rows] = 0
        tracks.areas[rows] = np.maximum(AREA_DECAY * old.areas, pose_areas(keypoints))
        mixed = old.colors + NEW_WEIGHT * (colors - old.colors)
        tracks.colors[rows] = np.where(np.isnan(mixed), np.where(np.isnan(colors), old.colors, colors), mixed)

    def _start(self, keypoints: np.ndarray, colors: np.ndarray) -> Tracks:
        """Return new tracks of people (N, K, 3)."""
        count, first = len(keypoints), self._next_id
        self._next_id += count
        motion = keypoints.copy(), keypoints.copy(), np.zeros((count, 2))
        return Tracks(np.arange(first, first + count), *motion, pose_areas(keypoints), colors.copy(), np.zeros(count, int))
