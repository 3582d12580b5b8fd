"""State dicts are found under other trainers' keys, and unwrapped of their prefixes."""

import pytest
import torch

from models.checkpoint_keys import KEYS, find_weights, preferred, unwrapped

A, B = ({"a.weight": torch.tensor(value), "b.weight": torch.tensor(value)} for value in (1.0, 2.0))


@pytest.mark.parametrize(
    "content, wanted",
    [
        (A, {"": A}),
        *(({key: A, "epoch": 3, "optimizer": {"state": B}}, {key: A}) for key in KEYS),
        ({"checkpoint": {"model": A, "epoch": 3}}, {"checkpoint.model": A}),
        ({"model": A, "ema": {"module": B}}, {"ema.module": B}),
        ({"checkpoint": {"params": A, "params_ema": B}}, {"checkpoint.params_ema": B}),
        ({"weights": A, "state_dict": B}, {"weights": A}),  # ours
        ({"model": A, "net": B}, {"model": A, "net": B}),
        ({"model": A, "state_dict": dict(A)}, {"state_dict": A}),  # the same tensors
        ({"model": {"name": "resnet"}, "net": "resnet", "state_dict": A}, {"state_dict": A}),
        ({**A, "n_averaged": torch.tensor(12), "total_ops": 3, "a.total_params": torch.zeros(1)}, {"": A}),
        ({"_orig_mod.a._checkpoint_wrapped_module.weight": A["a.weight"], "b._orig_mod.weight": A["b.weight"]}, {"": A}),
        ({"a": torch.ones(1), "_orig_mod.a": torch.ones(1)}, {"": {"a": torch.ones(1), "_orig_mod.a": torch.ones(1)}}),
        *((content, {}) for content in ({}, {"epoch": 3}, {"state_dict": {}}, {"model": {"a": 1}}, {0: torch.ones(1)}, {"other": A})),
    ],
)
def test_the_state_dict_is_found(content, wanted):
    assert preferred(find_weights(content)) == wanted


@pytest.mark.parametrize(
    "names, wanted",
    [
        (["a.weight"], [["a.weight"], ["weight"]]),
        (["module.net.a.w", "module.net.b.w", "module.net.c.w"], [["module.net.a.w", ...], ["net.a.w", ...], ["a.w", "b.w", "c.w"]]),
        (["model.a.w", "model.b.w", "loss.w"], [["model.a.w", ...], ["a.w", "b.w", "loss.w"]]),  # of a trainer's own tensors
        (["a.w", "b.w", "x.a.w", "x.b.w"], [["a.w", ...]]),  # two copies
        (["x.a.w", "x.b.w", "x.c.w", "a.w"], [["x.a.w", ...]]),  # one tensor twice
        (["weight", "bias"], [["weight", "bias"]]),
    ],
)
def test_prefixes_are_taken_off_one_by_one(names, wanted):
    weights = {name: torch.ones(1) for name in names}
    found = [list(inner) for inner in unwrapped(weights)]
    assert [inner[: len(want)] if want[-1] is not ... else [inner[0], ...] for inner, want in zip(found, wanted, strict=True)] == wanted
