"""MoveNet against the published graphs' outputs, which lie beside the project."""

import numpy as np
import pytest
import torch
from places import SHARED

from models.movenet import MoveNet
from utils.checkpoint import load_weights

FOLDER = SHARED / "movenet"
WIDTHS = {"multipose": 1.5, "thunder": 1.75}
HEADS = {"center": 1, "keypoint_heatmap": 17, "keypoint_regression": 34, "keypoint_offset": 34}
BOX_HEADS = {"box_size": 2, "box_offset": 2}
# The published graphs normalize in float16: x * 0.00784... - 1 in place of x / 127.5 - 1
ROUNDED = 0.007843017578125 / 2


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no published weights: there is no folder {FOLDER}")
@pytest.mark.parametrize("name", WIDTHS)
def test_published_weights_give_the_published_outputs(name):
    """Of photographs and noise; strided convolutions padded on all sides would give other numbers of the same shapes."""
    network = MoveNet(WIDTHS[name], HEADS | (BOX_HEADS if name == "multipose" else {})).eval()
    load_weights(network, FOLDER / f"{name}.safetensors")
    record, compared = np.load(FOLDER / "reference.npz"), 0
    for picture in {key.split(".")[1] for key in record if key.startswith(name)}:
        images = torch.from_numpy(record[f"{name}.{picture}.input"]).permute(2, 0, 1)[None].flip(1) * ROUNDED
        with torch.inference_mode():
            features, maps = network.features_and_maps(images)
        for key, ours in ({f"pyramid{stride}": of_stride for stride, of_stride in zip((4, 8, 16, 32), features)} | maps).items():
            if f"{name}.{picture}.{key}" in record:
                reference = record[f"{name}.{picture}.{key}"].astype(np.float32)
                np.testing.assert_allclose(ours[0].numpy(), reference, rtol=1e-3, atol=2e-3, err_msg=f"{picture}: {key}")
                compared += 1
    assert compared == {"multipose": 25, "thunder": 14}[name]


def test_widths_scale_the_trunk_and_leave_pyramid_and_heads():
    features, maps = MoveNet(0.25, {"center": 1, "keypoint_heatmap": 14}).features_and_maps(torch.rand(2, 3, 64, 96))
    assert [tuple(t.shape) for t in features] == [(2, 24, 16, 24), (2, 24, 8, 12), (2, 32, 4, 6), (2, 64, 2, 3)]
    assert {name: tuple(t.shape) for name, t in maps.items()} == {"center": (2, 1, 16, 24), "keypoint_heatmap": (2, 14, 16, 24)}
