"""A sheet of samples: the photograph with all that is annotated in it, and what a pose system makes of it, plain and augmented.

Of a system only what `data.datasets` promises is known. Colours: left-right pairs are orange and blue, as everywhere; the rest is below.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import cv2
import numpy as np
import torch

from config import Config, Skeleton
from config.skeleton import UNLABELLED, VISIBLE
from data.datasets import PoseDataset, collate
from data.inspect.suspects import Suspect
from data.people_file import PeopleFile, unpack_mask
from data.targets import targets_of

Drawn = tuple[np.ndarray, ...]  # a sample's image (H, W, 3) uint8 BGR, then its targets
Colour = tuple[int, int, int]  # BGR
SIDE = 224  # pixels of a panel's height; the photograph has twice as much
CAPTION = 22  # pixels of the line above a row or panel
MAPS = 4  # targets that are shown
FAINT = 0.3  # how strong a filled area is beside heatmaps
FIRST, SECOND, NEITHER = (0, 130, 255), (230, 110, 0), (120, 120, 120)
TINTS = {"people": (90, 200, 90), "unlabelled": (60, 60, 230), "crowd": (220, 80, 200)}  # of masks
BOX, LIMB, WRONG, INK = (60, 220, 240), (235, 235, 235), (0, 0, 200), (40, 40, 40)
SMALL = 100  # pixels of a person on the sheet: smaller dots
WIDEST = 2.0  # a photograph's width over its height


def annotated(people: PeopleFile, number: int, suspected: Collection[int] = ()) -> np.ndarray:
    """A photograph (2 SIDE, w, 3) uint8 BGR with masks tinted, boxes, limbs and joints drawn in; hidden joints are rings.

    suspected: rows of people whose boxes are red.
    """
    image = people.image(number)
    height, width = image.shape[:2]
    out = image.astype(np.float32)
    for colour, bits in zip(TINTS.values(), people.masks(number)):
        where = unpack_mask(bits, height, width) > 0
        out[where] = 0.65 * out[where] + 0.35 * np.array(colour, np.float32)
    scale = min(2 * SIDE / height, WIDEST * 2 * SIDE / width)
    out = cv2.resize(out.clip(0, 255).astype(np.uint8), (max(1, round(width * scale)), max(1, round(height * scale))))
    rows = np.arange(*people.first[number : number + 2])
    for person, box, crowd in zip(rows.tolist(), people.boxes[rows] * scale, people.crowd[rows]):
        colour = WRONG if person in suspected else TINTS["crowd"] if crowd else BOX
        corner, end = np.rint(box[:2]).astype(int), np.rint(box[:2] + box[2:]).astype(int)
        cv2.rectangle(out, corner.tolist(), end.tolist(), colour, 3 if person in suspected else 1, cv2.LINE_AA)
    for joints in people.joints(rows[~people.crowd[rows] & (people.num_labelled[rows] > 0)]):
        _draw_person(out, joints[:, :2] * scale, joints[:, 2], people.skeleton)
    return cv2.copyMakeBorder(out, 0, 2 * SIDE - out.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(255,) * 3)


def _draw_person(out: np.ndarray, points: np.ndarray, v: np.ndarray, skeleton: Skeleton) -> None:
    """points (K, 2) pixels, v (K,) of a training joint."""
    pixels = np.rint(points.clip(-(2**14), 2**14)).astype(int)
    for a, b in skeleton.drawn_ends:
        if UNLABELLED not in (v[a], v[b]):
            cv2.line(out, pixels[a].tolist(), pixels[b].tolist(), LIMB, 1, cv2.LINE_AA)
    colours = dict.fromkeys(range(skeleton.num_keypoints), NEITHER)
    for first, second in skeleton.flip_pairs:
        colours |= {skeleton.index(first): FIRST, skeleton.index(second): SECOND}
    size = 3 if np.ptp(points[v != UNLABELLED], axis=0).max(initial=0) > SMALL else 2
    for k in np.flatnonzero(v != UNLABELLED).tolist():
        cv2.circle(out, pixels[k].tolist(), size + 1, (255, 255, 255), -1 if v[k] == VISIBLE else 2, cv2.LINE_AA)
        cv2.circle(out, pixels[k].tolist(), size, colours[k], -1 if v[k] == VISIBLE else 1, cv2.LINE_AA)


def drawing(samples: PoseDataset, config: Config) -> Callable[[int, np.random.Generator | None], Drawn]:
    """How a sample is drawn, by its number, augmented where there is a generator."""
    targets = targets_of(config)

    def draw(index: int, rng: np.random.Generator | None) -> Drawn:
        image, *annotated = collate([samples.get(index, rng)])
        return image[0].numpy(), *(target[0].numpy() for target in targets(config, torch.device("cpu"), *annotated))

    return draw


def sample_panels(sample: Drawn, name: str) -> list[np.ndarray]:
    """A sample's image, then the image under each target that has the shape of maps, the maximum of its channels; with captions."""
    image, *targets = sample
    panels = [captioned(_at_height(image, SIDE), name)]
    maps = [(place, target) for place, target in enumerate(targets, 1) if target.ndim == 3 and min(target.shape[1:]) > 1]
    for place, target in maps[:MAPS]:
        caption = f"target {place}: {' x '.join(map(str, target.shape))}, to {np.abs(target).max(initial=0):.2g}"
        panels.append(captioned(_at_height(heat_over(image, strength(target)), SIDE), caption))
    return panels


