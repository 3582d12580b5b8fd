"""Contact sheets: thumbnails spread evenly over all images, in rows without white areas."""

import cv2
import numpy as np
import pytest

from utils.visualize.contact_sheet import HEIGHT, WIDTH, ContactSheet, contact_sheet


@pytest.mark.parametrize(("limit", "count", "step"), [(8, 8, 1), (8, 9, 2), (8, 40, 8), (500, 50, 1)])
def test_of_many_images_some_are_kept(tmp_path, limit, count, step):
    sheet = ContactSheet(tmp_path / "sheet.png", limit)
    for n in range(count):
        sheet.add(np.full((24, 32, 3), n, np.uint8))
        assert len(sheet.thumbnails) <= limit
    assert [int(thumbnail[0, 0, 0]) for thumbnail in sheet.thumbnails] == list(range(0, count, step))


def test_images_of_any_shape_fill_the_rows_in_order(tmp_path):
    """No pixel is white, a panorama and a strip of one pixel included."""
    sheet = ContactSheet(tmp_path / "sheet.png")
    sheet.write()
    assert not list(tmp_path.iterdir()), "nothing to show"
    shapes = [(24, 32), (32, 24), (24, 32), (900, 1), (30, 3000), *[(480, 640), (640, 480), (200, 200)] * 5]
    for n, shape in enumerate(shapes):
        sheet.add(np.full((*shape, 3), 10 * n, np.uint8))
    sheet.write()
    image = cv2.imread(str(tmp_path / "sheet.png"))
    assert image.shape[1] == WIDTH and image.max() == 190
    starts = [0, *(np.flatnonzero(np.diff(image[:, 0, 0])) + 1), len(image)]
    heights = np.diff(starts)
    assert len(heights) == 5 and heights.max() < 2 * HEIGHT
    assert [value for start in starts[:-1] for value in dict.fromkeys(image[start, :, 0].tolist())] == [10 * n for n in range(20)]


def test_few_images_are_one_row():
    tall, wide, strip = (np.zeros((*shape, 3), np.uint8) for shape in ((32, 24), (48, 64), (900, 1)))
    assert contact_sheet([wide, tall], 240, 1280).shape == (240, 320 + 180, 3)
    assert contact_sheet([strip], 240, 1280).shape == (900, 1, 3)
    assert contact_sheet([wide, strip, wide], 240, 64).shape == (2 * 48, 64, 3), "less than half a pixel of the strip would be visible"
