"""Heads: their shape as tubes, and the face that is painted onto it.

A place on the head is an azimuth (radians, 0 in front, to the person's left) and a height (-1 the crown, 1 the chin).
"""

from __future__ import annotations

import numpy as np

from data.drawn.body import COVER, HEAD, hair_down
from data.drawn.looks import FACE, HAT, METAL, SKIN, Looks
from data.drawn.mesh import RINGS, Tube, tube
from data.drawn.skeleton import Build, Skeleton

HALF = np.array([0.048, 0.072, 0.058])  # width, height, depth in statures: a little larger than life
# Height, half width, half depth, middle before the axis, in halves
SHAPE = np.array([[-1, 0, 0, -0.12], [-0.97, 0.3, 0.28, -0.12], [-0.88, 0.58, 0.55, -0.11], [-0.72, 0.8, 0.78, -0.1],
                  [-0.5, 0.95, 0.94, -0.08], [-0.25, 1, 1, -0.05], [0, 0.99, 0.98, -0.02], [0.2, 0.96, 0.9, 0.05], [0.4, 0.9, 0.8, 0.14],
                  [0.55, 0.83, 0.72, 0.2], [0.7, 0.73, 0.62, 0.26], [0.82, 0.58, 0.5, 0.32], [0.92, 0.4, 0.36, 0.38],
                  [0.98, 0.2, 0.18, 0.42], [1, 0, 0, 0.42]])  # fmt: skip
HAIR_LIFT = {"bald": 0.0, "buzz": 0.015, "afro": 0.1}
EYE, EYE_HEIGHT, NOSE_HEIGHT, MOUTH, EAR, EAR_HEIGHT = 0.42, -0.02, 0.3, 0.6, 1.62, 0.08
DIRECTIONS = np.array([[0, NOSE_HEIGHT], [EYE, EYE_HEIGHT], [-EYE, EYE_HEIGHT], [EAR, EAR_HEIGHT], [-EAR, EAR_HEIGHT]])


