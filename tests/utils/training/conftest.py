"""Fixtures of the tests of training."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import ALONE, OFTEN, fresh_state

from config import load_config
from utils.training.state import TrainState
from utils.training.trainer import train as train_network


@pytest.fixture
def train(run, tiny, tmp_path) -> Callable[..., tuple[Path, str]]:
    """Runs train.py with the tiny configuration into a folder below tmp_path, and returns that folder and the output."""

    def start(name: str, *arguments: object, script: str = "train.py") -> tuple[Path, str]:
        ended = run(script, "--config", tiny, "--output", tmp_path / name, *arguments)
        assert ended.status == 0, ended.err
        return tmp_path / name, ended.out

    return start


@pytest.fixture
def new_state(tiny, tmp_path) -> Callable[..., TrainState]:
    """A function that builds a run with initial weights from overrides of the tiny configuration."""
    return lambda *overrides, **options: fresh_state(tiny, tmp_path, overrides, **options)


@pytest.fixture(scope="session")
def straight(tiny) -> Path:
    """The folder of an uninterrupted run with EMA, SWA and a checkpoint every three steps. Read-only."""
    folder = tiny.parent / "straight"
    train_network(load_config(tiny, OFTEN), folder, ALONE)
    return folder
