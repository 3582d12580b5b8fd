"""What the places change where this code departs from the published one on purpose, measured on COCO annotations, as a Markdown table.

    python benchmarks/departures.py [--shared DIR]

Photographs and annotations are not part of the project; they are looked for in a folder `shared` beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks in benchmarks/ first; the project's root is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import tempfile
import time

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fidelity_simplepose import CONFIG
from benchmarks.reference import SHARED
from config import Config, UserError, load_config
from config.errors import run_script
from config.skeleton import UNLABELLED
from data.coco_masks_hdf5 import build_hdf5
from data.datasets.simplepose import MIN_AREA, MIN_DISTANCE, MIN_KEYPOINTS, main_people
from data.formats.coco import annotated_joints, keypoint_category, load_coco
from data.people_file import PeopleFile
from data.targets import render_targets
from utils.assignment import assign_people
from utils.systems.simplepose import predict_maps, resized_size

FAR = 20.0  # image pixels from an annotated keypoint at which a found one is another's
TURN = 20.0  # degrees


class DrawnMaps(nn.Module):
    """The perfect network for one photograph: what it was trained to draw, at whatever size the photograph is run."""

    def __init__(self, joints: np.ndarray, size: tuple[int, int], config: Config):
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))
        self.maps = [self._draw(joints, size, resized_size(*size, scale, config), config) for scale in config.inference.scales]

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        return [[self.maps.pop(0)]]

    @staticmethod
    def _draw(joints: np.ndarray, size: tuple[int, int], run_size: tuple[int, int], config: Config) -> Tensor:
        joints, (height, width) = joints.copy(), run_size
        joints[..., :2] = (joints[..., :2] + 0.5) * (width / size[1], height / size[0]) - 0.5
        multiple, stride = config.inference.pad_multiple, config.targets.stride
        padded = tuple(-(-side // multiple) * multiple // stride for side in run_size)
        return torch.from_numpy(render_targets(joints, np.zeros(padded, np.float32), config))[None]


def position_errors(shared: Path, overrides: list[str], limit: int) -> tuple[float, float, float, float]:
    """Of the keypoints found from perfect maps: median and 95th percentile of their distance from the annotated ones in image pixels, the
    share of the annotated ones that are found, and seconds of assignment an image."""
    config = load_config(CONFIG, ["inference.flip=false", *overrides])
    distances, seconds = [], []
    for size, joints in _annotated_images(shared, config)[:limit]:
        network = DrawnMaps(joints, size, config)
        maps, map_to_image = predict_maps(network, [np.zeros((*size, 3), np.uint8)], config)[0]
        start = time.process_time()
        found, _ = assign_people(maps.numpy(), config.skeleton, config.assignment, size, map_to_image)
        seconds.append(time.process_time() - start)
        for kind in range(config.skeleton.num_keypoints):
            there = found[found[:, kind, 2] > 0, kind, :2]
            wanted = joints[joints[:, kind, 2] != UNLABELLED, kind, :2]
            gaps = np.linalg.norm(wanted[:, None] - there[None], axis=2) if len(there) else np.full((len(wanted), 1), np.inf)
            distances += gaps.min(1).tolist()
    near = np.array([distance for distance in distances if distance < FAR])
    return float(np.median(near)), float(np.percentile(near, 95)), len(near) / len(distances), float(np.mean(seconds))


def _annotated_images(shared: Path, config: Config) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Height and width of each image with keypoints, and its people's (P, K, 3)."""
    path = shared / "data" / "coco_mini" / "annotations" / "person_keypoints_val2017.json"
    coco = load_coco(path)
    category, order = keypoint_category(coco, config.skeleton, path)
    images = []
    for number, image in sorted(coco.imgs.items()):
        people = [a for a in coco.loadAnns(coco.getAnnIds(number, catIds=[category])) if a["num_keypoints"] and not a["iscrowd"]]
        if people:
            joints = config.skeleton.from_dataset(np.stack([annotated_joints(person, order) for person in people]))
            images.append(((image["height"], image["width"]), joints))
    return images


def share_outside(centre: tuple[float, float], height: int = 480, width: int = 640) -> float:
    """The share of a picture that leaves its frame when it is turned by 20 degrees about a point (x, y)."""
    matrix = cv2.getRotationMatrix2D(centre, TURN, 1)
    back = cv2.warpAffine(np.ones((height, width), np.float32), cv2.invertAffineTransform(matrix), (width, height), flags=cv2.INTER_NEAREST)
    return 1 - float(back.mean())


