"""Polygons and run-length encodings to masks."""

import random

import numpy as np
from pycocotools import mask as coco_mask

from config import UserError
from data.formats.segmentation import rle_to_mask, segmentation_to_rle


def test_a_mask_covers_all_segmentations():
    """Polygons and RLEs, uncompressed and compressed, some of them with empty runs."""
    rng = np.random.default_rng(0)
    polygons = [[rng.uniform(-20, 220, 16).tolist() for _ in range(3)] for _ in range(6)]
    columns = [[0, 0, 0, 9 * 160, 0, 0, 191 * 160], [5 * 160, 4 * 160, 0, 0, 191 * 160]]
    blocks = (rng.random((20, 25)) < 0.1).repeat(8, 0).repeat(8, 1)
    packed = coco_mask.encode(np.asfortranarray(blocks, np.uint8))
    segmentations = [{"size": [160, 200], "counts": counts} for counts in columns]
    segmentations += [*polygons, {**packed, "counts": packed["counts"].decode()}, packed]
    expected = blocks.copy()
    expected[:, :9] = True
    for polygon in polygons:
        expected |= coco_mask.decode(coco_mask.frPyObjects(polygon, 160, 200)).any(2)
    runs = [run for one in segmentations for run in segmentation_to_rle(one, 160, 200)]
    np.testing.assert_array_equal(rle_to_mask(runs, 160, 200), expected)
    assert not rle_to_mask([], 160, 200).any()


def test_segmentations_of_any_numbers_end_in_a_mask_or_an_error():
    """pycocotools alone crashes on some of them."""
    rng = random.Random(0)
    odd = [0, 1, -1, 4, 7, 1e9, -1e300, float("nan"), float("inf"), 2**31, 2**63, "1", None, [], {}, True]

    def polygon() -> object:
        return rng.choice([[rng.choice(odd) for _ in range(rng.randrange(9))], [rng.uniform(-50, 250) for _ in range(rng.randrange(12))]])

    def rle() -> object:
        counts = rng.choice(["".join(chr(rng.randrange(40, 120)) for _ in range(rng.randrange(9))), polygon(), None, 5])
        return {"counts": counts, "size": rng.choice([[16, 20], [2**31, 2**31], [20, 16], [-1, 5], None, 7])}

    for _ in range(3000):
        segmentation = rle() if rng.random() < 0.5 else [polygon() for _ in range(rng.randrange(4))]
        try:
            mask = rle_to_mask(segmentation_to_rle(segmentation, 16, 20), 16, 20)
        except UserError:
            continue
        assert (mask.shape, mask.dtype) == ((16, 20), bool)
