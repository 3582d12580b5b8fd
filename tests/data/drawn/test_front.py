"""What stands before drawn people hides them, and their shadows lie at their feet."""

from __future__ import annotations

import numpy as np
import pytest

from data.drawn.figure import View, random_figure
from data.drawn.front import cast_shadow, put_before
from data.drawn.shade import light_from

SIZE, PERSON = (120, 160), 40


@pytest.mark.parametrize("seed", range(12))
def test_what_stands_before_people_is_nobody(seed):
    """Where it is painted, and nowhere else; its edge is soft."""
    image, ids = np.full((*SIZE, 3), (255, 0, 255), np.uint8), np.full(SIZE, PERSON, np.int32)
    put_before(np.random.default_rng(seed), image, ids)
    change = np.abs(image.astype(int) - (255, 0, 255)).max(2)
    assert set(np.unique(ids)) <= {0, PERSON}
    assert (change[ids == 0] > 20).all() and (ids == 0).any()
    assert (change[ids == PERSON] < 0.65 * change.max()).all()


@pytest.mark.parametrize("aside", [-0.8, 0.8])
def test_a_shadow_darkens_the_ground_at_the_feet(aside):
    """On the side that is away from the light."""
    image, stature = np.full((*SIZE, 3), 200, np.uint8), 80.0
    figure = random_figure(np.random.default_rng(0), np.full(3, 128.0), View())
    feet = 100.0
    origin = np.array([80.0, feet - figure.extent()[3] * stature])
    cast_shadow(image, (figure, stature, origin), light_from(aside), 0.3)
    rows, columns = np.nonzero(image[..., 0] < 195)
    assert len(rows) > 50 and image.max() == 200
    assert np.abs(rows - feet).max() < 0.5 * stature and (np.hypot(rows - feet, columns - 80) < 0.3 * stature).any()
    assert np.sign(columns.mean() - 80) == -np.sign(aside)
