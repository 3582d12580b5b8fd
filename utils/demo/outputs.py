"""Write the keypoints of a demo in one or several formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from config import Skeleton
from config.files import write_json, write_text
from data.images import IMAGE_SUFFIXES
from utils.demo.inputs import Source
from utils.output_formats import PoseTrackFrame, image_ids, posetrack_image_name, round_keypoints, to_coco, to_csv, to_openpose

OPENPOSE = {"openpose": "COCO_18", "openpose25": "BODY_25"}
FORMATS = ("json", "coco", "csv", *OPENPOSE)
NOT_WRITTEN = {".gif", ".apng", ".jfif"}  # an image of such a format is written as PNG, with .png behind its name


@dataclass(frozen=True)
class FrameResult:
    """The people of an image or a frame."""

    name: str | int  # an image's path below its source's folder, or the number of a video's frame
    size: tuple[int, int]  # height, width in pixels
    keypoints: np.ndarray  # (P, K, 3) x, y, score in pixels, 0 0 0 where missing
    scores: np.ndarray  # (P,)
    ids: np.ndarray | None  # (P,) identities in the video; -1: none


class ResultWriter:
    """Writes the people of one source into a folder: `add` the files of an image or frame, `finish` those of all of them."""

    def __init__(self, folder: Path, source: Source, skeleton: Skeleton, formats: Sequence[str]):
        self.folder, self.source, self.skeleton, self.formats = folder, source, skeleton, formats
        self.results: list[FrameResult] = []
        self._stems = Counter(map(_stem, source.names))

    def add(self, result: FrameResult) -> None:
        self.results.append(result)
        if self.source.is_video:
            stem = f"{self.source.stem}_{result.name:012d}"
        else:
            stem = _stem(result.name) if self._stems[_stem(result.name)] == 1 else result.name
            if "json" in self.formats:
                write_json(self.folder / f"{result.name}.json", to_json(result, self.skeleton), sync=False)
        for layout in (OPENPOSE[name] for name in self.formats if name in OPENPOSE):
            people = to_openpose(result.keypoints, self.skeleton, layout, result.ids)
            write_json(self.folder / f"{stem}_keypoints.json", people, sync=False)

    def finish(self) -> None:
        path = self.folder / self.source.stem
        if "json" in self.formats and self.source.is_video:
            write_json(f"{path}.json", [to_json(result, self.skeleton) for result in self.results])
        if "coco" in self.formats:
            ids, people = dict(zip(self.source.names, image_ids(self.source.names))), []
            for result in self.results:
                image = {} if self.source.is_video else {"file_name": result.name}  # an image's id may be a mere position
                of_image = to_coco(ids.get(result.name, result.name), result.keypoints, result.scores, self.skeleton)
                people += [person | image for person in of_image]
            write_json(f"{path}.coco.json", people)
        if "csv" in self.formats:
            rows = [(result.name, result.keypoints, result.scores, result.ids) for result in self.results]
            write_text(f"{path}.csv", to_csv(rows, self.skeleton))


def _stem(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix()


def image_name(name: str, kind: str) -> str:
    """Return the name of an output: photo.jpg, and with a kind photo.maps.jpg."""
    suffix = PurePath(name).suffix
    if suffix.lower() in IMAGE_SUFFIXES - NOT_WRITTEN:
        return f"{name[: -len(suffix)]}{kind}{suffix}"
    return f"{name}{kind}.png"


def to_json(result: FrameResult, skeleton: Skeleton) -> dict[str, Any]:
    """Return one image's or frame's people; keypoints are x, y in pixels and a score, 0 0 0 where missing; id -1: no identity."""
    people = [{"score": round(float(s), 4), "keypoints": k.tolist()} for k, s in zip(round_keypoints(result.keypoints), result.scores)]
    if result.ids is not None:
        people = [{"id": int(identity), **person} for identity, person in zip(result.ids, people)]
    height, width = result.size
    return {"image": result.name, "width": width, "height": height, "keypoints": list(skeleton.keypoints), "people": people}


def posetrack_frames(source: Source, results: Sequence[FrameResult]) -> Iterator[PoseTrackFrame]:
    """Yield what `to_posetrack` takes, for a video, a folder of its frames or one image."""
    for result in results:
        name = f"{result.name:06d}.jpg" if isinstance(result.name, int) else result.name
        yield posetrack_image_name(source.folder / name), result.keypoints, result.ids
