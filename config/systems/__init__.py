"""The registry of pose systems: `system` in a configuration names one entry, and with it everything that belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal


@dataclass(frozen=True)
class SystemEntry:
    """Name the parts of a system as "module:name". A part is imported when asked for: no system waits for another's libraries."""

    config: str  # a subclass of config.Config
    dataset: str  # PeopleFile, Config -> data.datasets.PoseDataset: how a training sample is cut
    targets: str  # sample batch, Config, device -> NamedTuple of targets, named as the loss's parameters: see data.targets.render_batch
    model: str  # Config -> nn.Module
    loss: str  # Config -> nn.Module
    decoder: str  # nn.Module, Config -> utils.systems.Decoder: how images become people

    def load(self, part: Literal["config", "dataset", "targets", "model", "loss", "decoder"]) -> Any:
        """Import a part."""
        return resolve_name(getattr(self, part))


# Another system joins by its files and an entry here.
SYSTEMS = {
    "simplepose": SystemEntry(
        config="config.systems.simplepose:SimplePoseConfig",
        dataset="data.datasets.simplepose:SimplePoseDataset",
        targets="data.targets.simplepose:render_batch",
        model="models.imhn:IMHN.from_config",
        loss="losses.focal_l2:FocalL2",
        decoder="utils.systems.simplepose:SimplePoseDecoder",
    ),
    "dekr": SystemEntry(
        config="config.systems.dekr:DekrConfig",
        dataset="data.datasets.dekr:DekrDataset",
        targets="data.targets.dekr:render_batch",
        model="models.dekr:DEKR.from_config",
        loss="losses.dekr:DekrLoss",
        decoder="utils.systems.dekr:DekrDecoder",
    ),
    "simple_baselines": SystemEntry(
        config="config.systems.simple_baselines:SimpleBaselinesConfig",
        dataset="data.datasets.simple_baselines:SimpleBaselinesDataset",
        targets="data.targets.simple_baselines:render_batch",
        model="models.simple_baselines:SimpleBaselines.from_config",
        loss="losses.simple_baselines:SimpleBaselinesLoss",
        decoder="utils.systems.simple_baselines:SimpleBaselinesDecoder",
    ),
}
