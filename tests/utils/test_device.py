"""Which device is taken, and what Apple's cannot do."""

from __future__ import annotations

import pytest
import torch

from config import UserError
from utils.batching import num_workers
from utils.device import default_device, in_precision, precise_dtype


@pytest.mark.parametrize(("cuda", "mps", "taken"), [(True, True, "cuda:0"), (False, True, "mps:0"), (False, False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, cuda, mps, taken):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == torch.device(taken)
    assert default_device("cpu") == torch.device("cpu")


def test_a_missing_device_is_refused():
    with pytest.raises(UserError, match="device 'tpu': not available; use cpu"):
        default_device("tpu")


def test_apples_gpu_has_no_float64_no_threads_and_no_autocast_unless_asked():
    mps = torch.device("mps", 0)
    assert (precise_dtype(mps), precise_dtype(torch.device("cpu"))) == (torch.float32, torch.float64)
    assert num_workers(mps) == 1
    with in_precision("float32", mps):
        assert not torch.is_autocast_enabled("mps")
    with in_precision("float16", mps):
        assert torch.is_autocast_enabled("mps")
