"""IMHN's shapes, connections and initial weights."""

import re

import pytest
import torch

from config import load_config
from models import build_model
from models.imhn import is_output

SMALL = ["model.channels=16", "model.channels_increase=8"]


def build(*overrides: str) -> torch.nn.Module:
    return build_model(load_config("config/simplepose_coco_512.yaml", [*SMALL, *overrides])).eval()


@pytest.mark.parametrize(("stages", "depth"), [(1, 2), (3, 4)])
@torch.inference_mode()
def test_every_stage_predicts_at_every_scale(stages, depth):
    multiple = 4 * 2**depth
    weights = [1.0] * (depth + 1)
    model = build(f"model.stages={stages}", f"model.depth={depth}", f"loss.scale_weights={weights}")
    outputs = model(torch.rand(2, 3, multiple, 2 * multiple))
    assert len(outputs) == stages
    for scales in outputs:
        assert [tuple(s.shape) for s in scales] == [(2, 50, multiple // 4 // 2**i, 2 * multiple // 4 // 2**i) for i in range(depth + 1)]


@torch.inference_mode()
def test_predict_runs_only_what_the_finest_scale_of_the_last_stage_needs():
    torch.manual_seed(0)
    model = build("model.stages=3", "model.depth=2", "loss.scale_weights=[1, 1, 1]")
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    image = torch.rand(2, 3, 64, 96)
    expected = model(image)[-1][0]
    names = {module: name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    run = set()
    for module, name in names.items():
        module.register_forward_hook(lambda *_, name=name: run.add(name))
    assert torch.equal(model.predict(image), expected)
    coarse = {name for name in names.values() if re.search(r"(features|predictions)\.[12]\b", name)}
    assert len(coarse) == 3 * 2 * (6 + 1) + 2 * 2 * (2 + 2)
    assert run == set(names.values()) - coarse


def test_initial_values():
    model = build()
    assert model.front.stem.conv.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert model.stages[0].features[0].excitation.expand.weight.std().item() == pytest.approx(0.01, rel=0.4)
    assert model.stages[0].predictions[0].bias.abs().max() == 0


def test_channels_follow_the_skeleton_only_in_output_layers():
    model = build()
    outputs = [name for name, tensor in model.state_dict().items() if 50 in tensor.shape]
    assert outputs
    assert all(is_output(name) for name in outputs)


def random_network(*overrides: str) -> torch.nn.Module:
    """Build two stages with random weights; the initial ones are close to zero."""
    torch.manual_seed(0)
    model = build("model.stages=2", *overrides)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    return model


def zero_out(norms: list[torch.nn.Module]) -> None:
    """Set connections between two stages to zero."""
    for connection in norms:
        torch.nn.init.zeros_(connection.bn.weight)


def test_identity_mapping_passes_the_input_of_a_stage_on():
    model = random_network()
    zero_out([*model.stages[0].merge_features, *model.stages[0].merge_predictions])
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        x = model.front(image)
        caches = [torch.zeros(1) for _ in range(5)]
        expected, _ = model.stages[1](x, caches)
        output = model(image)[1]
    assert all(torch.allclose(*pair, rtol=1e-4) for pair in zip(output, expected))
    assert max(scale.std() for scale in output) > 0


@pytest.mark.parametrize("kind", ["features", "predictions"])
def test_gradients_reach_the_first_stage_through_features_and_predictions(kind):
    model = random_network()
    other = {"features": "predictions", "predictions": "features"}[kind]
    zero_out(getattr(model.stages[0], f"merge_{other}"))
    sum(scale.square().sum() for scale in model(torch.rand(1, 3, 64, 64))[1]).backward()
    for module in getattr(model.stages[0], kind):
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in module.parameters())
