"""How good the network is: its loss on the validation samples, and the people that it finds in their pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from data.people_file import PeopleFile
from utils.evaluation.validation_ap import predict_images, validation_metrics
from utils.systems import build_decoder
from utils.training.state import Run
from utils.training.step import TrainingStep, batch_on
from utils.visualize.people import draw_people


@torch.no_grad()
def validate(run: Run, loader: Iterable[NamedTuple], epoch: int, average: nn.Module | None = None) -> float:
    """The mean loss over all validation samples of all processes; a few pictures go to TensorBoard.

    The same to the last bit, however the batches are shared out; on a GPU with `train.deterministic`.
    average: a network of the same kind in the place of the run's.
    """
    spread, world = run.step, run.world
    if average is not None:
        spread = TrainingStep(average, world.unwrap(run.step).loss, run.config.train.precision)
    world.broadcast_buffers(world.unwrap(spread))
    spread.eval()
    step = world.local_module(spread)
    sums = [torch.zeros(0, 2, device=world.device, dtype=torch.float64)]  # of each batch: sum over samples, their number
    for i, batch in enumerate(loader):
        run.interrupts.check()
        images, targets = batch_on(world.device, batch, run.config)
        total = step(images, targets).sum().double()
        sums.append(torch.stack([total, total.new_tensor(len(images))])[None])
        count = run.config.train.val_images
        if i == 0 and run.curves is not None and count and average is None:
            heatmaps = world.unwrap(spread).predict(images[:count])[0]
            decoder = build_decoder(run.network, run.config)
            run.curves.pictures(epoch + 1, "validation", decoder.draw(images[:count], heatmaps, targets[0][:count]))
    losses, counts = torch.cat(world.all_gather(torch.cat(sums))).T.tolist()
    return math.fsum(losses) / sum(counts)


@torch.no_grad()
def find_people(run: Run, epoch: int, average: nn.Module | None = None) -> dict[str, float]:
    """COCO's figures of the people found in the validation files; a few pictures of them go to TensorBoard."""
    config, network = run.config, run.network if average is None else average
    files = [PeopleFile(path, config.skeleton) for path in config.data.val_files]
    run.world.broadcast_buffers(network)
    network.eval()
    decoder = build_decoder(network, config)
    figures = validation_metrics(decoder, files, config.skeleton, config.train.batch_size, run.world)
    count = min(config.train.val_images, len(files[0]))
    if run.curves is not None and count and average is None:
        shown = predict_images(decoder, [(files[0], number) for number in range(count)], count, run.world.device)
        pictures = [draw_people(files[0].image(number), keypoints, config.skeleton) for number, keypoints, _ in shown]
        run.curves.pictures(epoch + 1, "people", pictures)
    return figures
