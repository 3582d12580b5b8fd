"""The skeleton: keypoints, limbs, left-right partners, and the data set's names and order.

Another skeleton is another YAML file in `config/skeletons`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from config.section import ConfigSection, Positive

VISIBLE, OCCLUDED, UNLABELED = 1, 0, 2  # the v of a training joint


class Skeleton(ConfigSection):
    name: str
    keypoints: Annotated[tuple[str, ...], Field(min_length=1)]
    limbs: tuple[tuple[str, str], ...]
    flip_pairs: tuple[tuple[str, str], ...]  # left-right partners; other keypoints are unchanged by a flip
    sigmas: dict[str, Positive]  # OKS standard deviation of each keypoint, relative to the square root of the person's area
    dataset: dict[str, str]  # the data set's keypoint names, in its order -> this skeleton's names
    midpoints: dict[str, tuple[str, str]] = {}  # unlabeled keypoints, each the midpoint of two labeled ones
    drawn: tuple[tuple[str, str], ...] = ()  # pairs connected in overlays; empty: the limbs

    @model_validator(mode="after")
    def _consistent(self) -> Skeleton:
        problem = next(self._problems(), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        labeled, limbs = list(self.dataset.values()), [frozenset(limb) for limb in self.limbs]
        pairs = [*self.limbs, *self.flip_pairs, *self.drawn, *self.midpoints.values()]
        for name in (*sum(pairs, ()), *self.sigmas, *labeled, *self.midpoints):
            if name not in self.keypoints:
                yield f"{name!r} is not one of the keypoints"
        once = {"keypoints": self.keypoints, "dataset and midpoints": [*labeled, *self.midpoints], "flip_pairs": sum(self.flip_pairs, ())}
        for key, names in {**once, "limbs": ["-".join(sorted(limb)) for limb in self.limbs]}.items():
            yield from (f"{key}: {name!r} is listed twice" for name, count in Counter(names).items() if count > 1)
        yield from (f"sigmas lacks {name!r}" for name in self.keypoints if name not in self.sigmas)
        yield from (
            f"{name!r} is neither in dataset nor in midpoints" for name in self.keypoints if name not in [*labeled, *self.midpoints]
        )
        yield from (
            f"midpoint {name!r}: its ends must both be in dataset" for name, ends in self.midpoints.items() if not {*ends} <= {*labeled}
        )
        yield from (f"limb {a}-{b} has no two ends" for a, b in self.limbs if a == b)
        mirrored = ((limb, [self._mirror[name] for name in limb]) for limb in self.limbs)
        yield from (f"limb {'-'.join(limb)} has no mirror image {'-'.join(other)}" for limb, other in mirrored if {*other} not in limbs)

    @property
    def _mirror(self) -> dict[str, str]:
        partners = dict(self.flip_pairs)
        return {name: name for name in self.keypoints} | partners | {b: a for a, b in partners.items()}

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @property
    def num_limbs(self) -> int:
        return len(self.limbs)

    # Index arrays

    def index(self, keypoint: str) -> int:
        """Return the number of a keypoint."""
        return self.keypoints.index(keypoint)

    def _indices(self, names: Iterable[str]) -> np.ndarray:
        return np.array([self.index(name) for name in names], np.intp)

    @cached_property
    def limb_ends(self) -> np.ndarray:
        """(L, 2) keypoint numbers of each limb's two ends."""
        return self._indices(sum(self.limbs, ())).reshape(-1, 2)

    @cached_property
    def drawn_ends(self) -> np.ndarray:
        """(D, 2) keypoint numbers of the pairs connected in overlays."""
        return self._indices(sum(self.drawn, ())).reshape(-1, 2) if self.drawn else self.limb_ends

    @cached_property
    def flip_keypoints(self) -> np.ndarray:
        """(K,) the keypoint whose channel each keypoint takes in a mirrored image."""
        return self._indices(self._mirror[name] for name in self.keypoints)

    @cached_property
    def flip_limbs(self) -> np.ndarray:
        """(L,) the limb whose channel each limb takes in a mirrored image."""
        numbers, mirror = {frozenset(limb): number for number, limb in enumerate(self.limbs)}, self._mirror
        return np.array([numbers[frozenset((mirror[a], mirror[b]))] for a, b in self.limbs], np.intp)

    @cached_property
    def oks_sigmas(self) -> np.ndarray:
        """(D,) OKS sigmas in the data set's order."""
        return np.array([self.sigmas[name] for name in self.dataset.values()])

    # Between the data set's order and the skeleton's

    @cached_property
    def _dataset_indices(self) -> np.ndarray:
        return self._indices(self.dataset.values())

    def to_dataset(self, keypoints: np.ndarray) -> np.ndarray:
        """Reorder (P, K, 3) in the skeleton's order to (P, D, 3) in the data set's."""
        return np.asarray(keypoints)[:, self._dataset_indices]

    def own_names(self, names: Iterable[str]) -> list[str]:
        """Return a data set's keypoint names; those that differ from names of `dataset` in case, blanks or signs are these."""
        known = {_letters(name): name for name in self.dataset}
        if len(known) < len(self.dataset):  # names that differ in signs alone
            known = {}
        return [name if name in self.dataset else known.get(_letters(name), name) for name in names]

    def labeled_by(self, names: Iterable[str]) -> np.ndarray:
        """Return (K,) bool: the keypoints that a data set with these names labels, and midpoints of two of them."""
        labeled = {self.dataset[name] for name in names if name in self.dataset}
        labeled |= {name for name, ends in self.midpoints.items() if set(ends) <= labeled}
        return np.array([name in labeled for name in self.keypoints])

    def from_dataset(self, joints: np.ndarray) -> np.ndarray:
        """Reorder (P, D, 3) x, y, v in the data set's order to (P, K, 3) in the skeleton's, with midpoints.

        v is 1 visible, 0 occluded, 2 not labeled. A midpoint is labeled if both its ends are, visible if both are visible.
        """
        out = np.zeros((len(joints), self.num_keypoints, 3), np.float32)
        out[..., 2] = UNLABELED
        out[:, self._dataset_indices] = joints
        for name, (a, b) in self.midpoints.items():
            ends = out[:, [self.index(a), self.index(b)]]
            labeled = (ends[..., 2] != UNLABELED).all(1)
            midpoint = np.where(labeled[:, None], ends[..., :2].mean(1), 0)
            v = np.where(labeled, ends[..., 2].min(1), UNLABELED)
            out[:, self.index(name)] = np.concatenate([midpoint, v[:, None]], 1)
        return out


def _letters(name: str) -> str:
    """Return a name's letters and digits in lower case."""
    return re.sub(r"[\W_]", "", name).lower()
