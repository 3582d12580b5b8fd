"""A run's folder: its resolved configuration, the versions it ran with and its checkpoints."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from pathlib import Path

import torch
import yaml

from config import Config, UserError
from config.files import existing_file, write_json, write_text

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "h5py", "pycocotools", "pydantic")
LAST, BEST, AVERAGED = "last.pth", "best.pth", "averaged.pth"


def checkpoint_to_resume(path: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from, if any, in a run whose folder is `path`. Nothing is written yet.

    resume: a file; "auto", the folder's last checkpoint or else a new start; None, a new start in a folder without a run.
    Raises UserError where another run would be overwritten.
    """
    last = path / LAST
    if resume == "auto":
        return last if last.exists() else None
    start = None if resume is None else existing_file(resume, "checkpoint")
    if last.exists() and (start is None or start.resolve().parent != path.resolve()):
        raise UserError(f"output folder {path}: already holds a run; go on with --resume auto, or choose another --output")
    return start


def describe_run(path: Path, config: Config) -> None:
    """Write config.yaml and versions.json: what is run, and with what."""
    write_text(path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    versions = {name: metadata.version(name) for name in PACKAGES if _installed(name)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    write_json(path / "versions.json", {"python": platform.python_version(), "device": device, "command": sys.argv, **versions})


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
