"""Heatmap overlays lie where the network's input was in the image, for every system."""

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
GROUPS = {"simplepose": ["keypoints", "limbs"], "dekr": ["keypoints", "centers"], "simple_baselines": ["keypoints"]}
BOXES = np.array([[30.0, 20, 120, 90, 0.9], [150, 60, 80, 140, 0.5], [500, 500, 10, 10, 1]])


class BrightnessNetwork(nn.Module):
    """Return each system's outputs, with the image's brightness as every heatmap."""

    def __init__(self, system: str):
        super().__init__()
        self.system, self.dummy = system, nn.Parameter(torch.zeros(1))

    def predict(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        brightness = F.avg_pool2d(images[:, :1], 4)
        if self.system == "dekr":
            return brightness.expand(-1, 18, -1, -1), brightness.new_zeros(len(images), 34, *brightness.shape[2:])
        return brightness.expand(-1, 50 if self.system == "simplepose" else 17, -1, -1)


def overlays(system: str, config: Config, image: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
    decoder = build_decoder(BrightnessNetwork(system), config)
    return decoder.overlays(decoder.forward(decoder.preprocess([image], [boxes])))[0]


@pytest.mark.parametrize("system", RECIPES)
@pytest.mark.parametrize("size", [(200, 300), (257, 251)])
def test_overlays_are_aligned_with_the_image(system, size):
    config = load_config(ROOT / "config" / f"{RECIPES[system]}.yaml", ["inference.flip=false"])
    for center in ((60, 50), (170, 120)):
        image = np.zeros((*size, 3), np.uint8)
        cv2.circle(image, center, 12, (255, 255, 255), -1)
        groups = overlays(system, config, image, BOXES)
        assert list(groups) == GROUPS[system]
        for overlay in groups.values():
            assert overlay.shape == size
            assert overlay.max() > 0.8
            y, x = np.nonzero(overlay > 0.5 * overlay.max())
            np.testing.assert_allclose((x.mean(), y.mean()), center, atol=2.5)
            assert (overlay > 0.5).sum() < 2 * 3.2 * 12**2  # twice the disk


def test_overlays_are_drawn_beside_the_image():
    image = np.full((100, 120, 3), 80, np.uint8)
    overlay = resize_to_image(np.eye(25, 30, dtype=np.float32), (4, 4), (1.5, 1.5), (100, 120))
    sheet = draw_overlays(image, image, {"keypoints": overlay, "limbs": 0 * overlay})
    assert sheet.shape == (100, 360, 3)
    assert (sheet[:, :120] == 80).all()
    assert sheet[80, 120 + 81, 2] > sheet[80, 120 + 20, 2] + 50  # high values are red
    assert draw_overlays(image[:50], image[:50], {"keypoints": overlay[:50]}).shape == (100, 120, 3), "wide ones below each other"


def test_training_images_show_predicted_and_target_heatmaps():
    """Red at a peak, blue elsewhere."""
    images, predicted, target = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 17, 16, 16), torch.zeros(1, 17, 16, 16)
    predicted[0, 3, 4, 4], target[0, 3, 12, 12] = 1, 1
    decoder = build_decoder(nn.Identity(), load_config(ROOT / "config" / f"{RECIPES['simple_baselines']}.yaml"))
    (row,) = decoder.draw(images, predicted.bfloat16(), target)
    assert row.shape == (64, 192, 3) and (row[:, :64] == 127).all()
    red = row[..., 2].astype(int) - row[..., 0]
    peaks = [[red[at, panel + at] for at in (18, 50)] for panel in (64, 128)]
    assert np.array_equal(np.array(peaks) > 50, [[True, False], [False, True]]) and np.array_equal(
        np.array(peaks) < -50, [[False, True], [True, False]]
    )
