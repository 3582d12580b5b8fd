"""Read and write images of every common format."""

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from config import UserError
from config.files import atomic_write, existing_file

T = TypeVar("T")
ImageInput = str | Path | Image.Image | np.ndarray  # see `to_bgr`
ColorOrder = Literal["bgr", "rgb"]  # of an array's channels
WRITABLE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
IMAGE_SUFFIXES = WRITABLE_SUFFIXES | {".jfif", ".mpo", ".apng", ".gif", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx"}
MAX_BYTES = 2**30  # of a file
ANIMATED = {"GIF", "PNG"}  # formats whose frames FFmpeg reads as a video
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # mif1 is also AVIF's, which Pillow reads
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
ORIENTATION = 0x0112  # the EXIF tag of how the camera was held
DECODE_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
REMEDY = "replace or remove the file"
READ_AHEAD = 4  # images decoded while the caller is busy with one


def read_image(path: str | Path) -> np.ndarray:
    """Return an image as (H, W, 3) uint8 BGR, turned upright by its EXIF orientation, transparent pixels over white.

    Raise UserError where it is missing, truncated, not an image, or has more pixels than Pillow takes, 179 million.
    """
    path = existing_file(path, "image")
    check_file_size(path, path.stat().st_size)
    return decode_checked(path.read_bytes(), path)


def decode_checked(data: bytes, name: str | Path) -> np.ndarray:
    """Decode an image's file, in memory, as `read_image` does. A JPEG with its end is whole, and is decoded only once."""
    if is_jpeg(data):
        with opened_image(data, name) as image:  # too many pixels are refused here
            if not data.endswith(JPEG_END):
                _load_small(image)
    return decode_image(data, name)


def read_images(paths: Iterable[Any], read: Callable[[Any], T] = read_image, threads: int = READ_AHEAD) -> Iterator[T]:
    """Yield what `read` gives of each image, in order, by other threads while the caller works."""
    waiting = iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(read, path) for path in islice(waiting, threads)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(read, path) for path in islice(waiting, 1)]


def check_file_size(path: str | Path, size: int) -> None:
    """Raise UserError where a file has more bytes than any image."""
    if size > MAX_BYTES:
        raise UserError(f"image {path}: {size / 2**30:.1f} GB, more than an image has")


def check_image(data: bytes, name: str | Path) -> tuple[int, int]:
    """Return height and width of an image, upright. Raise UserError where the bytes are not a whole one.

    OpenCV fills what a truncated file lacks with gray; Pillow does not.
    """
    if is_jpeg(data):
        with opened_image(data, name) as image:
            width, height = image.size
            _load_small(image)
            if image.getexif().get(ORIENTATION, 1) == 1:  # OpenCV and Pillow may differ about others
                return height, width
    return decode_image(data, name).shape[:2]


def _load_small(image: Image.Image) -> None:
    """Read every bit of a JPEG, but compute an eighth of the pixels each way."""
    image.draft(None, (1, 1))
    image.load()


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image, upright; most files are not read beyond their beginning. Raise UserError as `check_image`."""
    try:
        with Image.open(path) as image:
            if image.getexif().get(ORIENTATION, 1) == 1:
                return image.height, image.width
    except Exception:  # of HEIC, too
        pass
    return check_image(existing_file(path, "image").read_bytes(), path)


def is_jpeg(data: bytes | np.ndarray) -> bool:
    return bytes(data[:2]) == JPEG_START


@contextmanager
def opened_image(data: bytes | np.ndarray, name: str | Path) -> Iterator[Image.Image]:
    """Open an image's file, in memory, with Pillow; whatever turns out to be wrong with it is a UserError."""
    try:
        with _open_heif(data, name) if _is_heif(data) else Image.open(io.BytesIO(data)) as image:
            yield image
    except UserError:
        raise
    except UnidentifiedImageError:  # Pillow's message names the buffer in memory
        raise UserError(f"image {name}: cannot be decoded, not an image, or of a format that cannot be read; {REMEDY}") from None
    except Exception as error:  # decoders can raise any exception on a corrupt file
        raise UserError(f"image {name}: cannot be decoded ({str(error) or type(error).__name__}); {REMEDY}") from error


