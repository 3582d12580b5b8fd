"""What two processes do together, one with a broken batch and one with fewer validation batches; started by torchrun:

    PYTHONPATH=.:tests torchrun --nproc_per_node=2 tests/two_processes.py RECIPE FOLDER

Each writes what came of it to FOLDER/rank0.json and rank1.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from runs import copied, fresh_run, random_batch

from utils.systems import pose_system
from utils.training.distributed import joined
from utils.training.trainer import train_one_epoch, validate

SAMPLES = 7  # of validation; the first process has six of them in three batches, the second one


def main(recipe: Path, folder: Path) -> None:
    with joined("distributed") as world:
        run = fresh_run(recipe, folder, ("train.learning_rate=1e-4",), world)
        broken, good = random_batch(run, seed=world.rank), random_batch(run, seed=10 + world.rank)
        if world.rank == 0:
            broken[0][:] = torch.nan
        loss = train_one_epoch(run, [broken, good], 0)
        after = copied(run)
        fingerprint = sum(tensor.double().abs().sum() for name, tensor in after.items() if "running" not in name).item()
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in after.values())

        for norm in run.network.modules():  # the same statistics, which each process had of its own samples
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.reset_running_stats()
        whole = random_batch(run, SAMPLES, seed=99)
        places = [slice(0, 2), slice(2, 4), slice(4, 6)] if world.rank == 0 else [slice(6, 7)]
        system = pose_system(run.config)
        shared = validate(run, [[tensor[some] for tensor in whole] for some in places], 0, system)
        alone = validate(run, [whole], 0, system)
        content = {"loss": loss, "fingerprint": fingerprint, "finite": finite, "shared": shared, "alone": alone}
        (folder / f"rank{world.rank}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
