"""The keys that all networks on MoveNet's trunk and pyramid share."""

from config.schema import ModelConfig
from config.section import Positive


class MoveNetConfig(ModelConfig):
    """MobileNetV2 and a pyramid down to stride 4; a subclass names the network."""

    width: Positive = 1.5  # of the trunk, times MobileNetV2's channels. MoveNet MultiPose: 1.5, SinglePose Thunder: 1.75, Lightning: 1

    @property
    def input_multiple(self) -> int:
        return 32  # the trunk's last stride

    @property
    def pixel_center(self) -> float:
        return 0.5
