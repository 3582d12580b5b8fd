"""Plot a run's metrics over its epochs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from utils.visualize.charts import BLUE, GREEN, RED, Color, LineChart, draw_charts

GRAY = (200, 200, 200)  # BGR
CHARTS: dict[str, dict[str, tuple[str, Color]]] = {  # by title the metrics, each with its label and color
    "Loss": {
        "train/loss": ("logged steps", GRAY),
        "epoch/training_loss": ("training", BLUE),
        "epoch/validation_loss": ("validation", RED),
        "epoch/validation_loss_of_the_ema": ("validation, EMA", GREEN),
    },
    "AP": {"epoch/ap": ("validation", RED), "epoch/ap_of_the_ema": ("validation, EMA", GREEN)},
    "Learning rate": {"train/lr": ("learning rate", BLUE)},
}


def draw_curves(points: Sequence[dict[str, Any]]) -> np.ndarray:
    """Plot losses, validation AP where there is one, and learning rate. Return (H, W, 3) uint8 BGR.

    points: the lines of metrics.jsonl, at least one of them of a complete epoch. A value of None is a gap.
    """
    epochs = [(0, 0), *((point["step"], point["epoch/number"]) for point in points if "epoch/number" in point)]
    charts = []
    for title, metrics in CHARTS.items():
        lines = {}
        for name, (label, color) in metrics.items():
            steps, values = np.array([(point["step"], point[name]) for point in points if name in point], float).reshape(-1, 2).T
            if len(values):
                lines[label] = np.interp(steps, *zip(*epochs)), values, color
        if lines:
            charts.append(LineChart(title, "epoch", "", lines, log=title == "Loss"))
    return draw_charts(charts)
