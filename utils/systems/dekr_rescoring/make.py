"""The training data of DEKR's rescoring network: a pose network's predictions for its own training set, with the OKS of each."""

from __future__ import annotations

from base64 import b64decode, b64encode

import numpy as np

from config import UserError
from data.images import image_or_error
from utils.results_log import InputImage, ResultsLog, predict_images
from utils.systems import Decoder
from utils.systems.dekr_rescoring.poses import AnnotatedSet, PredictedPoses


def predict_poses(decoder: Decoder, annotated: AnnotatedSet, log: ResultsLog, batch_size: int) -> tuple[PredictedPoses, list[UserError]]:
    """Return the pose network's predictions whose OKS is known, and errors. Images in the log are not run again."""

    def packed(image_id: int, keypoints: np.ndarray, scores: np.ndarray) -> str:
        oks, known = annotated.best_oks(image_id, keypoints)
        columns = keypoints.reshape(len(keypoints), 3 * annotated.skeleton.num_keypoints), np.c_[scores, oks]
        return _packed(np.concatenate(columns, 1)[known])

    files, device = annotated.files, next(decoder.network.parameters()).device
    images = {image_id: InputImage(path, annotated.sizes[image_id]) for image_id, path in files.items()}
    failures = predict_images(log, decoder, images, packed, batch_size, device, "poses", read=image_or_error)
    results = log.results()
    predictions = {image_id: _unpacked(results[image_id]) for image_id in files if results.get(image_id)}
    if not predictions:
        log.remove()
        raise UserError(f"no predictions in {len(files)} images; check that --checkpoint is a trained network")
    width = 3 * annotated.skeleton.num_keypoints + 2
    rows = np.concatenate(list(predictions.values())).reshape(-1, width)
    images = np.repeat(list(predictions), [len(values) // width for values in predictions.values()])
    keypoints = rows[:, :-2].reshape(len(rows), -1, 3)
    return PredictedPoses(annotated.skeleton, keypoints, rows[:, -2], rows[:, -1], images), failures


def _packed(values: np.ndarray) -> str:
    """Return float32 values as base64, half the size of their digits: a training set has hundreds of megabytes. No values: ''."""
    return b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    """Return the flat values of a `_packed` text."""
    return np.frombuffer(b64decode(text), "<f4")
