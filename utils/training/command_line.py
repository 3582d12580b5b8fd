"""What the three training scripts have in common: their options."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2

from config import load_config
from utils.device import default_device
from utils.distributed import Parallel, distributed_context
from utils.training.dry_run import dry_run
from utils.training.interrupts import Interrupts
from utils.training.loader import keep_freed_memory
from utils.training.prepare import set_precision
from utils.training.trainer import train


def train_from_command_line(description: str, parallel: Parallel) -> None:
    """Parse the options, and train."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="YAML file, such as config/quickstart.yaml")
    parser.add_argument("--output", type=Path, help="the run's folder; default: runs/ and the configuration's name")
    parser.add_argument("--resume", metavar="auto|FILE", help="go on from a checkpoint; auto: the output folder's last one, if any")
    parser.add_argument("--init", type=Path, metavar="FILE", help="start from these weights, ours or published")
    parser.add_argument("--dry-run", action="store_true", help="run two steps and say what a run would take; nothing is written")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in train.batch_size=2")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    output = options.output or Path("runs") / Path(options.config).stem
    cv2.setNumThreads(1)  # before there are workers: OpenCV's threads do not survive a fork
    set_precision(config)
    if default_device().type == "cpu":
        keep_freed_memory()
    with Interrupts() as interrupts, distributed_context(parallel) as world:
        if options.dry_run:
            dry_run(config, world, options.init)
        else:
            train(config, output, world, options.resume, options.init, interrupts)