def main_person_changes(shared: Path) -> tuple[int, int, int]:
    """Samples of the 538 images by the rule, with the later person's own box in the distance test, and how many people differ."""
    path = shared / "data" / "coco_val538" / "person_keypoints_val2017_538.json"
    coco, skeleton = load_coco(path), load_config(CONFIG).skeleton
    category, order = keypoint_category(coco, skeleton, path)
    ours = others = changed = 0
    for number in coco.imgs:
        people = [a for a in coco.loadAnns(coco.getAnnIds(number, catIds=[category])) if a.get("num_keypoints") and not a["iscrowd"]]
        if not people:
            continue
        num_labelled = (np.stack([annotated_joints(a, order) for a in people])[..., 2] != UNLABELLED).sum(1)
        boxes, areas = np.array([a["bbox"] for a in people], np.float32), np.array([a["area"] for a in people])
        nobody = np.zeros((2, len(people)), bool)  # is a crowd, or in another image
        chosen, other = set(main_people(num_labelled, boxes, areas, *nobody).tolist()), set(_own_box_rule(num_labelled, boxes, areas))
        ours, others, changed = ours + len(chosen), others + len(other), changed + len(chosen ^ other)
    return ours, others, changed


def _own_box_rule(num_labelled: np.ndarray, boxes: np.ndarray, areas: np.ndarray) -> list[int]:
    """`main_people` with the distance measured in the later person's box."""
    centres, chosen = boxes[:, :2] + boxes[:, 2:] / 2, []
    for p in range(len(boxes)):
        if num_labelled[p] < MIN_KEYPOINTS or areas[p] < MIN_AREA:
            continue
        reach = MIN_DISTANCE * boxes[p, 2:].max()
        if all(np.linalg.norm(centres[p] - centres[q]) >= reach for q in chosen):
            chosen.append(p)
    return chosen


def image_bytes(shared: Path) -> tuple[float, float]:
    """Bytes an image in our HDF5 file of coco_mini, and with a raw image and two masks (5 bytes a pixel) in its place."""
    coco, skeleton = shared / "data" / "coco_mini", load_config(CONFIG).skeleton
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.h5"
        build_hdf5(coco / "annotations" / "person_keypoints_train2017.json", coco / "train2017", path, skeleton, workers=1)
        return path.stat().st_size / len(PeopleFile(path, skeleton)), 5 * PeopleFile(path, skeleton).sizes.prod(1).mean()


def rows(shared: Path, limit: int) -> list[tuple[str, str, str]]:
    """Departure, figure as published, figure here."""
    table = []
    grids = [("published", ["assignment.preset=published"]), ("ours", [])]
    measured = {}
    for scales in ("[1]", "[0.5, 1, 1.5, 2, 3]"):
        for name, overrides in grids:
            median, most, found, seconds = position_errors(shared, [f"inference.scales={scales}", *overrides], limit)
            measured[name] = f"{median:.2f} / {most:.2f} px, {found:.1%}, {seconds * 1e3:.0f} ms"
        what = f"keypoints from perfect maps, scales {scales}: error median / 95 %, found, assignment's time an image"
        table.append((what, measured["published"], measured["ours"]))
    swapped, true = share_outside((480 / 2, 640 / 2)), share_outside((639 / 2, 479 / 2))
    table.append((f"a 640 x 480 picture turned by {TURN:.0f} degrees: share outside its frame", f"{swapped:.1%}", f"{true:.1%}"))
    ours, others, changed = main_person_changes(shared)
    table.append((f"samples of 538 images; {changed} people differ", str(others), str(ours)))
    small, raw = image_bytes(shared)
    table.append(("HDF5 bytes an image", f"{raw / 1e3:.0f} KB", f"{small / 1e3:.0f} KB"))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/coco_mini/ and data/coco_val538/; default: ../shared")
    parser.add_argument("--images", type=int, default=32, help="how many images keypoints are read in")
    options = parser.parse_args()
    if not (options.shared / "data").is_dir():
        raise UserError(f"photographs {options.shared / 'data'}: not found; name the folder that holds them with --shared")
    torch.set_num_threads(1)
    lines = [f"| {what} | {published} | {ours} |" for what, published, ours in rows(options.shared, options.images)]
    print("\n".join(["| what | as published | here |", "|---|---|---|", *lines]))


if __name__ == "__main__":
    run_script(main)
