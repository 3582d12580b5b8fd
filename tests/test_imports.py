"""What a first picture does not wait for."""

from __future__ import annotations

import subprocess
import sys

from places import ROOT

SLOW = (
    "torchvision",
    "timm",
    "scipy",
    "h5py",
    "tensorboard",
    "onnxruntime",
    "matplotlib",
    "torch._dynamo",
)  # a quarter of a second to two, each
CODE = "import sys, demo_image, utils.systems.simplepose, models.imhn; print(*sys.modules)"


def test_the_demo_imports_what_simplepose_needs():
    """A process of its own: here other tests have imported everything."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "demo_image" in imported
    assert not imported & set(SLOW)
