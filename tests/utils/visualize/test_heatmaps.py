"""Heatmaps over images: red at the peak, blue elsewhere."""

from __future__ import annotations

import numpy as np

from utils.visualize.heatmaps import draw_heatmaps


def test_a_row_has_the_image_and_each_group_over_it():
    heatmaps = np.zeros((2, 6, 8), np.float32)
    heatmaps[1, 2, 5] = 1
    row = draw_heatmaps(np.full((3, 24, 32), 0.5, np.float32), [heatmaps, heatmaps[:0]])
    assert row.shape == (24, 3 * 32, 3)
    assert (row[:, :32] == 127).all()
    peak, elsewhere = row[10, 32 + 22].astype(int), row[10, 32 + 4].astype(int)
    assert peak[2] - peak[0] > 50 and elsewhere[0] - elsewhere[2] > 50
    assert (row[:, 64:] == elsewhere).all(), "a group without heatmaps"
