"""What is installed with the packages, and the version."""

import re
import shutil
import subprocess
import sys

import pytest
from places import ROOT

from config.version import VERSION


def test_weights_are_part_of_the_package(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    (source / "models" / "weights").mkdir(parents=True)
    for name in ("setup.py", "requirements.txt", "README.md", "config/version.py", "config/__init__.py", "models/__init__.py"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    for name in ("some.safetensors", "some.onnx", "zoo.yaml"):
        (source / "models" / "weights" / name).write_bytes(b"weights")
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path / "built")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    assert {path.name for path in (tmp_path / "built" / "models" / "weights").iterdir()} == {"some.safetensors", "some.onnx", "zoo.yaml"}


def test_changelog_begins_with_the_version():
    assert re.findall(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == VERSION
