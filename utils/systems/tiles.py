"""Small people in large images: a bottom-up decoder on the whole image and on overlapping tiles of it, merged by OKS.

Networks see an image at a limited height. Tiles of half of the image's short side, of a quarter and so on show it enlarged, until a tile's
pixels are the network's. A person whose box crosses a tile's border inside the image is cut there, and is left to other tiles: each person
who is smaller than the overlap is whole in one of them, and a larger person in a larger tile.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from utils.predictions import PosePredictions, merge_passes
from utils.systems import Decoder, Overlays

OVERLAP = 0.25  # of two neighboring tiles, of their side
TOLERANCE = 1.2  # the finest tiles show the image at least at its own resolution over this
SAME = 0.5  # two predictions of a higher similarity are one person
BATCH = 4  # tiles that are run together

Tile = tuple[int, int, int]  # x and y of the upper left corner, side, in pixels of the image


class TiledOutputs(NamedTuple):
    """What `TiledDecoder.forward` hands on."""

    sizes: list[tuple[int, int]]  # of the images: height, width
    whole: Any  # outputs of the decoder for the whole images
    tiles: list[list[tuple[Tile, PosePredictions]]]  # of each image; positions are relative to the tile


class TiledDecoder(Decoder):
    """A bottom-up decoder of images of one size, which also looks at their tiles. Memory is bounded by BATCH tiles."""

    def __init__(self, decoder: Decoder):
        super().__init__(decoder.network, decoder.config)
        self.decoder, self.output_names = decoder, decoder.output_names

    def batch_key(self, image_size: tuple[int, int]) -> Hashable:
        return image_size

    def preprocess(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> Sequence[np.ndarray]:
        return images

    def forward(self, inputs: Sequence[np.ndarray]) -> TiledOutputs:
        """Run the network on the images, and decode the tiles at once: their outputs would fill the memory."""
        sizes = [image.shape[:2] for image in inputs]
        input_side = self.config.data.input_size[0] * max(getattr(self.config.inference, "scales", (1.0,)))
        work = [(n, tile) for n, size in enumerate(sizes) for tile in tiles_of(size, input_side)]
        work.sort(key=lambda item: item[1][2])
        of_images: list[list[tuple[Tile, PosePredictions]]] = [[] for _ in inputs]
        for start in range(0, len(work), BATCH):
            batch = work[start : start + BATCH]
            for (n, tile), people in zip(batch, self.decoder([inputs[n][y : y + side, x : x + side] for n, (x, y, side) in batch])):
                of_images[n].append((tile, people))
        return TiledOutputs(sizes, self.decoder.forward(self.decoder.preprocess(inputs, None)), of_images)

    def decode(self, outputs: TiledOutputs) -> list[PosePredictions]:
        merged = []
        for size, whole, tiles in zip(outputs.sizes, self.decoder.decode(outputs.whole), outputs.tiles):
            merged.append(merge_passes([whole, *(uncut(people, tile, size) for tile, people in tiles)], SAME, by_keypoints=True))
        return merged

    def overlays(self, outputs: TiledOutputs) -> list[Overlays]:
        return self.decoder.overlays(outputs.whole)

    def groups(self, heatmaps: Any) -> dict[str, Any]:
        return self.decoder.groups(heatmaps)


def tiles_of(image_size: tuple[int, int], input_side: float) -> list[Tile]:
    """Return the square tiles of an image of a height and width, largest first; none where the network sees all of its pixels.

    input_side: of the network's input for a tile. Tiles of one side cover the image, and neighbors overlap by OVERLAP or more.
    """
    short, tiles, count, enlarged = min(image_size), [], 1, 1.0
    while enlarged * TOLERANCE < short / input_side:
        count *= 2
        enlarged = count - (count - 1) * OVERLAP
        side = ceil(short / enlarged)
        counts = (1 + ceil((length - side) / (side * (1 - OVERLAP))) for length in image_size)
        rows, columns = (np.linspace(0, length - side, n).round().astype(int).tolist() for length, n in zip(image_size, counts))
        tiles += [(x, y, side) for y in rows for x in columns]
    return tiles


def uncut(people: PosePredictions, tile: Tile, image_size: tuple[int, int]) -> PosePredictions:
    """Return the people of a tile in pixels of the image, without those whose boxes cross a border of the tile inside the image."""
    x, y, side = tile
    height, width = image_size
    low, high = people.boxes[:, :2], people.boxes[:, :2] + people.boxes[:, 2:4]
    cut = (low < 0) & (np.array([x, y]) > 0) | (high > side - 1) & (np.array([x, y]) + side < (width, height))
    whole = people.select(~cut.any(1))
    present = whole.keypoints[..., 2:] > 0
    return replace(whole, keypoints=whole.keypoints + present * [x, y, 0], boxes=whole.boxes + [x, y, 0, 0])
