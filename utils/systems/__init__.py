"""The decoder interface of every pose system: preprocess images, run the network, decode people, overlay heatmaps.

Trainers, evaluation and demo use only this interface. `config/systems` lists the systems.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from config import Config, UserError
from config.systems import SYSTEMS
from utils.batching import group_indices
from utils.predictions import PosePredictions
from utils.visualize.heatmaps import draw_heatmaps, resize_to_image

Overlays = dict[str, np.ndarray]  # by group name, the maximum heatmap value (H, W) in [0, 1] at each pixel of an image


class Decoder(ABC):
    """Predict people in images with a network, of which it calls only `predict`.

    The three steps take images of one `batch_key`. Only `forward` needs the network's device, so threads can preprocess and decode other
    batches meanwhile.
    """

    needs_boxes = False  # top-down: a caller must pass person boxes
    output_names: tuple[str, ...] = ("heatmaps",)  # of the tensors that the network's `predict` returns
    decoded_names = ("keypoints", "scores")  # of what `decode_in_graph` returns, x and y in pixels of the input
    fixed_input_size = False  # the network runs at data.input_size only

    def __init__(self, network: nn.Module, config: Any):
        self.network, self.config = network, config

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> list[PosePredictions]:
        """Predict the people of each image (H, W, 3) uint8 BGR.

        boxes: of each image (B, 4) x, y, width, height in its pixels, or (B, 5) with a score; None for bottom-up systems.
        """
        predictions: dict[int, PosePredictions] = {}
        for group in group_indices(self.batch_key(image.shape[:2]) for image in images):
            own = [boxes[n] for n in group] if self.needs_boxes and boxes is not None else None
            inputs = self.preprocess([images[n] for n in group], own)
            predictions |= zip(group, self.decode(self.forward(inputs)))
        return [predictions[n] for n in range(len(images))]

    def batch_key(self, image_size: tuple[int, int]) -> Hashable:
        """Return a key of an image's height and width: the network runs images of equal keys together."""
        return None

    @abstractmethod
    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None) -> Any:
        """Prepare the network's inputs on the CPU, and what else `decode` needs."""

    @abstractmethod
    def forward(self, inputs: Any) -> Any:
        """Run the network; its outputs stay on its device."""

    @abstractmethod
    def decode(self, outputs: Any) -> list[PosePredictions]:
        """Return the people of each image, without changing the outputs."""

    def decode_in_graph(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return `decoded_names` for the network's input (N, 3, H, W), by operations that `utils.export` can trace.

        Raises UserError where the configuration needs others.
        """
        raise UserError(f"--decode: system {self.config.system!r} is decoded outside of the network; omit it, deploy/ decodes the maps")

    @abstractmethod
    def overlays(self, outputs: Any) -> list[Overlays]:
        """Resize the outputs of `forward` to each image."""

    @abstractmethod
    def groups(self, heatmaps: Tensor) -> dict[str, Tensor]:
        """Split heatmaps (C, h, w), predicted or target, into groups (n, h, w) that are shown together, by name."""

    def resized_groups(self, heatmaps: Tensor, scale: Sequence[float], shift: Sequence[float], image_size: tuple[int, int]) -> Overlays:
        """Return the overlays of one image from its heatmaps (C, h, w). scale, shift: see `resize_to_image`."""
        maxima = {name: group.amax(0).cpu().numpy() for name, group in self.groups(heatmaps).items()}
        return {name: resize_to_image(maximum, scale, shift, image_size) for name, maximum in maxima.items()}

    def draw(self, images: Tensor, *heatmaps: Tensor) -> list[np.ndarray]:
        """Draw of each image (3, H, W) BGR in [0, 1] one row (H, W * panels, 3) uint8: the image, then every group of its heatmaps over it.

        images (N, 3, H, W); heatmaps: each (N, C, h, w), such as the predicted and the target ones.
        """
        rows = zip(images.float().cpu().numpy(), *(maps.float().cpu() for maps in heatmaps))
        return [draw_heatmaps(image, [g.numpy() for maps in of_image for g in self.groups(maps).values()]) for image, *of_image in rows]


def build_decoder(network: nn.Module, config: Config) -> Decoder:
    """Build the decoder of `config.system` for a network. Raises UserError where `inference.tiles` is set for a top-down system."""
    decoder = decoder_class(config)(network, config)
    if not config.inference.tiles:
        return decoder
    if decoder.needs_boxes:
        raise UserError(f"inference.tiles: system {config.system!r} is top-down and looks at boxes; give the tiles to its detector")
    from utils.systems.tiles import TiledDecoder

    return TiledDecoder(decoder)


def decoder_class(config: Config) -> type[Decoder]:
    """Return the class that `build_decoder` takes."""
    return SYSTEMS[config.system].load("decoder")
