"""Simple Baselines' network: torchvision's ResNet, three deconvolutions, one 1 x 1 convolution (paper section 2)."""

import re
from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import resnet

from config.systems.simple_baselines import SimpleBaselinesConfig, SimpleBaselinesModelConfig, TimmModelConfig
from models import PoseNetwork, init_normal
from models.normalize import Normalize

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class SimpleBaselines(PoseNetwork):
    """images (N, 3, H, W) BGR in [0, 1] -> heatmaps (N, K, H / 4, W / 4). H and W are multiples of 32."""

    backbone_prefix = "trunk."  # of the backbone's own keys

    def __init__(self, config: SimpleBaselinesConfig):
        super().__init__()
        assert isinstance(config.model, SimpleBaselinesModelConfig | TimmModelConfig)
        self.normalize, self.trunk, channels, deconvolutions = self._build_backbone(config)
        layers: list[nn.Module] = []
        for _ in range(deconvolutions):
            layers += [nn.ConvTranspose2d(channels, config.model.deconv_channels, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(config.model.deconv_channels), nn.ReLU(inplace=True)]
            channels = config.model.deconv_channels
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, config.skeleton.num_keypoints, 1)
        for module in (*layers, self.final_layer):
            if isinstance(module, (nn.ConvTranspose2d, nn.Conv2d)):
                init_normal(module, 0.001)

    @staticmethod
    def _build_backbone(config: SimpleBaselinesConfig) -> tuple[Normalize, nn.Module, int, int]:
        """Build the normalization, the backbone with features at stride s, its channels, and the deconvolutions: s = 4 * 2^deconvolutions.

        Here, torchvision's ResNet up to stride 32. model.style caffe: bottlenecks have their stride in the first 1 x 1 convolution, as in
        Caffe, not in the 3 x 3.
        """
        assert isinstance(config.model, SimpleBaselinesModelConfig)
        depth = config.model.depth
        network = resnet.ResNet(resnet.Bottleneck if depth >= 50 else resnet.BasicBlock, BLOCKS[depth])
        if config.model.style == "caffe":
            for stage in (network.layer2, network.layer3, network.layer4):
                stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
        layers = OrderedDict((name, layer) for name, layer in network.named_children() if name not in ("avgpool", "fc"))
        return Normalize(config.model.channel_order == "rgb"), nn.Sequential(layers), network.fc.in_features, 3

    def forward(self, images: Tensor) -> Tensor:
        return self.final_layer(self.deconv_layers(self.trunk(self.normalize(images))))

    @classmethod
    def convert_key(cls, key: str) -> str | None:
        """Convert a key of published checkpoints, MMPose's or ImageNet weights; own keys stay, without a 'module.' prefix."""
        key = re.sub(r"^(backbone|head|keypoint_head)\.", "", key.removeprefix("module."))  # keypoint_head: MMPose 0.x
        if key.startswith(("fc.", "data_preprocessor.")):
            return None
        return key if key.startswith(("trunk.", "deconv_layers.", "final_layer.")) else f"{cls.backbone_prefix}{key}"

    @staticmethod
    def is_output(key: str) -> bool:
        """Return whether a tensor's shape depends on the skeleton."""
        return key.startswith("final_layer.")
