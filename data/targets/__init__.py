"""What each pose system's network should answer; `render_targets` is SimplePose's."""

from data.targets.simplepose import render_targets

__all__ = ["render_targets"]
