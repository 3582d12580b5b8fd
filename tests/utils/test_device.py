"""Which device is taken, and what Apple's cannot do."""

import re

import pytest
import torch

from config import UserError
from config.schema import TrainConfig
from utils.batching import num_workers
from utils.device import default_device, in_precision, precise_dtype, uses_channels_last, uses_compile


@pytest.mark.parametrize(("cuda", "mps", "taken"), [(True, True, "cuda:0"), (False, True, "mps:0"), (False, False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, cuda, mps, taken):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == torch.device(taken)
    assert default_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cuda?"])
def test_a_missing_device_is_refused(name):
    with pytest.raises(UserError, match=rf"device '{re.escape(name)}': not available; use cpu"):
        default_device(name)


def test_apples_gpu_has_no_float64_no_threads_and_no_autocast_unless_asked():
    mps = torch.device("mps", 0)
    assert (precise_dtype(mps), precise_dtype(torch.device("cpu"))) == (torch.float32, torch.float64)
    assert num_workers(mps) == 1
    with in_precision("float32", mps):
        assert not torch.is_autocast_enabled("mps")
    with in_precision("float16", mps):
        assert torch.is_autocast_enabled("mps")


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("cpu", {}, True),
        ("cpu", {"channels_last": False}, False),
        ("mps", {}, False),
        ("cuda", {}, True),  # TF32
        ("cuda", {"tf32": False}, False),
        ("cuda", {"tf32": False, "channels_last": True}, True),
        ("cuda", {"tf32": False, "precision": "float16"}, True),
        ("cuda", {"precision": "float64"}, False),
    ],
)
def test_channels_last_is_automatic_where_it_is_fast(device, settings, expected):
    assert uses_channels_last(TrainConfig(**settings), torch.device(device)) is expected


def test_compile_is_automatic_on_gpus_that_triton_supports(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("utils.device.find_spec", lambda _: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    capability, gpu = (7, 0), torch.device("cuda")
    assert not uses_compile("auto", gpu), "no C compiler"
    monkeypatch.setenv("CC", "cc")
    assert uses_compile("auto", gpu) and not uses_compile("auto", torch.device("cpu"))
    capability = 6, 1
    assert not uses_compile("auto", gpu) and uses_compile(True, gpu)
