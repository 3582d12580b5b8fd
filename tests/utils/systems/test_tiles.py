"""Tiles: they cover the image, people at their borders are not cut, everyone is found once."""

from types import SimpleNamespace

import numpy as np
import pytest
from places import ROOT
from torch import nn

from config import UserError, load_config
from config.load import load_skeleton
from utils.detectors import load_detector
from utils.inference import PoseEstimator
from utils.predictions import PosePredictions
from utils.systems import Decoder, build_decoder
from utils.systems.tiles import BATCH, OVERLAP, TiledDecoder, tiles_of, uncut

SKELETON = load_skeleton("coco17")
SIZE = 240, 400  # height, width of the image
INPUT = 60  # pixels, side of the network's input


@pytest.mark.parametrize("size", [SIZE, SIZE[::-1], (500, 501), (97, 4000)])
@pytest.mark.parametrize("side", [12, 50, 100.5])
def test_tiles_cover_the_image_with_overlap_up_to_its_resolution(size, side):
    tiles = np.array(tiles_of(size, side)).reshape(-1, 3)
    assert (tiles[:, :2] >= 0).all() and (tiles[:, :2] + tiles[:, 2:] <= size[::-1]).all()
    for of_side in set(tiles[:, 2].tolist()):
        corners = tiles[tiles[:, 2] == of_side, :2]
        for axis, length in ((0, size[1]), (1, size[0])):
            along = np.unique(corners[:, axis])
            assert (along[0], along[-1]) == (0, length - of_side)
            assert np.diff(along).max(initial=0) <= (1 - OVERLAP) * of_side + 1
            assert len(along) < 2 + (length - of_side) / ((1 - OVERLAP) * of_side), "no more than that takes"
            assert length > min(size) or of_side < 20 or len(along).bit_count() == 1, "2, 4, 8 along the short side"
    finest = min([min(size), *tiles[:, 2]])
    assert 0.45 * side < finest <= 1.2 * side or not len(tiles), "its resolution, and not much more"


class SeesDots(Decoder):
    """Predicts each person of `image_of`; keypoints beyond the image are missing. The fewer remain, the higher is the score."""

    def __init__(self):
        super().__init__(nn.Identity(), SimpleNamespace(data=SimpleNamespace(input_size=(INPUT, INPUT)), inference=SimpleNamespace()))
        self.batches, self.whole = [], True

    def preprocess(self, images, boxes=None):
        self.batches.append([image.shape[:2] for image in images])
        return images

    def forward(self, inputs):
        return inputs

    def decode(self, outputs):
        return [self.people(image) for image in outputs]

    def people(self, image):
        people = []
        for number in np.unique(image[..., 0])[1:] if self.whole or image.shape[:2] != SIZE else ():
            people.append(np.zeros((17, 3)))
            for y, x in np.argwhere(image[..., 0] == number):
                people[-1][image[y, x, 1]] = [x, y, 0.5]
        keypoints = np.array(people).reshape(-1, 17, 3)
        return PosePredictions(keypoints, 1 - 0.02 * (keypoints[..., 2] > 0).sum(1), SKELETON)

    def overlays(self, outputs):
        return [{"keypoints": image[..., 0]} for image in outputs]

    def groups(self, heatmaps):
        return {}


