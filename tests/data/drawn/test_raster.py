"""Triangles to pixels."""

from __future__ import annotations

import numpy as np

from data.drawn import raster
from data.drawn.raster import rasterised

SQUARE = np.array([[2.0, 3.0], [12.0, 3.0], [2.0, 9.0], [12.0, 9.0]])
HALVES = np.array([[0, 1, 2], [1, 3, 2]])


def test_a_square_covers_its_pixels_once():
    seen = rasterised(SQUARE, np.zeros(4), HALVES, 20, 30)
    assert len(seen.rows) == 60
    assert (seen.rows.min(), seen.rows.max(), seen.columns.min(), seen.columns.max()) == (3, 8, 2, 11)
    corners = np.einsum("nc,nck->nk", seen.weights, SQUARE[HALVES[seen.triangle]])
    assert np.allclose(corners, np.stack([seen.columns, seen.rows], 1) + 0.5, atol=1e-3), "weights give back the pixel's middle"


def test_the_nearer_triangle_is_seen_whatever_the_order():
    points = np.concatenate([SQUARE, SQUARE])
    for depths, nearer in (((0.0, 1.0), 1), ((1.0, 0.0), 0)):
        seen = rasterised(points, np.repeat(depths, 4), np.concatenate([HALVES, HALVES + 4]), 20, 30)
        assert len(seen.rows) == 60 and (seen.triangle // 2 == nearer).all() and np.allclose(seen.depth, 1.0, atol=1e-5)


def test_what_cuts_through_another_is_seen_in_part():
    points, depth = np.concatenate([SQUARE, SQUARE]), np.array([0, 1, 0, 1, 0.5, 0.5, 0.5, 0.5])
    seen = rasterised(points, depth, np.concatenate([HALVES, HALVES + 4]), 20, 30)
    first = seen.triangle < 2
    assert (seen.columns[first] >= 7).all() and (seen.columns[~first] < 7).all()


def test_triangles_turned_away_and_beside_the_picture_are_not_seen():
    assert not len(rasterised(SQUARE, np.zeros(4), HALVES[:, ::-1], 20, 30).rows)
    assert not len(rasterised(SQUARE + 100, np.zeros(4), HALVES, 20, 30).rows)
    assert len(rasterised(SQUARE - [7, 6], np.zeros(4), HALVES, 20, 30).rows) == 5 * 3


def test_large_triangles_are_painted_in_parts(monkeypatch):
    whole = rasterised(SQUARE, np.zeros(4), HALVES, 20, 30)
    monkeypatch.setattr(raster, "MOST_CANDIDATES", 10)
    parts = rasterised(SQUARE, np.zeros(4), HALVES, 20, 30)
    assert np.array_equal(whole.triangle, parts.triangle) and np.array_equal(whole.rows, parts.rows)
