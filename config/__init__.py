"""The bottom layer: typed configuration, skeletons, and what every layer above shares (errors, files, progress)."""

import os

# OpenMP reads this when torch is first imported. Threads that spin while they wait, the default, make training on a CPU several
# times slower as soon as anything else, such as a loader worker, needs one of the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from config.errors import UserError  # noqa: E402
from config.load import load_config  # noqa: E402
from config.schema import Config  # noqa: E402
from config.skeleton import Skeleton  # noqa: E402

__all__ = ["Config", "Skeleton", "UserError", "load_config"]
