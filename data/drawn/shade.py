"""Light, cloth and skin: the colour of every pixel of a figure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from data.drawn.body import LABELS, SKIRT, TRUNK
from data.drawn.head import painted_head
from data.drawn.looks import BOTTOM, CLOTH, FACE, HAIR, MATERIALS, METAL, SHOE, SKIN, THING, TOP, Cloth, Looks

SIDE = 256  # of the banks of noise, which repeat
PER_STATURE = 560  # their pixels


@dataclass(frozen=True)
class Light:
    """direction (3,) to where it comes from; ambient and sun, BGR gains (3,) of what is lit from everywhere and from there."""

    direction: np.ndarray
    ambient: np.ndarray
    sun: np.ndarray


def light_from(aside: float, above: float = 0.6, front: float = 0.6, ambient: float = 0.55, warmth: float = 0.0) -> Light:
    """Light from the left (aside -1) or the right (1) of the picture, from above and from the viewer's side, as bright in all."""
    direction = np.array([aside, -above, front])
    sun, tint = 1.25 * (1.05 - ambient), np.array([1 - warmth, 1.0, 1 + warmth])
    return Light(direction / max(np.linalg.norm(direction), 1e-6), ambient / np.sqrt(tint), sun * tint)


def random_light(rng: np.random.Generator) -> Light:
    """From the side mostly; hard outdoors, soft under clouds and in rooms; now and then from behind."""
    front = rng.uniform(0.2, 1.2) if rng.random() < 0.85 else rng.uniform(-0.6, 0.2)
    return light_from(rng.uniform(-1.2, 1.2), rng.uniform(0.2, 1.2), front, rng.uniform(0.42, 0.88), rng.normal(0, 0.05))


def matched(light: Light, image: np.ndarray) -> Light:
    """The light, dimmed and tinted half as much as the picture (H, W, 3) is against a grey one."""
    mean = np.array(cv2.mean(image)[:3]) + 20
    gain = np.clip(mean.mean() / 135, 0.4, 1.5) ** 0.45 * (mean / mean.mean()) ** 0.3
    return Light(light.direction, light.ambient * gain, light.sun * gain)


def smooth_noise(rng: np.random.Generator, cells: int, side: int = SIDE) -> np.ndarray:
    """(side, side) float32 about 0, which repeats at its borders, with so many hills across."""
    grid = np.pad(rng.normal(0, 1, (cells, cells)).astype(np.float32), 2, mode="wrap")
    scale = side / cells
    large = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    start = round(2 * scale)
    return large[start : start + side, start : start + side]


@cache
def noise_banks() -> tuple[np.ndarray, np.ndarray]:
    """(SIDE, SIDE) each within 1: noise of many sizes, and folds with light on one side."""
    rng = np.random.default_rng(0)
    noise = sum(smooth_noise(rng, cells) / cells**0.25 for cells in (8, 16, 32, 64, 128))
    hills = smooth_noise(rng, 8) + 0.7 * smooth_noise(rng, 16) + 0.25 * smooth_noise(rng, 32)
    hills = -np.abs(hills)  # valleys are round and ridges sharp
    folds = hills - np.roll(hills, (3, 4), (0, 1))
    return tuple(np.clip(bank / (2 * bank.std()), -1, 1).astype(np.float32) for bank in (noise, folds))


def _looked_up(bank: np.ndarray, u: np.ndarray, v: np.ndarray, shift: int, fine: float = 1.0) -> np.ndarray:
    """(N,) float32 of a bank (SIDE, SIDE) at u, v (N,) in statures; shift: which part of it, fine: how much smaller its grain is."""
    scale = PER_STATURE * fine
    rows, columns = (v * scale).astype(np.int32) + 7 * shift, (u * scale).astype(np.int32) + 13 * shift
    return bank[rows & (SIDE - 1), columns & (SIDE - 1)]


def _patterned(cloth: Cloth, angle: np.ndarray, u: np.ndarray, v: np.ndarray, trunk: np.ndarray) -> np.ndarray | None:
    """(N,) share of the second colour; None for none."""
    stripes, bars = np.mod(v / cloth.period, 1), np.mod(u / cloth.period + 0.25, 1)
    if cloth.pattern == "stripes":
        return stripes < 0.45
    if cloth.pattern == "bars":
        return bars < 0.45
    if cloth.pattern == "checks":
        return ((stripes < 0.4) * 0.5 + (bars < 0.4) * 0.5).astype(np.float32)
    if cloth.pattern == "dots":
        return (stripes - 0.5) ** 2 + (bars - 0.5) ** 2 < 0.08
    if cloth.pattern == "noise":
        return np.clip(_looked_up(noise_banks()[0], u, v, cloth.shift, 2.0) * 0.8 + 0.25, 0, 1)
    if cloth.pattern == "print":
        inside = trunk & (np.abs(angle) < 0.4 + 6 * cloth.period) & (np.abs(v - 0.14 - cloth.period) < 0.02 + 0.7 * cloth.period)
        return inside & (_looked_up(noise_banks()[0], 1.5 * u, v, cloth.shift, 1.6) > -0.1)
    if cloth.pattern == "halves":
        return trunk & (v > 0.1 + 2 * cloth.period)
    return None


