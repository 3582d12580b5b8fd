"""DEKR from photographs to people (paper section 3.4): flip, scale search, maxima of the centers, pose NMS, all on the network's device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config.systems.dekr import DekrConfig, DekrInferenceConfig
from models.dekr_rescoring import rescored
from utils.device import as_images, in_precision
from utils.systems import Decoder, Overlays, PosePredictions
from utils.systems.dekr_matching import enlarged, matched
from utils.systems.dekr_rescoring import load_rescoring
from utils.visualize.heatmaps import resize_to_image

Size = tuple[int, int]  # height, width
ScaleMaps = tuple[float, Tensor, Tensor]  # a scale, heatmaps (N, K + 1, h, w) and offsets (N, 2 K, h, w) of the images run at it


@dataclass(frozen=True)
class Group:
    """Images of one input size, and what the network sees of them or answers."""

    numbers: list[int]  # of the images
    image_sizes: list[Size]
    inputs: list[np.ndarray]  # of each scale (N, h, w, 3) uint8
    maps: list[ScaleMaps]


class DekrDecoder(Decoder):
    """People of a batch of photographs."""

    output_names = ("heatmaps", "offsets")
    config: DekrConfig

    def __init__(self, network: nn.Module, config: DekrConfig):
        super().__init__(network, config)
        path = config.inference.rescore
        self.rescoring = None if path is None else load_rescoring(path, config.skeleton)

    def batch_key(self, image_size: Size) -> Hashable:
        return input_size(image_size, 1.0, self.config)

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> list[Group]:
        batch_key: dict[Hashable, list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            batch_key[self.batch_key(image.shape[:2])].append(number)
        groups = []
        for numbers in batch_key.values():
            of_group = [images[n] for n in numbers]
            inputs = [as_input(of_group, scale, self.config) for scale in self.config.inference.scales]
            groups.append(Group(numbers, [image.shape[:2] for image in of_group], inputs, []))
        return groups

    def forward(self, inputs: list[Group]) -> list[Group]:
        return [
            Group(group.numbers, group.image_sizes, [], run_network(self.network, group.inputs, group.image_sizes[0], self.config))
            for group in inputs
        ]

    def decode(self, outputs: list[Group]) -> list[PosePredictions]:
        people: dict[int, PosePredictions] = {}
        for group in outputs:
            people |= zip(group.numbers, decode_batch(group.maps, group.image_sizes, self.config))
        return [self._ranked(*people[number]) for number in range(len(people))]

    def overlays(self, outputs: list[Group]) -> list[Overlays]:
        """Of scale 1."""
        overlays: dict[int, Overlays] = {}
        for group in outputs:
            heatmaps = next(heat for scale, heat, _ in group.maps if scale == 1.0)
            for number, size, of_image in zip(group.numbers, group.image_sizes, heatmaps.cpu()):
                corner, other = to_image(np.array([[0.0, 0.0], [self.config.model.stride] * 2]), size, self.config)
                overlays[number] = {
                    name: resize_to_image(maps.amax(0).numpy(), tuple(other - corner), tuple(corner), size)
                    for name, maps in self.groups(of_image).items()
                }
        return [overlays[number] for number in range(len(overlays))]

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        return {"keypoints": heatmaps[:-1], "centers": heatmaps[-1:]}

    def _ranked(self, keypoints: np.ndarray, scores: np.ndarray) -> PosePredictions:
        """People in the order of their scores, rescored if so configured: a few numbers, which need no device."""
        if self.rescoring is not None:
            scores = rescored(self.rescoring, torch.from_numpy(keypoints), torch.from_numpy(scores)).numpy()
        order = np.argsort(-scores, kind="stable")
        return keypoints[order], scores[order]


def decode(answers: Sequence[tuple[float, Tensor, Tensor]], image_size: Size, config: DekrConfig) -> PosePredictions:
    """People of one image. answers: of each scale (scale, heatmap (K + 1, h, w), offset (2 K, h, w)), flip already averaged.

    Returns keypoints (P, K, 3) x, y, score in image pixels, scores (P,), in the order in which their centers were found.
    """
    batch = [(scale, torch.as_tensor(heatmap)[None], torch.as_tensor(offset)[None]) for scale, heatmap, offset in answers]
    return decode_batch(batch, [image_size], config)[0]


@torch.inference_mode()
def decode_batch(answers: Sequence[ScaleMaps], image_sizes: Sequence[Size], config: DekrConfig) -> list[PosePredictions]:
    """`decode` for N images whose inputs are of one size."""
    settings, stride = config.inference, config.model.stride
    answers = [(scale, heat.float(), offset.float()) for scale, heat, offset in sorted(answers, key=lambda answer: -answer[0])]
    found = [candidates(stride / scale, heat[:, -1], offset, settings) for scale, heat, offset in answers]
    scores = comparable([of_scale for _, of_scale in found], [scale for scale, *_ in answers], settings.scale_decay)
    poses, center = torch.cat([of_scale for of_scale, _ in found], 1), torch.cat(scores, 1)
    heatmaps = [(scale, heat[:, :-1]) for scale, heat, _ in answers]
    heat = sum(heat_at(poses, stride / scale, maps) for scale, maps in heatmaps) / len(heatmaps)
    near = same_person(poses, settings)
    keypoints = torch.cat([poses, (center[..., None] * heat)[..., None]], 3)
    if settings.match:
        maps = [enlarged(of_scale, stride / scale) for scale, of_scale in heatmaps]
        keypoints = torch.cat([matched(keypoints, maps, settings), keypoints[..., 2:]], 3)
    # The only way from the device: at most max_people candidates of each scale
    keypoints, heat, near, there = (t.cpu().numpy() for t in (keypoints, heat.mean(2), near, center > 0))
    people = []
    for number, size in enumerate(image_sizes):
        kept = suppress(near[number], heat[number], there[number], settings.max_people)
        of_image = keypoints[number, kept]
        of_image[..., :2] = to_image(of_image[..., :2], size, config)
        people.append((of_image, of_image[..., 2].mean(1)))
    return people


def candidates(factor: float, center: Tensor, offset: Tensor, settings: DekrInferenceConfig) -> tuple[Tensor, Tensor]:
    """The poses at the maxima of the centers' heatmaps, strongest first.

    factor: pixels of scale 1's input per map pixel; center (N, h, w), offset (N, 2 K, h, w). Returns poses (N, P, K, 2) x, y in pixels of
    scale 1's input and the centers' heat (N, P), 0 where it is not above the threshold.
    """
    n, height, width = center.shape
    reach = 1 + (height + width > 2 * 200) + (height + width > 2 * 300)
    highest = F.max_pool2d(center, 2 * reach + 1, 1, reach)
    heat, place = torch.where(center == highest, center, 0).flatten(1).topk(min(settings.max_people, height * width))
    ways = offset.flatten(2).gather(2, place[:, None].expand(-1, offset.shape[1], -1)).view(n, -1, 2, place.shape[1])
    pixel = torch.stack([place % width, place // width], 1)[:, None]
    poses = (pixel - ways).permute(0, 3, 1, 2) * factor
    return poses, heat * (heat > settings.centre_threshold)


def comparable(scores: Sequence[Tensor], scales: Sequence[float], decay: float) -> list[Tensor]:
    """The centers' heat (N, P) of each scale, the best of the others brought to `decay` times scale 1's best."""
    best = [of_scale.amax(1, keepdim=True) for of_scale in scores]
    best = [torch.where(of_scale > 0, of_scale, 1) for of_scale in best]
    one = best[list(scales).index(1.0)]
    return [s if scale == 1.0 else s / b * one * decay for s, b, scale in zip(scores, best, scales)]


def heat_at(poses: Tensor, factor: float, heatmaps: Tensor) -> Tensor:
    """The heat of each keypoint's own map at its place.

    The maps are brought up bilinearly, corners aligned, to (size - factor + 1), the last row and column repeated (published); only what is
    asked for is worked out. poses (N, P, K, 2), heatmaps (N, K, h, w) -> (N, P, K).
    """
    sides = heatmaps.shape[:1:-1]  # width, height
    axes = []
    for axis, side in enumerate(sides):
        whole = int(side * factor)
        grown = whole - int(factor) + 1
        place = poses[..., axis].floor().clamp(0, whole - 1).clamp(max=grown - 1) * ((side - 1) / max(grown - 1, 1))
        low = place.floor().clamp(max=max(side - 2, 0))
        axes.append((low.long(), (low.long() + 1).clamp(max=side - 1), place - low))
    (x0, x1, dx), (y0, y1, dy) = axes
    flat = heatmaps.flatten(2)

    def corner(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(2, (y * sides[0] + x).transpose(1, 2)).transpose(1, 2)

    top = torch.lerp(corner(y0, x0), corner(y0, x1), dx)
    return torch.lerp(top, torch.lerp(corner(y1, x0), corner(y1, x1), dx), dy)


def same_person(poses: Tensor, settings: DekrInferenceConfig) -> Tensor:
    """(N, P, P) bool: whether a pose's keypoints are nearer to another's than a part of the pose's own diagonal. poses (N, P, K, 2)."""
    several = len(settings.scales) > 1
    part = settings.nms_distance or (0.15 if several else 0.05)
    least = poses.shape[2] // 2 if settings.nms_keypoints is None else settings.nms_keypoints
    diagonal = (poses.amax(2) - poses.amin(2)).square().sum(2)  # squared, (N, P)
    gaps = (poses[:, :, None] - poses[:, None]).square().sum(4)
    return (gaps < part**2 * diagonal[:, :, None, None]).sum(3) > least


