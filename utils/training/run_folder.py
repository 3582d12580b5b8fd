"""A run's folder: its resolved configuration, the versions it ran with and its checkpoints."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from config import Config, UserError
from config.files import existing_file, output_folder, write_json, write_text
from utils.checkpoint import read_checkpoint, save_checkpoint

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "h5py", "pycocotools", "pydantic")
LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best.pth"
AVERAGES = {"ema": "ema.pth", "swa": "averaged.pth"}
VERSIONS = "versions.json"


def checkpoint_to_resume(path: Path, resume: str | None) -> tuple[Path | None, list[str]]:
    """The checkpoint to go on from, if any, in a run whose folder is `path`, and what is to be said about it. Nothing is written yet.

    resume: a file; "auto", the folder's last checkpoint or else a new start; None, a new start in a folder without a run.
    A last checkpoint that is damaged is left aside for the one before. Raises UserError where another run would be overwritten.
    """
    last = path / LAST
    there = [file for file in (last, path / PREVIOUS) if file.exists()]
    if resume == "auto":
        return _first_whole(there) if there else (None, [])
    start = None if resume is None else existing_file(resume, "checkpoint")
    if there and (start is None or start.resolve().parent != path.resolve()):
        raise UserError(f"output folder {path}: already holds a run; go on with --resume auto, or choose another --output")
    if start is None:
        return None, []
    before = start.with_name(PREVIOUS)
    return _first_whole([start, before] if start.name == LAST and before.exists() else [start])


def _first_whole(files: list[Path]) -> tuple[Path, list[str]]:
    told = []
    for file in files:
        try:
            read_checkpoint(file, checksums=True)
            break
        except UserError as error:
            if file == files[-1]:
                raise
            told.append(f"{error}; going on from the one before, {files[-1]}")
    return file, told


def keep_last(folder: Path, content: dict[str, Any]) -> None:
    """Write the last checkpoint. What it was so far becomes the one before only when the new one is whole."""
    fresh, last = folder / "next.pth", folder / LAST
    save_checkpoint(fresh, **content)
    if last.exists():
        spare = folder / ".previous.pth"
        spare.unlink(missing_ok=True)
        try:
            os.link(last, spare)  # at no moment is there no last.pth
            spare.replace(folder / PREVIOUS)
        except OSError:  # a file system without hard links
            last.replace(folder / PREVIOUS)
    fresh.replace(last)
    if hasattr(os, "O_DIRECTORY"):  # the new names are on the disk too
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_folder(path: Path, config: Config) -> None:
    """Make a run's folder and write what is run, and with what; remove what a kill left half-written."""
    output_folder(path)
    for leftover in (*path.glob(".*.partial.*"), path / "next.pth"):
        leftover.unlink(missing_ok=True)
    write_text(path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    versions = {name: metadata.version(name) for name in PACKAGES if _installed(name)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    write_json(path / VERSIONS, {"python": platform.python_version(), "device": device, "command": sys.argv, **versions})


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
