"""DEKR's decoder (paper section 3.4): flip test, multi-scale testing, center maxima, pose NMS, all on the network's device."""

from collections.abc import Hashable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config import Skeleton, UserError
from config.systems.dekr import DekrConfig, DekrInferenceConfig
from models.dekr_rescoring import RescoringNet, rescore
from utils.checkpoint import Checkpoint, load_weights, save_checkpoint
from utils.device import as_images, in_precision
from utils.predictions import PosePredictions
from utils.preprocess.dekr import as_input, input_size, merge_by_oks, to_image
from utils.systems import Decoder, Overlays
from utils.systems.dekr_matching import match_in_window, snap_to_peaks, take_rows, upsample_heatmaps

Size = tuple[int, int]  # height, width
ScaleMaps = tuple[float, Tensor, Tensor]  # a scale, heatmaps (N, K + 1, h, w) and offsets (N, 2 K, h, w) of the images run at it

LEAST_DISTANCE = 2  # input pixels, at which two keypoints are one in pose NMS: a pose of one keypoint has no diagonal


class DekrDecoder(Decoder):
    """Decode the people of images of one input size."""

    output_names = ("heatmaps", "offsets")
    config: DekrConfig

    def __init__(self, network: nn.Module, config: DekrConfig):
        super().__init__(network, config)
        path, own = config.inference.rescore, getattr(network, "rescoring", None)
        if path is not None:
            self.rescoring = load_rescoring(path, config.skeleton)
        else:  # a copy, since rescoring runs on the CPU: these are few numbers
            self.rescoring = deepcopy(own).cpu() if own is not None and config.inference.own_rescoring else None

    def batch_key(self, image_size: Size) -> Hashable:
        return tuple(input_size(image_size, scale, self.config) for scale in self.config.inference.scales)

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> tuple[list[Size], list[np.ndarray]]:
        """Return the images' sizes, and the network's input (N, h, w, 3) uint8 at each scale."""
        return [image.shape[:2] for image in images], [as_input(images, scale, self.config) for scale in self.config.inference.scales]

    @torch.inference_mode()
    def forward(self, inputs: tuple[list[Size], list[np.ndarray]]) -> tuple[list[Size], list[ScaleMaps]]:
        """Return the images' sizes, and the outputs at each scale, averaged by the flip test, without padding."""
        image_sizes, pixels = inputs
        settings, device = self.config.inference, next(self.network.parameters()).device
        outputs = []
        for scale, of_scale in zip(settings.scales, pixels):
            batch = as_images(of_scale, device)
            height, width = (-(-side // self.config.model.stride) for side in input_size(image_sizes[0], scale, self.config))
            with in_precision(settings.precision, device):
                heatmaps, offset = predict_with_flip(self.network, batch, self.config) if settings.flip else self.network.predict(batch)
            outputs.append((scale, heatmaps.float()[..., :height, :width], offset.float()[..., :height, :width]))
        return image_sizes, outputs

    def decode(self, outputs: tuple[list[Size], list[ScaleMaps]]) -> list[PosePredictions]:
        """Return the people of each image, rescored if configured."""
        predictions = []
        for keypoints, scores in decode_batch(outputs[1], outputs[0], self.config, self.rescoring):
            order = np.argsort(-scores, kind="stable")
            predictions.append(PosePredictions(keypoints[order], scores[order], self.config.skeleton))
        return predictions

    def decode_in_graph(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return keypoints (N, P, K, 3) and scores (N, P) at one scale, best first; 0 where there is no person.

        images (N, 3, H, W) of any size: pads them as `preprocess`, and cuts the maps as `forward`.
        """
        config, settings = self.config, self.config.inference
        if settings.match or settings.rescore is not None:
            raise UserError("--decode: not with inference.match or inference.rescore; add inference.match=false inference.rescore=null")
        if len(settings.scales) > 1 and settings.nms_oks is None:
            raise UserError("--decode: the graph takes one scale; add inference.scales=[1], or merge scales by inference.nms_oks=0.7")
        multiple, stride, (height, width) = config.model.input_multiple, config.model.stride, images.shape[2:]
        images = F.pad(images, (0, (multiple - width % multiple) % multiple, 0, (multiple - height % multiple) % multiple))
        heatmaps, offset = predict_with_flip(self.network, images, config) if settings.flip else self.network.predict(images)
        height, width = ((side + stride - 1) // stride for side in (height, width))  # ONNX rounds negative quotients up
        heatmaps, offset = (maps[..., :height, :width] for maps in (heatmaps, offset))
        keypoints, values, overlaps, present = gather_poses([(1.0, heatmaps, offset)], config)
        means = values.mean(2)
        if settings.nms_order == "heat":
            order = means.topk(means.shape[1])[1]
            keypoints, means, present = (take_rows(t, order) for t in (keypoints, means, present))
            overlaps = take_rows(take_rows(overlaps, order).transpose(1, 2), order).transpose(1, 2)
        selected = select_poses(overlaps, means, present)
        scores, order = (keypoints[..., 2].mean(2) * selected).topk(means.shape[1])
        return take_rows(keypoints, order) * (scores > 0)[..., None, None], scores

    def overlays(self, outputs: tuple[list[Size], list[ScaleMaps]]) -> list[Overlays]:
        """Resize the heatmaps of scale 1 to each image."""
        overlays, model = [], self.config.model
        for size, heatmaps in zip(outputs[0], next(heatmaps for scale, heatmaps, _ in outputs[1] if scale == 1.0)):
            corner, other = to_image(model.stride * (np.array([[0.0, 0.0], [1, 1]]) + model.pixel_center), size, self.config)
            overlays.append(self.resized_groups(heatmaps, other - corner, corner, size))
        return overlays

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        return {"keypoints": heatmaps[:-1], "centers": heatmaps[-1:]}


def decode(
    outputs: Sequence[ScaleMaps], image_size: Size, config: DekrConfig, rescoring: RescoringNet | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return one image's keypoints (P, K, 3) x, y, score in image pixels and scores (P,), in the order of `inference.nms_order`.

    outputs: of each scale (scale, heatmap (K + 1, h, w), offset (2 K, h, w)), averaged with the flip test already.
    """
    batch = [(scale, torch.as_tensor(heatmap)[None], torch.as_tensor(offset)[None]) for scale, heatmap, offset in outputs]
    return decode_batch(batch, [image_size], config, rescoring)[0]


@torch.inference_mode()
def decode_batch(
    outputs: Sequence[ScaleMaps], image_sizes: Sequence[Size], config: DekrConfig, rescoring: RescoringNet | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run `decode` for N images of one input size."""
    if config.inference.nms_oks is None:
        return decode_pooled(outputs, image_sizes, config, rescoring)
    of_scales = [decode_pooled([output], image_sizes, config, rescoring) for output in outputs]
    scales = [scale for scale, *_ in outputs]
    return [merge_by_oks(of_image, scales, size, config) for of_image, size in zip(zip(*of_scales), image_sizes)]


def decode_pooled(
    outputs: Sequence[ScaleMaps], image_sizes: Sequence[Size], config: DekrConfig, rescoring: RescoringNet | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Run `decode` for N images of one input size, with the poses of all scales together and the mean of their heatmaps, as published."""
    settings = config.inference
    # The only transfer from the device: at most max_people candidates of each scale
    keypoints, values, overlaps, present = (t.cpu().numpy() for t in gather_poses(outputs, config, outputs[0][1].device.type == "cpu"))
    predictions = []
    for index, size in enumerate(image_sizes):
        means = values[index].mean(1)
        order = np.arange(len(means)) if settings.nms_order == "center" else np.argsort(-means, kind="stable")
        selected = pose_nms(overlaps[index], means, present[index], settings.max_people, order)
        of_image, heat = keypoints[index, selected], values[index, selected]
        if rescoring is not None and rescoring.of_heatmaps:
            poses_and_heat = torch.from_numpy(np.dstack([of_image[..., :2], heat]))
            of_image[..., 2] *= rescore(rescoring, poses_and_heat, torch.ones(len(heat))).numpy()[:, None]
        of_image[..., :2] = to_image(of_image[..., :2], size, config)
        scores = of_image[..., 2].mean(1)
        if rescoring is not None and not rescoring.of_heatmaps:
            scores = rescore(rescoring, torch.from_numpy(of_image), torch.from_numpy(scores)).numpy()
        predictions.append((of_image, scores))
    return predictions


def gather_poses(outputs: Sequence[ScaleMaps], config: DekrConfig, present_only: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the candidates of all scales, highest center first within a scale.

    keypoints (N, P, K, 3) x, y in pixels of scale 1's input, center score times heatmap value; these values (N, P, K); `pose_overlaps`
    (N, P, P); present (N, P) bool: the center is over the threshold. present_only: without the last candidates that are below it in every
    image; to count them the host waits for the device.
    """
    settings, stride, shift = config.inference, config.model.stride, config.model.pixel_center
    outputs = [(scale, heatmap.float(), offset.float()) for scale, heatmap, offset in sorted(outputs, key=lambda output: -output[0])]
    candidates = [center_candidates(stride / scale, shift, heatmap[:, -1], offset, settings) for scale, heatmap, offset in outputs]
    if present_only:
        counts = [max(1, int((scores > 0).sum(1).max())) for _, scores in candidates]
        candidates = [(poses[:, :count], scores[:, :count]) for (poses, scores), count in zip(candidates, counts)]
    scores = rescale_scores([of_scale for _, of_scale in candidates], [scale for scale, *_ in outputs], settings.scale_decay)
    poses, center_scores = torch.cat([of_scale for of_scale, _ in candidates], 1), torch.cat(scores, 1)
    heatmaps = [(scale, heatmap[:, :-1]) for scale, heatmap, _ in outputs]
    sample = sample_heatmaps if settings.keypoint_heat == "published" else sample_bilinear
    overlaps = pose_overlaps(poses, settings)
    if settings.match_window is not None:  # each scale's poses in its own heatmaps
        of_scales = [(of_scale, maps, stride / scale) for (of_scale, _), (scale, maps) in zip(candidates, heatmaps)]
        matched = [match_in_window(*of_scale, shift, settings.match_window) for of_scale in of_scales]
        poses, values = (torch.cat(of_scale, 1) for of_scale in zip(*matched))
    else:
        values = sum(sample(poses - shift * stride / scale, stride / scale, maps) for scale, maps in heatmaps) / len(heatmaps)
    keypoints = torch.cat([poses, (center_scores[..., None] * values)[..., None]], 3)
    if settings.match:
        maps = [upsample_heatmaps(of_scale, stride / scale) for scale, of_scale in heatmaps]
        keypoints[..., :2] -= shift * stride  # the maps' first pixels stand at 0
        keypoints = torch.cat([snap_to_peaks(keypoints, maps, settings) + shift * stride, keypoints[..., 2:]], 3)
    return keypoints, values, overlaps, center_scores > 0


def center_candidates(factor: float, shift: float, center: Tensor, offset: Tensor, settings: DekrInferenceConfig) -> tuple[Tensor, Tensor]:
    """Return the poses (N, P, K, 2) x, y in pixels of scale 1's input at the center maxima, and the center scores (N, P), highest first.

    factor: pixels of scale 1's input per map pixel; shift: `model.pixel_center`; center (N, h, w), offset (N, 2 K, h, w). Scores not above
    the threshold become 0.
    """
    n, height, width = center.shape
    window = settings.center_window or 3
    maxima = F.max_pool2d(center[:, None], window, 1, window // 2)
    for limit in () if settings.center_window else (400, 600):  # published: 5 and 7 in larger maps
        is_larger = height + width > limit  # in a trace a tensor, since it depends on the image
        if isinstance(is_larger, Tensor):
            maxima = torch.where(is_larger, F.max_pool2d(maxima, 3, 1, 1), maxima)
        elif is_larger:
            maxima = F.max_pool2d(maxima, 3, 1, 1)
    scores, index = torch.where(center == maxima[:, 0], center, 0).flatten(1).topk(min(settings.max_people, height * width))
    offsets = offset.flatten(2).gather(2, index[:, None].expand(-1, offset.shape[1], -1)).view(n, -1, 2, index.shape[1])
    pixel = torch.stack([index % width, index // width], 1)[:, None]
    poses = (pixel + shift - offsets).permute(0, 3, 1, 2) * factor
    return poses, scores * (scores > settings.centre_threshold)


def rescale_scores(scores: Sequence[Tensor], scales: Sequence[float], decay: float) -> list[Tensor]:
    """Rescale the center scores (N, P) of the other scales, if any, so that their best is `decay` times scale 1's best."""
    if len(scales) == 1:
        return list(scores)
    best = [of_scale.amax(1, keepdim=True) for of_scale in scores]
    best = [torch.where(of_scale > 0, of_scale, 1) for of_scale in best]
    one = best[list(scales).index(1.0)]
    return [s if scale == 1.0 else s / b * one * decay for s, b, scale in zip(scores, best, scales)]


def sample_heatmaps(poses: Tensor, factor: float, heatmaps: Tensor) -> Tensor:
    """Return the heatmap values (N, P, K) at the keypoints. poses (N, P, K, 2), heatmaps (N, K, h, w).

    Equals reading `upsample_heatmaps(heatmaps, factor)` at the keypoints' whole pixels, but interpolates only there.
    """
    sides = _map_sides(heatmaps)
    axes = []
    for axis, side in enumerate(sides):
        whole = (side * factor).floor()
        grown = whole - int(factor) + 1
        position = poses[..., axis].floor().clamp(min=0).minimum(whole.minimum(grown) - 1) * ((side - 1) / (grown - 1).clamp(min=1))
        low = position.floor().minimum((side - 2).clamp(min=0))
        axes.append((low.long(), (low + 1).minimum(side - 1).long(), position - low))
    (x0, x1, dx), (y0, y1, dy) = axes
    flat = heatmaps.flatten(2)

    def corner(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(2, (y * heatmaps.shape[3] + x).transpose(1, 2)).transpose(1, 2)

    top = torch.lerp(corner(y0, x0), corner(y0, x1), dx)
    return torch.lerp(top, torch.lerp(corner(y1, x0), corner(y1, x1), dx), dy)


def _map_sides(heatmaps: Tensor) -> list[Tensor]:
    """Return width and height of heatmaps (N, K, h, w) as float tensors, which a trace can hold."""
    return [torch.as_tensor(side, dtype=torch.float32, device=heatmaps.device) for side in heatmaps.shape[:1:-1]]


def sample_bilinear(poses: Tensor, factor: float, heatmaps: Tensor) -> Tensor:
    """Return the heatmap values (N, P, K) at the keypoints, interpolated in the maps themselves and held within them, as MMPose does.

    poses (N, P, K, 2), heatmaps (N, K, h, w). MMPose reads x, a map pixel of w, at x w / (w - 1) - 0.5.
    """
    sides = torch.stack(_map_sides(heatmaps))
    # grid_sample's units: -1 and 1 are the outer borders of the first and last pixel
    grid = (poses / factor * 2 / (sides - 1).clamp(min=1) - 1).transpose(1, 2)
    n, keypoints, people = grid.shape[:3]
    sampled = F.grid_sample(
        heatmaps.flatten(0, 1)[:, None], grid.reshape(n * keypoints, 1, people, 2), padding_mode="border", align_corners=False
    )
    return sampled.view(n, keypoints, people).transpose(1, 2)


def pose_overlaps(poses: Tensor, settings: DekrInferenceConfig) -> Tensor:
    """Return (N, P, P) bool: whether enough keypoints of a pose are near another's, by its own diagonal. poses (N, P, K, 2)."""
    max_distance = settings.nms_distance or (0.15 if len(settings.scales) > 1 else 0.05)
    min_keypoints = poses.shape[2] // 2 if settings.nms_keypoints is None else settings.nms_keypoints
    diagonal = (poses.amax(2) - poses.amin(2)).square().sum(2)  # squared, (N, P)
    distances = (poses[:, :, None] - poses[:, None]).square().sum(4)
    limit = (max_distance**2 * diagonal).clamp(min=LEAST_DISTANCE**2)
    return (distances < limit[:, :, None, None]).sum(3) > min_keypoints


def select_poses(overlaps: Tensor, values: Tensor, present: Tensor) -> Tensor:
    """Return (N, P) bool: the poses that `pose_nms` selects, in the order of the rows. overlaps (N, P, P), values and present (N, P)."""
    number = torch.arange(values.shape[1], device=values.device)
    same = number == number[:, None]
    groups = overlaps & present[:, None] | same  # (N, pose, members)
    best = torch.where(groups, values[:, None], -torch.inf).argmax(2)
    members, choices = (t.float().unbind(1) for t in (groups, number == best[..., None]))
    selected, free = torch.zeros_like(values), present.float()
    for pose, (group, choice) in enumerate(zip(members, choices)):  # few operations each: a graph holds all rounds
        new = choice * free * free[:, pose, None]
        selected = selected + new
        free = free * (1 - group * new.sum(1, keepdim=True))
    return selected > 0


def pose_nms(overlaps: np.ndarray, values: np.ndarray, present: np.ndarray, max_people: int, order: np.ndarray | None = None) -> np.ndarray:
    """Return the indices of at most `max_people` poses: of each group of overlapping ones, the one with the highest heatmap value.

    overlaps (P, P) bool; values (P,) mean heatmap value over the keypoints; present (P,) bool; order: in which poses gather their groups.
    """
    order = np.arange(len(present)) if order is None else order
    groups = overlaps & present | np.eye(len(present), dtype=bool)
    best_of = np.where(groups, values, -np.inf).argmax(1).tolist()
    selected: list[int] = []
    suppressed = ~present
    for pose in order[present[order]].tolist():
        best = best_of[pose]
        if not suppressed[pose] and not suppressed[best]:
            selected.append(best)
            suppressed |= groups[pose]
    if len(selected) > max_people:
        selected = sorted(selected, key=lambda pose: -values[pose])[:max_people]
    return np.array(selected, np.intp)


def predict_with_flip(network: nn.Module, images: Tensor, config: DekrConfig) -> tuple[Tensor, Tensor]:
    """Return heatmap (N, K + 1, h, w) and offset (N, 2 K, h, w), averaged with those of the flipped images.

    As published, flipped images are shifted left by stride - 1 columns, so that their map pixels coincide with the others'. With
    `inference.flip_shift` maps, `average_flip` shifts the outputs instead. Map pixels in the middle of theirs coincide without a shift.
    """
    flipped, shift = images.flip(3), config.model.stride - 1
    if config.inference.flip_shift == "input" and config.model.pixel_center == 0:
        flipped = torch.cat([flipped[..., shift:], flipped[..., -shift:]], 3)
    heatmaps, offset = network.predict(torch.cat([images, flipped]))
    return average_flip(heatmaps, offset, config)


def average_flip(heatmaps: Tensor, offset: Tensor, config: DekrConfig) -> tuple[Tensor, Tensor]:
    """Average the outputs (2 N, C, h, w) for N images and then for the flipped ones: (N, C, h, w)."""
    partner = torch.from_numpy(config.skeleton.flip_keypoints).to(heatmaps.device)
    straight, flipped = heatmaps.chunk(2)
    channels = torch.cat([partner, partner.new_tensor([len(partner)])])  # the center has no partner
    flipped = flipped.flip(3)[:, channels]
    # Offsets run from keypoint to pixel; flipping reverses their x
    straight_offset, flipped_offset = (half.unflatten(1, (-1, 2)) for half in offset.chunk(2))
    flipped_offset = flipped_offset.flip(4)[:, partner] * flipped_offset.new_tensor([-1, 1])[:, None, None]
    if config.inference.flip_shift == "maps":
        # As MMPose: heatmaps by one column; offsets stay, but end where the flipped input's pixels lie in the image's grid
        flipped = torch.cat([flipped[..., :1], flipped[..., :-1]], 3)
        flipped_offset[:, :, 0] -= 1 - 1 / config.model.stride
    return (straight + flipped) / 2, ((straight_offset + flipped_offset) / 2).flatten(1, 2)


# The rescoring network (paper section 3.4); dekr_rescoring.py makes one


def load_rescoring(path: str | Path, skeleton: Skeleton) -> RescoringNet:
    """Load the network from a file of ours or a published one, in evaluation mode. Raises UserError where it is for another skeleton."""
    checkpoint, net = Checkpoint(path), RescoringNet(skeleton)
    stored = checkpoint.content.get("skeleton")  # a published file has none
    if stored is not None and {**stored, "name": None} != {**_skeleton_metadata(skeleton), "name": None}:
        made_for = f"was made for the skeleton {stored['name']!r}, the configuration has {skeleton.name!r}"
        raise UserError(f"rescoring network {path}: {made_for}; train one with utils.systems.dekr_rescoring, or set inference.rescore=null")
    load_weights(net, checkpoint)
    return net.eval()


def save_rescoring(path: Path, net: RescoringNet, skeleton: Skeleton) -> None:
    """Write the network and the parts of the skeleton that it depends on."""
    save_checkpoint(path, weights=net.state_dict(), skeleton=_skeleton_metadata(skeleton))


def _skeleton_metadata(skeleton: Skeleton) -> dict[str, object]:
    """Return the skeleton's name and the parts on which the features depend."""
    return {"name": skeleton.name, "keypoints": list(skeleton.keypoints), "limbs": [list(limb) for limb in skeleton.limbs]}
