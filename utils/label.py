"""Label images with networks: write annotations in COCO's format, to train another network on.

python -m utils.label --checkpoint A.pth --images DIR --output annotations.json
python -m utils.label --checkpoint A.pth B.pth --images DIR --annotations own.json --output annotations.json

A is a bottom-up network. It takes each image at one or several scales; of predictions of one person the best remains (OKS NMS). B, a
top-down network, predicts these people and the annotated ones anew. Annotated keypoints and boxes stay as they are; annotated people get
the keypoints that they lack. Other people are added. Keypoints of a low score are unlabeled, and people of a middling score become crowd
regions, which the loss leaves out. With --agree, an annotated keypoint moves to the predicted one if the two are similar: annotations
correct the networks' gross errors, networks the inaccuracy of hasty annotations.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools.mask import iou

from config import Skeleton, UserError
from config.errors import check_minimum, run_cli
from config.files import check_outputs, output_folder, write_json
from config.load import first_names, with_overrides
from data.formats import AnnotatedPeople, load_annotations
from data.formats.cleanup import AnnotationFixes
from data.formats.coco import indexed, listed_size
from data.image_source import ImageEntry, ImageSource, present_images
from data.images import image_or_error
from utils.bundled_model import resolve_checkpoint
from utils.checkpoint import config_for
from utils.inference import PoseEstimator
from utils.oks import keypoint_similarity, pose_similarity
from utils.predictions import AREA_OF_BOX, PosePredictions, merge_passes
from utils.results_log import InputImage, ResultsLog, fingerprint, predict_images
from utils.systems import Decoder, build_decoder

MIN_KEYPOINTS = 3  # of a person who is labeled
VISIBLE = 2  # COCO's v
FOLDER = "folder"  # in place of an annotation file's format
KINDS = ("people", "crowd regions", "completed people", "their new keypoints")  # counted


@dataclass(frozen=True)
class Thresholds:
    """What becomes of a prediction. min_score, crowd_score: of people; keypoint_score: of keypoints; same: see `pose_similarity`.

    agree: similarity (OKS of the keypoint alone) from which an annotated keypoint moves to the predicted one; None: never.
    """

    min_score: float
    crowd_score: float
    keypoint_score: float
    same: float
    agree: float | None = None


class LabeledImage(NamedTuple):
    """The predicted people of an image, and its height and width."""

    people: PosePredictions
    size: tuple[int, int]


class Teacher:
    """The networks as one decoder: a bottom-up one at several scales, perhaps refined by a top-down one, or this one alone."""

    def __init__(self, estimators: Sequence[PoseEstimator], scales: Sequence[float], same: float):
        """scales: factors of data.input_size, rounded to sides that the network takes. same: see `Thresholds`."""
        *bottom_up, last = estimators
        self.refiner = last.decoder if last.needs_boxes else None
        self.passes = [decoder for e in (bottom_up if last.needs_boxes else estimators) for decoder in scaled_decoders(e, scales)]
        self.skeleton, self.device, self.same = last.config.skeleton, last.device, same

    def batch_key(self, image_size: tuple[int, int]) -> Hashable:
        return tuple(decoder.batch_key(image_size) for decoder in self.passes)

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[LabeledImage]:
        """Predict the people of each image (H, W, 3) uint8 BGR. boxes: of its annotated people (B, 5), for the top-down network."""
        found = [merge_passes(passes, self.same) for passes in zip(*(decoder(images) for decoder in self.passes))]
        if self.refiner is not None:
            predicted = [np.column_stack([people.boxes, people.scores]) for people in found] or [np.zeros((0, 5))] * len(images)
            refined = self.refiner(images, [np.concatenate(both) for both in zip(boxes, predicted)])
            # Its score is the box's times the keypoints' mean; the geometric mean is on the scale of one network's score
            found = [replace(people, scores=np.sqrt(people.scores.clip(min=0))) for people in refined]
        return [LabeledImage(people, image.shape[:2]) for people, image in zip(found, images)]


def scaled_decoders(estimator: PoseEstimator, scales: Iterable[float]) -> list[Decoder]:
    """Return a decoder of the estimator's network for each scale."""
    config, multiple = estimator.config, estimator.config.model.input_multiple
    sizes = {tuple(max(1, round(scale * side / multiple)) * multiple for side in config.data.input_size) for scale in scales}
    return [build_decoder(estimator.network, with_overrides(config, [f"data.input_size={list(size)}"])) for size in sorted(sizes)]


# Predictions


