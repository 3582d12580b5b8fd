"""What a network sees lies where it is in the photograph, for every system."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from places import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from config import Config, load_config
from utils.systems import build_decoder
from utils.visualize.heatmaps import draw_overlays, resize_to_image

RECIPES = {"simplepose": "simplepose_coco_512", "dekr": "dekr_w32_coco", "simple_baselines": "simple_baselines_r50_256x192"}
BOXES = np.array([[30.0, 20, 120, 90, 0.9], [150, 60, 80, 140, 0.5], [500, 500, 10, 10, 1]])
KINDS = {"simplepose": ["keypoints", "limbs"], "dekr": ["keypoints", "centers"], "simple_baselines": ["keypoints"]}


class SeesLight(nn.Module):
    """Answers as a system's network does: in each map how light the image is there."""

    def __init__(self, system: str):
        super().__init__()
        self.system, self.dummy = system, nn.Parameter(torch.zeros(1))

    def predict(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        light = F.avg_pool2d(images[:, :1], 4)
        if self.system == "dekr":
            return light.expand(-1, 18, -1, -1), light.new_zeros(len(light), 34, *light.shape[2:])
        return light.expand(-1, 50 if self.system == "simplepose" else 17, -1, -1)

    def forward(self, images: Tensor) -> object:
        answer = self.predict(images)
        return [[answer]] if self.system == "simplepose" else answer


def overlays(system: str, config: Config, image: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
    decoder = build_decoder(SeesLight(system), config)
    return decoder.overlays(decoder.forward(decoder.preprocess([image], [boxes])))[0]


def middle(response: np.ndarray) -> np.ndarray:
    """x, y of what is light."""
    y, x = np.nonzero(response > 0.5 * response.max())
    return np.array([x.mean(), y.mean()])


@pytest.mark.parametrize("system", RECIPES)
@pytest.mark.parametrize("size", [(200, 300), (257, 251)])
def test_responses_lie_where_they_are_in_the_photograph(system, size):
    config = load_config(ROOT / "config" / f"{RECIPES[system]}.yaml", ["inference.flip=false"])
    for place in ((60, 50), (170, 120)):
        image = np.zeros((*size, 3), np.uint8)
        cv2.circle(image, place, 12, (255, 255, 255), -1)
        responses = overlays(system, config, image, BOXES)
        assert list(responses) == KINDS[system]
        for response in responses.values():
            assert response.shape == size
            assert response.max() > 0.8
            np.testing.assert_allclose(middle(response), place, atol=2.5)
            assert (response > 0.5).sum() < 2 * 3.2 * 12**2, "no larger than it is"


def test_without_a_box_there_is_nothing_to_see():
    config = load_config(ROOT / "config" / "simple_baselines_r50_256x192.yaml")
    image = np.full((40, 50, 3), 255, np.uint8)
    responses = overlays("simple_baselines", config, image, np.zeros((0, 5)))
    assert not responses["keypoints"].any()


def test_a_sheet():
    image = np.full((100, 120, 3), 80, np.uint8)
    response = resize_to_image(np.eye(25, 30, dtype=np.float32), (4, 4), (1.5, 1.5), (100, 120))
    sheet = draw_overlays(image, image, {"keypoints": response, "limbs": 0 * response})
    assert sheet.shape == (100, 360, 3)
    assert (sheet[:, :120] == 80).all()
    assert sheet[80, 120 + 81, 2] > sheet[80, 120 + 20, 2] + 50, "red where it is strong"
    wide = np.zeros((50, 120, 3), np.uint8)
    assert draw_overlays(wide, wide, {"keypoints": np.zeros((50, 120))}).shape == (100, 120, 3)