def _is_heif(data: bytes | np.ndarray) -> bool:
    start = bytes(data[:32])
    return start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS and b"avif" not in start


def _open_heif(data: bytes | np.ndarray, name: str | Path) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile  # optional
    except ImportError:
        raise UserError(f"image {name}: is HEIC, which the package pillow-heif reads; pip install pillow-heif") from None
    return HeifImageFile(io.BytesIO(data))


def is_animation(path: Path) -> bool:
    """Return whether a file is an animation; False if it cannot be read."""
    try:
        with Image.open(existing_file(path, "image")) as image:
            return image.format in ANIMATED and getattr(image, "n_frames", 1) > 1
    except Exception:  # decoders can raise any exception on a corrupt file
        return False


def decode_image(data: bytes | np.ndarray, name: str | Path, reduction: int = 1) -> np.ndarray:
    """Decode an image's file, in memory, as `read_image` does. Fast for JPEG, where it trusts `check_image`.

    reduction: 2, 4 or 8 decode a JPEG to so many times smaller sides, rounded up, in less time. Each pixel is the mean of its block.
    """
    if not is_jpeg(data):
        with opened_image(data, name) as opened:
            return upright_bgr(opened)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), DECODE_FLAGS[reduction])
    if image is None:
        raise UserError(f"image {name}: cannot be decoded; {REMEDY}")
    return image


def upright_bgr(image: Image.Image) -> np.ndarray:
    """Convert an image of any mode, the first of several, to the pixels that a viewer shows: (H, W, 3) uint8 BGR, upright, over white."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; convert it to 8 or 16 bits")
    if image.mode[0] == "I":  # gray of 16 bits, which Pillow would clip at 255
        return cv2.cvtColor((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image.convert("RGBA"))
        image = page
    return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])


def to_bgr(image: ImageInput, color: ColorOrder = "bgr") -> np.ndarray:
    """Return an image of any origin as (H, W, 3) uint8 BGR: a file's name or an image of Pillow, as `read_image`, or an array.

    An array is (H, W, 3) uint8 in the order of `color`. Raise UserError for anything else.
    """
    if isinstance(image, str) and "://" in image:  # it may hold a password
        raise UserError("image: expected a file's name, not a URL; download it first")
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            return upright_bgr(image)
        except Exception as error:  # a file that Pillow has opened and not yet read
            raise UserError(f"image: cannot be decoded ({str(error) or type(error).__name__})") from error
    if not isinstance(image, np.ndarray):
        expected = "expected a file's name, a PIL image or an array; `batch` takes several images"
        raise UserError(f"image of type {type(image).__name__}: {expected}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        remedy = "for gray and RGBA pass Image.fromarray(array)" if image.dtype == np.uint8 else "scale its values to 0 to 255"
        raise UserError(f"image of shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8, {color.upper()}; {remedy}")
    return image if color == "bgr" else np.ascontiguousarray(image[..., ::-1])


def image_or_error(path: Any, read: Callable[[Any], np.ndarray] = read_image) -> np.ndarray | UserError:
    """Return what `read` returns or raises: where one image of many is corrupt, the others can still be read."""
    try:
        return read(path)
    except UserError as error:
        return error


@cache
def warn_skipped(error: str) -> None:
    """Print a warning, once in each process."""
    print(f"warning: {error}; skipped", file=sys.stderr, flush=True)


def encode_image(path: Path, image: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 BGR in the format of the path's ending. Raise UserError where there is no such format."""
    try:
        done, data = cv2.imencode(path.suffix, image)
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"image {path}: cannot be written as {path.suffix or 'a file without an ending'}; use .png or .jpg")
    return data.tobytes()


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image whole or not at all."""
    path = Path(path)
    data = encode_image(path, image)
    with atomic_write(path, sync=False) as partial:
        partial.write_bytes(data)
