"""People in pictures: who is who, how large, how sure."""

from __future__ import annotations

import numpy as np
import pytest

from config.load import load_skeleton
from utils.visualize.people import draw_people, line_size, opacities, person_color

SKELETON = load_skeleton("coco17")
GREY = 60


def bar(x: float, height: float, score: float = 1.0, top: float = 20) -> np.ndarray:
    """(K, 3): one drawn limb, upright at x."""
    person = np.zeros((17, 3))
    person[SKELETON.drawn_ends[0]] = [[x, top, score], [x, top + height, score]]
    return person


def drawn(*people: np.ndarray, size: tuple[int, int] = (600, 400)) -> np.ndarray:
    return draw_people(np.full((*size, 3), GREY, np.uint8), np.array(people).reshape(-1, 17, 3), SKELETON)


def width_at(picture: np.ndarray, y: int, x: int) -> int:
    """How many pixels of a row around x are not as they were."""
    return int((picture[y, x - 40 : x + 40] != GREY).any(1).sum())


def test_each_person_has_a_colour():
    picture = drawn(bar(50, 300), bar(150, 300), bar(250, 300))
    assert [tuple(int(v) for v in picture[170, x]) for x in (50, 150, 250)] == [person_color(n) for n in range(3)]


def test_the_larger_the_person_the_wider_the_lines():
    picture = drawn(bar(80, 60), bar(200, 500))
    assert 1 <= width_at(picture, 50, 80) < width_at(picture, 270, 200) <= 12
    small = drawn(bar(40, 50), size=(100, 80))
    assert width_at(small, 45, 40) <= 5, "nobody is painted over in a small picture"
    assert line_size(np.zeros((17, 3)), (600, 400)) == 1


def test_the_less_sure_the_fainter():
    def strength(score: float) -> int:
        return int(np.abs(drawn(bar(80, 300, score))[170, 80].astype(int) - GREY).sum())

    assert 0 < strength(0.01) < strength(0.2) < strength(0.4) == strength(0.9)
    assert opacities(np.array([0, 1, 5])).tolist() == [0.25, 1, 1]


@pytest.mark.parametrize("place", [-5, 599, 1e9, -1e9, np.nan, np.inf])
def test_keypoints_outside_the_picture_do_no_harm(place):
    for score in (0.1, 1):
        person = bar(80, 300, score)
        person[SKELETON.drawn_ends[0][1], :2] = place
        assert drawn(person).shape == (600, 400, 3)
    assert drawn(bar(0, 1), size=(1, 1)).shape == (1, 1, 3)


def test_nobody_is_drawn_where_nobody_is():
    assert (drawn() == GREY).all()
    assert (drawn(np.zeros((17, 3))) == GREY).all()