def suppress(near: np.ndarray, heat: np.ndarray, there: np.ndarray, most: int) -> np.ndarray:
    """Of poses that are one person the one with the most heat: their numbers, at most so many.

    near (P, P) bool, heat (P,) mean over the keypoints, there (P,) bool.
    """
    kept: list[int] = []
    ignored = ~there
    for pose in np.flatnonzero(there):
        if ignored[pose]:
            continue
        group = near[pose] & there
        group[pose] = True
        best = int(np.where(group, heat, -np.inf).argmax())
        if not ignored[best]:
            kept.append(best)
            ignored |= group
    if len(kept) > most:
        kept = sorted(kept, key=lambda pose: -heat[pose])[:most]
    return np.array(kept, np.intp)


# From photographs to the network's input and back


def input_size(image_size: Size, scale: float, config: DekrConfig) -> Size:
    """Height and width at which an image is run: the short side as configured, the long side rounded up, both times the scale."""
    multiple = config.inference.pad_multiple
    short = -(-config.data.input_size[0] // multiple) * multiple
    least, most = sorted(image_size)
    long = int((short / least * most + multiple - 1) // multiple * multiple)
    sides = int(short * scale), int(long * scale)
    return sides if image_size[0] < image_size[1] else sides[::-1]


def input_matrix(image_size: Size, size: Size) -> np.ndarray:
    """(2, 3) from image pixels to those of an input of `size`: the short sides fit, the middles meet."""
    factor = min(size) / min(image_size)
    (height, width), (h, w) = image_size, size
    return np.array([[factor, 0, w / 2 - factor * int(width / 2 + 0.5)], [0, factor, h / 2 - factor * int(height / 2 + 0.5)]])


def to_image(points: np.ndarray, image_size: Size, config: DekrConfig) -> np.ndarray:
    """(..., 2) from pixels of scale 1's input to image pixels."""
    matrix = input_matrix(image_size, input_size(image_size, 1.0, config))
    return (points - matrix[:, 2]) / matrix[0, 0]


def as_input(images: Sequence[np.ndarray], scale: float, config: DekrConfig) -> np.ndarray:
    """Images of one input size, each (H, W, 3) uint8, as they are run at a scale: (N, h, w, 3) uint8, black around them.

    Both sides are multiples of `model.input_multiple`; where the scale does not make them so, black is added right and below.
    """
    size, multiple = input_size(images[0].shape[:2], scale, config), config.model.input_multiple
    padded = np.zeros((len(images), *(-(-side // multiple) * multiple for side in size), 3), np.uint8)
    for canvas, image in zip(padded, images):
        matrix = input_matrix(image.shape[:2], input_size(image.shape[:2], scale, config))
        canvas[: size[0], : size[1]] = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR)
    return padded


def predict_maps(network: nn.Module, images: Sequence[np.ndarray], config: DekrConfig) -> list[ScaleMaps]:
    """The network's answers at each scale of `config.inference`, the mirror image's averaged in, for images of one input size."""
    inputs = [as_input(images, scale, config) for scale in config.inference.scales]
    return run_network(network, inputs, images[0].shape[:2], config)


@torch.inference_mode()
def run_network(network: nn.Module, inputs: Sequence[np.ndarray], image_size: Size, config: DekrConfig) -> list[ScaleMaps]:
    """What `predict_maps` returns. inputs: of each scale (N, h, w, 3) uint8; image_size: an image's."""
    settings, device = config.inference, next(network.parameters()).device
    answers = []
    for scale, pixels in zip(settings.scales, inputs):
        batch = as_images(pixels, device)
        height, width = (-(-side // config.model.stride) for side in input_size(image_size, scale, config))
        with in_precision(settings.precision, device):
            heat, offset = predict_with_flip(network, batch, config) if settings.flip else network.predict(batch)
        answers.append((scale, heat.float()[..., :height, :width], offset.float()[..., :height, :width]))
    return answers


def predict_with_flip(network: nn.Module, images: Tensor, config: DekrConfig) -> tuple[Tensor, Tensor]:
    """Heatmap and offset, averaged with the mirror images'.

    As published these are moved to the left by stride - 1 columns, so that their map pixels lie where the straight ones' do.
    """
    mirrored, shift = images.flip(3), config.model.stride - 1
    mirrored[..., :-shift] = mirrored[..., shift:].clone()
    return average_flip(*network.predict(torch.cat([images, mirrored])), config)


def average_flip(heat: Tensor, offset: Tensor, config: DekrConfig) -> tuple[Tensor, Tensor]:
    """Heatmap (2 N, K + 1, h, w) and offset (2 N, 2 K, h, w) of N images and then their mirror images -> those of N images."""
    partner = torch.from_numpy(config.skeleton.flip_keypoints).to(heat.device)
    straight, other = heat.chunk(2)
    channels = torch.cat([partner, partner.new_tensor([len(partner)])])  # the center is its own
    heat = (straight + other.flip(3)[:, channels]) / 2
    straight, other = (half.unflatten(1, (-1, 2)) for half in offset.chunk(2))
    # The way from keypoint to pixel; across, the mirror image's runs the other way
    other = other.flip(4)[:, partner] * other.new_tensor([-1, 1])[:, None, None]
    return heat, ((straight + other) / 2).flatten(1, 2)
