"""A top-down network of the pose system in tiny_system.py, ready for the scripts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tiny_system import ENTRY

from config.load import parse_config
from config.systems import SYSTEMS
from models import build_model
from utils.checkpoint import save_checkpoint

VALUES = {"system": "tiny", "skeleton": "coco17", "data": {"input_size": [32, 32]}, "inference": {"boxes": True}}


@contextmanager
def registered() -> Iterator[None]:
    """Register the system meanwhile."""
    SYSTEMS["tiny"] = ENTRY
    yield
    del SYSTEMS["tiny"]


def write_checkpoint(path: Path, skeleton: str = "coco17") -> Path:
    """Write a randomly initialized network."""
    config = parse_config({**VALUES, "skeleton": skeleton}, "tiny")
    torch.manual_seed(3)
    save_checkpoint(path, weights=build_model(config).state_dict(), config=config.model_dump(mode="json"))
    return path