def image_of(people: np.ndarray) -> np.ndarray:
    """Return an image in which people (P, 17, 2) have a pixel for each keypoint: their number from 1, and the keypoint's."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for number, person in enumerate(people, start=1):
        for k, (x, y) in enumerate(person):
            image[y, x, :2] = number, k
    return image


def standing(height: int, *positions: tuple[int, int]) -> np.ndarray:
    """Return people (P, 17, 2) of a height whose first keypoints stand at positions x, y."""
    shape = np.stack([np.arange(17) % 2 * (height // 4), np.arange(17) * height // 17], 1)
    return np.array(positions)[:, None] + shape


@pytest.mark.parametrize("whole", [True, False])
def test_small_people_are_found_whole_and_once_wherever_they_stand(whole):
    decoder = SeesDots()
    decoder.whole = whole  # does it find them in the whole image, too
    positions = [(x, y) for x in range(2, 380, 23) for y in range(2, 218, 27)]
    small = standing(17, *positions)
    (people,) = TiledDecoder(decoder)([image_of(small)])
    assert len(people) == len(small)
    order = np.lexsort(people.keypoints[:, 0, 1::-1].T[::-1])
    np.testing.assert_array_equal(people.keypoints[order, :, :2], small[np.lexsort(small[:, 0, ::-1].T[::-1])])


def test_a_person_larger_than_a_tile_has_no_parts():
    large = standing(200, (170, 20))
    (people,) = TiledDecoder(SeesDots())([image_of(large)])
    np.testing.assert_array_equal(people.keypoints[..., :2], large)


def test_tiles_are_run_in_small_batches_of_equal_sizes_and_the_whole_image_has_the_overlays():
    decoder, image = SeesDots(), image_of(standing(17, (30, 30)))
    tiled = TiledDecoder(decoder)
    outputs = tiled.forward(tiled.preprocess([image, image]))
    assert sum(decoder.batches, []).count(SIZE) == 2
    assert max(map(len, decoder.batches)) == BATCH
    assert all(len(set(batch)) == 1 for batch in decoder.batches)
    np.testing.assert_array_equal(tiled.overlays(outputs)[1]["keypoints"], image[..., 0])
    assert [len(people) for people in tiled.decode(outputs)] == [1, 1]


def test_only_bottom_up_systems_look_at_tiles():
    config = load_config(ROOT / "config" / "simple_baselines_quickstart.yaml", ["inference.tiles=true"])
    with pytest.raises(UserError, match="top-down and looks at boxes; give the tiles to its detector"):
        build_decoder(nn.Identity(), config)
    for name in ("quickstart", "dekr_quickstart"):
        estimator = PoseEstimator(load_config(ROOT / "config" / f"{name}.yaml"), tiles=True, device="cpu")
        assert isinstance(estimator.decoder, TiledDecoder)


def test_the_detector_of_a_top_down_system_looks_at_tiles():
    estimator = PoseEstimator(load_config(ROOT / "config" / "simple_baselines_quickstart.yaml"), tiles=True, device="cpu")
    estimator(np.zeros((64, 64, 3), np.uint8))
    assert isinstance(estimator.detector.estimator.decoder, TiledDecoder)
    with pytest.raises(UserError, match="fasterrcnn_resnet50_fpn is torchvision's and takes whole images"):
        load_detector("fasterrcnn_resnet50_fpn", tiles=True)


@pytest.mark.parametrize(("tile", "left"), [((0, 0, 100), [1, 3]), ((50, 50, 100), [3]), ((300, 140, 100), [0, 2, 3])])
def test_people_cut_by_a_border_inside_the_image_are_left_to_other_tiles(tile, left):
    """They are at the right border, at the left one, at the lower right corner, and in the middle of the tile."""
    keypoints = np.ones((4, 17, 3))
    keypoints[..., :2] = standing(40, (70, 30), (1, 30), (89, 62), (40, 30)) + np.array([[[19, 0]], [[0, 0]], [[0, 0]], [[0, 0]]])
    keypoints[3, 5] = 0
    people = PosePredictions(keypoints, np.arange(4) / 4, SKELETON)
    inside = uncut(people, tile, SIZE)
    assert (inside.scores * 4).tolist() == left
    assert inside.keypoints[-1, 4].tolist() == [*(keypoints[3, 4, :2] + tile[:2]), 1]
    assert inside.keypoints[-1, 5].tolist() == [0, 0, 0]
    np.testing.assert_allclose(inside.boxes[-1], people.boxes[3] + [*tile[:2], 0, 0])
