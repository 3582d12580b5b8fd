"""Build networks by the names of the pose system and of the network."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from config import Config, UserError
from config.systems import SYSTEMS


class PoseNetwork(nn.Module):
    """A network and what `utils.checkpoint` needs to know of its state-dict keys. A plain nn.Module with `predict` has these defaults."""

    def predict(self, images: Tensor) -> Any:
        """Return what the decoder reads: all of `forward`."""
        return self(images)

    @staticmethod
    def convert_weights(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Convert another project's tensors, where their values or shapes differ, before `convert_key` does the keys.

        Raises ValueError for the user where they cannot be converted.
        """
        return weights

    @staticmethod
    def convert_key(key: str) -> str | None:
        """Convert a checkpoint's key, own or published, to the network's own; None: the network does not need the tensor.

        A key that ends in [k] is branch k of one of the network's tensors, along the first axis. 'module.' is DataParallel's.
        """
        return key.removeprefix("module.")

    @staticmethod
    def is_output(key: str) -> bool:
        """Return whether a tensor's shape depends on the skeleton: fine-tuning on another skeleton initializes it newly."""
        return False

    @staticmethod
    def is_backbone(key: str) -> bool:
        """Return whether `model.backbone` fills a tensor."""
        return key.startswith("trunk.")

    def add_optional(self, weights: Mapping[str, Tensor]) -> None:
        """Add the optional parts of which a checkpoint has tensors, by the network's own keys, and remove the others."""

    @staticmethod
    def recipe(weights: Mapping[str, Tensor]) -> str | None:
        """Return the recipe in `config/` of a published checkpoint by its tensors; None: another network's checkpoint."""
        return None

    def download_backbone(self) -> dict[str, Tensor]:
        """Return ImageNet weights of the backbone. Raises UserError where there are none."""
        raise UserError("model.backbone timm: there are no weights to be downloaded for this network; name a file")


def init_normal(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, std: float) -> None:
    """Initialize weights from N(0, std) and the bias, if there is one, with 0."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def build_model(config: Config) -> nn.Module:
    """Build the network `config.model.name` of `config.system` with initial weights.

    `forward` takes images (N, 3, H, W), float32 BGR in [0, 1], and returns the loss's inputs. `predict` returns the tensor, or tuple of
    tensors, that the decoder reads, and computes no more than that.
    """
    return SYSTEMS[config.system].networks[config.model.name].load("model")(config)


def published_recipe(weights: Mapping[str, Tensor]) -> str | None:
    """Return the recipe in `config/` of a published checkpoint; None if no system has it.

    Raises ValueError for the user where a network knows it and cannot convert its tensors.
    """
    for network in (entry.load("model") for system in SYSTEMS.values() for entry in system.networks.values()):
        if isinstance(network, type) and issubclass(network, PoseNetwork):
            recipe = network.recipe(weights)
            if recipe is not None:
                return recipe
    return None
