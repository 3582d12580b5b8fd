"""Charts: longer bars for larger values, curves through their points, and no global state."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from utils.visualize.charts import BarChart, LineChart, draw_charts

RED, BLUE = (0, 0, 255), (255, 0, 0)


def pixels(chart: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of a color."""
    return np.nonzero((chart == color).all(-1))


def test_bars_are_as_long_as_their_values(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # other tests' packages import it
    chart = draw_charts([BarChart("title", {"a": [1.0], "a longer name": [0.5], "below zero": [-0.2]}, {"only": RED}, 1)])
    widths = np.bincount(pixels(chart, RED)[0], minlength=len(chart))
    bars = [bar[len(bar) // 2] for bar in np.split(widths, np.flatnonzero(np.diff(widths > 0)) + 1) if bar[0]]
    assert bars[0] > 250
    assert bars == pytest.approx([bars[0], bars[0] / 2], abs=2)
    assert "matplotlib.pyplot" not in sys.modules


def test_parts_are_stacked_and_the_longest_bar_fills_the_axis():
    bars = BarChart("title", {"a": [10.0, 30.0], "b": [0.0, 20.0]}, {"some": RED, "others": BLUE})
    chart = draw_charts([bars, bars._replace(rows={})])[:, :500]
    red, blue = (pixels(chart[: len(chart) // 3], color)[1] for color in (RED, BLUE))
    assert red.max() < blue.min() <= red.max() + 3
    assert np.ptp(blue) == pytest.approx(3 * np.ptp(red), rel=0.06)
    assert np.ptp(blue) + np.ptp(red) > 0.6 * chart.shape[1]


def test_lines_go_through_their_points():
    lines = {"up": ([0, 1], [0, 1], RED), "down": ([0, 0.5, 0.5, 1], [1, 1, 0.01, 0.01], BLUE)}
    chart = draw_charts([LineChart("title", "x", "y", lines, (0, 1, 0, 1.02))])
    rows, columns = pixels(chart, RED)
    straight = np.interp(columns, [columns.min(), columns.max()], [rows.max(), rows.min()])  # rows count downwards
    assert (np.abs(rows - straight) < 4).mean() > 0.8, "the rest is in the legend"
    blue = chart[..., 0].astype(int) - chart[..., 2] > 60
    assert np.flatnonzero(blue.sum(0) > 250).mean() == pytest.approx((columns.min() + columns.max()) / 2, abs=12), "it falls in the middle"


def test_axes_have_their_limits_and_scale_and_a_lone_point_is_a_dot():
    chart = LineChart("title", "x", "y", {"point": ([2], [3], RED), "line": ([1, 4], [30, 300], BLUE)}, log=True)
    free, limited = Figure().subplots(1, 2)
    chart.plot(free)
    chart._replace(limits=(0, 5, 1, 900), log=False).plot(limited)
    assert (free.get_yscale(), free.get_xlim()[0] > 0) == ("log", True)
    assert (limited.get_yscale(), *limited.get_xlim(), *limited.get_ylim()) == ("linear", 0, 5, 1, 900)
    assert [line.get_marker() for line in free.lines] == [".", "None"]
