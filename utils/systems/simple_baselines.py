"""Simple Baselines' decoder (paper section 3.1): crop person boxes, flip test, multi-scale testing, subpixel heatmap maxima, OKS NMS."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from config.systems.simple_baselines import SimpleBaselinesConfig
from data.transforms import center_and_crop_size
from utils.device import as_images, in_precision
from utils.oks import oks_nms
from utils.predictions import PosePredictions
from utils.preprocess.simple_baselines import crop_boxes, crop_to_image, person_scores, valid_boxes
from utils.systems import Decoder, Overlays

MIN_HEATMAP_VALUE = 1e-6  # lower values are clamped before the logarithm
Subpixel = Literal["parabola", "quarter", "quarter_by_axis"]


class Crops(NamedTuple):
    """The boxes of a batch of images, in the order of the images, and their crops."""

    image_sizes: list[tuple[int, int]]  # height, width
    image_of: np.ndarray  # (P,) index of each box's image
    centers: np.ndarray  # (P, 2) x, y, and ...
    sizes: np.ndarray  # ... (P, 2) width, height of the crops in image pixels
    boxes: np.ndarray  # (P, 5) x, y, width, height in image pixels, score
    pixels: np.ndarray  # (P, h, w, 3) uint8


class SimpleBaselinesDecoder(Decoder):
    """Decode one person in each given box. Ignores boxes without area inside the image; OKS NMS removes duplicates."""

    needs_boxes = True
    fixed_input_size = True
    config: SimpleBaselinesConfig

    def __init__(self, network: nn.Module, config: SimpleBaselinesConfig):
        super().__init__(network, config)
        self.sigmas = np.array([config.skeleton.sigmas[name] for name in config.skeleton.keypoints])

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> Crops:
        valid = [valid_boxes(of_image, image.shape[:2]) for image, of_image in zip(images, boxes)]
        image_of = np.repeat(np.arange(len(images)), [len(of_image) for of_image in valid])
        all_boxes = np.concatenate(valid)
        centers, sizes = center_and_crop_size(all_boxes[:, :4], self.config.data.input_size)
        pixels = crop_boxes(images, image_of, centers, sizes, self.config.data.input_size)
        return Crops([image.shape[:2] for image in images], image_of, centers, sizes, all_boxes, pixels)

    @torch.inference_mode()
    def forward(self, inputs: Crops) -> tuple[Crops, Tensor]:
        """Return the crops without their pixels, and their heatmaps (P, K, h / 4, w / 4), averaged by the flip test and over scales."""
        config, device = self.config, next(self.network.parameters()).device
        height, width = (side // config.model.stride for side in config.data.input_size)
        heatmaps = [torch.zeros(0, config.skeleton.num_keypoints, height, width, device=device)]
        for start in range(0, len(inputs.pixels), config.inference.crops):
            batch = as_images(inputs.pixels[start : start + config.inference.crops], device)
            heatmaps.append(predict_at_scales(self.network, batch, config))
        return inputs._replace(pixels=inputs.pixels[:0]), torch.cat(heatmaps)

    def decode(self, outputs: tuple[Crops, Tensor]) -> list[PosePredictions]:
        (crops, heatmaps), settings = outputs, self.config.inference
        keypoints = decode(heatmaps, crops.centers, crops.sizes, settings.subpixel, self.config.model.pixel_center)
        scores = person_scores(keypoints[..., 2], crops.boxes[:, 4], settings.keypoint_threshold)
        areas = crops.sizes.prod(1)
        present = np.where(keypoints[..., 2:] > 0, keypoints, 0)
        predictions = []
        for n in range(len(crops.image_sizes)):
            rows = np.flatnonzero(crops.image_of == n)
            rows = rows[oks_nms(keypoints[rows], areas[rows], scores[rows], self.sigmas, settings.nms_threshold)]
            predictions.append(PosePredictions(present[rows], scores[rows], self.config.skeleton, crops.boxes[rows, :4]))
        return predictions

    def decode_in_graph(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return keypoints (N, K, 3) and scores (N,) of one person in each crop (N, 3, H, W), as for boxes with a score of 1."""
        config = self.config
        keypoints = heatmap_maxima(predict_at_scales(self.network, images, config), config.inference.subpixel)
        positions, values = (keypoints[..., :2] + config.model.pixel_center) * config.model.stride, keypoints[..., 2]
        counted = (values > config.inference.keypoint_threshold).float()
        return torch.cat([positions, values[..., None]], 2), (values * counted).sum(1) / counted.sum(1).clamp(min=1)

    def overlays(self, outputs: tuple[Crops, Tensor]) -> list[Overlays]:
        """Return the maximum over all boxes of each image."""
        crops, heatmaps = outputs
        overlays = [{"keypoints": np.zeros(size, np.float32)} for size in crops.image_sizes]
        for n, center, size, maps in zip(crops.image_of, crops.centers, crops.sizes, heatmaps):
            pixel = size / maps.shape[:0:-1]
            of_box = self.resized_groups(maps, pixel, center - size / 2 + self.config.model.pixel_center * pixel, crops.image_sizes[n])
            np.maximum(overlays[n]["keypoints"], of_box["keypoints"], out=overlays[n]["keypoints"])
        return overlays

    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        return {"keypoints": heatmaps}


