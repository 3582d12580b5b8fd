"""Sheets of pictures: evenly spread over however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from utils.visualize.contact_sheet import ContactSheet


@pytest.mark.parametrize(
    ("pictures", "kept"), [(0, []), (5, [0, 1, 2, 3, 4]), (8, list(range(8))), (9, [0, 2, 4, 6, 8]), (40, [0, 8, 16, 24, 32])]
)
def test_of_many_pictures_some_are_kept(pictures, kept):
    sheet = ContactSheet(most=8)
    for n in range(pictures):
        sheet.add(np.full((24, 32, 3), n, np.uint8))
        assert len(sheet.thumbnails) <= 8
    assert [int(thumbnail[0, 0, 0]) for thumbnail in sheet.thumbnails] == kept


def test_without_a_limit_all_are_kept():
    sheet = ContactSheet()
    for n in range(50):
        sheet.add(np.full((24, 32, 3), n, np.uint8))
    assert len(sheet.thumbnails) == 50


def test_nothing_is_written_of_nothing(tmp_path):
    ContactSheet().write(tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
