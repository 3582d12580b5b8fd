"""Build the training HDF5 from annotations of any format in data/formats, and their images.

    python data/coco_masks_hdf5.py --annotations A.json [B.json ...] --images DIR|ZIP [...] --output F.h5

data/hdf5.py describes the file.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in data/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

import cv2
import h5py
import numpy as np
import yaml
from torch.utils.data import Dataset

from config import Skeleton, UserError
from config.errors import check_minimum, run_cli
from config.files import CheckedFile, atomic_write, check_outputs, file_lock, output_folder, write_text
from config.load import known_skeletons, load_skeleton
from config.progress import Progress
from config.signals import StopSignal, leave_signals_to_parent
from config.skeleton import OCCLUDED, UNLABELED, VISIBLE
from data.formats import FORMATS, NAMES_HELP, SPLIT_HELP, AnnotatedPeople, load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import AnnotationFile, Split, check_size, listed_size
from data.formats.segmentation import has_segmentation, mask_to_rle, rle_to_mask, segmentation_to_rle
from data.hdf5 import ImagePeople, TrainingHDF5Writer, boxes_mask, pack_mask
from data.image_source import ImageEntry, ImageSource, find_images
from data.images import check_image, decode_image, encode_image
from data.workers import WorkerLoader

GRACE = 5  # seconds in which a worker awaits its end after a SIGTERM
SHOWN = 10  # problems of one kind that are printed
TRAINING_V = np.array([UNLABELED, OCCLUDED, VISIBLE])  # of COCO's v 0 unlabeled, 1 occluded, 2 visible


@dataclass
class BuildReport:
    """The result of a build. skipped: the reason, for each skipped image; boxed: the reason, for each person masked by the box.

    without_people: images that no annotation is of, which come last in the file.
    """

    fixes: AnnotationFixes
    skeleton: Skeleton
    images: int = 0
    people: int = 0  # with keypoints
    without_people: int = 0
    skipped: list[str] = field(default_factory=list)
    boxed: list[str] = field(default_factory=list)


class ImageTask(NamedTuple):
    """An image, with or without people."""

    file: Path  # the annotation file
    image: dict  # its entry in the file, with an id of its own in the training HDF5
    annotations: list[dict]  # its people, see `AnnotatedPeople`
    entry: ImageEntry


class ImageContent(NamedTuple):
    """What a worker reads of an image. problems: the people whose segmentations cannot be decoded."""

    size: tuple[int, int]  # height, width
    parts: list[np.ndarray]  # of bytes: the image's file, then its packed masks, if the data set has any
    people: ImagePeople
    problems: list[str]


@dataclass(frozen=True)
class ImageContents(Dataset):
    """The content of a task's image, or the error that makes it unusable.

    masks: images have masks; box_masks: people without segmentation are masked by their boxes; num_keypoints: of a person; max_side: images
    with a longer side are reduced to it, with their people and masks.
    """

    masks: bool
    box_masks: bool
    num_keypoints: int
    max_side: int | None = None

    def __getitem__(self, task: ImageTask) -> ImageContent | UserError:
        path, people = task.entry.path, image_people(task.annotations, self.num_keypoints)
        try:
            data = task.entry.read()
            height, width = check_image(data, path)
            check_size(path, height, width, listed_size(task.image))
        except UserError as error:
            return error
        positions = people.joints[..., :2]
        inside = people.labeled & ((positions >= 0) & (positions <= (width, height))).all(2)
        outside = people.labeled.any(1) & ~inside.any(1) & ~people.crowd
        if outside.any():
            number = task.annotations[outside.argmax()]["file_id"]
            return UserError(f"image {path}: is {width} x {height}, and no keypoint of annotation {number} lies in it")
        masks, problems = self.people_masks(task, people, height, width) if self.masks else ([], [])
        size = height, width
        if self.max_side is not None and max(size) > self.max_side:
            size = tuple(max(1, round(side * self.max_side / max(height, width))) for side in size)
            image = cv2.resize(decode_image(data, path), size[::-1], interpolation=cv2.INTER_AREA)
            data = encode_image(Path("reduced.jpg"), image)
            masks = [cv2.resize(mask * np.uint8(255), size[::-1], interpolation=cv2.INTER_AREA) > 127 for mask in masks]
            people = scaled_people(people, np.array([size[1] / width, size[0] / height], np.float32))
        return ImageContent(size, [np.frombuffer(data, np.uint8), *map(pack_mask, masks)], people, problems)

    def people_masks(self, task: ImageTask, people: ImagePeople, height: int, width: int) -> tuple[list[np.ndarray], list[str]]:
        """Return the masks of all people, of people without keypoints and of crowd regions, and the undecodable segmentations.

        The box masks people whose segmentation is missing or undecodable; without box_masks they have no mask.
        """
        everyone, unlabeled, crowds, problems = list[np.ndarray](), [], list[np.ndarray](), []
        for annotation, labeled, box, crowd in zip(task.annotations, people.labeled.any(1), people.box, people.crowd):
            masks = []
            if has_segmentation(annotation):
                try:
                    masks = segmentation_to_rle(annotation["segmentation"], height, width)
                except UserError as error:
                    problems.append(f"annotation file {task.file}: annotation {annotation['file_id']}: {error}")
            if not masks and self.box_masks:
                masks = [mask_to_rle(boxes_mask(box[None], height, width))]
            (crowds if crowd else everyone).extend(masks)
            unlabeled += masks if not (crowd or labeled) else []
        return [rle_to_mask(masks, height, width) for masks in (everyone, unlabeled, crowds)], problems


def build_hdf5(
    annotations: Path | Sequence[Path],
    images: Path | Sequence[Path],
    output: Path,
    skeleton: Skeleton | None,
    workers: int = 2,
    strict: bool = False,
    box_masks: bool = True,
    names_from_skeleton: bool = False,
    split: Split | None = None,
    max_side: int | None = None,
) -> BuildReport:
    """Write the training HDF5, whole or not at all.

    annotations: one file or more; images: folders or zip files, one of each annotation file or some for all, or none where the files name
    them. skeleton: None is that of the first file, see `load_annotations`. strict: the first missing or undecodable image, undecodable
    segmentation, or entry to be fixed is an error. box_masks: mask people without segmentation by their boxes. names_from_skeleton, split:
    see `load_annotations`. max_side: reduce images with a longer side to it, pixels.
    """
    files, containers = ([Path(paths)] if isinstance(paths, (str, Path)) else [*map(Path, paths)] for paths in (annotations, images))
    if len(files) > 1 and len(containers) not in (0, 1, len(files)):
        raise UserError(f"--images: {len(containers)} for {len(files)} annotation files; expected one for all, or one for each")
    fixes, tasks, keypoints, used_ids = AnnotationFixes(strict), [], None, set[int]()
    for number, file in enumerate(files):
        own = [containers[number]] if 1 < len(files) == len(containers) else containers
        annotated = load_annotations(file, skeleton, own, split, fixes, names_from_skeleton)
        skeleton = annotated.skeleton
        tasks += image_tasks(annotated, file, fixes, used_ids)
        if keypoints not in (None, annotated.names):
            raise UserError(f"annotation file {file}: labels other keypoints than {files[0]}; build a training HDF5 of each")
        keypoints = annotated.names
    report = BuildReport(fixes, skeleton)
    tasks.sort(key=lambda task: not task.annotations)
    check_outputs([output], (task.entry.path for task in tasks))
    _check_space(sum(max(task.entry.size, 0) for task in tasks), output)

    segmented = [bool(one.get("iscrowd")) for task in tasks for one in task.annotations if has_segmentation(one)]
    contents = ImageContents(bool(segmented) or not box_masks, box_masks, len(keypoints), max_side)
    with (
        StopSignal() as stop,  # an interrupt within HDF5 can be lost, or end in a crash
        file_lock(output),
        atomic_write(output) as partial,
        CheckedFile(partial) as checked,
        h5py.File(checked, "w") as file,
        Progress(len(tasks), "images", "image") as progress,
    ):
        writer = TrainingHDF5Writer(file, keypoints, not all(segmented), max_side)
        for task, content in zip(tasks, in_workers(contents, tasks, workers, stop)):
            usable = isinstance(content, ImageContent)
            problems = content.problems if usable else [str(content)]
            if problems and strict:
                raise UserError(f"{problems[0]} (--strict; nothing was written)")
            if usable:
                writer.add(task.image["id"], content.size, content.parts, content.people)
                checked.check()
                report.images += bool(task.annotations)
                report.without_people += not task.annotations
                report.people += int((content.people.labeled.any(1) & ~content.people.crowd).sum())
                report.boxed += problems
            else:
                report.skipped += problems
            progress.advance(note=f"{report.people} people" + (f", {len(report.skipped)} images failed" if report.skipped else ""))
        if not report.people:
            raise UserError(f"annotation file {files[0]}: no image with keypoints can be used: {report.skipped[0]}")
        writer.finish()
    return report


def in_workers(contents: Dataset, tasks: Sequence[ImageTask], workers: int, stop: StopSignal) -> Iterator[ImageContent | UserError]:
    """Yield the contents of the tasks in order until an interrupt, read by `workers` processes. The sampler sends them tasks."""
    loader = WorkerLoader(
        contents,
        sampler=tasks,
        batch_size=None,
        collate_fn=identity,
        num_workers=workers if workers > 1 else 0,
        worker_init_fn=start_worker,
    )
    try:
        for content in loader:
            stop.check()
            yield content
    except RuntimeError as error:
        stop.check()  # a SIGTERM of all processes ends a worker that has just begun
        if "DataLoader worker (pid" not in str(error):
            raise
        raise UserError("a process was killed, perhaps for lack of memory; try fewer --workers") from error


def identity(content: ImageContent | UserError) -> ImageContent | UserError:
    """Return a content unchanged; PyTorch's default would convert its arrays to tensors."""
    return content


