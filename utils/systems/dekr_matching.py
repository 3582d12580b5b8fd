"""DEKR's keypoints moved to the heatmaps' nearest peaks, and those refined by fitting a Gaussian (optional in the published inference)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from config.systems.dekr import DekrInferenceConfig

PEAK_REACH = 2  # pixels: a peak is highest in the square of 5 about it
FIT_REACH = 6  # pixels on each side of a peak that its Gaussian is fitted to
FIT_ROUNDS = 2
LEAST_HEAT = 1e-3  # less has no logarithm worth fitting to


def enlarged(heatmaps: Tensor, factor: float) -> Tensor:
    """(N, K, h, w) brought up bilinearly, corners aligned, to (size - factor + 1), then the last row and column repeated (published)."""
    size = [int(side * factor) for side in heatmaps.shape[2:]]
    grown = [side - int(factor) + 1 for side in size]
    maps = F.interpolate(heatmaps, grown, mode="bilinear", align_corners=True)
    return F.pad(maps, (0, size[1] - grown[1], 0, size[0] - grown[0]), mode="replicate")


def matched(keypoints: Tensor, maps: Sequence[Tensor], settings: DekrInferenceConfig) -> Tensor:
    """The keypoints' places, moved to the nearest peak of their own map and to the middle of the Gaussian there.

    keypoints (N, P, K, 3) x, y, score in pixels of scale 1's input; maps: of each scale (N, K, H, W) at that size. Returns (N, P, K, 2).
    A keypoint without a peak within `match_distance` stays; one with a score of at most `match_threshold` takes the peak as it is.
    """
    height, width = (min(of_scale.shape[axis] for of_scale in maps) for axis in (2, 3))
    heat = sum(of_scale[:, :, :height, :width] for of_scale in maps) / len(maps)
    highest = local_maximum(heat, PEAK_REACH)
    most, place = torch.where(heat == highest, heat, 0).flatten(2).topk(min(settings.max_people, height * width))
    peaks = torch.stack([place % width, place // width], 3)  # (N, K, peaks, 2)
    gaps = torch.cdist(keypoints[..., :2].transpose(1, 2), peaks.to(keypoints.dtype))  # (N, K, P, peaks)
    gaps = torch.where(most[:, :, None] > 0, gaps, torch.inf)  # where there are few peaks, the others are any pixels
    gap, nearest = (t.transpose(1, 2)[..., None] for t in gaps.min(3))
    peak = peaks.gather(2, nearest.transpose(1, 2).expand(-1, -1, -1, 2)).transpose(1, 2)  # (N, P, K, 2)
    refined = torch.where(keypoints[..., 2:] > settings.match_threshold, fit_gaussian(heat, peak), peak)
    return torch.where(gap < settings.match_distance, refined, keypoints[..., :2])


def local_maximum(maps: Tensor, reach: int) -> Tensor:
    """(N, K, H, W) the largest value in a square about each pixel, one axis after the other: on a CPU much faster than `max_pool2d`."""
    for axis, padding in ((3, (reach, reach)), (2, (0, 0, reach, reach))):
        padded = F.pad(maps, padding, value=-torch.inf)
        maps = reduce(torch.maximum, (padded.narrow(axis, step, maps.shape[axis]) for step in range(2 * reach + 1)))
    return maps


def fit_gaussian(heat: Tensor, peak: Tensor) -> Tensor:
    """The middle (N, P, K, 2) of the round Gaussian that is nearest to the heat (N, K, H, W) about each peak (N, P, K, 2), whole pixels.

    Its logarithm a + b x + c y + d (x^2 + y^2) is fitted by least squares, weighted with the square of the heat, then of the Gaussian
    itself: to first order the fit of the Gaussian. A peak without one, or with its middle out of reach, stays.
    """
    height, width = heat.shape[2:]
    steps = torch.arange(-FIT_REACH, FIT_REACH + 1, device=heat.device)
    y, x = (t.flatten() for t in torch.meshgrid(steps, steps, indexing="ij"))
    at_x, at_y = peak[..., :1] + x, peak[..., 1:] + y  # (N, P, K, window)
    inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
    at = (at_y.clamp(0, height - 1) * width + at_x.clamp(0, width - 1)).transpose(1, 2)
    seen = heat.flatten(2).gather(2, at.flatten(2)).view(at.shape).transpose(1, 2).double()
    terms = torch.stack([torch.ones_like(x), x, y, x * x + y * y], 1).double()  # (window, 4)
    inside = inside & (seen > LEAST_HEAT)
    logarithm, weight = seen.clamp(min=LEAST_HEAT).log(), torch.where(inside, seen, 0)
    for _ in range(FIT_ROUNDS):
        weighted = terms * weight.square()[..., None]
        moments = weighted.transpose(3, 4) @ terms + 1e-9 * torch.eye(4, dtype=terms.dtype, device=terms.device)
        fit = torch.linalg.solve(moments, (weighted.transpose(3, 4) @ logarithm[..., None])[..., 0])
        weight = torch.where(inside, (fit @ terms.T).clamp(max=0.5).exp(), 0)
    shift = -fit[..., 1:3] / (2 * fit[..., 3:])
    good = (fit[..., 3:] < 0) & (shift.abs() <= FIT_REACH).all(3, keepdim=True)
    return peak + torch.where(good, shift, 0).to(heat.dtype)
