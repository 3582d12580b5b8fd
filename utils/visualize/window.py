"""A window for pictures."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np

from config import UserError

PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"
PROBE_SECONDS = 20
LARGEST = (1600, 900)  # width, height in pixels: larger pictures are shown smaller
STOP = (ord("q"), 27)  # and Escape


class Window:
    """Shows pictures until q or Escape is pressed, or it is closed. Raises UserError where there is no screen."""

    def __init__(self, title: str):
        self.title, self.closed = title, False
        # Elsewhere: without a screen, OpenCV's window library ends the process
        try:
            probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=PROBE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            probe = None
        if probe is None or probe.returncode:
            raise UserError("--show: no window can be opened, there is no screen here or this OpenCV has no windows; leave it out")

    def show(self, picture: np.ndarray, wait: bool) -> bool:
        """Show a picture (H, W, 3) uint8 BGR, and if so wished wait for any key; whether more are wanted."""
        scale = min(1.0, LARGEST[0] / picture.shape[1], LARGEST[1] / picture.shape[0])
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        cv2.imshow(self.title, picture if scale == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        key = cv2.waitKey(1)
        while wait and key < 0 and self._visible():
            key = cv2.waitKey(50)
        self.closed = (key >= 0 and key & 0xFF in STOP) or not self._visible()
        return not self.closed

    def _visible(self) -> bool:
        return cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
