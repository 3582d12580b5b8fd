"""Build a training's state from its configuration and a checkpoint, and its run directory."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from config import Config, UserError, load_config
from config.files import read_text, write_json, write_text
from config.version import VERSION
from losses import build_loss
from models import build_model
from utils.checkpoint import Checkpoint, init_weights, load_backbone, load_weights, read_checkpoint
from utils.device import precise_dtype, uses_channels_last
from utils.distributed import DistributedContext
from utils.training.logging import CURVES, METRICS, MetricsLogger, build_logger
from utils.training.optimizer import build_averages, build_optimizer, freeze
from utils.training.state import BEST, LAST, PREVIOUS, TrainState
from utils.training.step import TrainingStep

CONFIG = "config.yaml"
RUN_FILES = (CONFIG, "versions.json", "train.log", METRICS, CURVES, LAST, PREVIOUS, BEST, "next.pth", "ema.pth", "swa.pth")
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "h5py", "pycocotools", "pydantic")


def set_precision(config: Config) -> None:
    """Set how exact, and how repeatable, PyTorch's matrix products and convolutions are in this process."""
    tf32, deterministic = config.train.tf32, config.train.deterministic
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = not deterministic  # all batches are of one size
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


def build_state(
    config: Config, output: Path, context: DistributedContext, init: Path | None = None, checkpoint: Checkpoint | None = None
) -> tuple[TrainState, list[str]]:
    """Return a run at its start, or as a checkpoint left it, and messages for its log. Nothing is written.

    init: initial weights.
    """
    check_settings(config, context.device)
    settings = config.train
    torch.manual_seed(settings.seed)  # the initial weights, the same on all ranks
    network = build_model(config)
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, context.rank]).generate_state(1)[0]))  # different on each rank
    messages = load_initial_weights(network, config, init, checkpoint)
    freeze(network, settings.freeze)
    dtype = torch.float64 if settings.precision == "float64" else None
    memory_format = torch.channels_last if uses_channels_last(settings, context.device) else torch.contiguous_format
    network.to(context.device, dtype, memory_format=memory_format)
    step = TrainingStep(network, build_loss(config).to(context.device), settings.precision)
    optimizer = build_optimizer([p for p in network.parameters() if p.requires_grad], settings, context.device)
    scaler = torch.amp.GradScaler(context.device.type, enabled=settings.precision == "float16")
    averages, step = build_averages(network, settings), context.wrap(step, settings)
    state = TrainState(config, output, context, network, step, optimizer, scaler, build_logger(None), averages)
    if checkpoint is not None:
        messages += state.load_state_dict(checkpoint.content, checkpoint.path)
    state.check_same_on_all_ranks()
    return state, messages


def check_settings(config: Config, device: torch.device) -> None:
    """Raise UserError where keys of the training contradict each other or the device."""
    settings, swa, sides, multiple = config.train, config.train.swa, config.data.input_size, config.model.input_multiple
    every, patience = settings.evaluate_every, settings.patience
    if swa.start_epoch is not None and settings.epochs - swa.start_epoch < swa.cycle:
        problem = f"no cycle of {swa.cycle} epochs fits between start_epoch {swa.start_epoch} and epoch {settings.epochs}"
        raise UserError(f"train.swa: {problem}")
    if every and settings.precision == "float64":
        raise UserError("train.evaluate_every: validation AP is not computed in float64; choose another train.precision")
    if settings.precision == "float64" and precise_dtype(device) != torch.float64:
        raise UserError(f"train.precision: float64 is not computed on {device}; choose another one")
    if settings.best == "AP" and not every:
        raise UserError("train.best: AP is not computed; set train.evaluate_every=1")
    if settings.best == "AP" and patience is not None and patience < every:
        raise UserError(f"train.patience: {patience} epochs are fewer than those between two APs; raise it to train.evaluate_every={every}")
    if settings.batch_size == 1 and sides == (multiple, multiple):
        problem = f"1 with data.input_size {multiple} x {multiple} leaves batch norm one pixel, of which there is no variance"
        raise UserError(f"train.batch_size: {problem}; increase one of them")


