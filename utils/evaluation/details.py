"""What the figures are made of: AP by keypoint and by size of person, curves of precision, errors; as JSON and as two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from config import Skeleton
from config.files import write_json
from data.images import write_image
from utils.evaluation.errors import GOOD, KINDS, Found, find_errors, lost_precision
from utils.evaluation.matching import RECALLS, THRESHOLDS, Judged, Scene, average_precision, judge
from utils.visualize.charts import Bars, Line, beside, draw_bars, draw_lines

DETAILS_NAME, CURVES_NAME, ERRORS_NAME = "details.json", "curves.png", "errors.png"
DETAILS_NAMES = (DETAILS_NAME, CURVES_NAME, ERRORS_NAME)
SIDES = (0, 32, 64, 96, 192, 1e5)  # pixels; a person's size is the side of a square of the same area
COLOURS = {
    "good": (120, 180, 90),
    "jitter": (80, 200, 235),
    "inversion": (200, 120, 60),
    "swap": (190, 80, 170),
    "miss": (70, 70, 220),
    "scores": (150, 150, 150),
    "false_positives": (110, 110, 110),
    "false_negatives": (60, 60, 60),
}  # fmt: skip; BGR


@dataclass(frozen=True)
class Labelled:
    """The D keypoints of a skeleton that an annotation file has, in the data set's order."""

    skeleton: Skeleton
    names: tuple[str, ...]
    sigmas: np.ndarray  # (D,) OKS's
    mirror: np.ndarray  # (D,) the keypoint of the other side; where there is none, itself
    rows: np.ndarray  # (D,) the keypoint's number in the skeleton

    @staticmethod
    def of(skeleton: Skeleton, order: np.ndarray) -> Labelled:
        """order: where each of the data set's keypoints stands in the file; -1: nowhere."""
        there = order >= 0
        names = tuple(name for name, has in zip(skeleton.dataset, there) if has)
        rows = np.array([skeleton.index(skeleton.dataset[name]) for name in names])
        place = {row: number for number, row in enumerate(rows.tolist())}
        mirror = np.array([place.get(skeleton.flip_keypoints[row], number) for number, row in enumerate(rows)])
        return Labelled(skeleton, names, skeleton.oks_sigmas[there], mirror, rows)

    def errors(self, scenes: Sequence[Scene]) -> list[Found]:
        return [find_errors(scene, self.sigmas, self.mirror) for scene in scenes]


def write_details(scenes: Sequence[Scene], labelled: Labelled, folder: Path) -> str:
    """Write details.json, curves.png and errors.png; returns what is to be said about them."""
    precision = judge(scenes, labelled.sigmas).precision()
    if not precision.size:
        return "nobody to find: no details"
    details = details_of(scenes, labelled, precision)
    write_json(folder / DETAILS_NAME, details)
    write_image(folder / CURVES_NAME, curves_picture(details))
    write_image(folder / ERRORS_NAME, errors_picture(details))
    most = sorted(details["lost_AP"].items(), key=lambda lost: -lost[1])[:3]
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in most)
    return f"AP is lost to {told}; all of it: {folder / DETAILS_NAME}, {folder / CURVES_NAME}, {folder / ERRORS_NAME}"


def details_of(scenes: Sequence[Scene], labelled: Labelled, precision: np.ndarray) -> dict[str, Any]:
    """Everything that details.json holds. precision (T, 101): of all people."""
    found = labelled.errors(scenes)
    kinds = np.concatenate([each.kinds for each in found])
    by_keypoint = {}
    for k, name in enumerate(labelled.names):
        judged = judge([scene.of_keypoint(k) for scene in scenes], labelled.sigmas[[k]])
        counts = {kind: int((kinds[:, k] == number).sum()) for number, kind in enumerate(KINDS)}
        by_keypoint[name] = {**_figures(judged), "errors": counts}
    sizes = [(low**2, high**2) for low, high in zip(SIDES, SIDES[1:])]
    false = sum(int(each.false.sum()) for each in found)
    return {
        "keypoints": by_keypoint,
        "sizes": {_size_name(*size): _figures(judge(scenes, labelled.sigmas, size=size)) for size in sizes},
        "lost_AP": lost_precision(found, labelled.sigmas),
        "errors": {
            **{kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)},
            "false_positives": false,
            "false_negatives": sum(int(each.unfound.sum()) for each in found),
        },
        "precision": {
            "recall": RECALLS.tolist(),
            "OKS 0.5": precision[0].tolist(),
            "OKS 0.75": precision[5].tolist(),
            "OKS 0.5:0.95": precision.mean(0).tolist(),
        },
    }


def _figures(judged: Judged) -> dict[str, float]:
    precision = judged.precision()
    at = {"AP": precision, "AP50": precision[THRESHOLDS == 0.5], "AP75": precision[[5]]}
    found = float(judged.recall()[THRESHOLDS == 0.5][0])
    return {"people": judged.people, **{name: average_precision(rows) for name, rows in at.items()}, "found": found}


def _size_name(low: float, high: float) -> str:
    return f"{low**0.5:.0f}-{high**0.5:.0f} px" if high < SIDES[-1] ** 2 else f"over {low**0.5:.0f} px"


def curves_picture(details: dict[str, Any]) -> np.ndarray:
    """Precision over recall; AP by keypoint and by size. (H, W, 3) uint8 BGR."""
    recall, *curves = details["precision"].items()
    colours = ((90, 170, 80), (200, 120, 60), (60, 60, 200))
    lines = [Line(f"{name}: AP {np.mean(values):.3f}", recall[1], values, colour) for (name, values), colour in zip(curves, colours)]
    rows = [(_plain(name), [figures["AP"]]) for name, figures in details["keypoints"].items() if figures["people"]]
    sizes = [(f"{name} ({figures['people']})", [figures["AP"]]) for name, figures in details["sizes"].items() if figures["people"]]
    return beside(
        draw_lines("Precision and recall", "recall", "precision", lines),
        draw_bars("AP by keypoint, each alone", Bars(rows, ("AP",), ((200, 120, 60),)), 1),
        draw_bars("AP by size of person (people)", Bars(sizes, ("AP",), ((90, 170, 80),)), 1),
    )


def errors_picture(details: dict[str, Any]) -> np.ndarray:
    """What each kind of error costs, and which keypoints have which. (H, W, 3) uint8 BGR."""
    lost, errors = details["lost_AP"], details["errors"]
    costs = [(f"{_plain(name)} ({errors[name]})" if name in errors else _plain(name), [value]) for name, value in lost.items()]
    shares = []
    for name, figures in details["keypoints"].items():
        counts = [figures["errors"][kind] for kind in KINDS[GOOD + 1 :]]
        shares.append((_plain(name), [100 * count / max(sum(figures["errors"].values()), 1) for count in counts]))
    kinds = KINDS[GOOD + 1 :]
    return beside(
        draw_bars("AP that there would be more without an error (how often it is)", Bars(costs, ("AP",), ((60, 60, 200),)), None),
        draw_bars("Errors by keypoint, % of those annotated in people found", Bars(shares, kinds, tuple(COLOURS[k] for k in kinds)), None),
    )


def _plain(name: str) -> str:
    return name.replace("_", " ")
