"""PoseTrack18's evaluation: COCO's metrics on the annotated frames, and MOTA of people tracked through each video.

MOTA (multiple object tracking accuracy; Bernardin, Stiefelhagen 2008) covers whole people, matched at OKS 0.5. PoseTrack's own MOTA covers
single keypoints, matched by PCKh.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy.optimize import linear_sum_assignment

from data.images import read_image
from utils.evaluation.coco import CocoMetric, GroundTruth
from utils.evaluation.matching import ImageResult
from utils.tracking import Tracker

SAME_PERSON = 0.5  # OKS


class PoseTrackMetric(CocoMetric):
    """COCO's ten metrics over the annotated frames; with images also MOTA and its counts, by the tracker with its default settings.

    Frames without annotations are tracked but not compared.
    """

    def compute(self, predictions: list[dict], truth: GroundTruth) -> dict[str, float]:
        images = truth.annotations.imgs
        annotated = {image_id for image_id in truth.files if images[image_id].get("is_labeled", True)}
        metrics = super().compute(predictions, truth, annotated)
        if truth.folder is None:
            return metrics
        present = truth.file_index >= 0
        counter = MotaCounter(truth.skeleton.oks_sigmas[present])
        videos = defaultdict(list)
        for result in truth.image_results(predictions):
            videos[images[result.image_id].get("vid_id")].append(result)
        for frames in videos.values():
            tracker = Tracker(truth.skeleton)
            counter.next_video()
            for frame in frames:
                poses = np.zeros((len(frame.poses), len(present), 3))
                poses[:, present] = frame.poses
                ids = tracker(read_image(truth.files[frame.image_id]), truth.skeleton.from_dataset(poses), frame.scores)
                if frame.image_id in annotated:
                    tracks = [person.get("track_id", -1) for person in truth.coco.imgToAnns[frame.image_id]]
                    counter.add(frame, np.array(tracks, int), ids)
        return metrics | counter.metrics()


class MotaCounter:
    """Misses, false positives and identity switches over the annotated frames of videos; `add` them in order."""

    def __init__(self, sigmas: np.ndarray):
        """sigmas (D,): of OKS."""
        self.sigmas = sigmas
        self.people = self.misses = self.false_positives = self.switches = 0
        self.next_video()

    def next_video(self) -> None:
        """Forget the identities."""
        self._last: dict[int, int] = {}  # annotated track -> the predicted id that it matched last

    def add(self, frame: ImageResult, tracks: np.ndarray, ids: np.ndarray) -> None:
        """Count one frame. tracks (G,): identities of the annotated people; ids (P,): the tracker's, below 0 for predictions that do not
        count. People without keypoints, such as ignore regions, do not count; neither do predictions there.
        """
        similarity, ids = frame.similarity(self.sigmas)[ids >= 0].T, ids[ids >= 0]
        same, counted = similarity >= SAME_PERSON, (frame.joints[..., 2] > 0).any(1)
        last = np.array([self._last.get(track, -1) for track in tracks.tolist()], int)
        # A person keeps the last id while it matches, even where another one is nearer: each switch counts once
        value = np.where(same & counted[:, None], similarity + 2 * (last[:, None] == ids), 0)
        rows, columns = linear_sum_assignment(value, maximize=True)
        rows, columns = rows[value[rows, columns] > 0], columns[value[rows, columns] > 0]
        self.people += int(counted.sum())
        self.misses += int(counted.sum()) - len(rows)
        self.switches += int(((last[rows] >= 0) & (last[rows] != ids[columns])).sum())
        free = ~np.isin(np.arange(len(ids)), columns)
        self.false_positives += int((free & ~same[~counted].any(0)).sum())
        self._last |= dict(zip(tracks[rows].tolist(), ids[columns].tolist()))

    def metrics(self) -> dict[str, float]:
        """Return MOTA, at most 1, and its counts."""
        wrong = self.misses + self.false_positives + self.switches
        counts = {"misses": self.misses, "false_positives": self.false_positives, "switches": self.switches}
        return {"MOTA": 1 - wrong / max(self.people, 1), "people": self.people, **counts}
