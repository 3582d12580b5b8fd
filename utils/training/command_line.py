"""The command line of the three training scripts, and the dry run."""

import argparse
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from config import Config, load_config
from config.files import check_outputs
from config.signals import StopSignal
from data.datasets import collate
from utils.distributed import DistributedContext, Parallel, distributed_context
from utils.training.build import RUN_FILES, build_state, is_own_config, set_precision, stored_states
from utils.training.data import build_loaders, check_training_files
from utils.training.logging import peak_memory
from utils.training.optimizer import set_train_mode
from utils.training.state import TrainState
from utils.training.step import to_device
from utils.training.trainer import forward_backward, train, update_weights


def train_from_command_line(description: str, parallel: Parallel) -> None:
    """Parse the options, and train."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, help="YAML file, such as config/quickstart.yaml")
    parser.add_argument("--output", type=Path, help="the run directory; default: runs/ and the configuration's name")
    parser.add_argument("--resume", metavar="auto|FILE", help="resume from a checkpoint; auto: the run directory's last one, if any")
    parser.add_argument("--init", type=Path, metavar="FILE|NAME", help="start from these weights, ours or published")
    parser.add_argument("--dry-run", action="store_true", help="run two steps and print shapes, memory and estimated time; write nothing")
    if parallel == "distributed":  # torch.distributed.launch adds it; the environment says the same
        parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in train.batch_size=2")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    check_training_files(config, f"configuration {options.config}")
    init = options.init or config.train.init
    output = options.output or Path("runs") / Path(options.config).stem
    if not (options.dry_run or stored_states(output)):  # the files of a run that is resumed are both
        data = (*config.data.train_files, *config.data.val_files)
        recipe = None if is_own_config(options.config, output) else options.config
        check_outputs([output / name for name in RUN_FILES], [recipe, init, config.model.backbone, *data])
    cv2.setNumThreads(1)  # before there are workers: OpenCV's threads do not survive a fork
    set_precision(config)
    with distributed_context(parallel) as context:
        if options.dry_run:
            dry_run(config, context, init)
            return
        with StopSignal() as stop:
            train(config, output, context, options.resume, init, stop)


def dry_run(config: Config, context: DistributedContext, init: Path | None = None) -> None:
    """Build everything as for a training, take two steps, and print shapes, parameters, memory and the estimated time."""
    loader, val_loader = build_loaders(config, context)
    state, messages = build_state(config, Path(), context, init)
    start = time.perf_counter()
    batches = [collate([loader.dataset[item] for item in batch]) for batch, _ in zip(loader.batch_sampler, range(config.train.accumulate))]
    reading = (time.perf_counter() - start) / max(1, config.data.workers)  # of a step, in this process
    set_train_mode(state.step, state.network)
    with torch.no_grad():
        images, targets = to_device(context.device, batches[0], config)
        outputs = context.unwrap(state.step).outputs(images)
    first, second = (_step_seconds(state, batches) for _ in range(2))  # the first one also allocates, chooses algorithms, compiles
    if not context.is_main:
        return
    parameters = list(state.network.parameters())
    step = max(second, reading) if config.data.workers else second + reading
    steps, epochs = len(loader) // config.train.accumulate, config.train.epochs
    of_epoch, of_all = (timedelta(seconds=round(n * steps * step)) for n in (1, epochs))
    lines = [
        *messages,
        f"system {config.system}, {context.size} x batch {config.train.batch_size} x {config.train.accumulate} on {context.device}",
        f"samples: {len(loader.dataset):,} for training, {len(val_loader.dataset):,} for validation",
        f"parameters: {_count(parameters):,}, {_count(p for p in parameters if p.requires_grad):,} of them trainable",
        f"images: {_shape(images)}",
        *(f"targets: {name} {_shape(tensor)}" for name, tensor in targets._asdict().items()),
        *(f"output: {text}" for text in sorted({_shape(tensor) for tensor in tree_leaves(outputs)})),
        f"memory: {peak_memory(context.device):,.0f} MiB of {'the GPU' if context.device.type == 'cuda' else 'the machine'} at most",
        f"step: {first:.3g} s, then {second:.3g} s; its samples: {reading:.3g} s with {config.data.workers} DataLoader workers",
        f"epoch: {steps:,} steps, about {of_epoch}; {epochs} epochs: {of_all}",
    ]
    print("\n".join(lines))


def _step_seconds(state: TrainState, batches: list[NamedTuple]) -> float:
    """Take one optimizer step and return its seconds."""
    start = time.perf_counter()
    forward_backward(state, batches)
    update_weights(state, measure_norm=False)
    state.optimizer.zero_grad(set_to_none=True)
    if state.context.device.type != "cpu":
        torch.accelerator.synchronize(state.context.device)
    return time.perf_counter() - start


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _shape(tensor: Tensor) -> str:
    return f"{' x '.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"
