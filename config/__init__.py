"""The bottom layer: typed configuration, skeletons, and what every layer above shares (errors, files, progress)."""

from config.errors import UserError
from config.load import load_config
from config.schema import Config
from config.skeleton import Skeleton

__all__ = ["Config", "Skeleton", "UserError", "load_config"]
