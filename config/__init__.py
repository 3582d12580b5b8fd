"""The bottom layer: typed configuration, skeletons, and what every layer above shares (errors, files, progress).

`load_config`, `Config` and `Skeleton` are imported on use: they need pydantic, which `deploy` does without.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from config.errors import UserError

if TYPE_CHECKING:
    from config.load import load_config
    from config.schema import Config
    from config.skeleton import Skeleton

__all__ = ["Config", "Skeleton", "UserError", "load_config"]
_PLACES = {"Config": "config.schema:Config", "Skeleton": "config.skeleton:Skeleton", "load_config": "config.load:load_config"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(_PLACES[name])
