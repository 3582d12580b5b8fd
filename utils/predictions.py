"""The predicted people of one image, as decoders, estimator, evaluation, demo and tracking hand them on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from config import Skeleton, UserError
from data.images import ColorOrder, ImageInput, to_bgr
from utils.boxes import boxes_around
from utils.oks import pose_similarity
from utils.visualize.people import draw_people

AREA_OF_BOX = 0.53  # COCO's people fill this part of their boxes, on average
MIN_WRITTEN = 1e-4  # a lower score would be rounded to 0, which means "missing"


@dataclass(eq=False, repr=False)
class PosePredictions:
    """The P people of one image, best first; `len` is P. Positions are pixels of the image; (0, 0) is the center of its upper left pixel.

    keypoints: (P, K, 3) float, x, y and score of each of `names`; 0, 0, 0 where missing. Scores are above 0, mostly up to 1.
    scores: (P,) float, of the people; comparable within one system only.
    boxes: (P, 4) float, x and y of the upper left corner, width, height, as in COCO; they may reach beyond the image. A top-down system's
        are the given person boxes, the others' surround the keypoints (see `boxes_around`).
    ids: (P,) int, identities in a video, -1 for none; None without tracking.
    color: order of the channels that `draw` expects and returns, "bgr" or "rgb": the estimator's.

    `keypoints, scores = people` unpacks it; `people.select(people.scores > 0.5)` is some of them. The `to_...` methods return what
    `json.dump` takes, with positions rounded to 0.01 pixels and scores to four digits.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    skeleton: Skeleton
    boxes: np.ndarray = None  # None: around the keypoints
    ids: np.ndarray | None = None
    color: ColorOrder = "bgr"

    def __post_init__(self) -> None:
        if self.boxes is None:
            self.boxes = boxes_around(self.keypoints)

    @property
    def names(self) -> tuple[str, ...]:
        """The K keypoints' names."""
        return self.skeleton.keypoints

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.keypoints, self.scores))

    def __getitem__(self, index: int) -> np.ndarray:
        return (self.keypoints, self.scores)[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} people, {len(self.names)} keypoints of skeleton {self.skeleton.name!r})"

    def select(self, rows: np.ndarray) -> PosePredictions:
        """Return the people at `rows`, a mask (P,) or indices."""
        ids = None if self.ids is None else self.ids[rows]
        return replace(self, keypoints=self.keypoints[rows], scores=self.scores[rows], boxes=self.boxes[rows], ids=ids)

    def draw(self, image: ImageInput) -> np.ndarray | Image.Image:
        """Return a copy of the image with the people drawn: a PIL image of a PIL image, else (H, W, 3) uint8 in the order of `color`.

        image: anything that an estimator takes, see `data.images.to_bgr`.
        """
        drawn = draw_people(to_bgr(image, self.color), self.keypoints, self.skeleton, self.ids)
        if isinstance(image, Image.Image):
            return Image.fromarray(drawn[..., ::-1])
        return drawn if self.color == "bgr" else np.ascontiguousarray(drawn[..., ::-1])

    def to_json(self) -> dict[str, Any]:
        """Return {"keypoints": names, "people": [{"score", "box": [x, y, width, height], "keypoints": [[x, y, score], ...]}, ...]}.

        Tracked people also have an "id".
        """
        people = [
            {"score": round(float(score), 4), "box": box, "keypoints": keypoints.tolist()}
            for score, box, keypoints in zip(self.scores, self.rounded_boxes(), round_keypoints(self.keypoints))
        ]
        if self.ids is not None:
            people = [{"id": int(identity), **person} for identity, person in zip(self.ids, people)]
        return {"keypoints": list(self.names), "people": people}

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO's results, {"image_id", "category_id": 1, "keypoints", "bbox", "score"} of each person, unrounded score.

        Keypoints are in the order of the skeleton's data set; people who have none of these are excluded. Given a "bbox", pycocotools takes
        a person's area from it, which moves its AP_M and AP_L by some thousandths; `evaluate.py` does not.
        """
        ordered = round_keypoints(self.skeleton.to_dataset(self.keypoints))
        return [
            {"image_id": image_id, "category_id": 1, "keypoints": person.ravel().tolist(), "bbox": box, "score": float(score)}
            for person, box, score in zip(ordered, self.rounded_boxes(), self.scores)
            if person[:, 2].any()
        ]

    def to_supervision(self) -> Any:
        """Return `supervision.KeyPoints`, whose `data` has "score", "box" (x, y, width, height) and, if tracked, "id".

        Raises UserError where the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError("supervision.KeyPoints: supervision is not installed; pip install supervision") from error
        keypoints = np.asarray(self.keypoints, np.float32)
        data = {"score": np.asarray(self.scores, float), "box": np.asarray(self.boxes, float)}
        if self.ids is not None:
            data["id"] = np.asarray(self.ids, int)
        # by position: the third parameter's name differs between versions
        return supervision.KeyPoints(keypoints[..., :2], np.zeros(len(self), int), keypoints[..., 2], data=data)

    def rounded_boxes(self) -> list[list[float]]:
        """Return the boxes as files have them: to 0.01 pixels."""
        return np.round(np.asarray(self.boxes, float), 2).tolist()


def merge_passes(passes: Sequence[PosePredictions], same: float, by_keypoints: bool = False) -> PosePredictions:
    """Return the people of several predictions of one image, best first; of those who are more similar than `same`, only one remains.

    That is the one of the highest score, or `by_keypoints` of the highest sum of its keypoints' scores: the most complete one.
    """
    skeleton = passes[0].skeleton
    keypoints, scores, boxes = (np.concatenate([getattr(p, name) for p in passes]) for name in ("keypoints", "scores", "boxes"))
    ordered, kept = skeleton.to_dataset(keypoints), list[int]()
    similar = pose_similarity(ordered, ordered, AREA_OF_BOX * boxes[:, 2:].prod(1), skeleton.oks_sigmas)
    preference = keypoints[..., 2].sum(1) if by_keypoints else scores
    for row in np.argsort(-preference, kind="stable"):
        if not kept or similar[row, kept].max() <= same:
            kept.append(row)
    rows = np.array(kept, int)
    return PosePredictions(keypoints, scores, skeleton, boxes).select(rows[np.argsort(-scores[rows], kind="stable")])


def round_keypoints(keypoints: np.ndarray) -> np.ndarray:
    """Round (..., 3) x, y, score as files have them: positions to 0.01 pixels, scores to four digits, and no score above 0 to 0."""
    keypoints = np.asarray(keypoints, float)
    scores = np.where(keypoints[..., 2] > 0, np.maximum(np.round(keypoints[..., 2], 4), MIN_WRITTEN), 0)
    return np.concatenate([np.round(keypoints[..., :2], 2), scores[..., None]], -1)
