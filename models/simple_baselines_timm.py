"""Simple Baselines on any timm backbone: its last features, deconvolutions up to stride 4, one 1 x 1 convolution."""

import difflib
import math
from typing import Any

import timm
from torch import Tensor, nn

from config import UserError
from config.systems.simple_baselines import SimpleBaselinesConfig, TimmModelConfig
from models.hub import hub_file
from models.normalize import Normalize
from models.simple_baselines import SimpleBaselines


class LastFeatures(nn.Module):
    """timm's backbone with `features_only`: (N, 3, H, W) -> its last features (N, channels, H / stride, W / stride)."""

    def __init__(self, name: str, input_size: tuple[int, int]):
        super().__init__()
        self.arguments: dict[str, Any] = {"model_name": name, "features_only": True, "img_size": input_size}
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
        features: Any = self.backbone.feature_info
        self.channels, self.stride = features.channels()[-1], features.reduction()[-1]
        self.pretrained: Any = timm.get_pretrained_cfg(name)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images)[-1]
        return features if features.shape[1] == self.channels else features.permute(0, 3, 1, 2)  # such as Swin's, which are channels-last


class SimpleBaselinesTimm(SimpleBaselines):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmaps (N, K, H / 4, W / 4). H and W are multiples of 32."""

    backbone_prefix = "trunk.backbone."
    trunk: LastFeatures

    @staticmethod
    def _build_backbone(config: SimpleBaselinesConfig) -> tuple[Normalize, nn.Module, int, int]:
        assert isinstance(config.model, TimmModelConfig)
        name = config.model.backbone_name
        trunk = LastFeatures(name, config.data.input_size)
        deconvolutions = math.log2(trunk.stride / config.model.stride)
        if deconvolutions not in (0, 1, 2, 3):
            raise UserError(f"model.backbone_name: the last features of {name} have stride {trunk.stride}; expected 4, 8, 16 or 32")
        return Normalize(True, trunk.pretrained.mean, trunk.pretrained.std), trunk, trunk.channels, int(deconvolutions)

    def download_backbone(self) -> dict[str, Tensor]:
        """Read timm's ImageNet weights of the backbone, downloaded once."""
        arguments = self.trunk.arguments
        repository = self.trunk.pretrained.hf_hub_id
        if repository is None:
            raise UserError(f"model.backbone timm: timm has no weights of {arguments['model_name']}; name a file or omit model.backbone")
        return timm.create_model(**arguments, pretrained=True, pretrained_cfg_overlay={"file": str(hub_file(repository))}).state_dict()
