"""Two hundred odd image files: unusual, corrupt, or no images at all."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
CLAIMED = 60000  # side in pixels in some headers


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_odd_files(folder: Path) -> tuple[set[str], set[str]]:
    """Fill a new folder. Return the names of the readable images, and of the files that no reader can decode."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8))
    whole, broken, damaged = _whole(image), _broken(), _damaged(image, rng)
    for name, data in {**whole, **broken, **damaged}.items():
        (folder / name).write_bytes(data)
    (folder / "folder.png").mkdir()
    (folder / "dangling.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.png")
    with (folder / "vast.jpg").open("wb") as file:
        file.truncate(5 * 2**30)
    no_files = {"folder.png", "dangling.jpg", "loop.jpg", "pipe.png", "vast.jpg"}
    return set(whole), set(broken) | no_files


def _whole(image: Image.Image) -> dict[str, bytes]:
    files = {f"plain{ending}": encoded(image, kind) for kind, ending in KINDS.items()}
    for mode, kind in (("CMYK", "JPEG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("I;16", "TIFF")):
        files[f"mode {mode}{KINDS[kind]}"] = encoded(image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode), kind)
    others = {"save_all": True, "append_images": [image.rotate(90)] * 2}
    files |= {f"several{KINDS[kind]}": encoded(image, kind, **others) for kind in ("PNG", "GIF", "WEBP", "TIFF")}
    files |= {f"a {kind.lower()}.{'png' if kind == 'JPEG' else 'jpg'}": encoded(image, kind) for kind in KINDS}
    files["no orientation.jpg"] = encoded(image, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    files["new\nline.png"] = encoded(image, "PNG")
    files[os.fsdecode(b"no text \xff.png")] = encoded(image, "PNG")
    return files


def _broken() -> dict[str, bytes]:
    files = {f"empty{ending}": b"" for ending in KINDS.values()} | {f"zeros{ending}": bytes(500) for ending in KINDS.values()}
    files |= {f"text {n}.jpg": b"<html>404 not found</html>\n" * n for n in range(1, 5)}
    for name, (width, height) in {"wide": (20000, 3), "tall": (3, 20000)}.items():
        files |= {f"{name}{KINDS[kind]}": encoded(Image.new("RGB", (width, height)), kind) for kind in ("JPEG", "PNG", "BMP")}
    small = Image.new("RGB", (7, 5), "red")
    for claimed in (CLAIMED, 12000):
        for kind, fields in {"PNG": [(16, ">II")], "BMP": [(18, "<ii")], "GIF": [(6, "<HH")]}.items():
            data = bytearray(encoded(small, kind))
            for offset, form in fields:
                struct.pack_into(form, data, offset, claimed, claimed)
            if kind != "GIF" or claimed == CLAIMED:  # a GIF's image may be smaller than its screen
                files[f"claims {claimed}{KINDS[kind]}"] = bytes(data)
    tiff = encoded(small, "TIFF")
    for tag, side in ((256, 7), (257, 5)):  # width, height, as a long or a short number
        claim = struct.pack("<HHII", tag, 4, 1, CLAIMED)
        for form in ("<HHII", "<HHIHxx"):
            tiff = tiff.replace(struct.pack(form, tag, 4 if form == "<HHII" else 3, 1, side), claim)
    files["claims.tif"] = tiff
    return files


def _damaged(image: Image.Image, rng: np.random.Generator) -> dict[str, bytes]:
    files = {}
    for kind, ending in KINDS.items():
        data = np.frombuffer(encoded(image, kind), np.uint8)
        for n in range(10):
            files[f"cut {n}{ending}"] = data[: rng.integers(1, len(data))].tobytes()
        for n in range(13):
            flipped = data.copy()
            positions = rng.integers(0, len(data) if n % 2 else 80, rng.integers(1, 9))
            flipped[positions] = rng.integers(0, 256, len(positions))
            files[f"flipped {n}{ending}"] = flipped.tobytes()
    return files
