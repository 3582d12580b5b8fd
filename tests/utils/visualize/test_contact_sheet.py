"""Contact sheets: thumbnails spread evenly over all images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from utils.visualize.contact_sheet import ContactSheet


@pytest.mark.parametrize(("limit", "count", "step"), [(8, 8, 1), (8, 9, 2), (8, 40, 8), (None, 50, 1)])
def test_of_many_images_some_are_kept(tmp_path, limit, count, step):
    sheet = ContactSheet(tmp_path / "sheet.png", limit)
    for n in range(count):
        sheet.add(np.full((24, 32, 3), n, np.uint8))
        assert limit is None or len(sheet.thumbnails) <= limit
    assert [int(thumbnail[0, 0, 0]) for thumbnail in sheet.thumbnails] == list(range(0, count, step))


def test_a_sheet_has_rows_of_four_and_room_for_wide_images(tmp_path):
    sheet = ContactSheet(tmp_path / "sheet.png")
    sheet.write()
    assert not list(tmp_path.iterdir()), "nothing to show"
    for width in (32, 32, 32, 32, 3000):
        sheet.add(np.zeros((24, width, 3), np.uint8))
    sheet.write()
    image = cv2.imread(str(tmp_path / "sheet.png"))
    assert image.shape == (2 * 240, 4 * 320, 3)
    assert (image[:240] == 0).all() and (image[240:, 480:] == 255).all()
