"""People who walk to and fro through a video and cross each other; each looks the same in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data.drawn.annotate import annotate_tracks
from data.drawn.figure import SIDES, Looks, Pose, build_figure, random_looks
from data.drawn.paint import Placed, paint_person
from data.drawn.place import added, noise

CYCLE = 0.9  # statures walked in two steps
SHARPNESS = 0.97  # of the turn at the end of the way; 1: within a frame
GRAIN = 4  # of the camera, new in every frame, levels of 255


@dataclass(frozen=True)
class Walker:
    """Lengths in pixels, angles in radians."""

    looks: Looks
    build: np.ndarray  # (4,) as build_figure has it
    stature: float
    feet: float  # y of the ground under them
    left: float  # ends of the way
    right: float
    speed: float  # a frame
    start: float  # place on the way in frame 0: 0 in the middle to the right, pi in the middle back to the left
    phase: float  # of the step in frame 0
    stride: float  # largest angle of a thigh
    facing: float  # yaw when walking at full speed


def random_walkers(rng: np.random.Generator, count: int, place: np.ndarray) -> list[Walker]:
    """From far to near, every other one in the other direction, for a place (H, W, 3) to walk in."""
    height, width = place.shape[:2]
    colour = np.array(cv2.mean(place)[:3])
    first = rng.uniform(-0.6, 0.6)
    walkers = []
    for number, nearness in enumerate(np.linspace(0, 1, count)):
        stature = min(height, 0.9 * width) * (0.62 + 0.14 * nearness) * rng.uniform(0.95, 1.05)
        walkers.append(
            Walker(
                looks=random_looks(rng, colour),
                build=rng.uniform([0.9, 0.85, 0.94, 0.94], [1.12, 1.15, 1.06, 1.06]),
                stature=stature,
                feet=height * (0.84 + 0.12 * nearness),
                left=0.3 * stature,
                right=width - 0.3 * stature,
                speed=stature * rng.uniform(0.02, 0.03),
                start=first + np.pi * (number + (number // 2) / ((count + 1) // 2)),
                phase=rng.uniform(0, 2 * np.pi),
                stride=np.radians(rng.uniform(24, 32)),
                facing=np.radians(rng.uniform(65, 85)),
            )
        )
    return walkers


def walk(walker: Walker, frame: int) -> tuple[Pose, float]:
    """The pose of a walker in a frame, and x of the pelvis in pixels."""
    reach = (walker.right - walker.left) / 2
    # a triangular wave with rounded turns, in which the walker faces the viewer
    angle = walker.start + np.pi / 2 * walker.speed * frame / reach
    x = walker.left + reach * (1 + np.arcsin(SHARPNESS * np.sin(angle)) / np.arcsin(SHARPNESS))
    pace = np.cos(angle) / np.sqrt(1 - np.square(SHARPNESS * np.sin(angle)))  # of full speed, to the right
    phase = walker.phase + 2 * np.pi * walker.speed * frame / (CYCLE * walker.stature)
    stride = walker.stride * (0.35 + 0.65 * abs(pace))
    arms, legs = {}, {}
    for side, turn in zip(SIDES, (0, np.pi)):
        swing, forwards = stride * np.sin(phase + turn), max(0.0, float(np.cos(phase + turn)))
        legs[side] = np.array([0.03, swing, 0.03, swing - 0.12 - 1.6 * stride * forwards])
        arms[side] = np.array([0.12, -0.9 * swing, 0.08, 0.3 - 0.9 * swing])
    return Pose(arms, legs, lean=0.05, sway=0.0, yaw=walker.facing * pace, head=np.zeros(3), tilt=0.0), float(x)


def draw_frame(place: np.ndarray, walkers: list[Walker], frame: int, light: float) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A frame (H, W, 3) uint8 BGR of the walkers, from far to near, in an empty place (H, W, 3); `annotate_tracks` of it."""
    image, ids, people = place.copy(), np.zeros(place.shape[:2], np.int32), []
    for number, walker in enumerate(walkers, start=1):
        pose, x = walk(walker, frame)
        figure = build_figure(pose, walker.looks, walker.build)
        person: Placed = figure, walker.stature, np.array([x, walker.feet - figure.extent()[3] * walker.stature])
        paint_person(image, ids, person, number, light)
        people.append(person)
    grain = cv2.merge([noise(np.random.default_rng(frame), *ids.shape, GRAIN)] * 3)
    return added(image, grain), annotate_tracks(people, ids)
