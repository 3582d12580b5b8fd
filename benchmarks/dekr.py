"""What DEKR costs: the network with all keypoints' branches as one beside a plain loop over them, and the decoding of its maps.

    python benchmarks/dekr.py [--config C] [--people 1 10 30] [--device cpu] [key=value ...]

One picture of the configured input size, with flip; on a CPU everything runs on one thread. The maps to be decoded are the training
targets of the figures of data/synthetic.py, with some noise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from config import Config, load_config
from config.errors import run_script
from config.systems.dekr import STRIDE
from data.drawn.figure import random_figure
from data.targets.dekr import render_targets
from models import build_model
from models.dekr import DEKR, KERNEL, TAPS, AdaptiveBlock
from models.hrnet import finest
from utils.systems.dekr import decode_batch, with_mirror_averaged

NOISE = 0.005  # standard deviation of a map's noise


# The network


@torch.inference_mode()
def loop_over_keypoints(network: DEKR, features: Tensor) -> Tensor:
    """The offsets (N, 2 K, h, w) by a plain loop over the keypoints' branches, each with torchvision's deformable convolution."""
    keypoints = network.offset_out.groups
    steps = torch.arange(KERNEL, dtype=features.dtype, device=features.device) - KERNEL // 2
    grid = torch.cartesian_prod(steps, steps).T
    offsets = []
    for k, branch in enumerate(network.offset_in(features).chunk(keypoints, 1)):
        for block in network.offset_blocks:
            branch = _block_of(block, k, keypoints, branch, grid)
        offsets.append(F.conv2d(branch, _part(network.offset_out.weight, k, keypoints), _part(network.offset_out.bias, k, keypoints)))
    return torch.cat(offsets, 1)


def _block_of(block: AdaptiveBlock, k: int, keypoints: int, features: Tensor, grid: Tensor) -> Tensor:
    """One keypoint's adaptive block as it is written down in the paper. features (N, channels, h, w), grid (2, taps)."""
    matrix, translation = (
        F.conv2d(features, _part(conv.weight, k, keypoints), _part(conv.bias, k, keypoints), padding=1)
        for conv in (block.matrix, block.translation)
    )
    n, _, h, w = matrix.shape
    moved = matrix.permute(0, 2, 3, 1).reshape(-1, 2, 2) @ grid - grid
    places = moved.transpose(1, 2).reshape(n, h, w, 2 * TAPS).permute(0, 3, 1, 2) + translation.repeat(1, TAPS, 1, 1)
    answer = deform_conv2d(features, places, _part(block.conv.weight, k, keypoints), padding=1)
    norm = block.norm
    statistics = (_part(values, k, keypoints) for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return F.relu(F.batch_norm(answer, *statistics, eps=norm.eps) + features)


def _part(values: Tensor, k: int, parts: int) -> Tensor:
    return values.view(parts, -1, *values.shape[1:])[k]


@torch.inference_mode()
def network_seconds(config: Config, device: torch.device) -> dict[str, float]:
    """Seconds of one image without flip: the whole network, the same with the loop, and the branches alone both ways."""
    torch.manual_seed(0)
    network = build_model(config).to(device).eval()
    for name, parameter in network.named_parameters():  # as far from zero as trained ones: the taps are spread out
        if name.startswith("offset_") and parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter[0].numel()))
    images = torch.rand(1, 3, *config.data.input_size, device=device)
    features = finest(network.trunk.forward_features(network.normalize(images)))
    together, looped = network.offset_out(network.offset_blocks(network.offset_in(features))), loop_over_keypoints(network, features)
    torch.testing.assert_close(together, looped, rtol=1e-3, atol=1e-3 * float(looped.abs().max()))

    def with_loop() -> None:
        features = finest(network.trunk.forward_features(network.normalize(images)))
        network.heat_out(network.heat_block(network.heat_in(features)))
        loop_over_keypoints(network, features)

    return in_turns(
        {
            "network, branches as one": lambda: network(images),
            "network, loop over the branches": with_loop,
            "branches as one": lambda: network.offset_out(network.offset_blocks(network.offset_in(features))),
            "loop over the branches": lambda: loop_over_keypoints(network, features),
        },
        device,
        rounds=5,
    )


# Decoding


def drawn_answer(rng: np.random.Generator, count: int, config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noisy maps of figures at random places, the straight image's and its mirror image's; the more there are, the smaller they are."""
    side = config.data.input_size[0] // STRIDE
    joints = np.ones((count, len(config.skeleton.dataset), 3))
    for person in joints:
        figure = random_figure(rng, np.full(3, 128.0))
        left, top, right, bottom = figure.extent()
        stature = rng.uniform(0.5, 0.9) * side / (bottom - top) / max(1.0, math.sqrt(count / 4))
        corner = rng.uniform(0, 1, 2) * [max(side - stature * (right - left), 0), max(side - stature * (bottom - top), 0)]
        person[:, :2] = (figure.keypoints - (left, top)) * stature + corner
    joints = config.skeleton.from_dataset(joints)
    joints = np.concatenate([joints, joints.mean(1, keepdims=True)], 1)
    joints[..., 2] = 1
    heat, _, offset, _ = render_targets(joints, np.ptp(joints[..., :2], 1).sum(1) ** 2, (side, side), config)
    noisy = (maps + rng.normal(0, NOISE, maps.shape).astype(np.float32) for maps in (heat, offset))
    heat, offset = (torch.from_numpy(maps)[None].to(device) for maps in noisy)
    return torch.cat([heat, heat.flip(3)]), torch.cat([offset, offset.flip(3)])


def decoding_seconds(config: Config, count: int, device: torch.device) -> dict[str, float]:
    """Seconds a picture from both answers of the network to people, and of that the mean with the mirror image."""
    heat, offset = drawn_answer(np.random.default_rng(count), count, config, device)

    def people() -> None:
        decode_batch([(1.0, *with_mirror_averaged(heat, offset, config))], [config.data.input_size], config)

    with torch.inference_mode():
        return in_turns({"decoding": people, "of that the flip": lambda: with_mirror_averaged(heat, offset, config)}, device, rounds=30)


def in_turns(tasks: dict[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """The median seconds of each task, run in turns after a first round for nothing."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for round_number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/dekr_w32_coco.yaml")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 10, 30], help="people in a picture")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config, device = load_config(options.config, options.overrides), torch.device(options.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread"
    print(f"{options.config}, {config.data.input_size[0]} x {config.data.input_size[1]}, {where}")
    for name, seconds in network_seconds(config, device).items():
        print(f"{name:>34}: {1000 * seconds:8.1f} ms", flush=True)
    for count in options.people:
        figures = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in decoding_seconds(config, count, device).items())
        print(f"{count:3} people: {figures}", flush=True)


if __name__ == "__main__":
    run_script(main)
