"""Charts: longer bars for larger values, curves through their points, and no global state."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from utils.visualize.charts import Bars, Line, draw_bars, draw_lines

RED, BLUE = (0, 0, 255), (255, 0, 0)


def widths(chart: np.ndarray, color: tuple[int, int, int]) -> list[int]:
    """The lengths in pixels of the bars of a color, from top to bottom."""
    rows = (chart == color).all(-1).sum(1)
    starts = np.flatnonzero((rows > 0) & (np.r_[0, rows[:-1]] == 0))
    return [int(rows[start + 5]) for start in starts]


def test_bars_are_as_long_as_their_values():
    chart = draw_bars("title", Bars([("a", [1.0]), ("a longer name", [0.5]), ("below zero", [-0.2])], ("only",), (RED,)), 1)
    whole, half = widths(chart, RED)
    assert whole > 250
    assert half == pytest.approx(whole / 2, abs=2)
    assert "matplotlib.pyplot" not in sys.modules


def test_parts_are_stacked_and_the_longest_bar_fills_the_axis():
    chart = draw_bars("title", Bars([("a", [10.0, 30.0]), ("b", [0.0, 20.0])], ("some", "others"), (RED, BLUE)), None)
    first = chart[: len(chart) // 3]
    red, blue = (np.nonzero((first == color).all(-1))[1] for color in (RED, BLUE))
    assert red.max() < blue.min() <= red.max() + 3
    assert np.ptp(blue) == pytest.approx(3 * np.ptp(red), rel=0.06)
    assert np.ptp(blue) + np.ptp(red) > 0.6 * chart.shape[1]
    draw_bars("title", Bars([], ("only",), (RED,)), None)


def test_curves_go_through_their_points():
    chart = draw_lines("title", "x", "y", [Line("up", [0, 1], [0, 1], RED), Line("down", [0, 0.5, 0.5, 1], [1, 1, 0.01, 0.01], BLUE)])
    above = chart[: int(0.8 * len(chart))]  # without the legend
    rows, columns = np.nonzero((above == RED).all(-1))
    assert np.corrcoef(rows, columns)[0, 1] < -0.99  # rows count downwards
    blue = above[..., 0].astype(int) - above[..., 2] > 60
    assert np.flatnonzero(blue.sum(0) > 350).mean() == pytest.approx((columns.min() + columns.max()) / 2, abs=12), "it falls in the middle"
