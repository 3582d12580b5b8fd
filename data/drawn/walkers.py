"""People who walk to and fro through a video and cross each other; each looks the same in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data.drawn.annotate import annotate_tracks
from data.drawn.figure import build_figure
from data.drawn.looks import Looks, random_looks
from data.drawn.paint import Placed, paint_person
from data.drawn.place import added, noise
from data.drawn.poses import random_build
from data.drawn.shade import light_from
from data.drawn.skeleton import SIDES, Build, Pose

CYCLE = 0.9  # statures walked in two steps
SHARPNESS = 0.97  # of the turn at the end of the way; 1: within a frame
GRAIN = 4  # of the camera, new in every frame, levels of 255


@dataclass(frozen=True)
class Walker:
    """Lengths in pixels, angles in radians."""

    looks: Looks
    build: Build
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
                looks=_unlike(rng, colour, [walker.looks for walker in walkers]),
                build=random_build(rng),
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


def _unlike(rng: np.random.Generator, background: np.ndarray, others: list[Looks]) -> Looks:
    """Somebody whose shirt is told from the others' and from the background (3,)."""
    taken = np.array([background, *(looks.top.colour for looks in others)])
    candidates = [random_looks(rng, background) for _ in range(4)]
    return max(candidates, key=lambda looks: np.abs(taken - looks.top.colour).sum(1).min())


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
        legs[side] = np.array([swing, 0.04, 0.1, 0.12 + 1.6 * stride * forwards, 0.1 * swing])
        arms[side] = np.array([-0.9 * swing, 0.14, -0.15, 0.3])
    return Pose(arms, legs, lean=0.05, yaw=walker.facing * pace), float(x)


def draw_frame(place: np.ndarray, walkers: list[Walker], frame: int, light: float) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A frame (H, W, 3) uint8 BGR of the walkers, from far to near, in an empty place (H, W, 3); `annotate_tracks` of it."""
    shine = light_from(light)
    image, ids, people = place.copy(), np.zeros(place.shape[:2], np.int32), []
    for number, walker in enumerate(walkers, start=1):
        pose, x = walk(walker, frame)
        figure = build_figure(pose, walker.looks, walker.build)
        person: Placed = figure, walker.stature, np.array([x, walker.feet - figure.extent()[3] * walker.stature])
        paint_person(image, ids, person, number, shine)
        people.append(person)
    grain = cv2.merge([noise(np.random.default_rng(frame), *ids.shape, GRAIN)] * 3)
    return added(image, grain), annotate_tracks(people, ids)
