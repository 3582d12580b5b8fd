"""The check of a step."""

import pytest
import torch
from runs import ALONE

from utils.training.step import StepCheck


@pytest.mark.parametrize(
    ("loss", "limit", "bad"),
    [(-torch.inf, None, [0]), (-torch.inf, 2.0, [0]), (torch.nan, None, [0]), (1e9, None, []), (2.0, 2.0, []), (2.1, 2.0, [0])],
)
def test_a_finite_loss_up_to_the_limit_is_accepted_and_a_stop_is_passed_on(loss, limit, bad):
    for stop in (False, True):
        assert StepCheck(torch.tensor([1.0, loss]), limit, stop, ALONE).result() == (bad, stop)