def _on_head(places: np.ndarray, centre: np.ndarray, frame: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(N, 3) in space of places (N, 2) on the bare head."""
    azimuth, height = np.asarray(places, float).T
    width, depth, before = (np.interp(height, SHAPE[:, 0], SHAPE[:, k]) for k in (1, 2, 3))
    local = np.stack([half[0] * width * np.sin(azimuth), half[1] * height, half[2] * (depth * np.cos(azimuth) + before)], 1)
    return local @ frame + centre


def head_tubes(bones: Skeleton, build: Build, looks: Looks) -> tuple[list[Tube], np.ndarray]:
    """Tubes of a head, and its keypoints (5, 3) in space: nose, eyes, ears, left first."""
    frame, centre, half = bones.frames["head"], bones.joints["head"], HALF * build.head
    t = np.concatenate([SHAPE[:, 0], [0.3]])
    t.sort()
    width, depth, before = (np.interp(t, SHAPE[:, 0], SHAPE[:, k]) for k in (1, 2, 3))
    width, depth = width * build.girth**0.4, depth.copy()
    if not looks.hat:
        lift = HAIR_LIFT.get(looks.hair_kind, 0.07)
        top, back = np.interp(t, [-0.7, -0.35], [1, 0]), np.interp(t, [-0.4, -0.2, 0.3, 0.6], [0, 1, 0.8, 0]) * lift
        width = width * (1 + lift * top) + 0.4 * back
        depth = depth * (1 + lift * top) + back / 2
        before = before - back / 2
        t = np.where(t < -0.6, t * (1 + 0.6 * lift), t)
    centres = centre + half[1] * t[:, None] * frame[1] + half[2] * before[:, None] * frame[2]
    head = Tube(centres, (half[0] * width)[:, None] * frame[0], (half[2] * depth)[:, None] * frame[2], t,
                np.full(RINGS, FACE), np.full(RINGS, HEAD))  # fmt: skip
    points = _on_head(DIRECTIONS, centre, frame, half)
    points[0] += 0.2 * half[2] * frame[2]
    points[3] += 0.08 * half[0] * frame[0]
    points[4] -= 0.08 * half[0] * frame[0]
    tubes = [head, _nose(points[0], frame, half)]
    tubes += [_ear(points[3 + i], side, frame, half) for i, side in enumerate((1.0, -1.0))]
    tubes += hair_down(bones, build.head, looks, half)
    if looks.hat:
        tubes += _hat(looks.hat, centre, frame, half)
    if looks.glasses:
        tubes += _temples(points[3:], frame, half)
    return tubes, points


def _nose(tip: np.ndarray, frame: np.ndarray, half: np.ndarray) -> Tube:
    bridge = tip - 0.36 * half[1] * frame[1] - 0.2 * half[2] * frame[2]
    under = tip + 0.06 * half[1] * frame[1] - 0.12 * half[2] * frame[2]
    w = half[0]
    profile = np.array(
        [[0, 0.06 * w, 0.08 * w], [0.4, 0.11 * w, 0.14 * w], [0.75, 0.19 * w, 0.2 * w], [0.95, 0.21 * w, 0.2 * w], [1, 0.1 * w, 0.1 * w]]
    )
    return tube(bridge, under, frame[0], profile, SKIN, HEAD)


def _ear(at: np.ndarray, side: float, frame: np.ndarray, half: np.ndarray) -> Tube:
    turns = np.linspace(0, np.pi, 7)
    places, bulge = (1 - np.cos(turns)) / 2, np.sin(turns)
    profile = np.stack([places, 0.09 * half[0] * bulge, 0.2 * half[2] * bulge], 1)
    top = at - 0.24 * half[1] * frame[1] + side * 0.05 * half[0] * frame[0] - 0.05 * half[2] * frame[2]
    return tube(top, at + 0.26 * half[1] * frame[1], frame[0], profile, SKIN, HEAD)


def _temples(ears: np.ndarray, frame: np.ndarray, half: np.ndarray) -> list[Tube]:
    """The sides of a pair of glasses; the rest is painted on the face."""
    thin = np.array([[0, 0.03 * half[0], 0.05 * half[0]], [1, 0.03 * half[0], 0.05 * half[0]]])
    starts = ears - 0.12 * half[1] * frame[1]
    return [tube(start, start + 0.75 * half[2] * frame[2], frame[0], thin, METAL, HEAD) for start in starts]


def _hat(kind: str, centre: np.ndarray, frame: np.ndarray, half: np.ndarray) -> list[Tube]:
    """On a head with this middle (3,), frame (3, 3) and half width, height and depth (3,)."""
    w, h, d = half
    low = {"cap": -0.32, "beanie": -0.25, "helmet": -0.1, "brim": -0.35}[kind]
    size = 1.2 if kind == "helmet" else 1.09
    turns = np.linspace(0, np.pi / 2, 8)
    wide = np.sin(turns) ** (0.6 if kind == "brim" else 0.8)
    crown = np.stack([1 - np.cos(turns), wide, wide], 1)
    top = centre - (1.12 if kind != "helmet" else 1.2) * h * frame[1] - 0.08 * d * frame[2]
    bottom = centre + low * h * frame[1] - 0.06 * d * frame[2]
    tubes = [tube(top, bottom, frame[0], crown * [1, size * w, size * d], HAT, COVER)]
    if kind == "cap":
        peak = np.array([[0, 0.8 * w, 0.04 * h], [0.5, 0.85 * w, 0.05 * h], [0.85, 0.65 * w, 0.05 * h], [1, 0.3 * w, 0.03 * h]])
        front = bottom + 0.85 * d * frame[2] - 0.03 * h * frame[1]
        tubes.append(tube(front, front + 0.95 * d * frame[2] + 0.12 * h * frame[1], frame[0], peak, HAT, COVER))
    elif kind == "brim":
        round_it = np.array([[0, 1.2 * w, 1.2 * d], [0.4, 2.0 * w, 1.9 * d], [1, 2.05 * w, 1.95 * d]])
        tubes.append(tube(bottom - 0.04 * h * frame[1], bottom + 0.07 * h * frame[1], frame[0], round_it, HAT, COVER))
    return tubes


def painted_head(uv: np.ndarray, noise: np.ndarray, looks: Looks) -> np.ndarray:
    """(N, 3) BGR of places on heads; uv (N, >= 2) azimuth and height, noise (N,) about 0, within 1."""
    azimuth, height = uv[:, 0], uv[:, 1]
    aside = np.abs(azimuth)
    colour = np.broadcast_to(looks.skin, (len(uv), 3)).copy()
    colour *= (1 + 0.05 * noise)[:, None]
    cheek = np.exp(-(((aside - 0.75) / 0.3) ** 2) - ((height - 0.35) / 0.2) ** 2)
    colour *= 1 - cheek[:, None] * np.array([0.13, 0.11, 0.02])
    socket = np.exp(-(((aside - EYE) / 0.26) ** 2) - ((height - EYE_HEIGHT + 0.05) / 0.14) ** 2)
    nostril = np.exp(-(((aside - 0.1) / 0.13) ** 2) - ((height - 0.4) / 0.05) ** 2)
    jaw = np.interp(height, [0.72, 1.0], [0, 0.22])
    colour *= (1 - 0.28 * socket - 0.3 * nostril - jaw)[:, None]

    def put(where: np.ndarray, paint: np.ndarray, opacity: float = 1.0) -> None:
        colour[where] = colour[where] * (1 - opacity) + np.asarray(paint) * opacity

    if looks.beard:
        line = np.interp(aside, [0, 0.35, 0.6, 1.3, 1.5], [0.47, 0.47, 0.62, 0.35, 0.1])
        put((height + 0.05 * noise > line) & (aside < 1.6) & ((aside > 0.2) | (height > 0.5)), looks.hair * 0.9, 0.85 * looks.beard)
    brow = np.abs(height - (EYE_HEIGHT - 0.17 - 0.05 * np.cos(3 * (aside - EYE)))) < 0.032
    put(brow & (np.abs(aside - EYE) < 0.24), np.minimum(looks.hair, 110) * 0.8, 0.8)
    x, y = (aside - EYE) / 0.19, (height - EYE_HEIGHT) / 0.075
    open_eye = x * x + y * y < 1
    put(open_eye, [215, 220, 225], 0.9)
    put(open_eye & (((aside - EYE) / 0.085) ** 2 + y * y * 0.8 < 1), [30, 32, 38], 0.95)
    put((x * x + (y + 0.45) ** 2 < 1.35) & (y < -0.55), [30, 32, 40], 0.75)
    lips = (aside / 0.36) ** 2 + ((height - MOUTH) / 0.06) ** 2 < 1
    put(lips, looks.skin * [0.62, 0.6, 0.85], 0.35 + looks.lips)
    put(lips & (np.abs(height - MOUTH) < 0.013), looks.skin * 0.35, 0.8)
    if looks.glasses:
        shape = ((aside - EYE) / 0.33) ** 2 + ((height - EYE_HEIGHT - 0.02) / 0.2) ** 2
        rim = (np.abs(shape - 1) < 0.28) | ((aside < 0.12) & (np.abs(height + 0.06) < 0.03))
        put((shape < 1), [25, 25, 25], 0.9 if looks.glasses == 2 else 0.06)
        put(rim, [30, 30, 35], 0.9)
    if looks.hair_kind != "bald" or not looks.hat:
        f = looks.fringe
        line = np.interp(aside, [0, 0.5, 0.8, 1.02, 1.22, 1.45, 1.75, 3.2], [f, f + 0.03, f + 0.12, -0.15, 0.12, 0.12, 0.5, 0.62])
        if looks.hair_kind == "bald":
            line = np.interp(aside, [0, 1.0, 1.3, 1.6, 3.2], [-2, -2, -0.3, -0.1, -0.1])
            hair = (height > line) & (height < np.interp(aside, [1.2, 1.5, 3.2], [-0.2, 0.4, 0.6])) & (aside > 1.25)
        else:
            hair = height + 0.07 * noise < line
        put(hair, looks.hair, 0.75 if looks.hair_kind == "buzz" else 1.0)
        colour[hair] *= (1 + 0.22 * noise[hair])[:, None]
    return colour
