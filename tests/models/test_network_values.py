"""Each network computes what it did when tests/fidelity, which needs reference files, found it equal to the published one."""

import pytest
import torch
from random_weights import randomize_weights

from config import load_config
from models import build_model

DEKR = ["model.width=8", "model.offset_channels=3", "model.stem_width=16", "model.blocks=1", "model.modules=[1, 1, 1]"]
NETWORKS = {  # recipe: overrides, values spread over the outputs for random weights
    "simplepose_coco_512": (
        ["model.channels=16", "model.channels_increase=8", "model.stages=2"],
        [0.33685, -0.25849, 0.06594, 0.073, 0.43931],
    ),
    "dekr_w32_coco": (DEKR, [0.05739, -0.12596, 2.35605, 0.57856, 0.7264, -0.11852]),
    "simple_baselines_r50_256x192": (["model.deconv_channels=8"], [-0.15779, 0.19097, 0.58858, -0.29251, 0.75164, 0.337]),
    "simple_baselines_r50_caffe_256x192": (["model.deconv_channels=8"], [-0.1578, 0.18927, 0.55685, -0.28587, 0.73776, 0.34401]),
}


@pytest.mark.parametrize("recipe", NETWORKS)
@torch.inference_mode()
def test_values(recipe):
    overrides, expected = NETWORKS[recipe]
    network = build_model(load_config(f"config/{recipe}.yaml", overrides)).eval()
    randomize_weights(network.state_dict(), seed=1)
    outputs = network.predict(torch.linspace(0, 1, 3 * 64 * 128).cos().view(1, 3, 64, 128))
    values = torch.cat([output.flatten() for output in (outputs if isinstance(outputs, tuple) else (outputs,))])
    assert values[:: len(values) // 5].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)