def predict_at_scales(network: nn.Module, crops: Tensor, config: SimpleBaselinesConfig) -> Tensor:
    """Return the heatmaps (P, K, h, w) of crops (P, 3, H, W), averaged over `inference.scales` and with those of the flipped crops.

    At a scale the crop is enlarged about its middle, and its heatmaps are made smaller again; outside they count as 0.
    """
    of_scales = []
    for scale in config.inference.scales:
        enlarged = resize_about_middle(crops, scale)
        with in_precision(config.inference.precision, crops.device):  # the network alone: positions need float32
            maps = network.predict(torch.cat([enlarged, enlarged.flip(3)]) if config.inference.flip else enlarged).float()
        maps = average_flip(maps, config) if config.inference.flip else maps
        of_scales.append(resize_about_middle(maps, 1 / scale, config.model.pixel_center))
    return torch.stack(of_scales).mean(0)


def resize_about_middle(images: Tensor, scale: float, pixel_center: float = 0.0) -> Tensor:
    """Return images (N, C, H, W) enlarged about their middle, bilinear, of the same size; 0 where the result lies outside of the image.

    pixel_center: where pixel 0 stands; of a crop of `crop_boxes` at 0.
    """
    if scale == 1:
        return images
    rows, columns = (_resizing(side, scale, pixel_center).to(images) for side in images.shape[2:])
    return rows @ images @ columns.T


def _resizing(side: int, scale: float, pixel_center: float) -> Tensor:
    """Return the matrix (side, side) that resizes a column of pixels."""
    middle = side / 2 - pixel_center
    positions = (torch.arange(side) - middle) / scale + middle
    return (1 - (positions[:, None] - torch.arange(side)).abs()).clamp(min=0)


def average_flip(maps: Tensor, config: SimpleBaselinesConfig) -> Tensor:
    """Average the heatmaps (2 P, K, h, w) of P crops and then their flipped ones: (P, K, h, w).

    As published, the flipped crops' heatmaps are shifted right by the one column that they lie too far left. Those with pixels in
    the middle of the input's are not.
    """
    straight, flipped = maps.chunk(2)
    flipped = flipped.flip(3)[:, torch.from_numpy(config.skeleton.flip_keypoints).to(maps.device)]
    if config.model.pixel_center == 0:
        flipped = torch.cat([flipped[..., :1], flipped[..., :-1]], 3)
    return (straight + flipped) / 2


@torch.inference_mode()
def decode(
    heatmaps: Tensor | np.ndarray, centers: np.ndarray, sizes: np.ndarray, subpixel: Subpixel = "quarter", pixel_center: float = 0.0
) -> np.ndarray:
    """Return keypoints (P, K, 3) x, y in image pixels and heatmap value (maybe 0 or less), float32, at each heatmap's maximum.

    heatmaps (P, K, h, w); centers x, y and sizes width, height (P, 2) of the crops in image pixels. subpixel: "quarter" moves a quarter
    of a pixel towards the higher neighbor, as published, where both neighbors of both axes are inside; "quarter_by_axis" asks less, as
    MMPose: x needs its own neighbors and y > 0, and y likewise; "parabola" fits the logarithms of the maximum and its neighbors, which is
    exact for a Gaussian. pixel_center: the model's.
    """
    heatmaps = torch.as_tensor(heatmaps).float()
    keypoints, (height, width) = heatmap_maxima(heatmaps, subpixel).cpu().numpy(), heatmaps.shape[2:]
    keypoints[..., :2] = crop_to_image(keypoints[..., :2] + pixel_center, (height, width), np.asarray(centers), np.asarray(sizes))
    return keypoints


def heatmap_maxima(heatmaps: Tensor, subpixel: Subpixel) -> Tensor:
    """Return (P, K, 3) x, y in map pixels and value at the maximum of each heatmap (P, K, h, w)."""
    (height, width), flat = heatmaps.shape[2:], heatmaps.flatten(2)
    # On a CPU NumPy's argmax takes a tenth of PyTorch's time; a trace cannot hold it
    in_numpy = flat.device.type == "cpu" and not torch.jit.is_tracing()
    index = torch.from_numpy(flat.numpy().argmax(2)) if in_numpy else flat.argmax(2)
    values, x, y = flat.gather(2, index[..., None])[..., 0], index % width, index // width
    shifts = _shifts(flat, x, y, (height, width), subpixel) * (values > 0)
    return torch.stack([x + shifts[0], y + shifts[1], values], 2)


def _shifts(flat: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], subpixel: Subpixel) -> Tensor:
    """Return the subpixel shifts (2, P, K) x, y from the maximum pixels x, y (P, K) of the heatmaps `flat` (P, K, h w)."""
    height, width = size

    def value_at(x: Tensor, y: Tensor) -> Tensor:
        return flat.gather(2, (y.clamp(0, height - 1) * width + x.clamp(0, width - 1))[..., None])[..., 0]

    left, right, above, below = value_at(x - 1, y), value_at(x + 1, y), value_at(x, y - 1), value_at(x, y + 1)
    if subpixel != "parabola":
        inside = torch.stack([(x > 1) & (x < width - 1), (y > 1) & (y < height - 1)])
        inside = inside.all(0) if subpixel == "quarter" else inside & torch.stack([y > 0, x > 0])
        return torch.stack([right - left, below - above]).sign() * 0.25 * inside
    top, left, right, above, below = (t.clamp(min=MIN_HEATMAP_VALUE).log() for t in (value_at(x, y), left, right, above, below))
    shifts = []
    for before, after, position, side in ((left, right, x, width), (above, below, y, height)):
        curvature = 2 * top - before - after
        shift = torch.where(curvature > 0, (after - before) / (2 * curvature), 0).clamp(-0.5, 0.5)
        shifts.append(shift * ((position > 0) & (position < side - 1)))
    return torch.stack(shifts)
