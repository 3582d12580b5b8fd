"""Pictures of numbers: lines over two axes from 0 to 1, and bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

Colour = tuple[int, int, int]  # BGR

INK, GREY, PALE = (40, 40, 40), (120, 120, 120), (225, 225, 225)
FONT, SMALL, LARGE = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0.6
SIDE = 420  # of a square of axes, pixels
TOP, MARGIN = 58, 24  # above what is drawn for the title; elsewhere round it
ROW, BAR = 24, 13  # from bar to bar, and how thick one is
LENGTH = 380  # of the longest bar


class Line(NamedTuple):
    """Points joined by a line, x and y from 0 to 1."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: Colour


class Bars(NamedTuple):
    """Rows of a name and the values of its parts, which stand one behind the other."""

    rows: Sequence[tuple[str, Sequence[float]]]
    parts: Sequence[str]
    colours: Sequence[Colour]


def draw_lines(title: str, x_name: str, y_name: str, lines: Sequence[Line]) -> np.ndarray:
    """Lines over axes from 0 to 1, their names below. (H, W, 3) uint8 BGR."""
    left, below = MARGIN + 50, 62 + 22 * len(lines)
    picture = _sheet(title, left + SIDE + MARGIN, TOP + SIDE + below)

    def place(x: float, y: float) -> tuple[int, int]:
        return round(left + x * SIDE), round(TOP + (1 - y) * SIDE)

    for tenth in range(0, 11, 2):
        at = tenth / 10
        cv2.line(picture, place(at, 0), place(at, 1), PALE, 1)
        cv2.line(picture, place(0, at), place(1, at), PALE, 1)
        _write(picture, f"{at:.1f}", (place(at, 0)[0], TOP + SIDE + 18), align=0.5)
        _write(picture, f"{at:.1f}", (left - 8, place(0, at)[1] + 5), align=1)
    cv2.rectangle(picture, place(0, 1), place(1, 0), GREY, 1)
    _write(picture, x_name, (left + SIDE // 2, TOP + SIDE + 38), align=0.5)
    _write(picture, y_name, (left - 34, TOP - 12))
    for number, line in enumerate(lines):
        points = np.array([place(x, y) for x, y in zip(line.x, line.y)], np.int32)
        cv2.polylines(picture, [points[:, None]], False, line.colour, 2, cv2.LINE_AA)
        _key(picture, line.name, line.colour, (left, TOP + SIDE + 62 + 22 * number))
    return picture


def draw_bars(title: str, bars: Bars, most: float | None) -> np.ndarray:
    """One bar a row, with the sum of its parts behind it. most: the value of the longest possible bar; None: the largest there is."""
    parts = bars.parts if len(bars.parts) > 1 else ()  # of a single one the title tells
    left = MARGIN + max([_width(name) for name, _ in bars.rows], default=0) + 8
    most = most or max([sum(max(value, 0) for value in values) for _, values in bars.rows], default=0) or 1
    wide = max(left + LENGTH + 60, _width(title, LARGE) + 2 * MARGIN)
    picture = _sheet(title, wide, TOP + ROW * len(bars.rows) + 22 * len(parts) + MARGIN)
    for number, (name, values) in enumerate(bars.rows):
        y, x = TOP + ROW * number, float(left)
        _write(picture, name, (left - 8, y + BAR), align=1)
        for value, colour in zip(values, bars.colours):  # what is below 0 has no length
            end = x + LENGTH * max(value, 0) / most
            cv2.rectangle(picture, (round(x), y + 1), (max(round(end) - 1, round(x)), y + 1 + BAR), colour, -1 if value > 0 else 1)
            x = end
        _write(picture, f"{sum(values):.{1 if most > 1 else 3}f}", (round(x) + 6, y + BAR))
    for number, (part, colour) in enumerate(zip(parts, bars.colours)):
        _key(picture, part, colour, (left, TOP + ROW * len(bars.rows) + 16 + 22 * number))
    return picture


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Pictures side by side, white below the lower ones."""
    height = max(picture.shape[0] for picture in pictures)
    return np.hstack([cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3) for p in pictures])


def _sheet(title: str, width: int, height: int) -> np.ndarray:
    picture = np.full((height, width, 3), 255, np.uint8)
    cv2.putText(picture, title, (MARGIN, 24), FONT, LARGE, INK, 1, cv2.LINE_AA)
    return picture


def _key(picture: np.ndarray, name: str, colour: Colour, place: tuple[int, int]) -> None:
    """What a colour stands for; place: x, y of its left lower corner."""
    cv2.rectangle(picture, (place[0], place[1] - 9), (place[0] + 18, place[1]), colour, -1)
    _write(picture, name, (place[0] + 26, place[1]))


def _write(picture: np.ndarray, text: str, place: tuple[int, int], align: float = 0) -> None:
    """align: which part of the text's width lies left of the place."""
    cv2.putText(picture, text, (round(place[0] - align * _width(text)), place[1]), FONT, SMALL, INK, 1, cv2.LINE_AA)


def _width(text: str, size: float = SMALL) -> int:
    return cv2.getTextSize(text, FONT, size, 1)[0][0]
