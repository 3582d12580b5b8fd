"""Draw a contact sheet: images with their annotations, and a pose system's samples of them, plain and augmented.

It uses the interfaces of `data.datasets` and `data.targets` only, so it works with every pose system.
"""

from collections.abc import Collection, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from config.skeleton import OCCLUDED, UNLABELED, VISIBLE
from data.datasets import PoseDataset, collate
from data.hdf5 import TrainingHDF5, unpack_mask
from data.targets import render_batch
from utils.inspect.issues import LabelIssue
from utils.visualize.contact_sheet import thumbnail
from utils.visualize.heatmaps import overlay_heatmap
from utils.visualize.people import draw_people

Rendered = tuple[np.ndarray, ...]  # a sample's image (H, W, 3) uint8 BGR, then its targets
SIDE = 224  # pixels of a panel's height; the image is as high as two panels; both are at most twice as wide
CAPTION, GAP = 22, 4  # pixels of the line above a panel or row, and beside it
TINTS = (90, 200, 90), (60, 60, 230), (220, 80, 200)  # of the masks of people, people without keypoints and crowd regions
BOX, WRONG, INK = (60, 220, 240), (0, 0, 200), (40, 40, 40)
OPACITY = {VISIBLE: 1.0, OCCLUDED: 0.01, UNLABELED: 0.0}  # as draw_people takes scores


def annotated_image(people: TrainingHDF5, number: int, suspected: Collection[int | None] = ()) -> np.ndarray:
    """Draw masks, boxes, limbs and keypoints onto an image (H, W, 3) uint8 BGR; occluded keypoints are faint.

    suspected: rows in people/* whose boxes are red.
    """
    out = people.image(number)
    height, width = out.shape[:2]
    for color, bits in zip(TINTS, people.masks(number)):
        mask = unpack_mask(bits, height, width) > 0
        out[mask] = np.rint(0.65 * out[mask] + 0.35 * np.array(color)).astype(np.uint8)
    rows = np.arange(*people.first[number : number + 2])
    thin = max(1, round(height / (4 * SIDE)))
    for row, (x, y, w, h), crowd in zip(rows.tolist(), people.boxes[rows].clip(-(2**14), 2**14), people.crowd[rows]):
        color, line = (WRONG, 3 * thin) if row in suspected else (TINTS[2] if crowd else BOX, thin)
        cv2.rectangle(out, (round(x), round(y)), (round(x + w), round(y + h)), color, line, cv2.LINE_AA)
    joints = people.joints(rows[~people.crowd[rows] & (people.num_labeled[rows] > 0)])
    joints[..., 2] = np.select([joints[..., 2] == v for v in OPACITY], list(OPACITY.values()))
    return draw_people(out, joints, people.skeleton)


def render_sample(samples: PoseDataset, index: int, rng: np.random.Generator | None) -> Rendered:
    """Render a sample by its number, augmented if there is a generator."""
    batch: Any = collate([samples.get(index, rng)])
    return batch.image[0].numpy(), *(target[0].numpy() for target in render_batch(batch, samples.config, torch.device("cpu")))


def sample_panels(sample: Rendered, name: str) -> list[np.ndarray]:
    """Return a sample's image, then the image under each target that has the shape of maps, with captions."""
    image, *targets = sample
    panels = [captioned(thumbnail(image, SIDE, 2 * SIDE), name)]
    for number, target in enumerate(targets, 1):
        if target.ndim == 3 and min(target.shape[1:]) > 1:
            strength = np.abs(target).sum(0)  # not the maximum: a mask among heatmaps would hide the others
            overlay = overlay_heatmap(image, strength / max(strength.max(), 1e-12))
            caption = f"target {number}: {' x '.join(map(str, target.shape))}, to {np.abs(target).max():.2g}"
            panels.append(captioned(thumbnail(overlay, SIDE, 2 * SIDE), caption))
    return panels


def image_row(people: TrainingHDF5, number: int, issues: Sequence[tuple[str, LabelIssue]], samples: Sequence[Rendered]) -> np.ndarray:
    """Return the row of an image: with its annotations and, if there are samples, the plain one above the augmented one."""
    image = annotated_image(people, number, {issue.row for _, issue in issues})
    height = 2 * (SIDE + CAPTION)
    row = captioned(thumbnail(image, height, 2 * height), f"image {people.image_ids[number]}")
    if samples:
        panels = [np.hstack(sample_panels(sample, name)) for sample, name in zip(samples, ("plain", "augmented"))]
        parts = row, captioned(np.vstack(panels), "")
        row = np.hstack([padded(part, max(map(len, parts))) for part in parts])
    note = "   ".join(f"{kind}: {issue.message}" for kind, issue in issues)
    return captioned(row, note, WRONG)


def padded(image: np.ndarray, height: int) -> np.ndarray:
    """Add white below the image."""
    return cv2.copyMakeBorder(image, 0, height - len(image), 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3)


def captioned(image: np.ndarray, text: str, color: tuple[int, int, int] = INK) -> np.ndarray:
    """Add a line of text above the image, as much of it as fits, and a gap beside it."""
    out = cv2.copyMakeBorder(image, CAPTION, 0, 0, GAP, cv2.BORDER_CONSTANT, value=(255,) * 3)
    return cv2.putText(out, text.encode("ascii", "replace").decode(), (3, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
