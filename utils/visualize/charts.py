"""Draw charts as images: curves over two axes from 0 to 1, and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:  # half a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[int, int, int]  # BGR
Values = Sequence[float]
WIDTH, ROW, LEGEND = 5.0, 0.24, 0.3  # inches: of a chart, of a bar, of an entry in the legend


def draw_lines(title: str, x_name: str, y_name: str, lines: Mapping[str, tuple[Values, Values, Color]]) -> np.ndarray:
    """Plot curves, by name their x, y and color, over axes from 0 to 1, and name them below. Returns (H, W, 3) uint8 BGR."""
    figure, axes = _chart(title, WIDTH + LEGEND * len(lines))
    for name, (x, y, color) in lines.items():
        axes.plot(x, y, color=_rgb(color), label=name)
    axes.set(xlabel=x_name, ylabel=y_name, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.4)
    figure.legend(loc="outside lower left")
    return _pixels(figure)


def draw_bars(title: str, rows: Mapping[str, Values], colors: Mapping[str, Color], most: float | None) -> np.ndarray:
    """Plot one bar a row, its parts stacked from left to right, and write their sum behind it. Values below 0 have no length.

    rows: by name the values of the parts; colors: of each part by name; most: end of the axis; None: the largest sum. Returns (H, W, 3)
    uint8 BGR.
    """
    values = np.array(list(rows.values()), float).reshape(-1, len(colors))
    ends = values.clip(0).cumsum(1)
    most = most or ends.max(initial=0) or 1.0
    figure, axes = _chart(title, 1 + ROW * len(rows) + LEGEND * len(colors))
    for (part, color), column, end in zip(colors.items(), values.clip(0).T, ends.T):
        axes.barh(range(len(rows)), column, left=end - column, color=_rgb(color), label=part)
    for row, (total, end) in enumerate(zip(values.sum(1), ends[:, -1])):
        axes.text(end + 0.01 * most, row, f"{total:.{1 if most > 1 else 3}f}", va="center", fontsize="small")
    axes.set(xlim=(0, 1.12 * most), ylim=(max(len(rows), 1) - 0.5, -0.5), yticks=range(len(rows)), yticklabels=list(rows))
    axes.spines[["top", "right"]].set_visible(False)
    if len(colors) > 1:  # the title says what a single part is
        figure.legend(loc="outside lower left")
    return _pixels(figure)


def _chart(title: str, height: float) -> tuple[Figure, Axes]:
    """Create a figure of this height in inches. pyplot is not involved: its backend and its list of figures are global."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    return figure, figure.subplots()


def _rgb(color: Color) -> tuple[float, ...]:
    return tuple(value / 255 for value in reversed(color))


def _pixels(figure: Figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
