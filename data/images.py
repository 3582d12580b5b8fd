"""Reading photographs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from config import UserError
from config.files import existing_file, written_whole

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
READ_AHEAD = 4  # images decoded while the caller is busy with one


def read_image(path: str | Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 BGR, turned upright by its EXIF orientation.

    Raises UserError where it is missing, truncated or not an image.
    """
    data = existing_file(path, "image").read_bytes()
    check_image(data, path)
    return decode_image(data, path)


def read_images(paths: Iterable[str | Path]) -> Iterator[np.ndarray]:
    """Each photograph as `read_image` gives it, decoded by other threads while the caller works."""
    waiting = iter(paths)
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        running = [pool.submit(read_image, path) for path in islice(waiting, READ_AHEAD)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(read_image, path) for path in islice(waiting, 1)]


def check_image(data: bytes, name: str | Path) -> None:
    """Raise UserError where the bytes are not a whole image. OpenCV fills what a truncated file lacks with grey; Pillow does not."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"image {name}: cannot be decoded, truncated or not an image ({error})") from error


def decode_image(data: bytes | np.ndarray, name: str | Path) -> np.ndarray:
    """A photograph's file, in memory, to (H, W, 3) uint8 BGR, upright. Fast; trusts `check_image` for truncation."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"image {name}: cannot be decoded")
    return image


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 BGR in the format of the path's ending, whole or not at all. Raises UserError where there is no such format."""
    path = Path(path)
    try:
        done, data = cv2.imencode(path.suffix, image)
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"picture {path}: cannot be written as {path.suffix or 'a file without an ending'}; use .png or .jpg")
    with written_whole(path) as partial:
        partial.write_bytes(data.tobytes())