def label_image(image: LabeledImage, joints: np.ndarray, boxes: np.ndarray, areas: np.ndarray, thresholds: Thresholds) -> dict[str, Any]:
    """Return {"size", "filled": keypoints (A, 3 D) of the annotated people, "people": new people and crowd regions}.

    joints (A, D, 3) x, y, v of the annotated people, in the data set's order; boxes (A, 4); areas (A,) pixels squared.
    """
    people, (height, width) = image.people, image.size
    keypoints, given = people.skeleton.to_dataset(people.keypoints).astype(float), joints[..., 2].any(1)
    inside = ((keypoints[..., :2] >= 0) & (keypoints[..., :2] <= (width - 1, height - 1))).all(2)
    sure = inside & (keypoints[..., 2] >= thresholds.keypoint_score)
    labels = np.where(sure[..., None], np.concatenate([keypoints[..., :2].round(2), np.full((*sure.shape, 1), VISIBLE)], 2), 0)
    of_boxes = np.reshape(iou(people.boxes, boxes, np.zeros(len(boxes), np.uint8)), (len(people), len(boxes)))
    similar = np.where(given, pose_similarity(keypoints, joints, areas, people.skeleton.oks_sigmas), of_boxes)
    filled, taken, added = joints.copy(), np.zeros(len(joints), bool), []
    for row in np.argsort(-people.scores, kind="stable"):
        same = similar[row] > thresholds.same
        if same.any():  # the best prediction completes the annotated person, others are the same once more
            best = np.argmax(similar[row] * ~taken)
            if same[best] and not taken[best]:
                kept = joints[best, :, 2] > 0
                if thresholds.agree is not None:
                    alike = keypoint_similarity(keypoints[row], joints[best], areas[best], people.skeleton.oks_sigmas)
                    kept &= ~sure[row] | (alike < thresholds.agree)
                filled[best] = np.where(kept[:, None], joints[best], labels[row])
                taken[best] = True
        elif people.scores[row] >= thresholds.crowd_score:
            is_sure = people.scores[row] >= thresholds.min_score and sure[row].sum() >= MIN_KEYPOINTS
            low, high = people.boxes[row, :2], people.boxes[row, :2] + people.boxes[row, 2:]
            low, high = low.clip(0, (width, height)), high.clip(0, (width, height))
            shape = {"iscrowd": int(not is_sure), "bbox": np.concatenate([low, high - low]).round(2).tolist()}
            points = labels[row] if is_sure else np.zeros_like(labels[row])
            added.append({**shape, "keypoints": points.ravel().tolist(), "score": round(float(people.scores[row]), 4)})
    return {"size": [height, width], "filled": [of_person.ravel().tolist() for of_person in filled], "people": added}


# Annotations


def read_annotations(path: Path | None, containers: Sequence[Path], skeleton: Skeleton, limit: int | None) -> tuple[AnnotatedPeople, dict]:
    """Return the annotated people, or those of an empty file that lists all images of the folders, and the images that are there by id.

    Raises UserError where the file has keypoints that the skeleton lacks.
    """
    if path is None:
        entries = ImageSource(containers).images()[:limit]
        twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
        if twice or not entries:
            problem = f"{twice[0]} is in several of them; name the folder above" if twice else "hold no image"
            raise UserError(f"images {', '.join(map(str, containers))}: {problem}")
        images = [{"id": number, "file_id": number, "file_name": entry.name} for number, entry in enumerate(entries, start=1)]
        categories = [{"id": 1, "file_id": 1, "name": "person"}]
        content = {"images": images, "annotations": [], "categories": categories}
        order = {1: np.arange(len(skeleton.dataset))}
        return AnnotatedPeople(indexed(content), FOLDER, skeleton, order, 1), dict(enumerate(entries, start=1))
    fixes = AnnotationFixes()
    annotated = load_annotations(path, skeleton, containers, fixes=fixes)
    more = set(skeleton.own_names(annotated.coco.cats[annotated.category]["keypoints"])) - set(skeleton.dataset)
    if more:
        raise UserError(f"annotation file {path}: the networks lack its keypoints {first_names(sorted(more))}, which would be lost")
    files = present_images(annotated.coco.imgs, path, annotated.containers, fixes, limit)
    fixes.report()
    return annotated, files


