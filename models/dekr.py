"""DEKR's network: HRNet, a heatmap head, and a branch of adaptive convolutions for each keypoint's offsets (paper section 3)."""

import re
from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from timm.models.hrnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from config.systems.dekr import DekrConfig, DekrModelConfig
from models import PoseNetwork
from models.dekr_mmpose import convert_mmpose, is_mmpose
from models.dekr_rescoring import RescoringNet
from models.hrnet import CLASSIFIER, hrnet_backbone, upsample_concat
from models.hub import hub_file
from models.normalize import Normalize

KERNEL = 3
KERNEL_POINTS = KERNEL * KERNEL


class DEKR(PoseNetwork):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmap (N, K + 1, H / 4, W / 4), the people's center last, and offset (N, 2 K, H / 4, W / 4):
    from each keypoint, x then y, to the pixel, in map pixels. H and W are multiples of 32.

    K keypoints; the branches of all keypoints run as grouped convolutions.
    """

    def __init__(self, config: DekrConfig):
        super().__init__()
        keypoints, s = config.skeleton.num_keypoints, config.model
        assert isinstance(s, DekrModelConfig)
        self.skeleton = config.skeleton
        self.rescoring: RescoringNet | None = None  # of a checkpoint that holds one; the decoder uses it
        self.width, features = s.width, 15 * s.width
        self.normalize = Normalize()
        self.trunk = hrnet_backbone(s.width, s.stem_width, s.modules, s.blocks)
        self.heat_in = _conv1x1(features, s.heat_channels)
        self.heat_block = BasicBlock(s.heat_channels, s.heat_channels)
        self.heat_out = nn.Conv2d(s.heat_channels, keypoints + 1, 1)
        self.offset_in = _conv1x1(features, keypoints * s.offset_channels)
        self.offset_blocks = nn.Sequential(*(AdaptiveBlock(keypoints, s.offset_channels) for _ in range(s.offset_blocks)))
        self.offset_out = nn.Conv2d(keypoints * s.offset_channels, 2 * keypoints, 1, groups=keypoints)
        self._init_weights()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = upsample_concat(self.trunk.forward_features(self.normalize(images)))
        return self.heat_out(self.heat_block(self.heat_in(features))), self.offset_out(self.offset_blocks(self.offset_in(features)))

    def _init_weights(self) -> None:
        """Initialize convolutions from N(0, 0.001), and matrices and translations with 0: all kernel points start at the pixel itself."""
        for name, module in self.named_modules():
            if isinstance(module, (nn.Conv2d, DeformConv2d)):
                nn.init.normal_(module.weight, std=0.0 if name.endswith((".matrix", ".translation")) else 0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @staticmethod
    def convert_weights(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Convert MMPose's tensors; see `models.dekr_mmpose`."""
        return convert_mmpose(weights) if is_mmpose(weights) else weights

    def add_optional(self, weights: Mapping[str, Tensor]) -> None:
        """Add the rescoring network that MMPose's checkpoints hold."""
        has_rescoring = any(key.startswith("rescoring.") for key in weights)
        self.rescoring = RescoringNet(self.skeleton, of_heatmaps=True) if has_rescoring else None

    @staticmethod
    def convert_key(key: str) -> str | None:
        """Convert a key of DEKR's published checkpoints or of HRNet's ImageNet weights; own keys stay, without a 'module.' prefix."""
        key = key.removeprefix("module.")
        for pattern, replacement in PUBLISHED_KEYS:
            key = re.sub(pattern, replacement, key)
        return None if UNUSED.search(key) else key

    @staticmethod
    def is_output(key: str) -> bool:
        """Return whether a tensor's shape depends on the skeleton: the last heatmap layer, all offset branches, the rescoring network."""
        return key.startswith(("heat_out.", "offset_", "rescoring."))

    @staticmethod
    def recipe(weights: Mapping[str, Tensor]) -> str | None:
        """Return the published recipe, or MMPose's, by the shape of the last heatmap layer."""
        shapes = {DEKR.convert_key(key): tuple(tensor.shape) for key, tensor in DEKR.convert_weights(weights).items()}
        recipe = RECIPES.get(shapes.get("heat_out.weight", ())[:2])
        return f"{recipe}_mmpose" if recipe is not None and is_mmpose(weights) else recipe

    def download_backbone(self) -> dict[str, Tensor]:
        """Read timm's ImageNet weights of the backbone, of a published width, by their published keys. They are downloaded once."""
        return load_file(hub_file(f"timm/hrnet_w{self.width}.ms_in1k"))