def start_worker(_: int) -> None:
    """Leave signals to the first process, which ends its workers, and use one OpenCV thread in each."""
    leave_signals_to_parent(GRACE)
    cv2.setNumThreads(0)  # not 1: OpenCV may then wait for threads of the parent, which a fork lacks


def image_tasks(annotated: AnnotatedPeople, path: Path, fixes: AnnotationFixes, used_ids: set[int]) -> list[ImageTask]:
    """Return an annotation file's images. Raise UserError where no person has a keypoint, or no image is there.

    used_ids: the image ids of earlier files. This file's ids are raised above them if any is used already, and added.
    """
    if not annotated.containers:
        raise UserError("--images: missing; add the folder of the images")
    coco, people_of = annotated.coco, annotated.coco.imgToAnns
    # PoseTrack's frames without annotations are not images without people
    images = [image for image_id, image in sorted(coco.imgs.items()) if image_id in people_of or image.get("is_labeled", True)]
    if not any(person["keypoints"][2::3].any() and not person["iscrowd"] for person in coco.dataset["annotations"]):
        raise UserError(f"annotation file {path}: no person has a keypoint of skeleton {annotated.skeleton.name!r}")
    files = find_images(images, path, ImageSource(annotated.containers), fixes)
    offset = 0
    if not used_ids.isdisjoint(coco.imgs):
        offset = 10 ** len(str(max(used_ids) - min(0, *coco.imgs)))
        print(f"annotation file {path}: its image ids are raised by {offset}, since earlier files use them", file=sys.stderr)
    used_ids.update(image_id + offset for image_id in coco.imgs)
    return [ImageTask(path, {**i, "id": i["id"] + offset}, people_of.get(i["id"], []), file) for i, file in zip(images, files)]


