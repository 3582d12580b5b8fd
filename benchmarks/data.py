"""How fast training data comes, from annotation files to the device, and what it takes on the way.

    python benchmarks/data.py [--config C] [--annotations A.json --images DIR] [--parts figures stages workers training]
        [--workers 0 1 2 ...] [--batches N] [--steps N] [--samples N] [--rounds N] [--device cpu] [key=value ...]

Without annotations, people are drawn as data/synthetic.py draws them. The parts, in this order:

    figures    samples a second in one process and one thread, augmented; bytes on the disk; building the people file; and, for comparison,
               the decoding and one warp of the same photographs by OpenCV, and nothing else
    stages     where a sample's time goes; the drawing of a batch's targets on the device, and on a GPU how far they are from the CPU's
    workers    the loader as it trains, by number of its processes: speed, first batches, memory, what is sent
    training   the share of its time in which a training run waits for data, by its own meter

What runs in one thread is measured by the processor's time, which other programs change less than the clock's. Files lie in memory: a pass
over the samples comes before those that are measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import itertools
import json
import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.data_stages import REST, STAGES, OpenCvAlone, Stopwatch, one_pass
from benchmarks.training import machine
from config import Config, UserError, load_config
from config.errors import at_least, run_script
from config.load import with_overrides
from data.coco_masks_hdf5 import build_hdf5
from data.datasets import MixedDataset, collate
from data.synthetic import write_synthetic
from data.targets import render_batch
from utils.device import default_device
from utils.distributed import DistributedContext
from utils.training.curves import CURVES_NAME
from utils.training.loader import AHEAD, EpochBatches, begin_epoch, build_loader, keep_freed_memory
from utils.training.prepare import build_run, open_run
from utils.training.step import batch_on
from utils.training.trainer import train_one_epoch

PARTS = ("figures", "stages", "workers", "training")
PICTURES, SIZE = 32, (480, 640)  # drawn where there are no annotations; height, width
EARLY = 50  # batches, after which the loader's memory is measured first
TARGETS = 8  # samples of the batch whose targets are drawn
RECIPES = {
    "simplepose": "config/simplepose_coco_512.yaml",
    "dekr": "config/dekr_w32_coco.yaml",
    "simple_baselines": "config/simple_baselines_r50_256x192.yaml",
}


def note(text: str) -> None:
    """What is being done now, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table, its first column words and the others numbers."""
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, as in a process of the loader: one thread of OpenCV and PyTorch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# One process


def building_seconds(annotations: Path, images: Path, output: Path, config: Config, rounds: int) -> list[float]:
    """Build the people file in this process, some rounds of it where they take a minute at most. Returns each one's processor time."""
    cv2.setNumThreads(1)
    found: list[float] = []
    while not found or (len(found) <= rounds and sum(found) < 60):
        note(f"building the people file, round {len(found)}")
        begun = time.process_time()
        build_hdf5(annotations, images, output, config.skeleton, workers=1)
        found.append(time.process_time() - begun)
    return found[1:] or found  # the first one also loads what it needs


def figures(dataset: MixedDataset, config: Config, count: int, rounds: int, building: list[float], size: int) -> list[str]:
    """Table of the figures. building: seconds of each round; size: bytes of the people file."""
    alone, spent, floor = OpenCvAlone(dataset, count), [], []
    for round_number in range(1, rounds + 1):
        note(f"samples in one process, round {round_number} of {rounds}")
        begun = time.process_time()
        one_pass(dataset, round_number, count, config.train.batch_size)
        spent.append((time.process_time() - begun) / count)
        floor.append(sum(alone.seconds()))
    height, width = config.data.input_size
    rows = [
        ["samples a second, from the people file to a batch", *rates(spent)],
        ["KB a sample on disk", f"{size / len(dataset) / 1000:.1f}", ""],
        ["building the people file, samples a second", *rates(np.divide(building, len(dataset)))],
        [f"OpenCV's decoding and one warp to {width} x {height} alone, samples a second", *rates(floor)],
    ]
    return table(["one core", "median", "best"], rows)


def rates(seconds: Sequence[float]) -> list[str]:
    """The median and the best of what is done a second."""
    return [f"{1 / np.median(seconds):.1f}", f"{1 / min(seconds):.1f}"]


def stages(dataset: MixedDataset, config: Config, count: int, rounds: int) -> list[str]:
    """Table of a sample's processor time."""
    alone, found, floor = OpenCvAlone(dataset, count), defaultdict(list), []
    for round_number in range(1, rounds + 1):
        note(f"stages, round {round_number} of {rounds}")
        watch = Stopwatch()
        with watch.watching(config):
            one_pass(dataset, round_number, count, config.train.batch_size, watch.around("collate", collate))
        watch.seconds["all"] = sum(watch.seconds.values())
        for stage, seconds in watch.seconds.items():
            found[stage].append(1000 * seconds / count)
        floor.append(1000 * np.array(alone.seconds()))
    beside = dict(zip(("decode", "warp"), np.min(floor, axis=0))) | {"all": np.min(np.sum(floor, 1))}
    rows = [
        [stage, f"{np.median(found[stage]):.3f}", f"{min(found[stage]):.3f}", f"{beside[stage]:.3f}" if stage in beside else ""]
        for stage in (*STAGES, REST, "collate", "all")
        if stage in found
    ]
    return table(["ms a sample", "median", "best", "OpenCV alone, best"], rows)


