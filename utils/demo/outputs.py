"""What a demo writes: pictures or a video with people drawn in, and the people in one format or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from config import Skeleton
from config.files import write_json, write_text
from data.images import IMAGE_SUFFIXES, write_image
from utils.demo.inputs import Frames, Source
from utils.output_formats import (
    PoseTrackFrame,
    coco_results,
    csv_header,
    csv_rows,
    csv_text,
    image_ids,
    openpose_json,
    posetrack_image_name,
    rounded,
)
from utils.visualize.video import video_writer

OPENPOSE = {"openpose": "COCO_18", "openpose25": "BODY_25"}
FORMATS = ("json", "coco", "csv", *OPENPOSE)
NOT_WRITTEN = {".gif", ".apng", ".jfif"}  # pictures of other formats get the ending .png behind their own


@dataclass(frozen=True)
class Found:
    """A picture's or a frame's people."""

    name: str | int  # of the picture, below the source's folder, or the frame's number
    size: tuple[int, int]  # height, width in pixels
    keypoints: np.ndarray  # (P, K, 3) x, y, score in pixels, 0 0 0 where missing
    scores: np.ndarray  # (P,)
    ids: np.ndarray | None  # (P,) who they are in the video; -1: nobody knows


class Output:
    """What is made of one source, in a folder. A context: a video is there at its end, whole, or not at all. `finish`, afterwards, writes
    what belongs to all pictures or frames together."""

    def __init__(self, folder: Path, source: Source, skeleton: Skeleton, formats: Sequence[str], maps: bool):
        self.folder, self.source, self.skeleton, self.formats = folder, source, skeleton, formats
        self.found: list[Found] = []
        self._moving = isinstance(source, Frames)
        self._kinds = ("", ".maps") if maps else ("",)
        self._videos: list[Callable[[np.ndarray], None]] = []
        names = [] if self._moving else source.names
        self._twice = {stem for stem, count in Counter(map(_stem, names)).items() if count > 1}
        self._ids = dict(zip(names, image_ids(names)))
        self._stack = ExitStack()

    def __enter__(self) -> Output:
        if self._moving:
            for kind in self._kinds:
                target = self.folder / f"{self.source.stem}{kind}.mp4"
                self._videos.append(self._stack.enter_context(video_writer(target, self.source.reader.rate)))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.__exit__(kind, *rest)

    def add(self, found: Found, pictures: Sequence[np.ndarray]) -> None:
        """pictures: with people drawn in and, if wanted, with the network's maps; each (H, W, 3) uint8 BGR."""
        for number, (kind, picture) in enumerate(zip(self._kinds, pictures)):
            if self._moving:
                self._videos[number](picture)
            else:
                write_image(self.folder / self._picture_name(found.name, kind), picture)
        if not self._moving:
            self._write_people(found)
        self.found.append(found)

    def finish(self) -> None:
        """Write the files of all pictures or frames together."""
        stem = self.folder / self.source.stem
        if self._moving:
            for found in self.found:
                self._write_people(found)
            if "json" in self.formats:
                write_json(stem.with_name(f"{stem.name}.json"), [as_json(found, self.skeleton) for found in self.found])
        if "coco" in self.formats:
            write_json(stem.with_name(f"{stem.name}.coco.json"), list(self._coco_results()))
        if "csv" in self.formats:
            rows = [row for f in self.found for row in csv_rows(f.name, f.keypoints, f.scores, f.ids)]
            write_text(stem.with_name(f"{stem.name}.csv"), csv_text([csv_header(self.skeleton), *rows]))

    def said(self) -> str:
        """What was written, and where."""
        if self._moving:
            return f"{len(self.found)} frames: {self.folder / self.source.stem}.mp4"
        return f"{len(self.found)} pictures and their keypoints: {self.folder}"

    def _picture_name(self, name: str, kind: str) -> str:
        """photo.jpg, photo.maps.jpg."""
        suffix = PurePath(name).suffix
        if suffix.lower() in IMAGE_SUFFIXES - NOT_WRITTEN:
            return f"{name[: -len(suffix)]}{kind}{suffix}"
        return f"{name}{kind}.png"

    def _people_name(self, name: str | int) -> str:
        """What OpenPose calls its file of a picture or frame."""
        if isinstance(name, int):
            return f"{self.source.stem}_{name:012d}_keypoints.json"
        return f"{name if _stem(name) in self._twice else _stem(name)}_keypoints.json"

    def _write_people(self, found: Found) -> None:
        """The files that each picture or frame has of its own."""
        if "json" in self.formats and not self._moving:
            write_json(self.folder / f"{found.name}.json", as_json(found, self.skeleton), sync=False)
        for layout in (OPENPOSE[name] for name in self.formats if name in OPENPOSE):
            path = self.folder / self._people_name(found.name)
            write_json(path, openpose_json(found.keypoints, self.skeleton, layout, found.ids), sync=False)

    def _coco_results(self) -> Iterator[dict[str, Any]]:
        """With the files' names, since ids may be no more than places."""
        for found in self.found:
            for result in coco_results(self._ids.get(found.name, found.name), found.keypoints, found.scores, self.skeleton):
                yield result if self._moving else {**result, "file_name": found.name}


def _stem(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix()


def as_json(found: Found, skeleton: Skeleton) -> dict[str, Any]:
    """One picture's or frame's people; keypoints are x, y in pixels and a score, 0 0 0 where missing; id -1: nobody knows who."""
    people = [{"score": round(float(s), 4), "keypoints": k.tolist()} for k, s in zip(rounded(found.keypoints), found.scores)]
    if found.ids is not None:
        people = [{"id": int(number), **person} for number, person in zip(found.ids, people)]
    height, width = found.size
    return {"image": found.name, "width": width, "height": height, "keypoints": list(skeleton.keypoints), "people": people}


def posetrack_frames(source: Source, everybody: Sequence[Found]) -> Iterator[PoseTrackFrame]:
    """What `to_posetrack` takes, of a video, a folder of its frames or one picture."""
    for found in everybody:
        name = f"{found.name:06d}.jpg" if isinstance(found.name, int) else found.name
        yield posetrack_image_name(source.folder / name), found.keypoints, found.ids
