"""Print a benchmark's table, keep its rows in benchmarks/results/*.csv, and write docs/benchmarks.md from these.

python benchmarks/report.py      # prints docs/benchmarks.md, which `make benchmarks` and `make gpu` write
"""

import argparse
import csv
import os
import platform
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

Row = dict[str, str]  # of a table: column -> cell
RESULTS = Path(__file__).parent / "results"
MEASUREMENT = "title", "date", "machine", "versions"  # columns that the rows of a table share; each row has its command besides
HEAD = """# Benchmarks

`make benchmarks` measures on the CPU, in up to five minutes on two cores; `make gpu` tests and measures an NVIDIA GPU, in up to nine. Run
them on an idle machine. They write `benchmarks/results/` and, from these files, this page. Each script of [benchmarks/](../benchmarks)
saves its rows with `--save`; `--help` says what its columns mean.
"""


def benchmark_parser(doc: str | None, device: str = "such as cpu or cuda:0", count: int | None = None) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks take. doc: the script's; device: help of --device; count: of images, where it takes them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help=device)
    parser.add_argument("--save", action="store_true", help="keep the rows in benchmarks/results/")
    if count is not None:
        parser.add_argument("--images", type=Path, help="folder; default: synthetic images")
        parser.add_argument("--count", type=int, default=count, help="images, at most")
        parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


def machine(device: torch.device | None = None) -> str:
    """Name the GPU, or the CPU with its cores and the threads that PyTorch uses."""
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)}"


def versions() -> str:
    """Name the packages that determine the speed."""
    return f"PyTorch {torch.__version__}, OpenCV {cv2.__version__}, NumPy {np.__version__}"


def report(name: str, title: str, rows: list[dict[str, object]], device: torch.device | None = None, save: bool = False) -> None:
    """Print rows of the same columns as a Markdown table under a title.

    save: also keep them in results/NAME.csv, in place of what the same command measured on this machine before.
    """
    shown = [{column: _shown(value) for column, value in row.items()} for row in rows]
    print(f"\n## {title}\n\n{table(shown)}", flush=True)
    if not save:
        return
    arguments = [argument for argument in sys.argv[1:] if argument != "--save"]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments])
    own = {"title": title, "date": str(date.today()), "machine": machine(device), "versions": versions(), "command": command}
    path = RESULTS / f"{name}.csv"
    others = [row for row in _read_rows(path) if any(row[key] != own[key] for key in ("title", "machine", "command"))]
    all_rows = [*others, *({**own, **row} for row in shown)]
    RESULTS.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in all_rows for column in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(all_rows)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each with the columns that it fills; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{column: value for column, value in row.items() if value} for row in csv.DictReader(file)]


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:.0f}" if isinstance(value, float) else str(value)


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table; columns that a row lacks are empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head, *lines = (f"| {' | '.join(cells)} |" for cells in [columns, *([row.get(column, "") for column in columns] for row in rows)])
    return "\n".join([head, f"|---{'|---:' * (len(columns) - 1)}|", *lines])


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def fastest(task: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the seconds of the fastest of several runs, each until the device has finished."""
    seconds = []
    for _ in range(repeats):
        wait_for(device)
        start = time.perf_counter()
        task()
        wait_for(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def page() -> str:
    """Return docs/benchmarks.md: a table for each title, machine and day in benchmarks/results/."""
    sections = [HEAD]
    for path in sorted(RESULTS.glob("*.csv")):
        tables = defaultdict(list)
        for row in _read_rows(path):
            tables[tuple(row.pop(key) for key in MEASUREMENT)].append(row)
        for (title, day, where, packages), rows in tables.items():
            commands = "\n".join(dict.fromkeys(f"    {row.pop('command')}" for row in rows))
            sections.append(f"## {title}\n\nMeasured on {day} on {where}, with {packages}:\n\n{commands}\n\n{table(rows)}\n")
    return "\n".join(sections)


if __name__ == "__main__":
    print(page(), end="")