def _conv1x1(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class AdaptiveBlock(nn.Module):
    """The adaptive blocks of all keypoints' branches (paper section 3.2): a residual block with a deformable 3 x 3 convolution.

    At each pixel a predicted matrix and translation transform the 3 x 3 grid. Features (N, K channels, h, w), grouped by keypoint.
    """

    grid: Tensor

    def __init__(self, keypoints: int, channels: int):
        super().__init__()
        width = keypoints * channels
        self.matrix = nn.Conv2d(width, keypoints * 4, KERNEL, padding=1, groups=keypoints)
        self.translation = nn.Conv2d(width, keypoints * 2, KERNEL, padding=1, groups=keypoints)
        self.conv = DeformConv2d(width, width, KERNEL, padding=1, groups=keypoints, bias=False)
        self.norm = nn.BatchNorm2d(width)
        steps = torch.arange(KERNEL, dtype=torch.float32) - KERNEL // 2
        self.register_buffer("grid", torch.cartesian_prod(steps, steps).T.contiguous(), persistent=False)  # (2, points) y, x

    def forward(self, features: Tensor) -> Tensor:
        locations = self._sampling_locations(features)
        return F.relu(self.norm(deform_conv(features, locations, self.conv)) + features)

    def _sampling_locations(self, features: Tensor) -> Tensor:
        """Return (N, K, points, 2, h, w): y, x of each kernel point relative to the pixel."""
        n, _, h, w = features.shape
        matrix = self.matrix(features).view(n, -1, 1, 2, 2, h, w)
        translation = self.translation(features).view(n, -1, 1, 2, h, w)
        y, x = self.grid.view(2, KERNEL_POINTS, 1, 1, 1)
        return matrix[..., 0, :, :] * y + matrix[..., 1, :, :] * x + translation


def deform_conv(features: Tensor, locations: Tensor, conv: DeformConv2d) -> Tensor:
    """Apply `conv` to grouped features (N, K channels, h, w), with kernel points at `locations` (N, K, points, 2, h, w) from the pixel.

    torchvision's kernel computes a point's location and weights again for every channel. `grid_sample` computes them once, which makes
    it 3 to 4 times as fast on a CPU.
    """
    n, keypoints, points, _, h, w = locations.shape
    if features.device.type != "cpu":
        grid = torch.cartesian_prod(*[torch.arange(-1.0, 2, device=features.device)] * 2)
        return conv(features, (locations - grid.view(KERNEL_POINTS, 2, 1, 1)).reshape(n, -1, h, w))
    y = torch.arange(h, dtype=locations.dtype) * 2 + 1
    x = torch.arange(w, dtype=locations.dtype) * 2 + 1
    # grid_sample's units: -1 and 1 are the outer borders of the first and last pixel
    grid = torch.stack([(locations[..., 1, :, :] * 2 + x) / w - 1, (locations[..., 0, :, :] * 2 + y[:, None]) / h - 1], -1)
    split = features.reshape(n * keypoints, -1, h, w)
    sampled = F.grid_sample(split, grid.view(n * keypoints, points * h, w, 2), align_corners=False)
    weight = conv.weight.reshape(keypoints, -1, split.shape[1] * points)
    return torch.matmul(weight, sampled.view(n, keypoints, -1, h * w)).view(n, -1, h, w)


# Published state-dict keys -> own keys. The K branches share one tensor here; branch k's key ends in [k].
PUBLISHED_KEYS = [
    (r"^transition_heatmap\.", "heat_in."),
    (r"^head_heatmap\.0\.0\.", "heat_block."),
    (r"^head_heatmap\.1\.", "heat_out."),
    (r"^transition_offset\.", "offset_in."),
    (r"^offset_feature_layers\.(\d+)\.(\d+)\.(.+)", r"offset_blocks.\2.\3[\1]"),
    (r"\.transform_matrix_conv\.", ".matrix."),
    (r"\.translation_conv\.", ".translation."),
    (r"\.adapt_conv\.", ".conv."),
    (r"^(offset_blocks\.\d+)\.bn\.", r"\1.norm."),
    (r"\.num_batches_tracked\[0\]", ".num_batches_tracked"),  # a count, the same in all branches
    (r"^offset_final_layer\.(\d+)\.(.+)", r"offset_out.\2[\1]"),
    (r"^(?!trunk\.|heat_|offset_|rescoring\.)", "trunk."),
]
# Shape of heat_out.weight (keypoints + center, features) -> recipe of the published checkpoint; MMPose's ends in _mmpose
RECIPES: dict[tuple[int, ...], str] = {
    (17 + 1, 32): "dekr_w32_coco",
    (17 + 1, 48): "dekr_w48_coco",
    (14 + 1, 32): "dekr_w32_crowdpose",
    (14 + 1, 48): "dekr_w48_crowdpose",
}
UNUSED = re.compile(rf"^trunk\.({'|'.join(CLASSIFIER)})|\.regular_matrix|\.num_batches_tracked\[")
