"""train_distributed.py with part of the network frozen; then one process has a broken batch, and one fewer validation batches.

Started by torchrun, with weights to start from:
    PYTHONPATH=.:tests torchrun --nproc_per_node=2 tests/two_processes.py RECIPE WEIGHTS FOLDER
Each process writes what came of it to FOLDER/rank0.pth and FOLDER/rank1.pth; the run's folder is FOLDER/run.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch
from places import ROOT
from runs import copied, fresh_run, random_batch

from utils.distributed import World
from utils.systems import pose_system
from utils.training import trainer
from utils.training.state import Run
from utils.training.trainer import train_one_epoch, validate

OVERRIDES = ("train.epochs=1", "train.optimizer=sgd", "train.learning_rate=1e-6", "train.freeze=[front.*]")
SAMPLES = 7  # of validation; the first process has six of them in three batches, the second one


def broken_batch(recipe: Path, folder: Path, world: World) -> dict[str, object]:
    """The first process's first batch is no number; the second batch is good in both."""
    run = fresh_run(recipe, folder, ("train.learning_rate=1e-4",), world)
    broken, good = random_batch(run, seed=world.rank), random_batch(run, seed=10 + world.rank)
    if world.rank == 0:
        broken[0][:] = torch.nan
    return {"loss": train_one_epoch(run, [broken, good], 0), "weights": copied(run)}


def unequal_validation(recipe: Path, folder: Path, world: World) -> dict[str, object]:
    """Samples shared out unequally, and all of them in each process."""
    run = fresh_run(recipe, folder, (), world)
    whole = random_batch(run, SAMPLES, seed=99)
    places = [slice(0, 2), slice(2, 4), slice(4, 6)] if world.rank == 0 else [slice(6, 7)]
    shared = [[tensor[some] for tensor in whole] for some in places]
    system = pose_system(run.config)
    return {"shared": validate(run, shared, 0, system), "alone": validate(run, [whole], 0, system)}


def main(recipe: Path, weights: Path, folder: Path) -> None:
    finish = trainer._finish_epoch

    def finish_and_tell(run: Run, *arguments: object) -> None:
        finish(run, *arguments)
        outcome = {"trained": copied(run), "broken": broken_batch(recipe, folder, run.world)}
        outcome["validation"] = unequal_validation(recipe, folder, run.world)
        torch.save(outcome, folder / f"rank{run.world.rank}.pth")

    trainer._finish_epoch = finish_and_tell
    options = ("--config", recipe, "--init", weights, "--output", folder / "run")
    sys.argv = ["train_distributed.py", *map(str, options), *OVERRIDES]
    runpy.run_path(str(ROOT / "train_distributed.py"), run_name="__main__")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
