"""Predict the people of images with an exported network. Needs ONNX Runtime, NumPy and OpenCV, and the folders deploy, utils, config, data.

python -m deploy.runner model.onnx photo.jpg [...] [--detector bottom_up.onnx] [--min-score 0.2] > people.json
"""

from __future__ import annotations

import argparse
import json
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import cv2
import numpy as np

from config.errors import UserError, check_minimum, run_cli
from config.files import existing_file
from data.transforms import center_and_crop_size
from deploy.sessions import open_session
from utils.assignment import assign_people
from utils.boxes import LEAST_SCORE, MIN_SCORE, boxes_around, scored_boxes
from utils.oks import oks_nms
from utils.preprocess import dekr, simple_baselines, simplepose

REMEDY = "export the network with this version's 'python -m utils.export'"


class People(NamedTuple):
    """The P people of one image, best first, in its pixels."""

    keypoints: np.ndarray  # (P, K, 3) x, y, score; 0, 0, 0 where missing
    scores: np.ndarray  # (P,)
    boxes: np.ndarray  # (P, 4) x, y, width, height


class PoseRunner:
    """Call it with an image (H, W, 3) uint8 BGR, and for a top-down system with boxes (B, 4 or 5): x, y, width, height, maybe a score.

    config: the settings that the file was exported with; names: of the K keypoints. Without boxes, those of `detector` are taken.

    Raises UserError where the file is not one of `utils.export`, or holds DEKR's or Simple Baselines' maps (--decode is missing).
    """

    def __init__(self, path: str | Path, threads: int = 0, detector: PoseRunner | None = None):
        self.path = existing_file(path, "network")
        try:
            self.session = open_session(self.path, threads)
            stored = self.session.get_modelmeta().custom_metadata_map
            self.config = json.loads(stored["simplepose.config"], object_hook=lambda values: SimpleNamespace(**values))
            more = json.loads(stored["simplepose.runner"])
        except ImportError as error:
            raise UserError("onnxruntime is not installed, which exported networks need: pip install onnxruntime") from error
        except Exception as error:  # each of ONNX Runtime's errors is a class of its own
            raise self._error("cannot be read", error) from error
        skeleton, model = self.config.skeleton, self.config.model
        model.stride, model.input_multiple, model.pixel_center = (more[key] for key in ("stride", "input_multiple", "pixel_center"))
        skeleton.sigmas = vars(skeleton.sigmas)
        skeleton.num_keypoints, skeleton.num_limbs = len(skeleton.keypoints), len(skeleton.limbs)
        skeleton.limb_ends = np.array(more["limb_ends"], int).reshape(-1, 2)
        skeleton.flip_keypoints, skeleton.flip_limbs = (np.array(more[key], int) for key in ("flip_keypoints", "flip_limbs"))
        vars(self.config.inference).setdefault("min_person_size", 0.0)  # files of older versions lack it
        self.names, system = skeleton.keypoints, self.config.system
        predict = {"simplepose": self._simplepose, "dekr": self._dekr, "simple_baselines": self._simple_baselines}
        decoded = [output.name for output in self.session.get_outputs()] == ["keypoints", "scores"]
        if system not in predict or decoded == (system == "simplepose"):
            raise UserError(f"network {path}: maps of system {system!r} cannot be decoded here; {REMEDY} and --decode")
        self.predict, self.needs_boxes, self.detector = predict[system], system == "simple_baselines", detector

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> People:
        if self.needs_boxes and boxes is None:
            if self.detector is None:
                raise UserError(f"system {self.config.system!r} needs person boxes; name a bottom-up network with --detector")
            boxes = scored_boxes(*self.detector(image), LEAST_SCORE)
        people = self.predict(image, boxes)
        order = np.argsort(-people.scores, kind="stable")
        return People(*(rows[order] for rows in people))

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for pixels (N, h, w, 3) uint8."""
        try:
            return self.session.run(None, {"images": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / 255})
        except Exception as error:  # DEKR's graphs of older versions take multiples of 32 only
            raise self._error("cannot take an input of {} x {} pixels".format(*pixels.shape[1:3]), error) from error

    def _error(self, problem: str, error: Exception) -> UserError:
        return UserError(f"network {self.path}: {problem} ({textwrap.shorten(str(error), 160)}); {REMEDY}")

    def _simplepose(self, image: np.ndarray, boxes: None) -> People:
        config, stride, (height, width) = self.config, self.config.model.stride, image.shape[:2]
        if any(degree % 360 for degree in config.inference.rotations):
            raise UserError("this runner takes no rotations; export the network again with inference.rotations=[0]")
        sizes = [simplepose.resized_size(height, width, scale, config) for scale in config.inference.scales]
        largest, on_maps = max(sizes), (config.targets.keypoint_sigma / stride, config.targets.limb_margin / stride)
        maps = sum(resized_maps(self._maps(image, size), size, largest, stride) for size in sizes) / len(sizes)
        to_image = stride * width / largest[1], stride * height / largest[0]
        keypoints, scores = assign_people(maps, config.skeleton, config.assignment, (height, width), to_image, *on_maps)
        return People(keypoints, scores, boxes_around(keypoints))

    def _maps(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return the maps (C, h, w) of the image resized to a height and width, averaged by the flip test, without padding."""
        config, skeleton = self.config, self.config.skeleton
        pixels = simplepose.resize_and_pad([image], [size], config)
        (maps,) = self._run(np.concatenate([pixels, pixels[:, :, ::-1]]) if config.inference.flip else pixels)
        if config.inference.flip:
            channels = [*skeleton.flip_limbs, *(skeleton.num_limbs + skeleton.flip_keypoints)]
            channels += range(len(channels), maps.shape[1])  # person mask and maximum have no partner
            maps = (maps[:1] + maps[1:, channels, :, ::-1]) / 2
        return maps[0, :, : math.ceil(size[0] / config.model.stride), : math.ceil(size[1] / config.model.stride)]

    def _dekr(self, image: np.ndarray, boxes: None) -> People:
        config, scales, of_scales = self.config, self.config.inference.scales, []
        for scale in scales:
            height, width = dekr.input_size(image.shape[:2], scale, config)
            pixels = dekr.as_input([image], scale, config)[:, :height, :width]  # the graph pads
            keypoints, scores = (output[0] for output in self._run(pixels))
            keypoints, scores = keypoints[scores > 0][: config.inference.max_people], scores[scores > 0][: config.inference.max_people]
            keypoints[..., :2] = dekr.to_image(keypoints[..., :2] / scale, image.shape[:2], config)
            of_scales.append((keypoints, scores))
        merged = config.inference.nms_oks is not None
        keypoints, scores = dekr.merge_by_oks(of_scales, scales, image.shape[:2], config) if merged else of_scales[0]
        return People(keypoints, scores, boxes_around(keypoints))

    def _simple_baselines(self, image: np.ndarray, boxes: np.ndarray) -> People:
        config, size = self.config, tuple(self.config.data.input_size)
        boxes = simple_baselines.valid_boxes(np.asarray(boxes, float), image.shape[:2])
        centers, crop_sizes = center_and_crop_size(boxes[:, :4], size)
        pixels = simple_baselines.crop_boxes([image], np.zeros(len(boxes), int), centers, crop_sizes, size)
        keypoints, scores = np.zeros((0, len(self.names), 3), np.float32), np.zeros(0, np.float32)
        for start in range(0, len(pixels), config.inference.crops):
            outputs = self._run(pixels[start : start + config.inference.crops])
            keypoints, scores = (np.concatenate(pair) for pair in zip((keypoints, scores), outputs))
        keypoints[..., :2] = simple_baselines.crop_to_image(keypoints[..., :2], size, centers, crop_sizes)
        scores, sigmas = scores * boxes[:, 4], np.array([config.skeleton.sigmas[name] for name in self.names])
        rows = oks_nms(keypoints, crop_sizes.prod(1), scores, sigmas, config.inference.nms_threshold)
        return People(np.where(keypoints[rows, :, 2:] > 0, keypoints[rows], 0), scores[rows], boxes[rows, :4])


