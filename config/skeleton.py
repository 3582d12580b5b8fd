"""The skeleton: which keypoints and limbs exist, how they mirror, and what the data set calls them.

A skeleton is data: another one is a YAML file in `config/skeletons`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from config.section import Positive, Section

VISIBLE, HIDDEN, UNLABELLED = 1, 0, 2  # the v of a training joint


class Skeleton(Section):
    """Keypoints, limbs and the data set's own order."""

    name: str
    keypoints: Annotated[tuple[str, ...], Field(min_length=1)]
    limbs: tuple[tuple[str, str], ...]
    flip_pairs: tuple[tuple[str, str], ...]  # left-right partners; a keypoint not named is its own mirror image
    sigmas: dict[str, Positive]  # OKS standard deviation of each keypoint, relative to the square root of the person's area
    dataset: dict[str, str]  # the data set's keypoint names, in its order -> this skeleton's names
    midpoints: dict[str, tuple[str, str]] = {}  # keypoints that no data set labels: the middle of two that are
    drawn: tuple[tuple[str, str], ...] = ()  # pairs joined in pictures; none: the limbs

    @model_validator(mode="after")
    def _consistent(self) -> Skeleton:
        known = set(self.keypoints)
        _once(self.keypoints, "a keypoint is listed twice: {}")
        named = [*sum(self.limbs, ()), *sum(self.flip_pairs, ()), *self.sigmas, *self.dataset.values()]
        named += [*self.midpoints, *sum(self.midpoints.values(), ()), *sum(self.drawn, ())]
        unknown = sorted(set(named) - known)
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of the keypoints")
        missing = sorted(known - set(self.sigmas))
        if missing:
            raise ValueError(f"sigmas lacks {missing[0]!r}")
        _once([*self.dataset.values(), *self.midpoints], "dataset and midpoints: {} stands there twice")
        labelled = set(self.dataset.values())
        unmapped = sorted(known - labelled - set(self.midpoints))
        if unmapped:
            raise ValueError(f"{unmapped[0]!r} is neither in dataset nor in midpoints")
        for name, ends in self.midpoints.items():
            if not set(ends) <= labelled:
                raise ValueError(f"midpoint {name!r}: its ends must both be in dataset")
        _once(sum(self.flip_pairs, ()), "flip_pairs: {} stands there twice")
        for a, b in self.limbs:
            if a == b:
                raise ValueError(f"limb {a}-{b} has no two ends")
        _once(("-".join(sorted(limb)) for limb in self.limbs), "limb {} is listed twice")
        mirror = self._mirror
        limbs = {frozenset(limb) for limb in self.limbs}
        for a, b in self.limbs:
            if frozenset((mirror[a], mirror[b])) not in limbs:
                raise ValueError(f"limb {a}-{b} has no mirror image {mirror[a]}-{mirror[b]}")
        return self

    @property
    def _mirror(self) -> dict[str, str]:
        mirror = {name: name for name in self.keypoints}
        for a, b in self.flip_pairs:
            mirror[a], mirror[b] = b, a
        return mirror

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @property
    def num_limbs(self) -> int:
        return len(self.limbs)

    # Index arrays

    def index(self, keypoint: str) -> int:
        """The number of a keypoint by its name."""
        return self.keypoints.index(keypoint)

    @cached_property
    def limb_ends(self) -> np.ndarray:
        """(L, 2) keypoint numbers of each limb's two ends."""
        return self._ends(self.limbs)

    @cached_property
    def drawn_ends(self) -> np.ndarray:
        """(D, 2) keypoint numbers of the pairs that pictures join."""
        return self._ends(self.drawn or self.limbs)

    def _ends(self, pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
        return np.array([[self.index(a), self.index(b)] for a, b in pairs], np.intp).reshape(-1, 2)

    @cached_property
    def flip_keypoints(self) -> np.ndarray:
        """(K,) the keypoint that takes each place in a mirrored image."""
        return np.array([self.index(self._mirror[name]) for name in self.keypoints], np.intp)

    @cached_property
    def flip_limbs(self) -> np.ndarray:
        """(L,) the limb that takes each place in a mirrored image."""
        number = {frozenset(limb): i for i, limb in enumerate(self.limbs)}
        mirror = self._mirror
        return np.array([number[frozenset((mirror[a], mirror[b]))] for a, b in self.limbs], np.intp)

    @cached_property
    def oks_sigmas(self) -> np.ndarray:
        """(D,) OKS sigmas in the data set's order."""
        return np.array([self.sigmas[name] for name in self.dataset.values()])

    # Between the data set's order and ours

    @cached_property
    def _dataset_indices(self) -> np.ndarray:
        return np.array([self.index(name) for name in self.dataset.values()], np.intp)

    def to_dataset(self, keypoints: np.ndarray) -> np.ndarray:
        """(P, K, 3) in the skeleton's order -> (P, D, 3) in the data set's."""
        return np.asarray(keypoints)[:, self._dataset_indices]

    def labelled_by(self, names: Iterable[str]) -> np.ndarray:
        """(K,) bool: the keypoints that a data set with these names labels, midpoints of two of them too."""
        ours = {self.dataset[name] for name in names if name in self.dataset}
        ours |= {name for name, ends in self.midpoints.items() if set(ends) <= ours}
        return np.array([name in ours for name in self.keypoints])

    def from_dataset(self, joints: np.ndarray) -> np.ndarray:
        """(P, D, 3) x, y, v of labelled joints in the data set's order -> (P, K, 3) in ours.

        v is 1 visible, 0 labelled but hidden, 2 not labelled. A midpoint is labelled if both its ends are, visible if both are visible.
        """
        out = np.zeros((len(joints), self.num_keypoints, 3), np.float32)
        out[..., 2] = UNLABELLED
        out[:, self._dataset_indices] = joints
        for name, (a, b) in self.midpoints.items():
            ends = out[:, [self.index(a), self.index(b)]]
            labelled = (ends[..., 2] != UNLABELLED).all(1)
            middle = np.where(labelled[:, None], ends[..., :2].mean(1), 0)
            v = np.where(labelled, ends[..., 2].min(1), UNLABELLED)
            out[:, self.index(name)] = np.concatenate([middle, v[:, None]], 1)
        return out


def _once(names: Iterable[str], message: str) -> None:
    """Raise ValueError with the message for the first name that comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(message.format(repr(name)))
        seen.add(name)