def annotated_shapes(annotated: AnnotatedPeople, image_id: int) -> tuple[list[dict], np.ndarray, np.ndarray, np.ndarray]:
    """Return the annotated people of an image, their joints (A, D, 3), boxes (A, 4) and areas (A,); crowd regions are none."""
    people = [person for person in annotated.coco.imgToAnns[image_id] if not person["iscrowd"]]
    boxes = np.array([person["bbox"] for person in people], float).reshape(-1, 4)
    return people, annotated.joints(people), boxes, np.array([person["area"] for person in people], float)


def to_coco(annotated: AnnotatedPeople, results: dict[int, dict], drop_crowds: bool) -> tuple[dict[str, Any], Counter]:
    """Return the content of the labeled file, and counts for the summary. results: of `label_image`, by image id.

    drop_crowds: omit the annotated crowd regions of labeled images.
    """
    own, counts = {number: file_id for file_id, number in annotated.ids["image_id"].items()}, Counter[str]()
    category = annotated.coco.cats[annotated.category]
    people, filled = annotated.coco.dataset["annotations"], dict[int, np.ndarray]()
    for image_id, result in results.items():
        persons = annotated_shapes(annotated, image_id)[0]
        filled |= {person["id"]: np.reshape(keypoints, (-1, 3)) for person, keypoints in zip(persons, result["filled"])}
    annotations = []
    for person in people:
        if drop_crowds and person["iscrowd"] and person["image_id"] in results:
            continue
        before = annotated.joints([person])[0]
        joints = filled.get(person["id"], before)
        new = (joints[:, 2] > 0) & (before[:, 2] == 0)
        counts.update({"completed people": int(new.any()), "their new keypoints": int(new.sum())})
        annotations.append({**person, "id": person["file_id"], **_keypoints(joints), "bbox": _enclosing(person["bbox"], joints[new, :2])})
    first = 1 + max((person["id"] for person in annotations if type(person["id"]) is int), default=0)
    added = [(image_id, person) for image_id, result in sorted(results.items()) for person in result["people"]]
    for number, (image_id, person) in enumerate(added, start=first):
        counts["crowd regions" if person["iscrowd"] else "people"] += 1
        area, joints = round(AREA_OF_BOX * person["bbox"][2] * person["bbox"][3], 2), np.reshape(person["keypoints"], (-1, 3))
        annotations.append({"id": number, "image_id": image_id, **person, "area": area, **_keypoints(joints)})
    for person in annotations:
        person |= {"image_id": own[person["image_id"]], "category_id": category["file_id"]}
        person.pop("file_id", None)
    images = []
    for image in annotated.coco.dataset["images"]:
        if image["id"] not in results and annotated.format == FOLDER:  # cannot be read
            continue
        size = dict(zip(("height", "width"), results[image["id"]]["size"])) if image["id"] in results else {}
        images.append({**{key: value for key, value in image.items() if key != "file_id"}, **size, "id": image["file_id"]})
    named = {"id": category["file_id"], "name": category.get("name", "person"), "keypoints": list(annotated.skeleton.dataset)}
    return {"images": images, "annotations": annotations, "categories": [named]}, counts


def _keypoints(joints: np.ndarray) -> dict[str, Any]:
    return {"keypoints": joints.ravel().tolist(), "num_keypoints": int((joints[:, 2] > 0).sum())}


def _enclosing(box: Sequence[float], points: np.ndarray) -> list[float]:
    """Return a box x, y, width, height, enlarged to hold points (N, 2)."""
    if not len(points):
        return list(box)
    low = np.minimum(box[:2], points.min(0))
    high = np.maximum(np.add(box[:2], box[2:]), points.max(0))
    return np.concatenate([low, high - low]).round(2).tolist()