def strength(target: np.ndarray) -> np.ndarray:
    """(h, w) in [0, 1]: the largest magnitude of the channels of (C, h, w), as part of the largest of all.

    Channels that are filled areas, a mask among heatmaps, would hide what is drawn on top of them: they are faint beside others.
    """
    size = np.abs(target)
    peaks = size.max((1, 2), initial=0)
    full, half = ((size >= part * peaks[:, None, None]).sum((1, 2)) for part in (0.99, 0.5))
    areas = (peaks > 0) & (2 * full > half)
    if (~areas & (peaks > 0)).any():
        size[areas] *= FAINT
    return size.max(0, initial=0) / max(float(peaks.max(initial=0)), 1e-12)


def heat_over(image: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8, grey, under the colours of a response (h, w) in [0, 1], the more of them the stronger it is."""
    values = cv2.resize(response.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.float32)
    heat = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_TURBO).astype(np.float32)
    share = 0.6 * np.sqrt(values)[..., None]
    return (grey * (1 - share) + heat * share).astype(np.uint8)


def row(
    people: PeopleFile,
    number: int,
    suspects: Sequence[tuple[str, Suspect]],
    draw: Callable[[int, np.random.Generator | None], Drawn] | None,
    index: int | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """One image's row: the photograph, and a sample of it, plain above and augmented below.

    suspects: what is suspected in the image, by its kind. draw: see `drawing`. index: of the sample; None: the photograph alone.
    """
    photograph = annotated(people, number, {suspect.row for _, suspect in suspects})
    whole = [cv2.copyMakeBorder(photograph, 0, 2 * CAPTION, 0, 6, cv2.BORDER_CONSTANT, value=(255,) * 3)]
    if draw is not None and index is not None:
        kinds = (draw(index, None), "plain"), (draw(index, rng), "augmented")
        whole.append(np.vstack(_same_width([np.hstack(sample_panels(sample, name)) for sample, name in kinds])))
    note = "".join(f"   {kind}: {suspect.what}" for kind, suspect in suspects)
    return captioned(np.hstack(whole), f"image {people.image_ids[number]}{note}", WRONG if note else INK)


def stacked(rows: Sequence[np.ndarray], skeleton: Skeleton, columns: int = 1) -> np.ndarray:
    """Rows of any size on one page under a legend, some beside each other."""
    lines = [legend(skeleton)]
    for start in range(0, len(rows), columns):
        some = rows[start : start + columns]
        tallest = max(len(picture) for picture in some)
        lines.append(np.hstack([_padded(picture, tallest - len(picture), 0) for picture in some]))
    return np.vstack(_same_width(lines))


def legend(skeleton: Skeleton) -> np.ndarray:
    """What the colours of the photographs mean."""
    words = dict(zip((f"{name} ..." for name in sum(skeleton.flip_pairs[:1], ())), (FIRST, SECOND)))
    words |= {"unpaired": NEITHER, "box": BOX, "suspected": WRONG}
    words |= {"people": TINTS["people"], "people without keypoints": TINTS["unlabelled"], "crowd": TINTS["crowd"]}
    out, x = np.full((CAPTION + 6, 960, 3), 255, np.uint8), 6
    for word, colour in [*words.items(), ("ring: labelled but hidden", None)]:
        if colour is not None:
            cv2.rectangle(out, (x, 7), (x + 14, 19), colour, -1)
            x += 20
        cv2.putText(out, word, (x, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
        x += 12 + cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]
    return out


def captioned(picture: np.ndarray, text: str, ink: Colour = INK) -> np.ndarray:
    """The picture with a line of text above, as much of it as fits."""
    line = np.full((CAPTION, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(line, text.encode("ascii", "replace").decode(), (3, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, ink, 1, cv2.LINE_AA)
    return np.vstack([line, picture])


def _at_height(picture: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if height < len(picture) else cv2.INTER_LINEAR)
    return _padded(small, 0, 4)


def _padded(picture: np.ndarray, below: int, right: int) -> np.ndarray:
    return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(255,) * 3)


def _same_width(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    widest = max(picture.shape[1] for picture in pictures)
    return [_padded(picture, 0, widest - picture.shape[1]) for picture in pictures]
