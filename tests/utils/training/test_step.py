"""The check of a step."""

from __future__ import annotations

import pytest
import torch
from runs import ALONE

from utils.training.step import StepCheck


@pytest.mark.parametrize("limit", [None, 1e5])
def test_only_finite_losses_are_accepted(limit):
    for value, bad in [(-torch.inf, [0]), (torch.inf, [0]), (torch.nan, [0]), (1.0, [])]:
        assert StepCheck(torch.tensor([1.0, value]), limit, False, ALONE).result() == (bad, False)


def test_a_loss_above_the_limit_is_not_accepted_and_a_stop_is_passed_on():
    assert StepCheck(torch.tensor([2.0]), 2.0, True, ALONE).result() == ([], True)
    assert StepCheck(torch.tensor([2.1]), 2.0, True, ALONE).result() == ([0], True)
