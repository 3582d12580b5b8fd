"""The pose systems by name. `system` in a configuration chooses one, and with it everything that belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal


@dataclass(frozen=True)
class Parts:
    """Where the parts of a system are, as "module:name"; imported when asked for, so that none waits for another's libraries."""

    config: str  # a subclass of config.Config
    dataset: str  # PeopleFile, Config -> data.datasets.PoseDataset: how a training sample is cut
    targets: str  # data.targets.BatchTargets: what the network should answer to a batch of them
    model: str  # Config -> nn.Module
    loss: str  # Config -> nn.Module
    system: str  # a utils.systems.PoseSystem

    def load(self, part: Literal["config", "dataset", "targets", "model", "loss", "system"]) -> Any:
        """The part itself."""
        return resolve_name(getattr(self, part))


# Another system joins by its files and an entry here.
SYSTEMS = {
    "simplepose": Parts(
        config="config.systems.simplepose:SimplePoseConfig",
        dataset="data.datasets.simplepose:SimplePoseDataset",
        targets="data.targets.simplepose:batch_targets",
        model="models.imhn:IMHN.from_config",
        loss="losses.focal_l2:FocalL2.from_config",
        system="utils.systems.simplepose:SIMPLEPOSE",
    ),
    "dekr": Parts(
        config="config.systems.dekr:DekrConfig",
        dataset="data.datasets.dekr:DekrDataset",
        targets="data.targets.dekr:batch_targets",
        model="models.dekr:DEKR.from_config",
        loss="losses.dekr:DekrLoss.from_config",
        system="utils.systems.dekr:DEKR",
    ),
    "simple_baselines": Parts(
        config="config.systems.simple_baselines:SimpleBaselinesConfig",
        dataset="data.datasets.simple_baselines:SimpleBaselinesDataset",
        targets="data.targets.simple_baselines:batch_targets",
        model="models.simple_baselines:SimpleBaselines.from_config",
        loss="losses.simple_baselines:SimpleBaselinesLoss.from_config",
        system="utils.systems.simple_baselines:SIMPLE_BASELINES",
    ),
}
