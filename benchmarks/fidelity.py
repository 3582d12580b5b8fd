"""How far this code is from the published one: the largest difference of each piece from reference numbers, as a Markdown table.

    python benchmarks/fidelity.py [--shared DIR]

The reference numbers are not part of the project; they are looked for in a folder `shared` beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse

from benchmarks import fidelity_dekr, fidelity_mpii, fidelity_simple_baselines, fidelity_simplepose
from benchmarks.gradients import in_one_process, in_processes, largest_difference
from benchmarks.reference import SHARED, Difference, as_markdown
from config import UserError
from config.errors import run_script


def gradient_differences() -> list[Difference]:
    """The same batch of 8 in one process, in two replicas, and in two processes of 4; float64."""
    whole = in_one_process()[0]
    replicas, processes = in_one_process(replicas=2)[0], in_processes(2)[0]
    return [
        Difference("gradient", "two replicas of 4 for one process of 8", largest_difference(whole, replicas), 1e-9, ""),
        Difference("gradient", "two DDP processes of 4 for one process of 8", largest_difference(whole, processes), 1e-9, ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with fixtures/ and data/coco_mini/; default: ../shared")
    options = parser.parse_args()
    if not (options.shared / "fixtures").is_dir():
        raise UserError(f"reference numbers {options.shared / 'fixtures'}: not found; name the folder that holds them with --shared")
    for name, parts, others in (
        ("SimplePose", fidelity_simplepose.PARTS, gradient_differences()),
        ("DEKR", fidelity_dekr.PARTS, []),
        ("Simple Baselines", fidelity_simple_baselines.PARTS, []),
        ("MPII", fidelity_mpii.PARTS, []),
    ):
        print(f"\n{name}\n\n{as_markdown([d for part in parts for d in part(options.shared)] + others)}")


if __name__ == "__main__":
    run_script(main)
