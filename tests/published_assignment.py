"""Keypoint assignment as the paper's own code does it (section 3.5), to compare with; its values are those of the published code.

Two of its bugs are fixed: the centroid of a peak had x and y exchanged, and a candidate that occurs twice was an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from config.skeleton import Skeleton
from config.systems.simplepose_channels import Channels

WINDOW = 5  # side of the window whose centroid is the peak's position, image pixels
KEYPOINT_THRESHOLD = 0.1  # the lowest score of a peak
LIMB_SAMPLES = 20  # points along a limb at which its map is read
LIMB_THRESHOLD = 0.1  # a sample above this is on the limb ...
LIMB_ON = 0.8  # ... and at least this fraction of the samples must be
LONG_LIMB = 0.5  # times the image's height: longer limbs lose score
LIMB_WEIGHT = 0.5  # of the limb's score when pairs are ranked; the two ends have the rest
LIMB_GROWTH = 16.0  # a limb over so many times the person's longest is not added
MERGE_STRENGTH = 0.7  # of the weakest limb in either person: the lowest score of a limb that joins two people
MIN_KEYPOINTS = 2  # people with fewer are dropped
MIN_SCORE = 0.45  # people with a lower score per keypoint are dropped


@dataclass(eq=False)
class Person:
    """A person while it grows. places: keypoint number -> (candidate, score of the limb that put it there)."""

    places: dict[int, tuple[int, float]]
    limb_scores: list[float] = field(default_factory=list)
    longest: float = 0.0  # image pixels

    def holds(self, end: tuple[int, int]) -> bool:
        """Whether this (kind, candidate) has its place in this person."""
        return self.places.get(end[0], (-1, 0.0))[0] == end[1]


def assign_published(
    maps: np.ndarray, skeleton: Skeleton, image_size: tuple[int, int], map_to_image: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (C, h, w) -> keypoints (P, K, 3) in image pixels, scores (P,), best first; see `assign_people`."""
    channels = Channels(skeleton).keypoints
    _, h, w = maps.shape
    height, width = max(round(h * map_to_image[1]), 1), max(round(w * map_to_image[0]), 1)
    large = [cv2.resize(np.asarray(channel, np.float32), (width, height), interpolation=cv2.INTER_CUBIC) for channel in maps]
    peaks = [find_peaks(large[channel]) for channel in range(channels.start, channels.stop)]
    people: list[Person] = []
    for limb, (a, b) in enumerate(skeleton.limb_ends.tolist()):
        for limb_score, length, i, j in connections(large[limb], peaks[a], peaks[b], image_size[0]):
            add_limb(people, (a, i), (b, j), limb_score, length)
    rows, scores = [], []
    for person in people:
        row = np.zeros((skeleton.num_keypoints, 3), np.float32)
        for kind, (candidate, _) in person.places.items():
            row[kind] = peaks[kind][candidate]
        total = float(row[:, 2].sum()) + sum(person.limb_scores)
        count = len(person.places)
        if count >= MIN_KEYPOINTS and total / count >= MIN_SCORE:
            there = row[:, 2] > 0
            row[there, :2] = (row[there, :2] + 0.5) * (w * map_to_image[0] / width, h * map_to_image[1] / height) - 0.5
            rows.append(row)
            scores.append(1 - 1 / total)
    order = np.argsort(-np.array(scores), kind="stable")
    return np.array(rows, np.float32).reshape(-1, skeleton.num_keypoints, 3)[order], np.array(scores, np.float32)[order]


def find_peaks(channel: np.ndarray) -> np.ndarray:
    """(P, 3) x, y, score of one keypoint's map at image size: centroids and means of windows around its maxima."""
    highest = (channel >= KEYPOINT_THRESHOLD) & (channel == cv2.dilate(channel, np.ones((3, 3), np.uint8)))
    peaks, reach = [], WINDOW // 2
    for y, x in sorted(np.argwhere(highest).tolist(), key=lambda pixel: -channel[tuple(pixel)]):
        ys, xs = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
        window = np.maximum(channel[ys, xs], 0)
        rows, columns = np.indices(window.shape) + np.array([ys.start, xs.start])[:, None, None]
        peaks.append((np.average(columns, weights=window), np.average(rows, weights=window), window.mean()))
    return np.array(peaks, np.float32).reshape(-1, 3)


def connections(channel: np.ndarray, starts: np.ndarray, ends: np.ndarray, image_height: int) -> list[tuple[float, float, int, int]]:
    """Of one limb, (score, length, start, end) of the pairs that are taken: greedily by rank, each candidate once."""
    if not len(starts) or not len(ends):
        return []
    i, j = np.indices((len(starts), len(ends))).reshape(2, -1)
    offset = ends[j, :2] - starts[i, :2]
    points = starts[i, None, :2] + offset[:, None] * np.linspace(0, 1, LIMB_SAMPLES)[:, None]
    x, y = np.rint(points).astype(int).clip(0, np.array(channel.shape[::-1]) - 1).transpose(2, 0, 1)
    samples, length = channel[y, x], np.hypot(*offset.T)
    score = samples.mean(1) + np.minimum(LONG_LIMB * image_height / np.maximum(length, 1e-6) - 1, 0)
    good = (score > 0) & ((samples > LIMB_THRESHOLD).mean(1) >= LIMB_ON)
    rank = LIMB_WEIGHT * score + (1 - LIMB_WEIGHT) / 2 * (starts[i, 2] + ends[j, 2])
    taken: list[tuple[float, float, int, int]] = []
    for n in np.argsort(-rank, kind="stable").tolist():
        if good[n] and all(i[n] != start and j[n] != end for *_, start, end in taken):
            taken.append((float(score[n]), float(length[n]), int(i[n]), int(j[n])))
    return taken


def add_limb(people: list[Person], start: tuple[int, int], end: tuple[int, int], score: float, length: float) -> None:
    """Put a limb between two (kind, candidate) into the people found so far."""
    owners = [person for person in people if person.holds(start) or person.holds(end)][:2]
    if not owners:
        people.append(Person({start[0]: (start[1], score), end[0]: (end[1], score)}, [score], length))
        return
    first, second = owners[0], owners[-1]
    if first is not second and first.places.keys() & second.places.keys():
        # They cannot be one person: whoever holds its end of this limb less surely gives it up, if even less surely than this limb would.
        weaker = min(owners, key=lambda person: sum(person.limb_scores))
        kind = start[0] if weaker.holds(start) else end[0]
        if weaker.places[kind][1] < score and len(weaker.places) > 1:
            del weaker.places[kind]
        return
    if first is not second:
        if score < MERGE_STRENGTH * min(first.limb_scores + second.limb_scores):
            return
        first.places.update(second.places)
        first.limb_scores += second.limb_scores
        first.longest = max(first.longest, second.longest)
        people.remove(second)  # by identity: a Person compares as an object
    elif not (first.holds(start) and first.holds(end)):
        kind, candidate = end if first.holds(start) else start
        if length > LIMB_GROWTH * first.longest or first.places.get(kind, (-1, -np.inf))[1] >= score:
            return
        first.places[kind] = (candidate, score)
    first.limb_scores.append(score)
    first.longest = max(first.longest, length)