def image_people(people: list[dict], num_keypoints: int) -> ImagePeople:
    """Convert an image's people, see `AnnotatedPeople`."""
    joints = np.array([person["keypoints"] for person in people], np.float32).reshape(-1, num_keypoints, 3)
    joints[..., 2] = TRAINING_V[joints[..., 2].astype(int)]
    tracks = [person.get("track_id") for person in people]
    return ImagePeople(
        joints,
        np.array([person["bbox"] for person in people], np.float32).reshape(-1, 4),
        np.array([person["area"] for person in people], np.float32),
        np.array([track if type(track) is int else -1 for track in tracks], np.int64),
        np.array([person["iscrowd"] for person in people], bool),
    )


def scaled_people(people: ImagePeople, factors: np.ndarray) -> ImagePeople:
    """Scale people with their image. factors (2,): of x and y."""
    joints = people.joints.copy()
    joints[people.labeled, :2] = (joints[people.labeled, :2] + 0.5) * factors - 0.5  # (0, 0) is the center of a pixel
    return people._replace(joints=joints, box=people.box * np.tile(factors, 2), area=people.area * factors.prod())


def _check_space(needed: int, output: Path) -> None:
    """Raise UserError if the disk has fewer bytes left: HDF5 can crash the process if it cannot write."""
    free = shutil.disk_usage(output_folder(output.parent)).free
    if free < needed:
        raise UserError(f"training file {output}: needs about {needed / 2**20:.0f} MiB, the disk has {free / 2**20:.0f} MiB left")