def drawing(dataset: MixedDataset, config: Config, rounds: int, device: torch.device) -> list[str]:
    """Table of what the device does to a batch that was sent to it; by the clock."""
    batch = collate([dataset[0, number] for number in range(TARGETS)])
    work = {
        "targets": lambda: render_batch(batch, config, device),
        "images and targets": lambda: batch_on(device, batch, config),
    }
    all_threads, rows = torch.get_num_threads(), []
    if device.type == "cuda":
        batch = batch._make(tensor.pin_memory() for tensor in batch)
    for name, threads in itertools.product(work, {1, all_threads} if device.type == "cpu" else {all_threads}):
        torch.set_num_threads(threads)
        spent = [clock(work[name], device) for _ in range(10 * rounds + 1)][1:]
        where = f"{threads} threads" if device.type == "cpu" else "GPU"
        rows.append([f"{name}, {where}", f"{1000 * np.median(spent):.2f}", f"{1000 * min(spent):.2f}"])
    torch.set_num_threads(all_threads)
    return table([f"ms a batch of {TARGETS}", "median", "best"], rows)


def clock(task: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has done it."""
    begun = time.perf_counter()
    task()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def differences(path: Path, own: Config, device: torch.device, count: int = 64) -> list[str]:
    """Table of the targets that each system draws on the device for so many samples: their largest difference from the CPU's."""
    rows = []
    for system, recipe in RECIPES.items():
        config = own if system == own.system else load_config(recipe)
        try:
            dataset = MixedDataset([path], config, augment=True)
        except UserError as error:  # people with other keypoints than the recipe's
            note(f"{recipe}: {error}")
            continue
        batch = collate([dataset[0, number] for number in range(count)])
        here, there = (render_batch(batch, config, where) for where in (torch.device("cpu"), device))
        rows.append([system, f"{max(largest_difference(a, b.cpu()) for a, b in zip(here, there, strict=True)):.1e}"])
    return table(["targets", f"{device.type} and CPU differ by at most"], rows)


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Between two tensors of one shape."""
    return float((a.double() - b.double()).abs().max())


# The loader's processes


def repeating_loader(path: Path, config: Config, batches: int) -> tuple[DataLoader, int]:
    """The trainer's loader of one people file, whose samples are drawn again until there are so many batches an epoch.

    Returns also how many samples of the epoch count as taken, so that it has exactly these.
    """
    dataset = MixedDataset([path], config, augment=True)
    wanted, world = batches * config.train.batch_size, DistributedContext("none", default_device("cpu"))
    total = -(-wanted // len(dataset)) * len(dataset)
    order = EpochBatches([total], None, config.train.batch_size, world, config.train.seed, block=config.data.shuffle_block)
    return build_loader(dataset, order, config, world, stays=True), total - wanted


def processes() -> list[int]:
    """Their ids: this one and those that it has started."""
    return [os.getpid(), *(child.pid for child in multiprocessing.active_children())]


def memory() -> float:
    """MiB that all processes hold, what they share counted once, without the files of their libraries: these are shared with others that
    come and go. NaN where the system does not say."""
    total = 0
    for process in processes():
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            return np.nan
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def processor_seconds() -> float:
    """Of all processes so far; NaN where the system does not say."""
    total = 0
    for process in processes():
        try:
            words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return np.nan
        total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def loading(path: Path, config: Config, workers: int, batches: int, rounds: int) -> list[str]:
    """The row of the table for a number of processes."""
    config = with_overrides(config, [f"data.workers={workers}"])
    note(f"{batches} batches with {workers} processes")
    loader, taken = repeating_loader(path, config, batches)
    early = min(EARLY, batches // 2)
    first = min(early + AHEAD * workers, batches - 1)  # what was ready when the memory was measured is no measure of speed
    ends = np.unique(np.linspace(first, batches, rounds + 1).astype(int))
    sent, moments, memories, fresh = 0, [], {}, 0.0
    begin_epoch(loader, 0, taken)
    begun = time.perf_counter()
    for number, batch in enumerate(loader, start=1):
        sent += sum(tensor.nbytes for tensor in batch)
        if number == 1:
            fresh = time.perf_counter() - begun
        if number in (early, batches):
            memories[number] = memory()
        if number in ends:
            moments.append((time.perf_counter(), processor_seconds()))
    begin_epoch(loader, 1, taken)
    begun = time.perf_counter()
    next(iter(loader))
    stayed = time.perf_counter() - begun
    seconds, processor = (np.diff(moments, axis=0) / np.diff(ends)[:, None] / config.train.batch_size).T
    shown = [f"{1000 * np.median(processor):.2f}", f"{1000 * fresh:.0f}", f"{1000 * stayed:.0f}"]
    return [str(workers), *rates(seconds), *shown, *(f"{memories[n]:.0f}" for n in (early, batches)), f"{sent / batches / 1000:.0f}"]


def loaders(path: Path, config: Config, workers: Sequence[int], batches: int, rounds: int) -> list[str]:
    """Table of the loader by number of its processes."""
    heads = ["loader processes", "samples/s, median", "best", "processor ms a sample", "first batch ms", "of the next epoch"]
    heads += [f"MiB after {min(EARLY, batches // 2)} batches", f"after {batches}", "KB sent a batch"]
    return table(heads, [loading(path, config, count, batches, rounds) for count in workers])


def waiting(path: Path, config: Config, workers: Sequence[int], steps: int, rounds: int, device: torch.device) -> list[str]:
    """Table of training runs: what their curves say, but for the first point, which begins slowly."""
    rows, every = [], max(1, steps // (rounds + 1))
    for count in workers:
        note(f"{steps} steps of training with {count} processes")
        changes = [f"data.workers={count}", f"train.log_every={every}", "train.checkpoint_every=null"]
        with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            changed = with_overrides(config, changes)
            run, told = build_run(changed, Path(folder), DistributedContext("none", device))
            open_run(run, told)
            loader, taken = repeating_loader(path, changed, steps * config.train.accumulate)
            begin_epoch(loader, 0, taken)
            train_one_epoch(run, loader, 0)
            run.curves.close()
            points = [json.loads(line) for line in (Path(folder) / CURVES_NAME).read_text().splitlines()][1:] or [{}]
        shares = [100 * point.get("speed/waiting for data", np.nan) for point in points]
        speeds = [point.get("speed/samples a second", np.nan) for point in points]
        rows.append([count, f"{np.median(speeds):.1f}", f"{np.median(shares):.1f}", f"{max(shares):.1f}"])
    return table(["loader processes", "samples/s", "waiting for data %, median", "most"], rows)


def measure(options: argparse.Namespace, config: Config, device: torch.device, folder: Path) -> dict[str, list[str]]:
    """The lines of each part, by its name. The loader comes first: what is done in one thread would change the memory it begins with."""
    annotations, images, path = options.annotations, options.images, folder / "people.h5"
    if annotations is None:
        annotations = write_synthetic(folder, PICTURES, seed=1, size=SIZE)
        images = folder / "images"
    building = building_seconds(annotations, images, path, config, options.rounds if "figures" in options.parts else 0)
    parts: dict[str, list[str]] = {}
    if "workers" in options.parts:
        parts["workers"] = loaders(path, config, options.workers, options.batches, options.rounds)
    if "training" in options.parts:
        parts["training"] = waiting(path, config, options.workers, options.steps, options.rounds, device)
    dataset = MixedDataset([path], config, augment=True)
    one_pass(dataset, 0, options.samples, config.train.batch_size)
    with one_thread():
        if "figures" in options.parts:
            parts["figures"] = figures(dataset, config, options.samples, options.rounds, building, path.stat().st_size)
        if "stages" in options.parts:
            parts["stages"] = stages(dataset, config, options.samples, options.rounds)
    if "stages" in options.parts:
        parts["stages"] += ["", *drawing(dataset, config, options.rounds, device)]
        if device.type != "cpu":
            parts["stages"] += ["", *differences(path, config, device)]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/simplepose_coco_512.yaml")
    parser.add_argument("--annotations", type=Path, help="COCO's or CrowdPose's; default: drawn people")
    parser.add_argument("--images", type=Path, help="folder or zip file of their images")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--workers", type=int, nargs="+", metavar="N", help="loader processes (0, 1 and data.workers)")
    parser.add_argument("--batches", type=int, default=200, help="that the loader gives (200)")
    parser.add_argument("--steps", type=int, default=60, help="of each training run (60)")
    parser.add_argument("--samples", type=int, default=256, help="of a round in one process (256)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_intermixed_args()
    at_least(2, steps=options.steps)
    at_least(1, samples=options.samples, rounds=options.rounds)
    at_least(4, batches=options.batches)
    at_least(0, workers=min(options.workers or [0]))
    if (options.annotations is None) != (options.images is None):
        raise UserError("--annotations and --images: one needs the other; give both, or none for drawn people")
    config, device = load_config(options.config, options.overrides), default_device(options.device)
    options.workers = options.workers or sorted({0, 1, config.data.workers})
    with TemporaryDirectory() as folder:
        parts = measure(options, config, device, Path(folder))
    title = f"{options.config}, {options.annotations or f'{PICTURES} drawn pictures'}, batches of {config.train.batch_size}"
    print(f"{title}; {machine(device)}, OpenCV {cv2.__version__}, {os.cpu_count()} cores")
    for name in PARTS:
        if name in parts:
            print("", *parts[name], sep="\n")


if __name__ == "__main__":
    run_script(main)
