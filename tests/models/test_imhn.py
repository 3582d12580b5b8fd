"""IMHN's shapes, connections and initial weights. tests/fidelity compares the whole network."""

import re

import pytest
import torch

from config import load_config
from models import build_model
from models.imhn import IMHN

SMALL = ["model.channels=16", "model.channels_increase=8", "model.depth=2", "loss.scale_weights=[1, 1, 1]"]


def build(stages: int) -> torch.nn.Module:
    """Build a network with random weights; the initial ones are close to zero."""
    torch.manual_seed(0)
    model = build_model(load_config("config/simplepose_coco_512.yaml", [*SMALL, f"model.stages={stages}"])).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    return model


@torch.inference_mode()
def test_predict_runs_only_what_the_finest_scale_of_the_last_stage_needs():
    model, image = build(stages=3), torch.rand(2, 3, 64, 96)
    outputs = model(image)
    assert [[tuple(scale.shape) for scale in stage] for stage in outputs] == [[(2, 50, 16, 24), (2, 50, 8, 12), (2, 50, 4, 6)]] * 3
    names = {module: name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    run = set()
    for module, name in names.items():
        module.register_forward_hook(lambda *_, name=name: run.add(name))
    assert torch.equal(model.predict(image), outputs[-1][0])
    assert run == {name for name in names.values() if not re.search(r"(features|predictions)\.[12]\b", name)}


def test_published_keys_become_own_keys():
    """tests/fidelity loads all of them, where there are reference numbers."""
    for published, own in {
        "pre.conv1.weight": "front.stem.conv.weight",
        "pre.res2.convBlock.4.bias": "front.residual2.conv.bn.bias",
        "pre.dilation.5.bn.bias": "front.dilated.5.bn.bias",
        "hourglass.3.hg.1.2.convBlock.6.weight": "stages.3.hourglass.levels.1.up.expand.conv.weight",
        "hourglass.0.hg.3.4.skipConv.1.weight": "stages.0.hourglass.levels.3.bottom.skip.bn.weight",
        "features.2.before_regress.4.1.conv.weight": "stages.2.features.4.conv2.conv.weight",
        "features.2.before_regress.4.2.fc.2.bias": "stages.2.features.4.excitation.expand.bias",
        "outs.3.4.conv.bias": "stages.3.predictions.4.bias",
        "merge_features.1.0.conv.conv.weight": "stages.1.merge_features.0.conv.weight",
        "merge_preds.1.0.conv.bn.bias": "stages.1.merge_predictions.0.bn.bias",
    }.items():
        assert IMHN.convert_key(f"module.posenet.{published}") == IMHN.convert_key(published) == IMHN.convert_key(own) == own


def test_initial_values():
    model = build_model(load_config("config/simplepose_coco_512.yaml", SMALL))
    assert model.front.stem.conv.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert model.stages[0].features[0].excitation.expand.weight.std().item() == pytest.approx(0.01, rel=0.4)
    assert not model.stages[0].predictions[0].bias.any()


def test_channels_follow_the_skeleton_only_in_output_layers():
    outputs = [name for name, tensor in build(stages=2).state_dict().items() if 50 in tensor.shape]
    assert outputs and all(IMHN.is_output(name) for name in outputs)


@pytest.mark.parametrize("kind", ["features", "predictions"])
def test_gradients_reach_the_first_stage_through_features_and_predictions(kind):
    model = build(stages=2)
    other = {"features": "predictions", "predictions": "features"}[kind]
    for connection in getattr(model.stages[0], f"merge_{other}"):
        torch.nn.init.zeros_(connection.bn.weight)
    sum(scale.square().sum() for scale in model(torch.rand(1, 3, 64, 64))[1]).backward()
    for module in getattr(model.stages[0], kind):
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in module.parameters())
