"""The training HDF5: all annotations and images of a data set, for every pose system. `data/coco_masks_hdf5.py` builds it.

Images keep their own JPEG bytes, and masks are compressed bits, so COCO's file is several times smaller than raw arrays. `data/datasets`
makes each system's samples of it. Its arrays, for N images with a person and P people:

    images/bytes    (B,) of each image its own file, then the packed masks of people, people without keypoints and crowd regions; an
                    empty mask has no bytes, and a data set without segmentations has no masks
    images/ends     (N, 4) where these end; (N, 1) without masks
    images/id       (N,)                                 images/size    (N, 2) height, width, upright
    images/first    (N + 1,) where each image's people begin in people/*
    people/joints   (P, D, 3) x, y, v of the keypoints that the data set labels
    people/box      (P, 4) x, y, width, height           people/area    (P,) pixels squared
    people/track    (P,) identity in a video, or -1      people/crowd   (P,) whether it is a crowd region
    images/checksum (N,) CRC-32 of each image's bytes; the attribute `checksum` is that of the small arrays. Older files have neither.
    negatives/*     as images/*, of images without people; their bytes follow the others

The attribute `max_side` is there if larger images were reduced to so many pixels, with all that is annotated.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from config import Skeleton, UserError
from config.files import existing_file
from config.load import check_keypoint_names, fitting_skeleton
from config.skeleton import UNLABELED
from data.images import decode_image, is_jpeg

FORMAT_VERSION = 3
CHUNK = 2**16  # bytes that are read from the disk together; HDF5 caches a mebibyte
GROWTH = 2**26  # bytes by which the data set grows beyond its content while it is written
MASK_LEVEL = 3  # of zlib: the file is 0.3 % larger than with its default 6, and packing takes a third of the time
REBUILD = "python data/coco_masks_hdf5.py --annotations A.json --images DIR --output"


class CorruptImageError(UserError):
    """An image of a training HDF5 has corrupt bytes."""


class ImagePeople(NamedTuple):
    """The P people of an image, fields named as the file's arrays."""

    joints: np.ndarray  # (P, D, 3) float32
    box: np.ndarray  # (P, 4) float32
    area: np.ndarray  # (P,) float32
    track: np.ndarray  # (P,) int64
    crowd: np.ndarray  # (P,) bool

    @property
    def labeled(self) -> np.ndarray:
        """Return (P, D) bool."""
        return self.joints[..., 2] != UNLABELED


SMALL_ARRAYS = (*(f"images/{name}" for name in ("id", "size", "first", "ends")), *(f"people/{name}" for name in ImagePeople._fields))
CHECKSUMS = "images/checksum"
OF_IMAGES, NEGATIVES = ("id", "size", "ends", "checksum"), "negatives"  # arrays of images/*, and of the group of images without people


class TrainingHDF5Writer:
    """Append images to an open HDF5 file; `finish` writes the small arrays.

    keypoints: names of the labeled ones, in the order of the joints. outlines: people's masks are segmentations, not boxes. max_side: the
    longest side of a reduced image; None: all images are as they were. Images without people come last.
    """

    def __init__(self, file: h5py.File, keypoints: list[str], outlines: bool, max_side: int | None = None):
        self.file = file
        file.attrs.update(format="simplepose", version=FORMAT_VERSION, keypoints=keypoints, outlines=outlines)
        if max_side is not None:
            file.attrs["max_side"] = max_side
        self.bytes = file.create_dataset("images/bytes", (0,), np.uint8, maxshape=(None,), chunks=(CHUNK,))
        self.images: list[tuple[int, tuple[int, int], np.ndarray]] = []  # id, size, ends
        self.people: list[ImagePeople] = []
        self.checksums: list[int] = []

    def add(self, image_id: int, size: tuple[int, int], parts: list[np.ndarray], people: ImagePeople) -> None:
        """Append an image of height and width: its file and packed masks, if the data set has any, and its people."""
        first = self.images[-1][2][-1] if self.images else 0
        ends = first + np.cumsum([len(part) for part in parts])
        if ends[-1] > len(self.bytes):
            self.bytes.resize((ends[-1] + GROWTH,))  # unwritten bytes use no disk space
        joined = np.concatenate(parts)
        self.bytes[first : ends[-1]] = joined
        self.checksums.append(zlib.crc32(joined))
        self.images.append((image_id, size, ends))
        self.people.append(people)

    def finish(self) -> None:
        """Write the small arrays and mark the file as complete."""
        ids, sizes, ends = map(np.array, zip(*self.images))
        self.bytes.resize((ends[-1, -1],))
        counts = [len(people.joints) for people in self.people]
        with_people = len(counts) - counts.count(0)
        values = ids, sizes.astype(np.int32), ends, np.array(self.checksums, np.uint32)
        arrays = {f"images/{name}": of_images[:with_people] for name, of_images in zip(OF_IMAGES, values)}
        if with_people < len(counts):
            arrays |= {f"{NEGATIVES}/{name}": of_images[with_people:] for name, of_images in zip(OF_IMAGES, values)}
        arrays["images/first"] = np.cumsum([0] + counts)[: with_people + 1]
        arrays |= {f"people/{name}": np.concatenate(values) for name, values in zip(ImagePeople._fields, zip(*self.people))}
        for name, values in arrays.items():
            self.file.create_dataset(name, data=values, compression="gzip")
        self.file.attrs.update(checksum=_checksum(self.file.attrs, arrays), complete=True)


