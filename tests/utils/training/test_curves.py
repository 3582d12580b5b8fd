"""A run's curves: what is plotted over the epochs."""

import warnings

import numpy as np

from utils.training import curves
from utils.training.curves import draw_curves

EPOCH = {"epoch/training_loss": 4.0, "epoch/validation_loss": None, "epoch/ap": 0.5}
POINTS = [
    {"step": 5, "train/loss": 8.0, "train/lr": 0.1},
    {"step": 10, "train/loss": 4.0, "train/lr": 0.2},
    {"step": 10, "epoch/number": 1, **EPOCH},
    {"step": 20, "train/loss": 2.0, "train/lr": 0.2},
    {"step": 30, "epoch/number": 2, **EPOCH, "epoch/validation_loss": 3.0},
]


def test_metrics_are_plotted_over_the_epochs_with_gaps(monkeypatch):
    monkeypatch.setattr(curves, "draw_charts", lambda charts: charts)
    loss, ap, rate = draw_curves(POINTS)
    assert [(name, x.tolist(), y[np.isfinite(y)].tolist()) for name, (x, y, _) in loss.lines.items()] == [
        ("logged steps", [0.5, 1, 1.5], [8, 4, 2]),
        ("training", [1, 2], [4, 4]),
        ("validation", [1, 2], [3]),
    ]
    assert [(name, y.tolist()) for name, (_, y, _) in {**ap.lines, **rate.lines}.items()] == [
        ("validation", [0.5, 0.5]),
        ("learning rate", [0.1, 0.2, 0.2]),
    ]
    assert [chart.title for chart in draw_curves([{"step": 5, "epoch/number": 1, "epoch/validation_loss": None}])] == ["Loss"]


def test_a_first_epoch_is_drawn_even_if_its_loss_is_not_finite():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (draw_curves(POINTS[:3]) != 255).any()
        draw_curves([{"step": 5, "epoch/number": 1, "epoch/validation_loss": None}])
