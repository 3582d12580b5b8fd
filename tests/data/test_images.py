"""Images of every format are decoded as viewers show them; corrupt ones are one line each."""

from __future__ import annotations

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from data.images import check_image, decode_image, image_or_error, read_image

RED, BLUE, WHITE = (0, 0, 255), (255, 0, 0), (255, 255, 255)  # BGR


def two_colors(mode: str = "RGB") -> Image.Image:
    """Return an image of 32 x 16 pixels, red on the left, blue on the right."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = RED[::-1], BLUE[::-1]
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colors(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colors in the middle of the left and of the right half."""
    height, width = image.shape[:2]
    return image[height // 2, width // 4].astype(int), image[height // 2, 3 * width // 4].astype(int)


def test_every_format_keeps_its_colors():
    kinds = [("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("TIFF", "RGB"), ("PNG", "P"), ("GIF", "P"), ("BMP", "RGB")]
    for kind, mode in [*kinds, ("WEBP", "RGB"), ("PNG", "RGBA")]:
        options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
        image = decode_image(encoded(two_colors(mode), kind, **options), "x")
        assert (image.shape, image.dtype, image.flags.c_contiguous) == ((16, 32, 3), np.uint8, True)
        for color, expected in zip(colors(image), (RED, BLUE)):
            np.testing.assert_allclose(color, expected, atol=12, err_msg=f"{kind} {mode}")


def test_a_jpeg_is_opencvs_bit_for_bit():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    for image, options in ((noise, {"quality": 80}), (noise.convert("L"), {}), (noise, {"progressive": True}), (noise.convert("CMYK"), {})):
        data = encoded(image, "JPEG", **options)
        for given in (data, np.frombuffer(data, np.uint8)):
            np.testing.assert_array_equal(decode_image(given, "x"), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise: the left side goes up
    data = encoded(two_colors(), kind, exif=exif)
    image = decode_image(data, "x")
    assert image.shape == (32, 16, 3)
    assert check_image(data, "x") == (32, 16)
    assert image[4, 8].argmax() == 2, "red above"


def test_transparent_pixels_are_white():
    clear = two_colors("RGBA")
    clear.putalpha(Image.fromarray(np.repeat([[0] * 16 + [255] * 16], 16, 0).astype(np.uint8)))
    palette = two_colors("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    gray = Image.merge("LA", [two_colors("L"), clear.getchannel("A")])
    for image, right in ((clear, BLUE), (palette, BLUE), (gray, (29, 29, 29))):
        left, opaque = colors(decode_image(encoded(image, "PNG"), "x"))
        np.testing.assert_array_equal(left, WHITE)
        np.testing.assert_allclose(opaque, right, atol=1)
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    np.testing.assert_allclose(decode_image(encoded(half, "PNG"), "x")[0, 0], (127, 127, 255), atol=1)


def test_images_of_16_bits_keep_their_brightness():
    values = np.repeat([[51.0] * 16 + [204.0] * 16], 16, 0)
    deep = (values * 257).astype(np.uint16)
    files = [cv2.imencode(ending, deep)[1].tobytes() for ending in (".png", ".tif")]
    for data in files:
        for gray, expected in zip(colors(decode_image(data, "x")), (51, 204)):
            np.testing.assert_allclose(gray, (expected,) * 3, atol=1)
    color = np.zeros((4, 4, 3), np.uint16)
    color[:] = np.array([200, 100, 50]) * 257
    for ending in (".png", ".tif"):
        np.testing.assert_allclose(decode_image(cv2.imencode(ending, color)[1], "x")[0, 0], (200, 100, 50), atol=1)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_images_is_read(kind):
    data = encoded(two_colors(), kind, save_all=True, append_images=[Image.new("RGB", (32, 16), "green")])
    for color, expected in zip(colors(decode_image(data, "x")), (RED, BLUE)):
        np.testing.assert_allclose(color, expected, atol=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_truncated_files_are_refused(kind, tmp_path):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)), kind)
    for part in (0, 0.01, 0.3, 0.6):
        (tmp_path / "cut.jpg").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UserError, match=r"cut.jpg: cannot be decoded"):
            read_image(tmp_path / "cut.jpg")


def test_only_regular_files_of_a_gigabyte_are_read(tmp_path):
    paths = {name: tmp_path / f"{name}.png" for name in ("folder", "link", "pipe", "sparse")}
    paths["folder"].mkdir()
    paths["link"].symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(paths["pipe"])
    with paths["sparse"].open("wb") as file:
        file.truncate(3 * 2**30)
    problems = {"folder": "is a folder", "link": "not found", "pipe": "not a regular file", "sparse": "3.0 GB"}
    for name, path in paths.items():
        error = image_or_error(path)
        assert isinstance(error, UserError)
        assert f"image {path}: " in str(error)
        assert problems[name] in str(error)
