"""People in images: colors by identity, width by size, opacity by score."""

import numpy as np
import pytest

from config.load import load_skeleton
from utils.visualize.people import draw_people, person_color

SKELETON = load_skeleton("coco17")
ENDS = SKELETON.drawn_ends[0]
GRAY = 60


def bar(x: float, height: float, score: float = 1.0, top: float = 20) -> np.ndarray:
    """Return a person (K, 3) with one visible limb, upright at x."""
    person = np.zeros((17, 3))
    person[ENDS] = [[x, top, score], [x, top + height, score]]
    return person


def draw(*people: np.ndarray, size: tuple[int, int] = (600, 400), ids: list[int] | None = None) -> np.ndarray:
    keypoints = np.array(people).reshape(-1, 17, 3)
    return draw_people(np.full((*size, 3), GRAY, np.uint8), keypoints, SKELETON, None if ids is None else np.array(ids))


def width_at(image: np.ndarray, y: int, x: int) -> int:
    """Return how many pixels of a row around x have changed."""
    return int((image[y, x - 40 : x + 40] != GRAY).any(1).sum())


@pytest.mark.parametrize("ids", [None, [3, 4, 0], [4, 3, -1]])
def test_each_identity_has_a_color(ids):
    image = draw(bar(50, 300, top=60), bar(150, 300, top=60), bar(250, 300, top=60), ids=ids)
    assert [tuple(image[210, x].tolist()) for x in (50, 150, 250)] == [person_color(n) for n in ids or range(3)]
    numbered = [(image[20:50, x - 20 : x + 40] != GRAY).any() for x in (50, 150, 250)]
    assert numbered == [ids is not None and n >= 0 for n in ids or range(3)], "the number is above"
    colors = np.array([person_color(n) for n in range(8)])
    assert np.abs(colors[:, None] - colors[None]).sum(-1)[~np.eye(8, dtype=bool)].min() > 60, "colors differ clearly"


def test_lines_grow_with_the_person_and_lower_scores_are_fainter():
    image = draw(bar(80, 60), bar(200, 500))
    assert 1 <= width_at(image, 50, 80) < width_at(image, 270, 200) <= 12
    assert width_at(draw(bar(40, 50), size=(100, 80)), 45, 40) <= 5, "nothing is hidden in a small image"
    strengths = [int(np.abs(draw(bar(80, 300, score))[170, 80].astype(int) - GRAY).sum()) for score in (0.01, 0.2, 0.4, 0.9)]
    assert 0 < strengths[0] < strengths[1] < strengths[2] == strengths[3]


@pytest.mark.parametrize("position", [-5, 599, 1e9, np.nan, np.inf])
def test_keypoints_outside_the_image_are_drawn_as_far_as_visible(position):
    for score in (0.1, 1):
        person = bar(80, 300, score)
        person[ENDS[1], :2] = position
        assert draw(person).shape == (600, 400, 3)
    assert draw(bar(0, 1), size=(1, 1)).shape == (1, 1, 3)
    assert (draw(bar(-500, 50), np.zeros((17, 3)), ids=[2, 3]) == GRAY).all()