def label(
    teacher: Teacher,
    annotated: AnnotatedPeople,
    files: dict[int, ImageEntry],
    output: Path,
    inputs: str,
    thresholds: Thresholds,
    batch_size: int = 4,
    drop_crowds: bool = False,
) -> tuple[Counter, list[UserError]]:
    """Label the images and write the annotations. Return counts for the summary, and the errors of images that cannot be read.

    inputs: hash of all that the labels depend on besides the images' names: an interrupted run of the same hash continues.
    """
    shapes = {image_id: annotated_shapes(annotated, image_id)[1:] for image_id in files}
    images = {
        image_id: InputImage(file, listed_size(annotated.coco.imgs[image_id]), np.insert(shapes[image_id][1], 4, 1, axis=1))
        for image_id, file in files.items()
    }

    def to_result(image_id: int, image: LabeledImage) -> dict[str, Any]:
        return label_image(image, *shapes[image_id], thresholds)

    names = "\n".join([inputs, repr(thresholds), *(f"{image_id} {file.path}" for image_id, file in files.items())])
    output_folder(output.parent)
    with ResultsLog(output.with_suffix(".partial"), sha256(names.encode(errors="surrogateescape")).hexdigest()) as log:
        read = partial(image_or_error, read=ImageEntry.read_image)
        errors = predict_images(log, teacher, images, to_result, batch_size, teacher.device, "label", read=read)
        content, counts = to_coco(annotated, log.results(), drop_crowds)
        write_json(output, content)
        log.remove()
    return counts, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--checkpoint", nargs="+", required=True, metavar="FILE", help="a bottom-up network, then perhaps a top-down one; or one of these")
    add(
        "--images", type=Path, nargs="+", required=True, metavar="PATH", help="folders or zip files; without --annotations all their images"
    )
    add("--annotations", type=Path, help="of some of the people, in any format: they stay, and get the keypoints that they lack")
    add("--output", type=Path, required=True, help="the annotation file to write")
    add(
        "--scales",
        type=float,
        nargs="+",
        default=[1],
        help="of the bottom-up network's input, each with its own inference.scales, merged; default: 1",
    )
    add("--no-flip", action="store_true", help="do not average with the horizontally flipped image")
    add("--min-score", type=float, default=0.4, help="of a person who is labeled; default: 0.4")
    add("--crowd-score", type=float, default=0.15, help="people between this and --min-score become crowd regions; default: 0.15")
    add("--keypoint-score", type=float, default=0.3, help="keypoints below it are unlabeled; default: 0.3")
    add("--same", type=float, default=0.5, metavar="OKS", help="two more similar predictions are one person; default: 0.5")
    add("--agree", type=float, metavar="OKS", help="an annotated keypoint moves to a predicted one at least this similar; default: never")
    add("--drop-crowds", action="store_true", help="omit annotated crowd regions; people in them are labeled like all others")
    add("--limit", type=int, help="only the first N images")
    add("--batch-size", type=int, default=4, help="images of a batch; default: 4")
    add("--device", help="such as cpu or cuda:0")
    options = parser.parse_args()
    check_minimum(1, limit=options.limit, batch_size=options.batch_size)
    check_minimum(0, min_score=options.min_score, crowd_score=options.crowd_score, keypoint_score=options.keypoint_score, same=options.same)
    check_minimum(0, agree=options.agree)
    if not all(0 < scale < float("inf") for scale in options.scales):
        raise UserError(f"--scales {' '.join(map(str, options.scales))}: expected numbers above 0")
    check_outputs([options.output], [*options.checkpoint, *options.images, options.annotations])
    checkpoints = [resolve_checkpoint(name) for name in options.checkpoint]
    configs = [config_for(checkpoint, None, ["inference.flip=false"] * options.no_flip) for checkpoint in checkpoints]
    skeletons = {tuple(config.skeleton.dataset) for config in configs}
    if len(skeletons) > 1:
        raise UserError(f"--checkpoint: the networks have different keypoints, {' and '.join(str(len(names)) for names in skeletons)}")
    annotated, files = read_annotations(options.annotations, options.images, configs[-1].skeleton, options.limit)
    estimators = [PoseEstimator(config, checkpoint, options.device) for config, checkpoint in zip(configs, checkpoints)]
    if [e.needs_boxes for e in estimators] not in ([False], [False, True], [True]):
        raise UserError("--checkpoint: expected a bottom-up network, a bottom-up and a top-down one, or a top-down one")
    if estimators[0].needs_boxes and options.annotations is None:
        raise UserError(
            f"--checkpoint {options.checkpoint[0]}: needs person boxes; put a bottom-up network before it, or add --annotations"
        )
    of_networks = [fingerprint(config, checkpoint.path) for config, checkpoint in zip(configs, checkpoints)]
    of_file = [fingerprint(configs[0], options.annotations)] if options.annotations else []
    inputs = "\n".join([*of_networks, *of_file, str(options.scales)])
    thresholds = Thresholds(options.min_score, options.crowd_score, options.keypoint_score, options.same, options.agree)
    teacher = Teacher(estimators, options.scales, options.same)
    counts, errors = label(teacher, annotated, files, options.output, inputs, thresholds, options.batch_size, options.drop_crowds)
    print(f"{options.output}: {len(files) - len(errors)} images labeled; " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    for error in errors:
        print(error, file=sys.stderr)
    if errors:
        raise UserError(f"{len(errors)} of {len(files)} images cannot be read, for the reasons above; the others are labeled")


if __name__ == "__main__":
    run_cli(main)
