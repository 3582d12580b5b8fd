"""Draw charts side by side as one image: lines, and stacked bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:  # half a second to import
    from matplotlib.axes import Axes

Color = tuple[int, int, int]  # BGR
Values = Sequence[float]
GREEN, BLUE, RED = (90, 170, 80), (200, 120, 60), (60, 60, 200)
WIDTH, HEIGHT, ROW = 5.0, 5.0, 0.24  # inches: of a chart, and of a bar with its gap


class LineChart(NamedTuple):
    """Lines by name, each with its x, y and color. A line of one point is a dot."""

    title: str
    x_name: str
    y_name: str
    lines: Mapping[str, tuple[Values, Values, Color]]
    limits: tuple[float, float, float, float] | None = None  # from x, to x, from y, to y; None: what the lines need
    log: bool = False  # the y axis

    def plot(self, axes: Axes) -> None:
        for name, (x, y, color) in self.lines.items():
            axes.plot(x, y, "." * (len(x) == 1) or "-", color=_rgb(color), label=name)
        axes.set(title=self.title, xlabel=self.x_name, ylabel=self.y_name)
        if self.limits:
            axes.axis(self.limits)
        if self.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(alpha=0.4, which="both")
        if len(self.lines) > 1:  # the title says what a single line is
            axes.legend(loc="best")


class BarChart(NamedTuple):
    """One bar a row, its parts stacked from left to right, with their sum behind it. Values below 0 have no length."""

    title: str
    rows: Mapping[str, Values]  # by name the values of the parts
    colors: Mapping[str, Color]  # of each part by name
    most: float | None = None  # end of the axis; None: the largest sum

    def plot(self, axes: Axes) -> None:
        values = np.array(list(self.rows.values()), float).reshape(-1, len(self.colors))
        ends = values.clip(0).cumsum(1)
        most = self.most or ends.max(initial=0) or 1.0
        for (part, color), column, end in zip(self.colors.items(), values.clip(0).T, ends.T):
            axes.barh(range(len(values)), column, left=end - column, color=_rgb(color), label=part)
        for row, (total, end) in enumerate(zip(values.sum(1), ends[:, -1])):
            axes.text(end + 0.01 * most, row, f"{total:.{1 if most > 1 else 3}f}", va="center", fontsize="small")
        axes.set(title=self.title, xlim=(0, 1.12 * most), ylim=(max(len(values), 1) - 0.5, -0.5))
        axes.set(yticks=range(len(values)), yticklabels=list(self.rows))
        axes.spines[["top", "right"]].set_visible(False)
        if len(self.colors) > 1:  # the title says what a single part is
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=len(self.colors))


def draw_charts(charts: Sequence[LineChart | BarChart]) -> np.ndarray:
    """Draw charts side by side. Return (H, W, 3) uint8 BGR. pyplot is not involved: its backend and its list of figures are global."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = max(HEIGHT, *(1 + ROW * len(chart.rows) for chart in charts if isinstance(chart, BarChart)), 0)
    figure = Figure(figsize=(WIDTH * len(charts), height), layout="constrained")
    for chart, axes in zip(charts, figure.subplots(1, len(charts), squeeze=False)[0]):
        chart.plot(axes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)


def _rgb(color: Color) -> tuple[float, ...]:
    return tuple(value / 255 for value in reversed(color))
