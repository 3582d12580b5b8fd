"""The network's shapes, configuration and names."""

import pytest
import torch

from config import load_config
from models import build_model
from models.imhn import from_published, is_output

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


def test_every_parameter_learns_in_training():
    model = build("model.stages=2").train()
    torch.manual_seed(0)
    sum(scale.square().sum() for stage in model(torch.rand(2, 3, 64, 64)) for scale in stage).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_earlier_stages_reach_later_ones_at_every_scale():
    torch.manual_seed(0)
    model = build("model.stages=2")
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = model(image)[1]
        for i in range(5):
            model.stages[0].merge_features[i].bn.bias.add_(1)
            after = model(image)[1]
            assert not torch.allclose(before[i], after[i])
            before = after


def test_initial_values():
    model = build()
    assert model.front.stem.conv.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert model.stages[0].features[0].excitation.expand.weight.std().item() == pytest.approx(0.01, rel=0.4)
    assert model.stages[0].predictions[0].bias.abs().max() == 0


def test_own_names_are_no_published_ones():
    model = build()
    assert all(from_published(name) == name for name in model.state_dict())


def test_channels_follow_the_skeleton_only_in_output_layers():
    model = build()
    outputs = [name for name, tensor in model.state_dict().items() if 50 in tensor.shape]
    assert outputs
    assert all(is_output(name) for name in outputs)
