"""What several processes do together when they train, in one start of torchrun, since each start takes seconds.

    PYTHONPATH=.:tests torchrun --nproc_per_node=N tests/processes.py RECIPE FOLDER [RUN]

FOLDER then holds the runs straight, killed, resumed, double, dropped and taken_over, and rankR.pth, what process R saw. RUN: a run of
another number of processes, killed in the middle of an epoch, that these take over.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from runs import EQUAL, STEADY, fresh_run, losing_batch, random_batch, samples_taken, stopped_after, weighted

from config import UserError, load_config
from utils.distributed import DistributedContext, distributed_context
from utils.training import trainer
from utils.training.state import Run
from utils.training.validation import validate


def straight_killed_and_resumed(recipe: Path, folder: Path, world: DistributedContext) -> dict[str, object]:
    """One run that nothing disturbs, and one that is killed in the middle of its first epoch."""
    config = load_config(recipe, STEADY)
    trainer.train(config, folder / "straight", world)
    with samples_taken() as before:
        stopped_after(2, lambda: trainer.train(config, folder / "killed", world))
    world.barrier()
    if world.is_main:
        shutil.copytree(folder / "killed", folder / "resumed")
    world.barrier()
    trainer.train(config, folder / "resumed", world, "auto")
    return {"before": list(before)}


def taken_over(recipe: Path, folder: Path, run: Path, world: DistributedContext) -> dict[str, object]:
    """The run of another number of processes, to the end of its epoch."""
    if world.is_main:
        shutil.copytree(run, folder / "taken_over")
    world.barrier()
    with samples_taken() as after:
        trainer.train(load_config(recipe, (*STEADY, "train.epochs=1")), folder / "taken_over", world, "auto")
    return {"after": list(after)}


def in_double_precision(recipe: Path, folder: Path, world: DistributedContext) -> dict[str, object]:
    trainer.train(load_config(recipe, EQUAL), folder / "double", world)
    return {}


def shared_validation(recipe: Path, folder: Path, world: DistributedContext) -> dict[str, object]:
    """Seven samples in batches of two, the last one of one, shared out; batch-norm statistics that are each process's own before."""
    run = fresh_run(recipe, folder, (), world)
    for name, buffer in run.network.named_buffers():
        if name.endswith("running_mean"):
            buffer += world.rank
    whole = random_batch(run, 7, seed=99)
    batches = [[tensor[some] for tensor in whole] for some in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7))]
    return {"validation": validate(run, batches[world.rank :: world.size], 0)}


def broken_batches(recipe: Path, folder: Path, world: DistributedContext) -> dict[str, object]:
    """The last process's second batch is no number, in a step of two batches; the next step is good in all."""
    run = fresh_run(recipe, folder, ("train.learning_rate=1e-4", "train.accumulate=2"), world)
    batches = [random_batch(run, seed=10 * n + world.rank) for n in range(4)]
    if world.rank == world.size - 1:
        batches[1] = weighted(batches[1], torch.nan)
    spared = count_unshared(run)
    loss = trainer.train_one_epoch(run, batches, 0)
    return {
        "broken loss": loss,
        "broken weights": {name: tensor.detach().clone() for name, tensor in run.network.named_parameters()},
        "unshared": len(spared),
    }


def count_unshared(run: Run) -> list[None]:
    """Grows by one with each backward pass that the processes do not share."""
    spared, no_sync = [], type(run.step).no_sync
    run.step.no_sync = lambda: (spared.append(None), no_sync(run.step))[1]
    return spared


def dropped_in_one_process(recipe: Path, folder: Path, world: DistributedContext) -> dict[str, object]:
    """Every loss of the last process is infinite: training stops in all of them."""
    config = load_config(recipe, (*STEADY, "train.max_dropped=2", "train.sync_batchnorm=false"))
    said = ""
    with losing_batch(world.rank == world.size - 1), samples_taken() as taken:
        try:
            trainer.train(config, folder / "dropped", world)
        except UserError as error:
            said = str(error)
    return {"dropped said": said, "dropped": list(taken)}


def main(recipe: Path, folder: Path, run: Path | None = None) -> None:
    with distributed_context("distributed") as world:
        outcome = {}
        parts = [straight_killed_and_resumed, in_double_precision, shared_validation, broken_batches, dropped_in_one_process]
        for part in parts:
            outcome |= part(recipe, folder, world)
        if run is not None:
            outcome |= taken_over(recipe, folder, run, world)
        torch.save(outcome, folder / f"rank{world.rank}.pth")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
