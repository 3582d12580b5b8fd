"""Show images in a window."""

import os
import sys

import cv2
import numpy as np

from config import UserError

MAX_SIZE = (1600, 900)  # width, height in pixels; larger images are scaled down
STOP_KEYS = (ord("q"), 27)  # and Escape


class Window:
    """Shows images until q or Escape is pressed, or until it is closed. Raises UserError where there is no screen."""

    def __init__(self, title: str):
        self.title, self.closed = title, False
        # Qt ends the whole process where it finds no display
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UserError("--show: no window can be opened, there is no screen; omit --show")
        try:
            cv2.namedWindow(title)
        except cv2.error as error:
            raise UserError("--show: this build of OpenCV has no windows; install opencv-python, or omit --show") from error

    def show(self, image: np.ndarray, wait: bool) -> bool:
        """Show an image (H, W, 3) uint8 BGR and, with `wait`, wait for a key. Returns whether to continue."""
        scale = min(1.0, MAX_SIZE[0] / image.shape[1], MAX_SIZE[1] / image.shape[0])
        cv2.imshow(self.title, cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        while True:
            key, visible = cv2.waitKey(50 if wait else 1), cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1
            if key >= 0 or not visible or not wait:
                self.closed = key & 0xFF in STOP_KEYS or not visible
                return not self.closed