def resized_maps(maps: np.ndarray, size: tuple[int, int], largest: tuple[int, int], stride: int) -> np.ndarray:
    """Return maps (C, h, w) of an image of a height and width on the grid of the largest one, bicubic."""
    if size == largest:
        return maps
    edged = np.pad(maps.transpose(1, 2, 0), [(0, 2), (0, 2), (0, 0)], "edge")  # OpenCV rounds the size of its result
    resized = cv2.resize(edged, None, fx=largest[1] / size[1], fy=largest[0] / size[0], interpolation=cv2.INTER_CUBIC)
    return resized[: math.ceil(largest[0] / stride), : math.ceil(largest[1] / stride)].transpose(2, 0, 1)


def to_json(people: People, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a dictionary of each person: score, box, and x, y and score of each keypoint by its name."""
    rows = zip(*(np.round(values.astype(float), 4).tolist() for values in people))
    return [{"score": score, "box": box, "keypoints": dict(zip(names, keypoints))} for keypoints, score, box in rows]


def main() -> None:
    parser = argparse.ArgumentParser("deploy.runner", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("network", type=Path, help="an .onnx of utils.export; of DEKR and Simple Baselines with --decode")
    parser.add_argument("images", nargs="+", type=Path, help="image files")
    parser.add_argument("--detector", type=Path, help="a bottom-up network, for the boxes that Simple Baselines needs")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help=f"people below are excluded; default: {MIN_SCORE}")
    parser.add_argument("--threads", type=int, default=0, help="of the network; default: one a core")
    options = parser.parse_args()
    check_minimum(0, min_score=options.min_score, threads=options.threads)
    detector = None if options.detector is None else PoseRunner(options.detector, options.threads)
    runner = PoseRunner(options.network, options.threads, detector)
    for path in options.images:
        data = np.fromfile(existing_file(path, "image"), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is None:
            raise UserError(f"image {path}: cannot be decoded; replace or remove the file")
        people = runner(image)
        selected = People(*(rows[people.scores >= options.min_score] for rows in people))
        print(json.dumps({"image": str(path), "people": to_json(selected, runner.names)}))


if __name__ == "__main__":
    run_cli(main)