class TrainingHDF5:
    """Images and people of a file, in a skeleton's order. `labeled` (K,) bool: the keypoints that its data set labels.

    `len` counts the images with people; `negatives` are the numbers of the others, which follow.
    skeleton: None is the known one that fits best.
    Raise UserError if the file is missing, incomplete, of another format version, or labels other keypoints than the skeleton's.
    """

    def __init__(self, path: str | Path, skeleton: Skeleton | None):
        self.path = existing_file(path, "training file")
        self._bytes: h5py.Dataset | None = None  # each process opens its own: an open HDF5 file does not survive a fork
        self._read: tuple[int, list[np.ndarray]] | None = None  # number and parts of the last image read
        with self._whole(), self._open() as file:
            attributes = dict(file.attrs)
            checked = "checksum" in attributes
            negatives = [f"{NEGATIVES}/{name}" for name in OF_IMAGES] if NEGATIVES in file else []
            arrays = {name: file[name][:] for name in (*SMALL_ARRAYS, *[CHECKSUMS] * checked, *negatives)}
            if checked != (CHECKSUMS in file) or checked and attributes["checksum"] != _checksum(attributes, arrays):
                raise ValueError("its checksum differs")
            names, self.outlines = list(attributes["keypoints"]), bool(attributes["outlines"])
            first, count = arrays["images/first"], len(arrays["images/id"])
            for name in negatives:
                name_of_images = name.replace(NEGATIVES, "images")
                arrays[name_of_images] = np.concatenate([arrays[name_of_images], arrays[name]])
            self.negatives = np.arange(count, len(arrays["images/id"]))
            arrays["images/first"] = np.append(first, np.full(len(self.negatives), first[-1]))
            self._checksums = arrays.get(CHECKSUMS)
            self.image_ids, self.sizes, self.first, self._ends, annotated, *others = (arrays[name] for name in SMALL_ARRAYS)
            self.boxes, self.areas, self.tracks, self.crowd = others
            if file["images/bytes"].shape != (self._ends[-1, -1],):
                raise ValueError("it lacks bytes of its images")
        self.skeleton = skeleton = skeleton or fitting_skeleton(names)
        self.keypoints = [name for name in skeleton.dataset if name in names]  # the skeleton's among the labeled ones
        self.labeled = skeleton.labeled_by(names)
        check_keypoint_names(names, skeleton, f"training file {path}")
        joints = np.full((len(annotated), len(skeleton.dataset), 3), (0, 0, UNLABELED), np.float32)  # in the order of skeleton.dataset
        for position, name in enumerate(skeleton.dataset):
            if name in names:
                joints[:, position] = annotated[:, names.index(name)]
        self.num_labeled: np.ndarray = (joints[..., 2] != UNLABELED).sum(1)  # (P,) keypoints of each person
        self._joints = skeleton.from_dataset(joints)

    def __len__(self) -> int:
        return len(self.image_ids) - len(self.negatives)

    @property
    def image_of(self) -> np.ndarray:
        """Return (P,) the index of each person's image."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.first))

    def joints(self, rows: np.ndarray) -> np.ndarray:
        """Return (P, K, 3) x, y in image pixels and v of some people, in the skeleton's order."""
        return self._joints[rows]

    def image(self, number: int) -> np.ndarray:
        """Return an image as (H, W, 3) uint8 BGR."""
        return self._decoded(number, 1)

    def image_to_warp(self, number: int, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (h, w, 3) uint8 BGR and the affine (2, 3) that warps it as `matrix` (2, 3) warps the image of full size.

        A JPEG that the affine reduces to a half, a quarter or an eighth is decoded to no more pixels than that, unless its size does not
        allow it and it may be turned by EXIF: its incomplete blocks could then be at the upper or left border.
        """
        data, scale = self.file_bytes(number), math.sqrt(abs(np.linalg.det(matrix[:, :2])))
        reduction = next(reduction for reduction in (8, 4, 2, 1) if reduction * scale <= 1 or reduction == 1)
        if reduction == 1 or not is_jpeg(data) or (self.sizes[number] % reduction).any() and b"Exif" in data.tobytes():
            return self._decoded(number, 1), matrix
        middle = matrix[:, :2].sum(1) * (reduction - 1) / 2  # of the block that the first pixel is the mean of
        return self._decoded(number, reduction), np.column_stack([matrix[:, :2] * reduction, matrix[:, 2] + middle])

    def _decoded(self, number: int, reduction: int) -> np.ndarray:
        with self._named(number) as name:
            image = decode_image(self.file_bytes(number), name, reduction)
            (height, width), expected = image.shape[:2], -(-self.sizes[number] // reduction)
            if (height, width) != tuple(expected):
                raise UserError(f"image {name}: decodes to {width} x {height}, not to {expected[1]} x {expected[0]}")
        return image

    def file_bytes(self, number: int) -> np.ndarray:
        """Return an image's own file (n,) uint8, unchanged."""
        return self._parts(number)[0]

    def masks(self, number: int) -> tuple[np.ndarray, ...]:
        """Return the three masks of people, people without keypoints, and crowd regions of an image: packed bits for `unpack_mask`."""
        height, width = self.sizes[number]
        packed = self._parts(number)[1:]
        if packed:
            with self._named(number):
                return tuple(_inflated(mask, height * width) for mask in packed)
        rows = slice(*self.first[number : number + 2])
        crowd, labeled = self.crowd[rows], self.num_labeled[rows] > 0
        kinds = (~crowd, ~crowd & ~labeled, crowd)
        return tuple(np.packbits(boxes_mask(self.boxes[rows][kind], height, width)) for kind in kinds)

    @contextmanager
    def _named(self, number: int) -> Iterator[str]:
        """Convert every error about the bytes of an image to CorruptImageError."""
        name = f"{self.image_ids[number]} in {self.path}"
        try:
            yield name
        except UserError as error:
            raise CorruptImageError(str(error)) from error
        except Exception as error:  # HDF5 and the decoders can raise any exception on corrupt bytes
            raise CorruptImageError(f"image {name}: cannot be read, corrupt ({error})") from error

    def _parts(self, number: int) -> list[np.ndarray]:
        """Return an image's file and its packed masks, if any: they are adjacent, and read at once."""
        if self._read is None or self._read[0] != number:
            self._bytes = self._bytes or self._open()["images/bytes"]
            ends, first = self._ends[number], self._ends[number - 1, -1] if number else 0
            with self._named(number):
                joined = self._bytes[first : ends[-1]]
                if self._checksums is not None and zlib.crc32(joined) != self._checksums[number]:
                    raise ValueError("the checksum of its bytes differs")
                self._read = number, np.split(joined, ends[:-1] - first)
        return self._read[1]

    def _open(self) -> h5py.File:
        with self._whole():
            file = h5py.File(self.path, "r")
            version = file.attrs.get("version")
            if version != FORMAT_VERSION:
                raise self._refused(f"format version {version}, this code reads {FORMAT_VERSION}")
            if file.attrs.get("format") != "simplepose" or not file.attrs.get("complete"):
                raise ValueError("it is not marked as complete")
            return file

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Convert every error about the structure of the file, or its small arrays, to UserError."""
        try:
            yield
        except (UserError, PermissionError):  # building it again would not help against the latter
            raise
        except Exception as error:  # HDF5 can raise any exception on a damaged file
            raise self._refused(f"not a whole training HDF5 ({error})") from error

    def _refused(self, problem: str) -> UserError:
        return UserError(f"training file {self.path}: {problem}; build it again: {REBUILD} {self.path}")


def pack_mask(mask: np.ndarray) -> np.ndarray:
    """Compress (H, W) bool to (n,) uint8, n = 0 for an empty mask: half the size of a PNG here, and six times as fast to read."""
    return np.frombuffer(zlib.compress(np.packbits(mask), MASK_LEVEL), np.uint8) if mask.any() else np.zeros(0, np.uint8)


def _inflated(packed: np.ndarray, pixels: int) -> np.ndarray:
    """Decompress a mask of `pack_mask` to packed bits (n,) uint8. Raise ValueError if their number is not that of the pixels."""
    size = -(-pixels // 8)
    bits = np.frombuffer(zlib.decompress(packed), np.uint8) if len(packed) else np.zeros(size, np.uint8)
    if len(bits) != size:
        raise ValueError(f"a mask of {len(bits)} bytes, expected {size}")
    return bits


def unpack_mask(bits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Unpack bits to (height, width) uint8 of 0 and 255."""
    return np.unpackbits(bits, count=height * width).reshape(height, width) * np.uint8(255)


def boxes_mask(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (height, width) bool: the pixels in any of the boxes (P, 4) x, y, width, height."""
    mask = np.zeros((height, width), bool)
    for x, y, w, h in boxes.tolist():
        mask[max(round(y), 0) : max(round(y + h), 0), max(round(x), 0) : max(round(x + w), 0)] = True
    return mask


def _checksum(attributes: Mapping, arrays: dict[str, np.ndarray]) -> int:
    """Return the CRC-32 of the names of the keypoints, of `outlines`, and of the small arrays."""
    kinds = [(name, values.dtype.str, values.shape) for name, values in sorted(arrays.items())]
    checksum = zlib.crc32(repr((list(attributes["keypoints"]), bool(attributes["outlines"]), kinds)).encode())
    for _, values in sorted(arrays.items()):
        checksum = zlib.crc32(np.ascontiguousarray(values), checksum)
    return checksum
