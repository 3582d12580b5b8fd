"""DEKR's rescoring network: loading it, and training it on what a pose network finds in its own training set (paper section 3.4).

    python -m utils.systems.dekr_rescoring make --checkpoint F --annotations A.json --images DIR --output poses.npz
    python -m utils.systems.dekr_rescoring train --data poses.npz --output rescore.pth

Then `inference.rescore=rescore.pth`. What is inside poses.npz: data/samples/dekr_rescoring.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from config import Config, Skeleton, UserError
from config.errors import run_script
from config.files import output_folder
from config.load import with_overrides
from config.progress import Progress
from data.images import image_or_error, read_images
from data.samples.dekr_rescoring import AnnotatedSet, FoundPoses, read_poses, write_poses
from models import build_model
from models.dekr_rescoring import RescoringNet, num_features
from utils.checkpoint import config_for, load_weights, read_checkpoint, save_checkpoint
from utils.device import default_device
from utils.systems import Decoder, pose_system

BATCH_SIZE = 4
HELD_OUT = 0.1  # part of the images whose poses are not trained on
SHOWN = 10  # images that cannot be read, of those that are named


# Loading and saving


def load_rescoring(path: str | Path, skeleton: Skeleton, device: torch.device | str = "cpu") -> RescoringNet:
    """The network from a file of ours or a published one, ready to be asked.

    Raises UserError where the file is none, or was made for another skeleton.
    """
    content = read_checkpoint(path)
    weights, stored = content.get("weights", content.get("state_dict", content)), content.get("skeleton")
    names = ("l1.weight", "module.l1.weight")
    first = next((weights[name] for name in names if name in weights), None) if isinstance(weights, Mapping) else None
    if not isinstance(first, Tensor) or first.ndim != 2:
        raise UserError(f"rescoring network {path}: is none, it has no tensor l1.weight; train one with utils.systems.dekr_rescoring")
    ours = isinstance(stored, Mapping)  # a published file says nothing but how many features it wants
    others = ours and {**_looked_at(skeleton), "name": None} != {**stored, "name": None}
    if others or first.shape[1] != num_features(skeleton):
        of_file = f"{first.shape[1]} features" + (f" of the skeleton {stored.get('name')!r}" if ours else "")
        of_config = f"{num_features(skeleton)} of {skeleton.name!r}"
        way_out = "train one for this skeleton with utils.systems.dekr_rescoring, or set inference.rescore=null"
        raise UserError(f"rescoring network {path}: was made for {of_file}, the configuration has {of_config}; {way_out}")
    net = RescoringNet(skeleton)
    load_weights(net, path)
    return net.to(device).eval()


def save_rescoring(path: Path, net: RescoringNet, skeleton: Skeleton) -> None:
    """Write the network whole or not at all, with what it knows of the skeleton."""
    save_checkpoint(path, weights=net.state_dict(), skeleton=_looked_at(skeleton))


def _looked_at(skeleton: Skeleton) -> dict[str, object]:
    """The name, and what the features depend on."""
    return {"name": skeleton.name, "keypoints": list(skeleton.keypoints), "limbs": [list(limb) for limb in skeleton.limbs]}


# Data: what a pose network finds


def find_poses(decoder: Decoder, annotated: AnnotatedSet, batch_size: int) -> tuple[FoundPoses, list[str]]:
    """Everybody whom the pose network finds in the images and of whom it can be told how good they are; what is wrong with the images
    that cannot be read."""
    parts: list[tuple[np.ndarray, ...]] = []
    failures: list[str] = []
    count = 0
    with Progress(len(annotated.files), "poses", "image") as progress:
        decoded = zip(annotated.files, read_images(annotated.files.values(), image_or_error))
        while batch := list(islice(decoded, batch_size)):
            failures += [str(image) for _, image in batch if isinstance(image, UserError)]
            readable = [(image_id, image) for image_id, image in batch if not isinstance(image, UserError)]
            for (image_id, _), (keypoints, scores) in zip(readable, _decoded(decoder, [image for _, image in readable])):
                oks, told = annotated.rated(image_id, keypoints)
                parts.append((keypoints[told], scores[told], oks[told], np.full(told.sum(), image_id)))
                count += int(told.sum())
            progress.advance(len(batch), f"{count} people" + (f", {len(failures)} images failed" if failures else ""))
        if not count:
            untrained = f"nobody was found in {len(annotated.files)} images; is it the checkpoint of a trained network?"
            raise UserError(failures[0] if len(failures) == len(annotated.files) else untrained)
    keypoints, scores, oks, images = (np.concatenate(arrays) for arrays in zip(*parts))
    return FoundPoses(annotated.skeleton, *(values.astype(np.float32) for values in (keypoints, scores, oks)), images), failures


def _decoded(decoder: Decoder, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    try:
        return [(keypoints, np.asarray(scores)) for keypoints, scores in decoder(images, None)] if images else []
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is used up; lower --batch-size, or the largest of inference.scales") from error


def without_rescoring(config: Config) -> Config:
    """The configuration for scores as they are before any rescoring: those are what the network learns from."""
    return config if getattr(config.inference, "rescore", None) is None else with_overrides(config, ["inference.rescore=null"])


def pose_decoder(config: Config, checkpoint: Path, device: str | None) -> Decoder:
    """From photographs to people. Raises UserError where the pose system must be told where people are."""
    network = build_model(config)
    load_weights(network, checkpoint)
    decoder = pose_system(config).decoder(network.to(default_device(device)).eval(), config)
    if decoder.needs_boxes:
        raise UserError(f"system {config.system!r} looks at one person at a time; rescoring is for one that finds all of an image")
    return decoder


# Training


def held_out(images: np.ndarray, seed: int) -> np.ndarray:
    """images (N,) ids -> (N,) bool: the poses of some of them, at least one, drawn by the seed."""
    ids = np.unique(images)
    drawn = np.random.default_rng(seed).permutation(ids)[: max(round(HELD_OUT * len(ids)), 1)]
    return np.isin(images, drawn)


def train_rescoring(
    poses: FoundPoses, epochs: int, batch_size: int, learning_rate: float, seed: int, tell: Callable[[str], None] = print
) -> RescoringNet:
    """Mean squared error between predicted and true OKS, by Adam; the same seed gives the same network.

    tell: is given a line for each epoch, with the loss on the images held out beside that of the scores as they were found.
    """
    held = torch.from_numpy(held_out(poses.images, seed))
    keypoints, oks = torch.from_numpy(poses.keypoints).float(), torch.from_numpy(poses.oks).float()
    untouched = F.mse_loss(torch.from_numpy(poses.scores).float()[held], oks[held]).item()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RescoringNet(poses.skeleton)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    generator, rows = torch.Generator().manual_seed(seed), torch.nonzero(~held)[:, 0]
    for epoch in range(1, epochs + 1):
        total = 0.0
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(batch_size):
            loss = F.mse_loss(net(keypoints[batch]), oks[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        trained, other = total / len(rows), _loss(net, keypoints[held], oks[held])
        if not np.isfinite([trained, other]).all():
            raise UserError(f"the loss is no longer a finite number in epoch {epoch}; lower --learning-rate")
        tell(f"epoch {epoch}/{epochs}: training loss {trained:.5f}, held-out loss {other:.5f} (of the untouched score {untouched:.5f})")
    return net.eval()


@torch.no_grad()
def _loss(net: RescoringNet, keypoints: Tensor, oks: Tensor, rows: int = 1 << 16) -> float:
    """The mean squared error over poses (N, K, 3) and their OKS (N,), so many rows at a time."""
    return F.mse_loss(torch.cat([net(part) for part in keypoints.split(rows)]), oks).item()


# The commands


def _make(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="dekr_rescoring make", description="Run a pose network over a training set; keep what it finds.")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the pose network; ours, or the published format")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO or CrowdPose file, as the skeleton has it")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--config", help="YAML file; default: the one stored in the checkpoint, or the published recipe")
    parser.add_argument("--limit", type=int, help="only the first N images")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help=f"images that are run together; default: {BATCH_SIZE}")
    parser.add_argument("--device", help="such as cpu or cuda:0")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a configuration key, as in inference.flip=false")
    options = parser.parse_intermixed_args(arguments)
    _at_least(1, options, ("limit", "batch_size"))
    _check_output(options.output)
    config = config_for(options.checkpoint, options.config, options.overrides)
    config = without_rescoring(config)
    annotated = AnnotatedSet(options.annotations, options.images, config.skeleton, options.limit)
    decoder = pose_decoder(config, options.checkpoint, options.device)
    output_folder(options.output.parent)
    try:
        poses, failures = find_poses(decoder, annotated, options.batch_size)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; nothing was written") from None
    write_poses(options.output, poses)
    if failures:
        more = [f"... and {len(failures) - SHOWN} more"] * (len(failures) > SHOWN)
        print(f"{len(failures)} images were left out:", *failures[:SHOWN], *more, sep="\n  ", file=sys.stderr)
    mean = poses.oks.mean()
    print(f"{options.output}: {len(poses)} people found in {len(annotated.files) - len(failures)} images, mean OKS {mean:.3f}")


def _train(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="dekr_rescoring train", description="Train a rescoring network on what `make` has written.")
    parser.add_argument("--data", type=Path, required=True, help="the .npz of `make`")
    parser.add_argument("--output", type=Path, required=True, help="the rescoring network to write, for inference.rescore")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=1024, help="poses")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, the images held out and the batches")
    options = parser.parse_args(arguments)
    _at_least(1, options, ("epochs", "batch_size"))
    _at_least(0, options, ("seed",))
    if not options.learning_rate > 0:
        raise UserError(f"--learning-rate {options.learning_rate}: expected a number above 0")
    _check_output(options.output)
    poses = read_poses(options.data)
    output_folder(options.output.parent)
    net = train_rescoring(poses, options.epochs, options.batch_size, options.learning_rate, options.seed)
    save_rescoring(options.output, net, poses.skeleton)
    print(f"{options.output}: use it with inference.rescore={options.output}")


def _at_least(least: int, options: argparse.Namespace, names: Iterable[str]) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least {least}")


def _check_output(path: Path) -> None:
    """Better now than after an hour."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a folder; name a file")


COMMANDS = {"make": _make, "train": _train}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS, help="each has its own --help")
    COMMANDS[parser.parse_args(sys.argv[1:2]).command](sys.argv[2:])


if __name__ == "__main__":
    run_script(main)
