"""The files of a demo: their names, and the keypoints in one or several formats."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePath
from typing import Any

from config import Skeleton
from config.files import write_json, write_text
from data.images import WRITABLE_SUFFIXES
from utils.demo.inputs import Source
from utils.output_formats import PoseTrackFrame, image_ids, posetrack_image_name, to_csv, to_mot, to_openpose, to_yolo
from utils.predictions import PosePredictions

OPENPOSE = {"openpose": "COCO_18", "openpose25": "BODY_25"}
FORMATS = ("json", "coco", "csv", "mot", "yolo", *OPENPOSE)


@dataclass(frozen=True)
class FrameResult:
    """The people of an image or a frame."""

    name: str | int  # an image's path below its source's folder, or the number of a video's frame
    size: tuple[int, int]  # height, width in pixels
    people: PosePredictions
    time: float | None = None  # of a video's frame, in seconds since the first one

    def to_json(self) -> dict[str, Any]:
        """Return the image's name and size beside `PosePredictions.to_json`, and a frame's time."""
        time = {} if self.time is None else {"time": round(self.time, 3)}
        return {"image": self.name, **time, "width": self.size[1], "height": self.size[0], **self.people.to_json()}


class OutputNames:
    """Names the files of a run in a folder, none twice. reserved: files that the user has named."""

    def __init__(self, folder: Path, reserved: Sequence[Path] = ()):
        self.folder, here = folder, folder.resolve()
        self._used = {folder / path.resolve().relative_to(here) for path in reserved if path.resolve().is_relative_to(here)}

    def unique(self, *names: str) -> Path:
        """Return the path of the first name that is not used yet; else of the last one with a number."""
        *_, last = paths = [self.folder / name for name in names]
        numbered = (last.with_stem(f"{last.stem}_{number}") for number in count(2))
        path = next(path for path in chain(paths, numbered) if path not in self._used)
        self._used.add(path)
        return path


class ResultWriter:
    """Writes the people of one source: `add` the files of an image or frame, `finish` those of all of them.

    kinds: of the images or videos that are drawn. `paths`: of all files whose names are known beforehand, by the image's name, None for
    files of the whole source, and by kind or format.
    """

    def __init__(self, names: OutputNames, source: Source, skeleton: Skeleton, formats: Sequence[str], kinds: Sequence[str] = ()):
        self.source, self.skeleton, self.formats = source, skeleton, [name for name in FORMATS if name in formats]
        self.results: list[FrameResult] = []
        self._names, self._ids, self._coco = names, dict(zip(source.names, image_ids(source.names))), list[dict]()
        stems = Counter(map(_stem, source.names))
        wanted: dict[tuple[str | int | None, str], list[str]] = {
            (None, kind): [f"{source.stem}{kind}.mp4"] for kind in kinds if source.is_video
        }
        for kind in kinds:  # an image's own name is not another one's
            wanted |= {(n, kind): [image_name(n, kind)] for n in sorted(source.names, key=lambda n: image_name(n, kind) != n)}
        for name in source.names:
            stem = _stem(name) if stems[_stem(name)] == 1 else name
            wanted |= {(name, layout): openpose_names(stem, layout) for layout in OPENPOSE if layout in formats}
            wanted |= {(name, "json"): [f"{name}.json"]} if "json" in formats else {}
            wanted |= {(name, "yolo"): [f"{stem}.txt"]} if "yolo" in formats else {}
        summaries = ("json", "coco.json", "csv", "mot.txt") if source.is_video else ("coco.json", "csv", "mot.txt")
        wanted |= {(None, ending): [f"{source.stem}.{ending}"] for ending in summaries if ending.partition(".")[0] in formats}
        self.paths = {key: names.unique(*candidates) for key, candidates in wanted.items()}

    def add(self, everyone: FrameResult, shown: FrameResult) -> None:
        """Write the files of an image or frame. COCO's have everyone, for evaluation; the others have those who are shown."""
        name = everyone.name
        self.results.append(shown)
        if "coco" in self.formats:
            image = {} if self.source.is_video else {"file_name": name}  # an image's id may be a mere position
            self._coco += [person | image for person in everyone.people.to_coco(self._ids.get(name, name))]
        if (name, "json") in self.paths:
            write_json(self.paths[name, "json"], shown.to_json(), sync=False)
        for layout in (layout for layout in OPENPOSE if layout in self.formats):
            path = self.paths.get((name, layout)) or self._names.unique(*openpose_names(self.source.stem, layout, f"_{name:012d}"))
            write_json(path, to_openpose(shown.people, OPENPOSE[layout]), sync=False)
        if "yolo" in self.formats:
            path = self.paths.get((name, "yolo")) or self._names.unique(f"{self.source.stem}_{name:012d}.txt")
            write_text(path, to_yolo(shown.people, shown.size), sync=False)

    def finish(self) -> None:
        if (None, "json") in self.paths:
            write_json(self.paths[None, "json"], [result.to_json() for result in self.results])
        if "coco" in self.formats:
            write_json(self.paths[None, "coco.json"], self._coco)
        if "csv" in self.formats:
            write_text(self.paths[None, "csv"], to_csv(((result.name, result.people) for result in self.results), self.skeleton))
        if "mot" in self.formats:
            numbers = {name: number for number, name in enumerate(self.source.names)}
            write_text(self.paths[None, "mot.txt"], to_mot((1 + numbers.get(r.name, r.name), r.people) for r in self.results))


def openpose_names(stem: str, layout: str, number: str = "") -> list[str]:
    """Return OpenPose's own name of a file, and one with the layout, where both layouts are written."""
    return [f"{stem}{number}_keypoints.json", f"{stem}.{layout}{number}_keypoints.json"]


def _stem(name: str) -> str:
    return PurePath(name).with_suffix("").as_posix()


def image_name(name: str, kind: str) -> str:
    """Return the name of an output: photo.jpg, and with a kind photo.maps.jpg. Other formats become PNG: photo.heic.png."""
    suffix = PurePath(name).suffix
    if suffix.lower() in WRITABLE_SUFFIXES:
        return f"{name[: -len(suffix)]}{kind}{suffix}"
    return f"{name}{kind}.png"


def posetrack_frames(source: Source, results: Sequence[FrameResult]) -> Iterator[PoseTrackFrame]:
    """Yield what `to_posetrack` takes, for a video, a folder of its frames or one image."""
    for result in results:
        name = f"{result.name:06d}.jpg" if isinstance(result.name, int) else result.name
        yield posetrack_image_name(source.folder / name), result.people
