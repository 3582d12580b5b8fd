"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import fresh_run

from utils.training.state import Run


@pytest.fixture
def train(run, tiny, tmp_path) -> Callable[..., tuple[Path, str]]:
    """Runs train.py with the tiny configuration into a folder below tmp_path, and returns that folder and what was said."""

    def start(name: str, *arguments: object, script: str = "train.py") -> tuple[Path, str]:
        ended = run(script, "--config", tiny, "--output", tmp_path / name, *arguments)
        assert ended.status == 0, ended.err
        return tmp_path / name, ended.out

    return start


@pytest.fixture
def new_run(tiny, tmp_path) -> Callable[..., Run]:
    """A function that makes a run with fresh weights from overrides of the tiny configuration."""
    return lambda *overrides, **options: fresh_run(tiny, tmp_path, overrides, **options)
