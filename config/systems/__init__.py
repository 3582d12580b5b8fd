"""The registry of pose systems: `system` in a configuration names an entry, which names all parts of the system."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any


class Entry:
    """Name parts as "module:name". Parts are imported on use, so no system needs another's libraries."""

    def load(self, part: str) -> Any:
        """Import a part, named as the field."""
        return resolve_name(getattr(self, part))


@dataclass(frozen=True)
class NetworkEntry(Entry):
    """The parts of a network."""

    config: str  # a subclass of config.schema.ModelConfig
    model: str  # Config -> nn.Module with `forward` and `predict`


@dataclass(frozen=True)
class SystemEntry(Entry):
    """The parts of a system."""

    config: str  # a subclass of config.Config
    dataset: str  # TrainingHDF5, Config -> data.datasets.PoseDataset: training samples
    targets: str  # sample batch, Config, device -> NamedTuple of targets, named as the loss's parameters: see data.targets.render_batch
    networks: dict[str, NetworkEntry]  # by `model.name`
    loss: str  # Config -> nn.Module
    decoder: str  # nn.Module, Config -> utils.systems.Decoder: images to people


# Another system joins by its files and an entry here, another network by one file, a configuration class and an entry in `networks`.
SYSTEMS = {
    "simplepose": SystemEntry(
        config="config.systems.simplepose:SimplePoseConfig",
        dataset="data.datasets.simplepose:SimplePoseDataset",
        targets="data.targets.simplepose:render_batch",
        networks={
            "imhn": NetworkEntry("config.systems.simplepose:ImhnConfig", "models.imhn:IMHN"),
            "mobile": NetworkEntry("config.systems.simplepose:SimplePoseMobileConfig", "models.simplepose_mobile:SimplePoseMobile"),
        },
        loss="losses.focal_l2:FocalL2",
        decoder="utils.systems.simplepose:SimplePoseDecoder",
    ),
    "dekr": SystemEntry(
        config="config.systems.dekr:DekrConfig",
        dataset="data.datasets.dekr:DekrDataset",
        targets="data.targets.dekr:render_batch",
        networks={
            "dekr": NetworkEntry("config.systems.dekr:DekrModelConfig", "models.dekr:DEKR"),
            "movenet": NetworkEntry("config.systems.dekr:DekrMoveNetConfig", "models.dekr_movenet:DekrMoveNet"),
        },
        loss="losses.dekr:DekrLoss",
        decoder="utils.systems.dekr:DekrDecoder",
    ),
    "simple_baselines": SystemEntry(
        config="config.systems.simple_baselines:SimpleBaselinesConfig",
        dataset="data.datasets.simple_baselines:SimpleBaselinesDataset",
        targets="data.targets.simple_baselines:render_batch",
        networks={
            "simple_baselines": NetworkEntry(
                "config.systems.simple_baselines:SimpleBaselinesModelConfig", "models.simple_baselines:SimpleBaselines"
            ),
            "mobile": NetworkEntry(
                "config.systems.simple_baselines:SimpleBaselinesMobileConfig", "models.simple_baselines_mobile:SimpleBaselinesMobile"
            ),
            "timm": NetworkEntry("config.systems.simple_baselines:TimmModelConfig", "models.simple_baselines_timm:SimpleBaselinesTimm"),
        },
        loss="losses.simple_baselines:SimpleBaselinesLoss",
        decoder="utils.systems.simple_baselines:SimpleBaselinesDecoder",
    ),
}
