"""Move DEKR's keypoints to the nearest heatmap peaks, refined by a fitted Gaussian (optional in the published inference)."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from config.systems.dekr import DekrInferenceConfig
from utils.device import precise_dtype

PEAK_REACH = 2  # pixels: a peak is the maximum of the 5 x 5 square around it
FIT_REACH = 6  # pixels on each side of a peak to which its Gaussian is fitted
FIT_ROUNDS = 2
WINDOW_EXPONENT = 7.0  # a window ends where its Gaussian has fallen to exp(-7)
WINDOW_GROUP = 10  # people of similar size; their windows are read together
MIN_VARIANCE = 4.0  # of a window, map pixels squared
MIN_HEATMAP_VALUE = 1e-3  # the fit of the logarithm excludes lower values


def upsample_heatmaps(heatmaps: Tensor, factor: float) -> Tensor:
    """Upsample (N, K, h, w) bilinearly, corners aligned, to size * factor - factor + 1; repeat the last row and column (as published)."""
    size = [int(side * factor) for side in heatmaps.shape[2:]]
    grown = [side - int(factor) + 1 for side in size]
    maps = F.interpolate(heatmaps, grown, mode="bilinear", align_corners=True)
    return F.pad(maps, (0, size[1] - grown[1], 0, size[0] - grown[0]), mode="replicate")


def snap_to_peaks(keypoints: Tensor, maps: Sequence[Tensor], settings: DekrInferenceConfig) -> Tensor:
    """Return the keypoints' positions (N, P, K, 2), moved to the nearest peak of their own map and the center of its Gaussian.

    keypoints (N, P, K, 3) x, y, score in pixels of scale 1's input; maps: of each scale (N, K, H, W) at that size.
    A keypoint without a peak within `match_distance` stays. At a score of at most `match_threshold` it moves to the peak's pixel.
    """
    height, width = (min(of_scale.shape[axis] for of_scale in maps) for axis in (2, 3))
    heatmaps = sum(of_scale[:, :, :height, :width] for of_scale in maps) / len(maps)
    maxima = local_maximum(heatmaps, PEAK_REACH)
    values, index = torch.where(heatmaps == maxima, heatmaps, 0).flatten(2).topk(min(settings.max_people, height * width))
    peaks = torch.stack([index % width, index // width], 3)  # (N, K, peaks, 2)
    distances = torch.cdist(keypoints[..., :2].transpose(1, 2), peaks.to(keypoints.dtype))  # (N, K, P, peaks)
    distances = torch.where(values[:, :, None] > 0, distances, torch.inf)  # `topk` fills up with pixels that are no peaks
    distance, nearest = (t.transpose(1, 2)[..., None] for t in distances.min(3))
    peak = peaks.gather(2, nearest.transpose(1, 2).expand(-1, -1, -1, 2)).transpose(1, 2)  # (N, P, K, 2)
    refined = torch.where(keypoints[..., 2:] > settings.match_threshold, fit_gaussian(heatmaps, peak), peak)
    return torch.where(distance < settings.match_distance, refined, keypoints[..., :2])


def match_in_window(poses: Tensor, heatmaps: Tensor, factor: float, shift: float, window: float) -> tuple[Tensor, Tensor]:
    """Move keypoints to the maxima of heatmap times a Gaussian about them: return poses (N, P, K, 2) and the product there (N, P, K).

    poses (N, P, K, 2) in input pixels; heatmaps (N, K, h, w) in [0, 1]; their pixel j stands at (j + shift) factor. window: the Gaussian's
    exponent falls to -1 at a distance of the root of this, in the person's diagonals. MoveNet does so (with one width for all people).
    """
    heatmaps = heatmaps.contiguous()
    points = poses / factor - shift
    variance = (window * (points.amax(2) - points.amin(2)).square().sum(2)).clamp(min=MIN_VARIANCE)  # (N, P)
    order = variance.argsort(1)
    # People of similar size together: a window is as large as its largest person's, and few people are large
    points, variance = take_rows(points, order), take_rows(variance, order)
    groups = [slice(start, start + WINDOW_GROUP) for start in range(0, points.shape[1], WINDOW_GROUP)]
    found = zip(*(_window_maxima(points[:, group], variance[:, group], heatmaps) for group in groups))
    moved, values = (take_rows(torch.cat(parts, 1), order.argsort(1)) for parts in found)
    return torch.where(values[..., None] > 0, (moved + shift) * factor, poses), values


def _window_maxima(points: Tensor, variance: Tensor, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima (N, P, K, 2) of heatmap times Gaussian about the points, in map pixels, and their values (N, P, K).

    points (N, P, K, 2) in map pixels; variance (N, P) of each person's Gaussian.
    """
    height, width = heatmaps.shape[2:]
    points, variance = points.transpose(1, 2).contiguous(), variance[:, None, :, None]  # (N, K, P, 2), (N, 1, P, 1)
    reach = (WINDOW_EXPONENT * variance).sqrt().floor() + 1
    widest = reach.max().long() + 1  # a tensor, for traces; one pixel more than the window, where the product is 0
    steps = torch.arange(-widest, widest + 1, device=points.device)
    columns, rows = (points[..., axis, None].round().long() + steps for axis in (0, 1))  # (N, K, P, window)
    weights, near = [], steps.float().abs() <= reach
    for axis, (at, side) in enumerate(((columns, width), (rows, height))):
        inside = (at >= 0) & (at < side) & near
        weights.append(torch.where(inside, (-(at - points[..., axis, None]).square() / variance).exp(), 0))
    index = (rows.clamp(0, height - 1) * width)[..., None] + columns.clamp(0, width - 1)[..., None, :]
    products = heatmaps.flatten(2).gather(2, index.flatten(2)).view(index.shape)
    products = products.mul_(weights[1][..., None]).mul_(weights[0][..., None, :]).flatten(3)
    values, best = products.max(3, keepdim=True)
    side, count = columns.shape[3], products.shape[3]
    around = torch.cat([best - side, best - 1, best, best + 1, best + side], 3).clamp(0, count - 1)
    above, left, top, right, below = products.gather(3, around).clamp(min=MIN_HEATMAP_VALUE**2).log().split(1, 3)
    maxima = [columns.gather(3, best % side), rows.gather(3, best // side)]
    for axis, (before, after) in enumerate(((left, right), (above, below))):  # a parabola through logarithms: exact for Gaussians
        curvature = 2 * top - before - after
        maxima[axis] = maxima[axis] + torch.where(curvature > 0, (after - before) / (2 * curvature), 0).clamp(-0.5, 0.5)
    return torch.cat(maxima, 3).transpose(1, 2), values[..., 0].transpose(1, 2)


def take_rows(rows: Tensor, order: Tensor) -> Tensor:
    """Return rows (N, P, ...) in the order (N, P)."""
    return rows.gather(1, order.view(*order.shape, *[1] * (rows.ndim - 2)).expand(-1, -1, *rows.shape[2:]))


def local_maximum(maps: Tensor, reach: int) -> Tensor:
    """Return the maximum (N, K, H, W) of the square around each pixel, by axis: on a CPU much faster than `max_pool2d`."""
    for axis, padding in ((3, (reach, reach)), (2, (0, 0, reach, reach))):
        padded = F.pad(maps, padding, value=-torch.inf)
        maps = reduce(torch.maximum, (padded.narrow(axis, step, maps.shape[axis]) for step in range(2 * reach + 1)))
    return maps


def fit_gaussian(heatmaps: Tensor, peak: Tensor) -> Tensor:
    """Return the centers (N, P, K, 2) of isotropic Gaussians fitted to heatmaps (N, K, H, W) around peaks (N, P, K, 2), whole pixels.

    Fits the logarithm a + b x + c y + d (x^2 + y^2) by least squares, weighted with the square of the heatmap, then of the Gaussian:
    to first order this fits the Gaussian itself. A peak stays if the fit is no peak or its center is out of reach.
    """
    if precise_dtype(heatmaps.device) != torch.float64:
        return fit_gaussian(heatmaps.cpu(), peak.cpu()).to(heatmaps.device)
    height, width = heatmaps.shape[2:]
    steps = torch.arange(-FIT_REACH, FIT_REACH + 1, device=heatmaps.device)
    y, x = (t.flatten() for t in torch.meshgrid(steps, steps, indexing="ij"))
    at_x, at_y = peak[..., :1] + x, peak[..., 1:] + y  # (N, P, K, window)
    inside = (at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)
    index = (at_y.clamp(0, height - 1) * width + at_x.clamp(0, width - 1)).transpose(1, 2)
    values = heatmaps.flatten(2).gather(2, index.flatten(2)).view(index.shape).transpose(1, 2).double()
    terms = torch.stack([torch.ones_like(x), x, y, x * x + y * y], 1).double()  # (window, 4)
    inside = inside & (values > MIN_HEATMAP_VALUE)
    logarithm, weight = values.clamp(min=MIN_HEATMAP_VALUE).log(), torch.where(inside, values, 0)
    for _ in range(FIT_ROUNDS):
        weighted = terms * weight.square()[..., None]
        moments = weighted.transpose(3, 4) @ terms + 1e-9 * torch.eye(4, dtype=terms.dtype, device=terms.device)
        fit = torch.linalg.solve(moments, (weighted.transpose(3, 4) @ logarithm[..., None])[..., 0])
        weight = torch.where(inside, (fit @ terms.T).clamp(max=0.5).exp(), 0)
    shift = -fit[..., 1:3] / (2 * fit[..., 3:])
    is_peak = (fit[..., 3:] < 0) & (shift.abs() <= FIT_REACH).all(3, keepdim=True)
    return peak + torch.where(is_peak, shift, 0).to(heatmaps.dtype)
