"""Simple Baselines on any timm backbone: its last features, deconvolutions up to stride 4, one 1 x 1 convolution."""

from __future__ import annotations

import difflib
import math

import timm
from torch import Tensor, nn

from config import UserError
from config.systems.simple_baselines import SimpleBaselinesConfig
from models.checkpoint_keys import CheckpointKeys, without_prefix
from models.hub import hub_file
from models.normalize import Normalize
from models.simple_baselines import SimpleBaselines, is_output


class LastFeatures(nn.Module):
    """timm's backbone with `features_only`: (N, 3, H, W) -> its last features (N, channels, H / stride, W / stride)."""

    def __init__(self, name: str, input_size: tuple[int, int]):
        super().__init__()
        self.arguments = {"model_name": name, "features_only": True, "img_size": input_size}
        try:
            try:
                self.backbone = timm.create_model(**self.arguments)
            except TypeError:  # only transformers are built for one size
                del self.arguments["img_size"]
                self.backbone = timm.create_model(**self.arguments)
        except (RuntimeError, AttributeError) as error:  # an unknown name; a backbone without features
            near = difflib.get_close_matches(name, timm.list_models(), 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near and near[0] != name else "choose one that has features_only"
            raise UserError(f"model.backbone_name: timm has no backbone {name!r} with features; {hint}") from error
        self.channels, self.stride = self.backbone.feature_info.channels()[-1], self.backbone.feature_info.reduction()[-1]

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)[-1]
        return features if features.shape[1] == self.channels else features.permute(0, 3, 1, 2)  # such as Swin's, which are channels-last


class SimpleBaselinesTimm(SimpleBaselines):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmaps (N, K, H / 4, W / 4). H and W are multiples of 32."""

    @classmethod
    def from_config(cls, config: SimpleBaselinesConfig) -> SimpleBaselinesTimm:
        """Build the network of `config.model` for the keypoints of `config.skeleton`, with random weights."""
        name, stride = config.model.backbone_name, config.model.stride
        trunk = LastFeatures(name, config.data.input_size)
        deconvolutions = math.log2(trunk.stride / stride)
        if deconvolutions not in (0, 1, 2, 3):
            raise UserError(f"model.backbone_name: the last features of {name} have stride {trunk.stride}; expected 4, 8, 16 or 32")
        pretrained = timm.get_pretrained_cfg(name)
        normalize = Normalize(True, pretrained.mean, pretrained.std)
        return cls(config.skeleton.num_keypoints, normalize, trunk, trunk.channels, int(deconvolutions), config.model.deconv_channels)


def download_backbone(network: SimpleBaselinesTimm) -> dict[str, Tensor]:
    """Read timm's ImageNet weights of the network's backbone, downloaded once."""
    arguments = network.trunk.arguments
    repository = timm.get_pretrained_cfg(arguments["model_name"]).hf_hub_id
    if repository is None:
        raise UserError(f"model.backbone timm: timm has no weights of {arguments['model_name']}; name a file or omit model.backbone")
    weights = timm.create_model(**arguments, pretrained=True, pretrained_cfg_overlay={"file": str(hub_file(repository))}).state_dict()
    return {f"trunk.backbone.{name}": tensor for name, tensor in weights.items()}


def from_checkpoint(name: str) -> str:
    """Convert a key of timm's backbone with `features_only`; own keys stay, without a 'module.' prefix."""
    name = without_prefix(name)
    return name if name.startswith(("trunk.", "deconv_layers.", "final_layer.")) else f"trunk.backbone.{name}"


NAMES = CheckpointKeys(from_checkpoint, is_output, is_backbone=lambda name: name.startswith("trunk."))