def albedo(looks: Looks, material: np.ndarray, label: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(N, 3) BGR under white light of pixels with this material (N,), label (N,), and uv (N, 3)."""
    colour = looks.palette()[material]
    angle, v = uv[:, 0], uv[:, 1]
    u = angle * uv[:, 2]
    noise, folds = noise_banks()
    for kind, cloth in ((TOP, looks.top), (BOTTOM, looks.bottom)):
        at = np.flatnonzero(material == kind)
        if not len(at):
            continue
        trunk = label[at] == TRUNK
        share = _patterned(cloth, angle[at], u[at], v[at], trunk)
        if share is not None:
            colour[at] += (cloth.second - cloth.colour) * share[:, None].astype(np.float32)
        if kind == TOP and (looks.open_front or looks.neckline):
            _opened(colour, at, looks, angle[at], v[at], trunk, label[at] == SKIRT)
        wrinkles = cloth.folds * _looked_up(folds, 0.8 * u[at], 0.55 * v[at], cloth.shift)
        colour[at] *= (1 + wrinkles + 0.05 * _looked_up(noise, u[at], v[at], cloth.shift, 2))[:, None]
    for kind, strength in ((HAIR, 0.3), (SKIN, 0.06), (SHOE, 0.2), (THING, 0.15)):
        at = np.flatnonzero(material == kind)
        if len(at):
            stretch = 0.25 if kind == HAIR else 1.0
            colour[at] *= (1 + strength * _looked_up(noise, u[at], stretch * v[at], looks.top.shift, 1.5))[:, None]
    at = np.flatnonzero((label == LABELS["left_hand"]) | (label == LABELS["right_hand"]))
    if len(at):  # lines between the fingers
        aside = np.sin(angle[at])
        colour[at[(np.abs(aside - np.rint(2 * aside) / 2) < 0.07) & (np.abs(aside) < 0.7) & (v[at] > 0.058)]] *= 0.72
    at = np.flatnonzero(material == FACE)
    if len(at):
        around = _looked_up(noise, 0.06 * angle[at], 0.03 * v[at], looks.top.shift, 2.0)
        colour[at] = painted_head(uv[at], around, looks)
    return colour


def _opened(
    colour: np.ndarray, at: np.ndarray, looks: Looks, angle: np.ndarray, v: np.ndarray, trunk: np.ndarray, skirt: np.ndarray
) -> None:
    """Neckline, and what an open jacket shows."""
    aside = np.abs(angle)
    if looks.open_front:
        width = looks.open_front * np.interp(v, [0.04, 0.22, 0.3], [1, 0.6, 0.35]) * trunk + looks.open_front * 0.3 * skirt
        under = aside < width
        colour[at[under]] = looks.under
        tie = under & (aside < 0.09) & trunk & (looks.open_front < 0.45)
        colour[at[tie]] = looks.thing
        lapel = ~under & (aside < width + 0.1) & trunk
        colour[at[lapel]] *= 0.75
    low = trunk & (v < 0.018 + 0.2 * looks.neckline * np.clip(1 - aside / 0.7, 0, 1))
    colour[at[low]] = looks.skin


_GLOSS = np.full(len(MATERIALS), 3, np.float32)  # brightness of a glint
_GLOSS[[SKIN, FACE, HAIR, SHOE, METAL]] = 22, 22, 20, 30, 90
_WRAP = np.full(len(MATERIALS), 0.15, np.float32)  # how far round light reaches
_WRAP[list(CLOTH)] = 0.25


def lit(colour: np.ndarray, normals: np.ndarray, material: np.ndarray, shadow: np.ndarray, light: Light) -> np.ndarray:
    """colour (N, 3) under the light; shadow (N,): 0 in the open, 1 where no light comes."""
    normals = normals / np.sqrt((normals * normals) @ np.ones((3, 1), np.float32) + np.float32(1e-9))
    towards = normals @ light.direction.astype(np.float32)
    wrap = _WRAP[material]
    sun = np.clip((towards + wrap) / (1 + wrap), 0, None) * (1 - 0.9 * shadow)
    sky = (0.86 - 0.2 * normals[:, 1] + 0.06 * normals[:, 2]) * (1 - 0.6 * shadow)
    shade = sky[:, None] * light.ambient.astype(np.float32) + sun[:, None] * light.sun.astype(np.float32)
    half = light.direction + [0, 0, 1]
    half = (half / np.linalg.norm(half)).astype(np.float32)
    glint = np.clip(normals @ half, 0, 1)
    glint = np.square(np.square(np.square(np.square(glint)))) * (1 - shadow)
    return colour * shade + (glint * _GLOSS[material])[:, None] * light.sun.astype(np.float32)