def load_initial_weights(network: nn.Module, config: Config, init: Path | None, checkpoint: Checkpoint | None) -> list[str]:
    """Load weights from the checkpoint to resume from, from `--init`, or a backbone's. Return messages for the log."""
    backbone = config.model.backbone
    if checkpoint is not None:
        load_weights(network, checkpoint)
        return [f"{init}: not used, the run resumes from {checkpoint.path}"] * (init is not None)
    if init is not None:
        loaded, fresh = init_weights(network, init)
        messages = [f"{init}: {len(loaded)} tensors loaded, {len(fresh)} newly initialized{': ' * bool(fresh)}{', '.join(fresh)}"]
        return messages + [f"{backbone}: not used, --init has the backbone too"] * (backbone is not None)
    if backbone is not None:
        loaded, fresh = load_backbone(network, backbone)
        return [f"{backbone}: {len(loaded)} backbone tensors loaded, {len(fresh)} others newly initialized"]
    return []


# The run directory


def stored_states(run_dir: Path) -> list[Path]:
    """Return the directory's checkpoints to resume from, the last one first."""
    return [file for file in (run_dir / LAST, run_dir / PREVIOUS) if file.exists()]


def find_checkpoint(run_dir: Path, resume: str | None) -> tuple[Checkpoint | None, list[str]]:
    """Read the checkpoint to resume from, once. Return it, None for a new run, and messages for the log.

    resume: a file; "auto", the directory's last checkpoint, the previous one where that is damaged, or else a new run; None, a new run.
    Raises UserError where another run would be overwritten.
    """
    files, messages = stored_states(run_dir), list[str]()
    if resume != "auto":
        if files and (resume is None or Path(resume).resolve().parent != run_dir.resolve()):
            raise UserError(f"output folder {run_dir}: already holds a run; resume with --resume auto, or choose another --output")
        files = [] if resume is None else [Path(resume)]
    for file in files:
        try:
            checkpoint = Checkpoint(file)
            checkpoint.content = read_checkpoint(file, checksums=True)
            return checkpoint, messages
        except UserError as error:
            if file == files[-1]:
                raise
            messages.append(f"{error}; resuming from the one before, {files[-1]}")
    return None, messages


def open_run_dir(state: TrainState, messages: list[str]) -> None:
    """Make the run directory, its log and metrics. Called last, so that a checkpoint that does not fit leaves nothing behind."""
    run_dir = state.output if state.context.is_main else None
    if run_dir is not None:
        for leftover in (*run_dir.glob(".*.partial.*"), run_dir / "next.pth"):  # of a kill
            leftover.unlink(missing_ok=True)
        text = config_text(state.config)
        write_text(run_dir / CONFIG, text)
        write_json(run_dir / "versions.json", versions())
        state.metrics = MetricsLogger(run_dir, state.steps, state.epoch)
        state.metrics.add_config(state.steps, state.config, text)
    state.log = build_logger(run_dir)
    for message in messages:
        state.log.info(message)


def config_text(config: Config) -> str:
    """Return a run directory's config.yaml."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def is_own_config(path: str | Path, run_dir: Path) -> bool:
    """Return whether a file is the run directory's config.yaml, as a run has written it: nothing is lost where it is written again."""
    own = run_dir / CONFIG
    return own.exists() and own.samefile(path) and read_text(own, "configuration") == config_text(load_config(own))


def versions() -> dict[str, object]:
    """Return the versions of the project, Python and the packages, the device and the command."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    packages = {package.name: package.version for package in metadata.distributions() if package.name in PACKAGES}
    project = {"simplepose": VERSION, "commit": git_commit()}
    return {**project, "python": platform.python_version(), "device": device, "command": sys.argv, **packages}


def git_commit(folder: Path = Path(__file__).parents[2]) -> str | None:
    """Return the commit that the project's folder has checked out, with "-dirty" where files differ; None outside a git checkout."""
    if not (folder / ".git").exists():  # an installed package can lie inside another project's
        return None
    command = ["git", "--no-optional-locks", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, no commit yet, or not this user's folder
        return None
