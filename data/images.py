"""Reading photographs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from config import UserError
from config.files import existing_file, written_whole

T = TypeVar("T")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
ORIENTATION = 0x0112  # the EXIF tag of how the camera was held
READ_AHEAD = 4  # images decoded while the caller is busy with one


def read_image(path: str | Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8 BGR, turned upright by its EXIF orientation.

    Raises UserError where it is missing, truncated or not an image.
    """
    data = existing_file(path, "image").read_bytes()
    check_image(data, path)
    return decode_image(data, path)


def read_images(paths: Iterable[str | Path], read: Callable[[str | Path], T] = read_image) -> Iterator[T]:
    """Each photograph as `read` gives it, decoded by other threads while the caller works."""
    waiting = iter(paths)
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        running = [pool.submit(read, path) for path in islice(waiting, READ_AHEAD)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(read, path) for path in islice(waiting, 1)]


def check_image(data: bytes, name: str | Path) -> tuple[int, int]:
    """Height and width of an image, upright. Raises UserError where the bytes are not a whole one.

    OpenCV fills what a truncated file lacks with grey; Pillow does not.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.getexif().get(ORIENTATION, 1) == 1:
                return image.height, image.width
    except UnidentifiedImageError:  # its own words name the buffer in memory
        raise UserError(f"image {name}: cannot be decoded, not an image, or of a kind that cannot be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"image {name}: cannot be decoded, truncated or damaged ({error})") from error
    return decode_image(data, name).shape[:2]  # turned as OpenCV does it


def decode_image(data: bytes | np.ndarray, name: str | Path) -> np.ndarray:
    """A photograph's file, in memory, to (H, W, 3) uint8 BGR, upright. Fast; trusts `check_image` for truncation."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"image {name}: cannot be decoded")
    return image


def image_or_error(path: str | Path) -> np.ndarray | UserError:
    """What `read_image` returns or raises: where one picture of many is broken, the others can still be read."""
    try:
        return read_image(path)
    except UserError as error:
        return error


def encode_image(path: Path, image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 BGR in the format of the path's ending. Raises UserError where there is no such format."""
    try:
        done, data = cv2.imencode(path.suffix, image)
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"picture {path}: cannot be written as {path.suffix or 'a file without an ending'}; use .png or .jpg")
    return data.tobytes()


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write what `encode_image` makes of it, whole or not at all."""
    path = Path(path)
    data = encode_image(path, image)
    with written_whole(path) as partial:
        partial.write_bytes(data)