def _print_some(problems: list[str], what: str) -> None:
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        print(f"{len(problems)} {what}:", *problems[:SHOWN], *more, sep="\n  ", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    formats = "person_keypoints_*.json, CrowdPose's, MPII's lists or .mat, PoseTrack18's, a YOLO data.yaml, or your own in COCO's format"
    parser.add_argument("--annotations", type=Path, nargs="+", required=True, help=formats)
    images = "folders or zip files: one for each annotation file, or some for all; data.yaml says where they are"
    parser.add_argument("--images", type=Path, nargs="+", default=[], help=images)
    parser.add_argument("--split", choices=get_args(Split), help=f"{SPLIT_HELP}; default: train")
    parser.add_argument("--output", type=Path, required=True, help="the HDF5 file to write")
    skeleton_help = "name in config/skeletons, or path of a YAML file; default: coco, or what fits a data.yaml, else one is written"
    parser.add_argument("--skeleton", help=skeleton_help)
    side_help = "reduce larger images, with their people, to this many pixels; the file is smaller and read faster"
    parser.add_argument("--max-side", type=int, metavar="N", help=side_help)
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 16), help="processes")
    parser.add_argument("--strict", action="store_true", help="stop at the first unusable image, segmentation or entry")
    parser.add_argument("--no-box-masks", action="store_true", help="do not mask people without segmentation by their boxes")
    parser.add_argument("--names-from-skeleton", action="store_true", help=NAMES_HELP)
    options = parser.parse_args()
    check_minimum(1, max_side=options.max_side)
    check_outputs([options.output], [*options.annotations, *options.images, options.skeleton])
    own_skeleton = options.skeleton is None and FORMATS["yolo_pose"].matches(AnnotationFile(options.annotations[0]))
    skeleton = None if own_skeleton else load_skeleton(options.skeleton or "coco")
    cv2.setNumThreads(1)  # before there are workers: OpenCV's threads do not survive a fork
    given = options.annotations, options.images, options.output, skeleton, options.workers, options.strict, not options.no_box_masks
    report = build_hdf5(*given, options.names_from_skeleton, options.split, options.max_side)
    _print_some(report.skipped, "images were skipped")
    masked = "not masked" if options.no_box_masks else "masked by their boxes"
    _print_some(report.boxed, f"people are {masked}, since their segmentations cannot be decoded")
    report.fixes.report()
    rest = f", {report.without_people} images without people" if report.without_people else ""
    print(f"{options.output}: {report.people} people in {report.images} images{rest}, {options.output.stat().st_size / 2**20:.1f} MiB")
    if report.skeleton not in known_skeletons() and own_skeleton:
        write_skeleton(report.skeleton, options.output.with_suffix(".skeleton.yaml"))


def write_skeleton(skeleton: Skeleton, path: Path) -> None:
    """Write a skeleton as a YAML file, unless there is one: it may have been edited."""
    kept = path.exists()
    if not kept:
        values = skeleton.model_dump(mode="json", exclude_defaults=True)
        write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=140))
    state = "was there, and is kept" if kept else "the skeleton of these keypoints; check its limbs and sigmas"
    print(f"{path}: {state}; train with skeleton={path}")


if __name__ == "__main__":
    run_cli(main)
