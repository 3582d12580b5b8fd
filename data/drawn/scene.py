"""A picture of people: a camera, a place, light, who stands where, and what is before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.drawn.annotate import CROWD, annotate
from data.drawn.effects import photographed
from data.drawn.figure import Figure, View, random_figure, thing_figure
from data.drawn.front import cast_shadow, put_before
from data.drawn.looks import random_colour
from data.drawn.paint import Placed, paint_person
from data.drawn.place import background, photograph, textured
from data.drawn.shade import Light, matched, random_light

CONTRAST = 1.4  # with which drawn places are as bright and dark as photographs
PEOPLE = (0.42, 0.28, 0.13, 0.07, 0.04, 0.03, 0.02, 0.01)  # shares of pictures with 1, 2, ... people
SHOTS = {"whole": 0.62, "half": 0.13, "far": 0.09, "group": 0.16}


@dataclass(frozen=True)
class Shot:
    """horizon: row of the eye level; eye: height of the camera in statures; focal length in pixels; statures (P,) in pixels."""

    horizon: float
    eye: float
    focal: float
    statures: np.ndarray
    group: bool = False

    def feet(self, stature: float) -> float:
        """The row of the ground where somebody is so large."""
        return self.horizon + self.eye * stature

    def view(self, stature: float) -> View:
        distance = self.focal / stature
        return View(float(np.arctan((self.eye - 0.55) / distance)), max(distance, 1.7), stature)


def random_shot(rng: np.random.Generator, height: int, width: int) -> Shot:
    """Mostly people as large as the picture allows, at eye level."""
    people = 1 + rng.choice(len(PEOPLE), p=PEOPLE)
    kind = str(rng.choice(list(SHOTS), p=list(SHOTS.values())))
    reference = min(height, 0.95 * width)
    largest = np.interp(people, [1, 3, 8], [0.95, 0.88, 0.68])
    if kind == "half":
        main = height * rng.uniform(1.05, 2.0)
        feet = height * rng.uniform(0.02, 0.16) + main
    else:
        low, high = {"far": (0.13, 0.4), "group": (0.4, 0.72)}.get(kind, (0.6 * largest, largest))
        main = reference * rng.uniform(low, high)
        feet = (
            min(height * rng.uniform(0.84, 1.03), height - rng.uniform(-0.02, 0.04) * height)
            if kind != "far"
            else height * rng.uniform(0.6, 0.98)
        )
    eye = float(np.clip(rng.normal(0.9, 0.22) if rng.random() < 0.85 else rng.uniform(0.2, 2.4), 0.2, 2.4))
    others = main * np.clip(rng.normal(0.92 if kind == "group" else 0.8, 0.1 if kind == "group" else 0.22, people), 0.3, 1.15)
    others[rng.random(people) < 0.05] *= 0.45
    others[0] = main
    return Shot(feet - eye * main, eye, max(height, width) * rng.uniform(1.0, 2.4), others, kind == "group")


def _position(
    rng: np.random.Generator, box: np.ndarray, feet: float, size: tuple[int, int], taken: list[np.ndarray], group: bool
) -> np.ndarray:
    """(2,) where to put the pelvis of a figure whose box (4,) is around it: beside the others mostly, in groups near them."""
    height, width = size
    wide = box[2] - box[0]
    places = []
    for attempt in range(6):
        x = rng.uniform(0, 1) * max(width - wide, 0) + min(width - wide, 0) * rng.uniform(0, 1)
        if group and taken:
            other = taken[rng.integers(len(taken))]
            x = (other[0] + other[2]) / 2 + rng.choice([-1, 1]) * rng.uniform(0.45, 1.0) * wide - wide / 2
        elif attempt == 0 and rng.random() < 0.1:  # cut by the frame
            x = rng.choice([-rng.uniform(0.15, 0.5) * wide, width - rng.uniform(0.5, 0.85) * wide])
            places.append((-1.0, x))
        overlap = sum(max(min(x + wide, b[2]) - max(x, b[0]), 0) / min(wide, b[2] - b[0]) for b in taken)
        overlap += 2 * (not -0.2 * wide < x < width - 0.8 * wide)
        places.append((overlap, x))
    x = places[0][1] if rng.random() < 0.15 else min(places, key=lambda place: place[0])[1]
    return np.array([x - box[0], feet - box[3]])


def _lifted(rng: np.random.Generator, figure: Figure) -> float:
    """How far above the ground somebody is, in statures."""
    if figure.kind == "jump":
        return rng.uniform(0.05, 0.45)
    return rng.uniform(0, 0.06) if figure.kind == "run" else 0.0


def place_people(rng: np.random.Generator, image: np.ndarray, shot: Shot, plain: bool = False) -> list[Placed]:
    """From far to near. plain: in easy poses."""
    placed, taken = [], []
    colour = np.array(cv2.mean(image)[:3])
    for stature in shot.statures:
        figure = random_figure(rng, colour, shot.view(float(stature)), plain)
        box = figure.extent() * stature
        feet = shot.feet(float(stature)) - _lifted(rng, figure) * stature
        if feet - 0.3 * (box[3] - box[1]) < 0 or feet - (box[3] - box[1]) > 0.75 * image.shape[0]:  # out of the picture
            feet = image.shape[0] * rng.uniform(0.7, 1.0)
        origin = _position(rng, box, feet, image.shape[:2], taken, shot.group)
        taken.append(box + np.tile(origin, 2))
        placed.append((figure, float(stature), origin))
    return sorted(placed, key=lambda person: person[1])


def place_things(rng: np.random.Generator, image: np.ndarray, shot: Shot) -> list[Placed]:
    """What stands about among the people; some of it nearer than they are."""
    height, width = image.shape[:2]
    placed, colour = [], np.array(cv2.mean(image)[:3])
    for _ in range(rng.choice(4, p=[0.45, 0.32, 0.15, 0.08])):
        stature = min(float(shot.statures.max()) * rng.uniform(0.35, 1.1), 1.1 * height)
        figure = thing_figure(rng, colour, shot.view(stature))
        origin = np.array([rng.uniform(-0.05, 1.05) * width, shot.feet(stature) - figure.extent()[3] * stature])
        placed.append((figure, stature, origin))
    return placed


def _paint_crowd(rng: np.random.Generator, image: np.ndarray, ids: np.ndarray, shot: Shot, light: Light) -> None:
    """A group of tiny people, all under the id CROWD."""
    height, width = image.shape[:2]
    stature, x = min(height, width) * rng.uniform(0.08, 0.13), rng.uniform(0.05, 0.7) * width
    y = float(np.clip(shot.feet(stature) - 0.5 * stature, 0.2 * height, 0.7 * height))
    colour = np.array(cv2.mean(image)[:3])
    figures = [random_figure(rng, colour, shot.view(stature)) for _ in range(2)]
    for i in range(rng.integers(6, 13)):
        origin = np.array([x + i * 0.4 * stature + rng.uniform(-4, 4), y + rng.uniform(-0.08, 0.08) * stature])
        paint_person(image, ids, (figures[i % 2], stature * rng.uniform(0.85, 1.1), origin), CROWD, light)


def draw_picture(
    rng: np.random.Generator, height: int, width: int, backgrounds: Sequence[Path] | None = None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """An image (H, W, 3) uint8 BGR and its COCO annotations, still without ids; backgrounds: photographs to draw the people into.

    Everything is painted from back to front into the image and into a buffer of ids, which afterwards tells what is hidden by what.
    """
    shot, light = random_shot(rng, height, width), random_light(rng)
    if backgrounds:
        image = photograph(rng, backgrounds, height, width)
    else:
        image = background(rng, height, width, shot.horizon)
    ids = np.zeros((height, width), np.int32)
    if rng.random() < 0.07:
        _paint_crowd(rng, image, ids, shot, matched(light, image))
    light = matched(light, image)
    people, things = place_people(rng, image, shot), place_things(rng, image, shot)
    for item in things + people:
        if rng.random() < 0.75:
            cast_shadow(image, item, light, shot.view(item[1]).elevation)
    painted: list[int] = []
    for item in sorted(people + things, key=lambda item: item[1]):  # who is nearer is larger
        if item[0].kind == "thing":
            paint_person(image, ids, item, 0, light)
            continue
        painted.append(paint_person(image, ids, item, len(painted) + 1, light))
        if rng.random() < 0.04:
            put_before(rng, image, ids)
    if rng.random() < 0.1:
        put_before(rng, image, ids)
    annotations = annotate(rng, people, painted, ids)
    return photographed(rng, image, 1.02 if backgrounds else CONTRAST), annotations


def draw_plain_picture(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """As `draw_picture`, but easy: one to three people, mostly whole, who stand or walk towards the viewer on a plain ground."""
    main = min(height, 0.95 * width) * rng.uniform(0.6, 0.9)
    statures = main * np.append(rng.uniform(0.85, 1, rng.choice(3, p=[0.4, 0.4, 0.2])), 1)
    feet, eye = height * rng.uniform(0.9, 0.98), 0.9
    shot, light = Shot(feet - eye * main, eye, 1.6 * max(height, width), statures), random_light(rng)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = random_colour(rng, (10, 60), (120, 230))
    image = textured(rng, image)
    light = matched(light, image)
    people, ids = place_people(rng, image, shot, plain=True), np.zeros((height, width), np.int32)
    painted = [paint_person(image, ids, person, number, light) for number, person in enumerate(people, start=1)]
    return image, annotate(rng, people, painted, ids)
