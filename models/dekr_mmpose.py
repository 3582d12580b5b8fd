"""MMPose's DEKR checkpoints (open-mmlab/mmpose 1.x, Apache-2.0): their tensors as DEKR's and the rescoring network's own.

The architecture is the same. Three values differ:
- One convolution predicts an adaptive convolution's matrix and translation: 6 channels a keypoint, for y and for x two of the matrix and
  one of the translation.
- Its matrix is added to the identity, the own one replaces it.
- The displacement runs from the pixel to the keypoint, the own offset from the keypoint to the pixel.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

KEYS = [
    (r"^backbone\.", "trunk."),
    (r"^head\.heatmap_conv_layers\.0\.conv\.", "heat_in.0."),
    (r"^head\.heatmap_conv_layers\.0\.bn\.", "heat_in.1."),
    (r"^head\.heatmap_conv_layers\.1\.", "heat_block."),
    (r"^head\.heatmap_conv_layers\.2\.", "heat_out."),
    (r"^head\.displacement_conv_layers\.0\.conv\.", "offset_in.0."),
    (r"^head\.displacement_conv_layers\.0\.bn\.", "offset_in.1."),
    (r"^head\.displacement_conv_layers\.1\.", "offset_blocks.0."),
    (r"^head\.displacement_conv_layers\.2\.", "offset_blocks.1."),
    (r"^head\.displacement_conv_layers\.3\.", "offset_out."),
    (r"^(offset_blocks\.\d+)\.adapt_conv\.", r"\1.conv."),
    (r"^head\.rescore_net\.", "rescoring."),
]
UNUSED = re.compile(r"^data_preprocessor\.|\.regular_matrix$")
TRANSFORM = ".transform_matrix_conv."
MATRIX, TRANSLATION = [0, 1, 3, 4], [2, 5]  # of a keypoint's 6 channels
# Columns of the rescoring network's first layer -> of each own limb MMPose's number, and the numbers of those that run the other way
LIMBS = {
    3 * 19 + 17: ((13, 14, 12, 15, 16, 17, 18, 7, 8, 5, 9, 6, 10, 11, 4, 1, 3, 0, 2), {0, 1, 2, 3}),
    3 * 15 + 14: ((12, 14, 13, 8, 9, 10, 11, 5, 6, 1, 3, 0, 2, 4, 7), {0, 1, 2, 3, 13, 14}),
}


def is_mmpose(weights: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is of MMPose's DEKR. Raises ValueError where it is of MMPose 0.x: its center heatmap comes first."""
    if any("offset_conv_layers" in key for key in weights):
        raise ValueError("a DEKR network of MMPose 0.x, which has its outputs in another order; use MMPose 1.x's file")
    return any(key.startswith("head.heatmap_conv_layers.") for key in weights)


def convert_mmpose(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert MMPose's tensors to DEKR's own; those of the rescoring network, if there is one, are named rescoring.*."""
    converted: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if UNUSED.search(key):
            continue
        for pattern, replacement in KEYS:
            key = re.sub(pattern, replacement, key)
        if TRANSFORM in key:
            channels = tensor.unflatten(0, (-1, 6))
            identity = tensor.new_tensor([1, 0, 0, 1]) if key.endswith(".bias") else 0
            converted[key.replace(TRANSFORM, ".matrix.")] = (channels[:, MATRIX] + identity).flatten(0, 1)
            converted[key.replace(TRANSFORM, ".translation.")] = channels[:, TRANSLATION].flatten(0, 1)
        elif key.startswith("offset_out."):
            converted[key] = -tensor
        elif key == "rescoring.l1.weight":
            converted[key] = _own_columns(tensor)
        else:
            converted[key] = tensor
    return converted


def _own_columns(weight: Tensor) -> Tensor:
    """Reorder the columns of the rescoring network's first layer: of each limb x and y, of each its length, of each keypoint its value."""
    if weight.shape[1] not in LIMBS:  # of another skeleton: the columns do not fit, which the loader says
        return weight
    numbers, reversed_limbs = LIMBS[weight.shape[1]]
    vectors, lengths, values = weight.split((2 * len(numbers), len(numbers), weight.shape[1] - 3 * len(numbers)), 1)
    signs = weight.new_tensor([-1 if number in reversed_limbs else 1 for number in numbers])
    vectors = vectors.unflatten(1, (-1, 2))[:, list(numbers)] * signs[:, None]
    return torch.cat([vectors.flatten(1), lengths[:, list(numbers)], values], 1)
