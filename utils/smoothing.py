"""Smooth the keypoints of tracked people by a one-euro filter (Casiez, Roussel, Vogel, CHI 2012).

The filter is an exponential average. Its cutoff frequency increases with the speed: it removes the noise of people who stand still, and
follows fast ones at once. Speeds are in sizes of the person per second, so that they do not depend on resolution and distance.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from config.schema import TrackingConfig
from utils.predictions import PosePredictions

FRAME_SECONDS = 1 / 30  # between frames whose times are unknown, or do not increase
SPEED_CUTOFF = 3.0  # Hz, of the average of the velocity; the paper's 1 Hz takes a sixth of a second to notice that a hand moves


class Smoothed(NamedTuple):
    """One person at the last frame; points are the K keypoints and two corners of the box."""

    points: np.ndarray  # (K + 2, 2) x, y in pixels
    velocity: np.ndarray  # (K + 2, 2) pixels per second
    present: np.ndarray  # (K + 2,) bool


class PoseSmoother:
    """Call it with the tracked people of one video's frames in order.

    A keypoint that is missing in a frame, and a person who is, start anew when they come back.
    """

    def __init__(self, settings: TrackingConfig = TrackingConfig()):  # noqa: B008 (frozen)
        self.settings = settings
        self._time: float | None = None
        self._people: dict[int, Smoothed] = {}  # those of the last frame, by identity

    def __call__(self, people: PosePredictions, time: float | None = None) -> PosePredictions:
        """Return the people with smoothed positions and boxes; people without an identity (-1) are returned as they are.

        time: of the frame, in seconds since any moment; None if unknown.
        """
        elapsed = FRAME_SECONDS
        if time is not None and self._time is not None and time > self._time:
            elapsed = time - self._time
        corners = people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:4]
        points = np.concatenate([people.keypoints[..., :2], np.stack(corners, 1)], 1).astype(float)
        present = np.pad(people.keypoints[..., 2] > 0, ((0, 0), (0, 2)), constant_values=True)
        before, self._people, self._time = self._people, {}, time
        for row, identity in enumerate(people.ids.tolist()):
            if identity >= 0:
                size = people.boxes[row, 2:4].max()
                self._people[identity] = self._smooth(points[row], present[row], size, elapsed, before.get(identity))
                points[row] = self._people[identity].points
        keypoints, boxes = people.keypoints.astype(float), np.asarray(people.boxes, float).copy()
        keypoints[..., :2] = points[:, :-2]
        boxes[:, :4] = np.concatenate([points[:, -2], points[:, -1] - points[:, -2]], 1)
        return replace(people, keypoints=keypoints, boxes=boxes)

    def _smooth(self, points: np.ndarray, present: np.ndarray, size: float, elapsed: float, before: Smoothed | None) -> Smoothed:
        """Filter points (K + 2, 2) of a person of a size in pixels, `elapsed` seconds after `before`."""
        if before is None:
            return Smoothed(points, np.zeros_like(points), present)
        continued = (present & before.present)[:, None]
        speed_weight = _weight(SPEED_CUTOFF, elapsed)
        velocity = before.velocity + speed_weight * ((points - before.points) / elapsed - before.velocity)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / max(size, 1)
        weight = _weight(self.settings.smooth_cutoff + self.settings.smooth_speed * speed, elapsed)
        smoothed = before.points + weight * (points - before.points)
        return Smoothed(np.where(continued, smoothed, points), np.where(continued, velocity, 0), present)


def _weight(cutoff: float | np.ndarray, elapsed: float) -> float | np.ndarray:
    """Return the newest value's weight in an exponential average with a cutoff frequency in Hz, `elapsed` seconds after the last one."""
    ratio = 2 * np.pi * cutoff * elapsed
    return ratio / (1 + ratio)
