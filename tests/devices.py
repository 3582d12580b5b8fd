"""The devices that tests run on. `pytest -m gpu` runs those that need an NVIDIA GPU."""

import pytest
import torch

NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")]
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]
GPU = [pytest.param("cuda", marks=NEEDS_GPU)]
