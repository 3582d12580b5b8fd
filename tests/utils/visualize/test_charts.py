"""Pictures of numbers: what is longer is drawn longer, and nothing is drawn outside."""

from __future__ import annotations

import numpy as np
import pytest

from utils.visualize.charts import Bars, Line, beside, draw_bars, draw_lines

RED, BLUE = (0, 0, 255), (255, 0, 0)


def drawn(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a colour."""
    return np.nonzero((picture == colour).all(-1))


def lengths(picture: np.ndarray, colour: tuple[int, int, int]) -> list[int]:
    """How long each bar of this colour is, from above; the squares that say what colours mean are left out."""
    rows = (picture == colour).all(-1).sum(1)
    starts = np.flatnonzero((rows > 0) & (np.r_[0, rows[:-1]] == 0))
    return [int(rows[start + 5]) for start in starts if rows[start : start + 12].all()]


def test_bars_are_as_long_as_their_values():
    picture = draw_bars("title", Bars([("a", [1.0]), ("a longer name", [0.5]), ("b", [0.25])], ("only",), (RED,)), 1)
    whole, half, quarter = lengths(picture, RED)
    assert whole > 300
    assert (half, quarter) == (pytest.approx(whole / 2, abs=2), pytest.approx(whole / 4, abs=2))


def test_parts_stand_one_behind_the_other():
    picture = draw_bars("title", Bars([("a", [10.0, 30.0]), ("b", [0.0, 20.0]), ("c", [0.0, 0.0])], ("some", "others"), (RED, BLUE)), None)
    red, blue = lengths(picture, RED), lengths(picture, BLUE)
    assert blue[0] == pytest.approx(3 * red[0], abs=6)
    assert blue[1] == pytest.approx(2 * red[0], abs=6)
    first = slice(0, 80)
    assert drawn(picture[first], RED)[1].max() < drawn(picture[first], BLUE)[1][0]


@pytest.mark.parametrize("values", [[-0.2], [0.0]])
def test_nothing_is_as_long_as_less_than_nothing(values):
    picture = draw_bars("title", Bars([("a", values), ("b", [0.5])], ("only",), (RED,)), None)
    assert lengths(picture, RED)[0] <= 2


def test_no_bars_are_no_error():
    assert draw_bars("title", Bars([], ("only",), (RED,)), None).ndim == 3


def test_lines_go_where_they_should():
    up, down = Line("up", [0, 1], [0, 1], RED), Line("down", [0, 0.5, 0.5, 1], [1, 1, 0, 0], BLUE)
    picture = draw_lines("title", "x", "y", [up, down])
    rows, columns = drawn(picture[:480], RED)
    assert np.corrcoef(rows, columns)[0, 1] < -0.99  # rows count downwards
    middle = (columns.min() + columns.max()) // 2
    rows, columns = drawn(picture[:480], BLUE)
    assert np.ptp(rows[abs(columns - middle) < 4]) > 380  # falls in the middle
    assert columns.min() < middle - 180 and columns.max() > middle + 180


def test_pictures_beside_each_other():
    both = beside(np.zeros((10, 20, 3), np.uint8), np.zeros((30, 5, 3), np.uint8))
    assert both.shape == (30, 25, 3)
    assert (both[10:, :20] == 255).all() and (both[:, 20:] == 0).all()
