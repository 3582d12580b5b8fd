"""The network's shapes, configuration and names."""

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
def test_every_stage_answers_at_every_scale(stages, depth):
    multiple = 4 * 2**depth
    weights = [1.0] * (depth + 1)
    model = build(f"model.stages={stages}", f"model.depth={depth}", f"loss.scale_weights={weights}")
    answer = model(torch.rand(2, 3, multiple, 2 * multiple))
    assert len(answer) == stages
    for scales in answer:
        assert [tuple(s.shape) for s in scales] == [(2, 50, multiple // 4 // 2**i, 2 * multiple // 4 // 2**i) for i in range(depth + 1)]


@torch.inference_mode()
def test_the_answer_is_what_the_last_stage_says_at_the_finest_scale_and_nothing_else_is_run():
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


def lively(*overrides: str) -> torch.nn.Module:
    """Two stages under whose weights everything matters; the initial ones are close to zero."""
    torch.manual_seed(0)
    model = build("model.stages=2", *overrides)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
    return model


def silence(norms: list[torch.nn.Module]) -> None:
    """Let nothing through some of the connections between two stages."""
    for connection in norms:
        torch.nn.init.zeros_(connection.bn.weight)


def test_a_stage_sees_what_the_one_before_it_saw():
    """The identity mapping: what the first stage has to say comes on top of it."""
    model = lively()
    silence([*model.stages[0].merge_features, *model.stages[0].merge_predictions])
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        x = model.front(image)
        nothing = [torch.zeros(1) for _ in range(5)]
        expected, _ = model.stages[1](x, nothing)
        answer = model(image)[1]
    assert all(torch.allclose(*pair, rtol=1e-4) for pair in zip(answer, expected))
    assert max(scale.std() for scale in answer) > 0


@pytest.mark.parametrize("kind", ["features", "predictions"])
def test_the_last_stage_teaches_the_first_one_by_both_ways(kind):
    model = lively()
    other = {"features": "predictions", "predictions": "features"}[kind]
    silence(getattr(model.stages[0], f"merge_{other}"))
    sum(scale.square().sum() for scale in model(torch.rand(1, 3, 64, 64))[1]).backward()
    for module in getattr(model.stages[0], kind):
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in module.parameters())
