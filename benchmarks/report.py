"""Describe the machine, print tables, and append their rows to benchmarks/results/*.csv.

python benchmarks/report.py      # the head of docs/benchmarks.md, which `make benchmarks` writes
"""

from __future__ import annotations

import csv
import os
import platform
from pathlib import Path

import cv2
import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
HEAD = """# Benchmarks

`make benchmarks` writes this page, in up to four minutes on two cores; run it on an idle machine. Each script of
[benchmarks/](../benchmarks) takes a `--config` of any system, and appends its rows to a file in `benchmarks/results/` with `--save`;
`--help` says what its columns mean.

Measured on {machine}, with {versions}.
"""


def machine(device: torch.device | None = None) -> str:
    """Name the GPU, or the CPU with its cores and the threads that PyTorch uses."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def versions() -> str:
    """Name the packages that determine the speed."""
    return f"PyTorch {torch.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}"


def report(name: str, title: str, rows: list[dict[str, object]], device: torch.device | None = None, save: bool = False) -> None:
    """Print rows of the same columns as a Markdown table under a title; save: also append them to results/NAME.csv."""
    print(f"\n## {title}\n\n| {' | '.join(rows[0])} |\n|---{'|---:' * (len(rows[0]) - 1)}|")
    for row in rows:
        print(f"| {' | '.join(_shown(value) for value in row.values())} |", flush=True)
    if save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{name}.csv"
        rows = [{"machine": machine(device), "versions": versions(), **row} for row in rows]
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:.0f}" if isinstance(value, float) else str(value)


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    print(HEAD.format(machine=machine(), versions=versions()), end="")


if __name__ == "__main__":
    main()
