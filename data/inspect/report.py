"""What is in a people file, in lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from config.skeleton import HIDDEN, UNLABELLED, VISIBLE
from data.inspect.suspects import Suspect, box_of
from data.people_file import PeopleFile

BAR = 40  # characters of a whole bar
SHOWN = 10  # suspects of one kind that are named
SIDES = (16, 32, 64, 96, 128, 192, 256, 384, 512)  # where bins of heights begin, and squared those of areas, image pixels
CROWD_OF = (1, 2, 3, 4, 5, 10, 20)  # where bins of people an image begin


def counts(people: PeopleFile, sizes: np.ndarray) -> list[str]:
    """How much of everything; sizes (N,): bytes of each image's file."""
    annotated, total = ~people.crowd, people.path.stat().st_size
    without = annotated & (people.num_labelled == 0)
    least, middle, most = np.quantile(sizes, (0, 0.5, 1)) / 1024
    outlines = "outlines" if people.outlines else "boxes"
    lines = [
        f"images           {len(people):,}",
        f"people           {annotated.sum():,}, masked by their {outlines}; {without.sum():,} of them without keypoints",
        f"crowd regions    {people.crowd.sum():,}",
        f"tracks           {len(np.unique(people.tracks[people.tracks >= 0])):,}",
        f"keypoints        {people.num_labelled[annotated].sum():,}; the file labels {len(people.keypoints)} of {_listed(people)}",
        f"file             {total / 2**20:,.1f} MiB, {total / len(people) / 1024:,.1f} KiB an image",
        f"images' bytes    {least:,.1f} to {most:,.1f} KiB, half of them below {middle:,.1f} KiB",
    ]
    return [line for line in lines if not line.startswith("tracks           0")]


def _listed(people: PeopleFile) -> str:
    return f"the {len(people.skeleton.dataset)} of the skeleton {people.skeleton.name!r}"


def keypoints(people: PeopleFile) -> list[str]:
    """How often each keypoint is labelled among people who have any: visible #, hidden -."""
    rows = np.flatnonzero(~people.crowd & (people.num_labelled > 0))
    v = people.joints(rows)[..., 2]
    width = max(map(len, people.skeleton.keypoints))
    lines = [f"{'':{width}}  {'':{BAR}}  labelled  visible   hidden"]
    for name, of_people in zip(people.skeleton.keypoints, v.T):
        visible, hidden, none = ((of_people == kind).sum() for kind in (VISIBLE, HIDDEN, UNLABELLED))
        first, both = (round(BAR * part / max(len(v), 1)) for part in (visible, visible + hidden))
        bar = "#" * first + "-" * (both - first)
        lines.append(f"{name:{width}}  {bar:{BAR}} {len(v) - none:9,} {visible:8,} {hidden:8,}")
    return lines


def heights(people: PeopleFile) -> list[str]:
    """How many people have boxes so high, image pixels."""
    return histogram(people.boxes[~people.crowd, 3], SIDES, [f"{side}" for side in SIDES])


def areas(people: PeopleFile) -> list[str]:
    """How many people's areas are so large, image pixels squared."""
    return histogram(people.areas[~people.crowd], [side**2 for side in SIDES], [f"{side} x {side}" for side in SIDES])


def people_an_image(people: PeopleFile) -> list[str]:
    """How many images have so many people."""
    number = np.bincount(people.image_of[~people.crowd], minlength=len(people))
    return histogram(number, CROWD_OF, [f"{n}" for n in CROWD_OF])


def histogram(values: np.ndarray, begins: Sequence[float], names: Sequence[str]) -> list[str]:
    """A bar for each bin of values (N,): below the first beginning, from each one to the next, and from the last one on."""
    bins = np.bincount(np.searchsorted(begins, values, side="right"), minlength=len(begins) + 1)
    labels = [f"below {names[0]}", *(f"from {name}" for name in names)]
    width, most = max(map(len, labels)), max(bins.max(), 1)
    return [f"{label:{width}}  {'#' * -(-BAR * n // most):{BAR}} {n:9,}" for label, n in zip(labels, bins.tolist())]


def suspects(people: PeopleFile, found: dict[str, list[Suspect]]) -> list[str]:
    """Each kind of mistake with the images that may have it."""
    lines = []
    for kind, some in found.items():
        lines.append(f"{kind}: {len(some) or 'none'}")
        lines += [f"  {named(people, suspect)}" for suspect in some[:SHOWN]]
        if len(some) > SHOWN:
            ids = dict.fromkeys(int(people.image_ids[suspect.image]) for suspect in some[SHOWN:])
            lines.append(
                f"  and {len(some) - SHOWN} more, in images {', '.join(map(str, list(ids)[: 5 * SHOWN]))}{' ...' * (len(ids) > 5 * SHOWN)}"
            )
    return lines


def named(people: PeopleFile, suspect: Suspect) -> str:
    """A suspect in a line."""
    who = f", {box_of(people, suspect.row)}" if suspect.row is not None else ""
    return f"image {people.image_ids[suspect.image]}{who}: {suspect.what}"


def titled(title: str, lines: Iterable[str]) -> str:
    """A paragraph of the report."""
    return "\n".join([title, *(f"  {line}" for line in lines), ""])
