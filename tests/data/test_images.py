"""Images of every format are decoded as viewers show them; corrupt ones are one line each."""

import io
import os
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from config import UserError
from data.images import check_image, decode_image, image_or_error, read_image

RED, BLUE, WHITE = (0, 0, 255), (255, 0, 0), (255, 255, 255)  # BGR
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))


def two_colors(mode: str = "RGB") -> Image.Image:
    """Return an image of 32 x 16 pixels, red on the left, blue on the right."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = RED[::-1], BLUE[::-1]
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def check_halves(data: bytes, left: tuple[int, ...], right: tuple[int, ...], tolerance: float = 1) -> None:
    """Compare the colors in the middle of the left and of the right half of a decoded image."""
    image = decode_image(data, "x")
    assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)
    height, width = image.shape[:2]
    np.testing.assert_allclose(image[height // 2, [width // 4, 3 * width // 4]].astype(int), [left, right], atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("TIFF", "RGB"), ("PNG", "P"), ("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGB"),
        ("PNG", "RGBA"), ("AVIF", "RGB"), ("JPEG2000", "RGB"), ("MPO", "RGB"),
    ],
)  # fmt: skip
def test_every_format_keeps_its_colors(kind, mode):
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    check_halves(encoded(two_colors(mode), kind, **options), RED, BLUE, 12)


def test_heic_is_read_where_its_package_is(monkeypatch):
    # The brand of a phone's file: without the package its name is the message
    start = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with monkeypatch.context() as patch, pytest.raises(UserError, match="image x: is HEIC.*pip install pillow-heif"):
        patch.setitem(sys.modules, "pillow_heif", None)
        decode_image(start, "x")
    package = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6  # libheif turns the image itself: the left side goes up
    file = io.BytesIO()
    package.from_pillow(two_colors()).save(file, quality=90, exif=exif.tobytes())
    image = decode_image(file.getvalue(), "x")
    assert (image.shape, image[8, 8].argmax(), image[24, 8].argmax()) == ((32, 16, 3), 2, 0)
    for corrupt in (start, file.getvalue()[:300]):
        with pytest.raises(UserError, match="image x: cannot be decoded"):
            decode_image(corrupt, "x")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_of_several_images_is_read(kind):
    check_halves(encoded(two_colors(), kind, save_all=True, append_images=[Image.new("RGB", (32, 16), "green")]), RED, BLUE, 12)


@pytest.mark.parametrize(("mode", "options"), [("RGB", {"quality": 80}), ("L", {}), ("RGB", {"progressive": True}), ("CMYK", {})])
def test_a_jpeg_is_opencvs_bit_for_bit(mode, options):
    data = np.frombuffer(encoded(NOISE.convert(mode), "JPEG", **options), np.uint8)
    for given in (data, data.tobytes()):
        np.testing.assert_array_equal(decode_image(given, "x"), cv2.imdecode(data, cv2.IMREAD_COLOR))


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
        check_halves(encoded(image, "PNG"), WHITE, right)
    check_halves(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG"), (127, 127, 255), (127, 127, 255))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_images_of_16_bits_keep_their_brightness(ending):
    gray = np.repeat([[51] * 16 + [204] * 16], 16, 0)
    for values, left, right in ((gray, (51,) * 3, (204,) * 3), (np.full((4, 4, 3), (200, 100, 50)), (200, 100, 50), (200, 100, 50))):
        check_halves(cv2.imencode(ending, (values * 257).astype(np.uint16))[1].tobytes(), left, right)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_truncated_files_are_refused(kind, tmp_path):
    whole = encoded(NOISE, kind)
    for part in (0, 0.01, 0.3, 0.6):
        (tmp_path / "cut.jpg").write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(UserError, match=r"cut.jpg: cannot be decoded.*; replace or remove the file"):
            read_image(tmp_path / "cut.jpg")


def test_a_jpeg_with_something_behind_its_end_is_read(tmp_path):
    whole = encoded(NOISE, "JPEG")
    (tmp_path / "more.jpg").write_bytes(whole + b"more")
    assert np.array_equal(read_image(tmp_path / "more.jpg"), decode_image(whole, "x"))


def test_pixels_of_floating_point_numbers_are_refused():
    with pytest.raises(UserError, match="image x: cannot be decoded .*convert it to 8 or 16 bits"):
        decode_image(encoded(Image.new("F", (4, 4)), "TIFF"), "x")


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
        assert f"image {path}: {problems[name]}" in str(error)
