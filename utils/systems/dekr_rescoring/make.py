"""What DEKR's rescoring network is trained on: everybody whom a pose network finds in its own training set, and how good each pose is."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np

from config import Config, UserError
from config.load import with_overrides
from data.images import image_or_error
from utils.checkpoint import load_network
from utils.results_log import InputImage, ResultsLog, predict_images
from utils.systems import Decoder, build_decoder
from utils.systems.dekr_rescoring.poses import AnnotatedSet, PredictedPoses


def find_poses(decoder: Decoder, annotated: AnnotatedSet, log: ResultsLog, batch_size: int) -> tuple[PredictedPoses, list[UserError]]:
    """Everybody whom the pose network finds in the images and of whom it can be told how good they are; what is wrong with the images
    that cannot be read. The images that the log has are not looked at again.
    """

    def packed(image_id: int, keypoints: np.ndarray, scores: np.ndarray) -> str:
        oks, told = annotated.rated(image_id, keypoints)
        columns = keypoints.reshape(len(keypoints), 3 * annotated.skeleton.num_keypoints), np.c_[scores, oks]
        return _packed(np.concatenate(columns, 1)[told])

    files, device = annotated.files, next(decoder.network.parameters()).device
    images = {image_id: InputImage(path, annotated.sizes[image_id]) for image_id, path in files.items()}
    failures = predict_images(log, decoder, images, packed, batch_size, device, "poses", read=image_or_error)
    kept = log.results()
    found = {image_id: _unpacked(kept[image_id]) for image_id in files if kept.get(image_id)}
    if not found:
        log.remove()
        raise UserError(f"nobody was found in {len(files)} images; is it the checkpoint of a trained network?")
    width = 3 * annotated.skeleton.num_keypoints + 2
    rows = np.concatenate(list(found.values())).reshape(-1, width)
    images = np.repeat(list(found), [len(values) // width for values in found.values()])
    keypoints = rows[:, :-2].reshape(len(rows), -1, 3)
    return PredictedPoses(annotated.skeleton, keypoints, rows[:, -2], rows[:, -1], images), failures


def _packed(values: np.ndarray) -> str:
    """float32 as they are, in half the space of their digits: a training set's are hundreds of megabytes. Nothing for nobody."""
    return b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    """All of `_packed`'s values in a row."""
    return np.frombuffer(b64decode(text), "<f4")


def without_rescoring(config: Config) -> Config:
    """The configuration for scores as they are before any rescoring: those are what the network learns from."""
    return config if getattr(config.inference, "rescore", None) is None else with_overrides(config, ["inference.rescore=null"])


def pose_decoder(config: Config, checkpoint: Path, device: str | None) -> Decoder:
    """From photographs to people. Raises UserError where the pose system must be told where people are."""
    decoder = build_decoder(load_network(config, checkpoint, device), config)
    if decoder.needs_boxes:
        raise UserError(f"system {config.system!r} looks at one person at a time; rescoring is for one that finds all of an image")
    return decoder
