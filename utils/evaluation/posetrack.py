"""PoseTrack18's evaluation: COCO's metrics on the annotated frames, and MOTA of people tracked through each video.

MOTA (multiple object tracking accuracy; Bernardin, Stiefelhagen 2008) covers whole people, matched at OKS 0.5. PoseTrack's own MOTA covers
single keypoints, matched by PCKh.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.matching import ImageResult
from utils.predictions import PosePredictions
from utils.tracking import Tracker

SAME_PERSON = 0.5  # OKS


class PoseTrackMetric(CocoMetric):
    """COCO's ten metrics over the annotated frames; with images also MOTA and its counts, by the tracker with its default settings.

    Frames without annotations are tracked but not compared.
    """

    def compute(self, predictions: list[dict], truth: GroundTruth) -> dict[str, float]:
        images = truth.coco.imgs
        annotated = {image_id for image_id in truth.files if images[image_id].get("is_labeled", True)}
        metrics = self.compute_over(annotated, predictions, truth)
        if not truth.containers:
            return metrics
        present, videos, counts = truth.file_index >= 0, defaultdict[Any, list[ImageResult]](list), Counter[str]()
        for result in truth.image_results(predictions):
            videos[images[result.image_id].get("vid_id")].append(result)
        for frames in videos.values():
            tracker, tracked = Tracker(truth.skeleton), []
            for frame in frames:
                poses = np.zeros((len(frame.poses), len(present), 3))
                poses[:, present] = frame.poses
                people = PosePredictions(truth.skeleton.from_dataset(poses), frame.scores, truth.skeleton)
                ids = tracker(truth.files[frame.image_id].read_image(), people).ids
                if frame.image_id in annotated:
                    tracks = [person.get("track_id", -1) for person in truth.coco.imgToAnns[frame.image_id]]
                    tracked.append((frame, np.array(tracks, int), ids))
            counts.update(count_errors(tracked, truth.skeleton.oks_sigmas[present]))
        return metrics | {"MOTA": mota(counts), **counts}


def count_errors(frames: Iterable[tuple[ImageResult, np.ndarray, np.ndarray]], sigmas: np.ndarray) -> dict[str, int]:
    """Count people, misses, false positives and identity switches over the annotated frames of one video.

    With each frame come the identities (G,) of its annotated people and the tracker's (P,) of its predictions; those below 0 do not count.
    Neither do people without keypoints, such as ignore regions, and predictions there. sigmas (D,): of OKS.
    """
    people = misses = false_positives = switches = 0
    last_ids: dict[int, int] = {}  # annotated track -> the predicted id that it matched last
    for frame, tracks, ids in frames:
        similarity, ids = frame.similarity(sigmas)[ids >= 0].T, ids[ids >= 0]
        same, counted = similarity >= SAME_PERSON, np.any(frame.joints[..., 2] > 0, axis=1)
        last = np.array([last_ids.get(track, -1) for track in tracks.tolist()], int)
        # A person keeps the last id while it matches, even where another one is nearer: each switch counts once
        value = np.where(same & counted[:, None], similarity + 2 * (last[:, None] == ids), 0)
        rows, columns = linear_sum_assignment(value, maximize=True)
        rows, columns = rows[value[rows, columns] > 0], columns[value[rows, columns] > 0]
        free = ~np.isin(np.arange(len(ids)), columns)
        people += int(counted.sum())
        misses += int(counted.sum()) - len(rows)
        false_positives += int((free & ~same[~counted].any(0)).sum())
        switches += int(((last[rows] >= 0) & (last[rows] != ids[columns])).sum())
        last_ids |= dict(zip(tracks[rows].tolist(), ids[columns].tolist()))
    return {"people": people, "misses": misses, "false_positives": false_positives, "switches": switches}


def mota(counts: Mapping[str, int]) -> float:
    """Return MOTA, at most 1, of `count_errors`."""
    return 1 - (counts["misses"] + counts["false_positives"] + counts["switches"]) / max(counts["people"], 1)
