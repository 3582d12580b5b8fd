"""evaluate.py, in which the process of one rank dies after its first batches without a word.

Started by torchrun: torchrun --nproc_per_node=2 tests/dying_process.py RANK BATCHES and evaluate.py's arguments.
"""

from __future__ import annotations

import os
import runpy
import sys

from places import ROOT

from utils.inference import PoseEstimator


def main(rank: int, batches: int, arguments: list[str]) -> None:
    batch, done = PoseEstimator.batch, []

    def estimate(self, images):
        if len(done) == batches and int(os.environ["RANK"]) == rank:
            os._exit(1)
        done.append(len(images))
        return batch(self, images)

    PoseEstimator.batch = estimate
    sys.argv = ["evaluate.py", *arguments]
    runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
