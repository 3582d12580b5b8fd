"""Write the results of a demo: images or a video with the people drawn, and their keypoints in one or several formats."""

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
from utils.demo.inputs import Source, VideoSource
from utils.output_formats import PoseTrackFrame, image_ids, posetrack_image_name, round_keypoints, to_coco, to_csv, to_openpose
from utils.visualize.video import video_writer

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
    """Writes the outputs of one source into a folder. At the end of the context a video appears whole, or not at all after an error.

    Call `finish` afterwards for the files that cover all images or frames.
    """

    def __init__(self, folder: Path, source: Source, skeleton: Skeleton, formats: Sequence[str], maps: bool):
        self.folder, self.source, self.skeleton, self.formats = folder, source, skeleton, formats
        self.results: list[FrameResult] = []
        self._is_video = isinstance(source, VideoSource)
        self._kinds = ("", ".maps") if maps else ("",)
        self._videos: list[Callable[[np.ndarray], None]] = []
        names = [] if self._is_video else source.names
        self._image_ids = dict(zip(names, image_ids(names)))
        self._shared_stems = {stem for stem, count in Counter(map(_stem, names)).items() if count > 1}
        self._stack = ExitStack()

    def __enter__(self) -> ResultWriter:
        if self._is_video:
            writers = (video_writer(self._path(f"{kind}.mp4"), self.source.reader.rate) for kind in self._kinds)
            self._videos = [self._stack.enter_context(writer) for writer in writers]
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def add(self, result: FrameResult, images: Sequence[np.ndarray]) -> None:
        """Add a result. images: with the people drawn and, with `maps`, with heatmaps; each (H, W, 3) uint8 BGR."""
        if self._is_video:
            for write, image in zip(self._videos, images):
                write(image)
        else:
            for kind, image in zip(self._kinds, images):
                write_image(self.folder / _image_name(result.name, kind), image)
            self._write_own_files(result)
        self.results.append(result)

    def finish(self) -> None:
        """Write the files that cover all images or frames."""
        if self._is_video:
            for result in self.results:
                self._write_own_files(result)
            if "json" in self.formats:
                write_json(self._path(".json"), [to_json(result, self.skeleton) for result in self.results])
        if "coco" in self.formats:
            write_json(self._path(".coco.json"), [person for result in self.results for person in self._coco_results(result)])
        if "csv" in self.formats:
            rows = [(result.name, result.keypoints, result.scores, result.ids) for result in self.results]
            write_text(self._path(".csv"), to_csv(rows, self.skeleton))

    def summary(self) -> str:
        """Return a line with the number of outputs and their path."""
        if self._is_video:
            return f"{len(self.results)} frames: {self._path('.mp4')}"
        return f"{len(self.results)} images and their keypoints: {self.folder}"

    def _path(self, ending: str) -> Path:
        return self.folder / f"{self.source.stem}{ending}"

    def _write_own_files(self, result: FrameResult) -> None:
        """Write the files of a single image or frame."""
        name, stem = result.name, f"{self.source.stem}_{result.name:012d}" if self._is_video else _stem(result.name)
        if "json" in self.formats and not self._is_video:
            write_json(self.folder / f"{name}.json", to_json(result, self.skeleton), sync=False)
        for layout in (OPENPOSE[name] for name in self.formats if name in OPENPOSE):
            path = self.folder / f"{name if stem in self._shared_stems else stem}_keypoints.json"
            write_json(path, to_openpose(result.keypoints, self.skeleton, layout, result.ids), sync=False)

    def _coco_results(self, result: FrameResult) -> list[dict[str, Any]]:
        """Return one image's or frame's COCO results. Images add their names, since their ids may be mere positions."""
        people = to_coco(self._image_ids.get(result.name, result.name), result.keypoints, result.scores, self.skeleton)
        return people if self._is_video else [{**person, "file_name": result.name} for person in people]


def _stem(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix()


def _image_name(name: str, kind: str) -> str:
    """Return photo.jpg, photo.maps.jpg."""
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
