"""Poses as people have them in photographs, within the limits of their joints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data.drawn.skeleton import ARM_LIMITS, LEG_LIMITS, SIDES, Build, Pose, skeleton, through_the_body

# Shares of all people: most stand or walk
KINDS = {"stand": 0.21, "walk": 0.14, "run": 0.055, "raise": 0.05, "wave": 0.075, "akimbo": 0.05, "hold": 0.09, "reach": 0.06,
         "folded": 0.025, "sit": 0.035, "sit on a chair": 0.05, "crouch": 0.025, "kneel": 0.015, "bend": 0.025, "swing": 0.025,
         "jump": 0.015, "board": 0.015, "lie": 0.012, "hands on the ground": 0.006}  # fmt: skip
KINDS["free"] = 1 - sum(KINDS.values())
PLAIN = {"stand": 0.5, "walk": 0.3, "wave": 0.2}
Rng = np.random.Generator
TRIES = 4  # of a pose whose hands would be inside the body


def random_build(rng: np.random.Generator) -> Build:
    """Children, thin and heavy people, women and men."""
    heavy = float(np.clip(rng.normal(0.0, 1.0), -1.6, 3.0))
    girth, belly = 1.05 + 0.1 * heavy + 0.03 * rng.normal(), 1 + max(0.0, 0.45 * heavy + 0.25 * rng.normal())
    if rng.random() < 0.14:  # the younger, the larger the head and the shorter the legs
        young = rng.uniform(0.2, 1)
        return Build(0.92, 0.92, 1 + 0.06 * young, 1 - 0.16 * young, 1 - 0.1 * young, 1.15 + 0.45 * young, girth * 1.05, 1 + 0.2 * young)
    female = rng.random() < 0.45
    wide, hips = (0.92, 1.08) if female else (1.06, 0.97)
    noise = rng.normal(0, 0.035, 5)
    girth *= 0.95 if female else 1.04
    bust = rng.uniform(0.3, 1) if female else 0.0
    return Build(wide + noise[0], hips + noise[1], *(1 + noise[2:]), rng.uniform(1.0, 1.14), girth, belly, bust)


def _yaw(rng: np.random.Generator) -> float:
    """Degrees: most face the viewer, one in seven shows the back."""
    turn = rng.random()
    if turn < 0.58:
        return rng.normal(0, 24)
    return rng.normal(180, 22) if turn < 0.72 else rng.choice([-1, 1]) * rng.uniform(40, 135)


def _both(rng: np.random.Generator, middle: list[float], spread: list[float]) -> dict[str, np.ndarray]:
    """Degrees for both sides, each its own."""
    return {side: rng.normal(middle, spread) for side in SIDES}


def plain_pose(rng: np.random.Generator) -> Pose:
    """Of somebody who stands, walks or waves, towards the viewer; angles in radians."""
    pose = random_pose(rng, PLAIN)
    pose.yaw = float(np.radians(rng.normal(0, 15)))
    return pose


def random_pose(rng: np.random.Generator, shares: Mapping[str, float] | None = None) -> Pose:
    """A pose of a random kind; angles in radians. shares: of each kind, `KINDS` if none are given."""
    shares = KINDS if shares is None else shares
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    pose = _posed(rng, kind)
    for _ in range(TRIES):
        if not through_the_body(skeleton(pose, Build())):
            break
        pose = _posed(rng, kind)
    return pose


def _posed(rng: Rng, kind: str) -> Pose:
    """Somebody who stands, shaped into the kind; what shapes has degrees, and two sides in random order."""
    arms = _both(rng, [2, 9, -10, 16], [9, 5, 18, 12])
    legs = _both(rng, [1, 4, 8, 4, 0], [4, 3, 8, 4, 2])
    body = dict(zip(("lean", "sway", "twist"), rng.normal([3, 0, 0], [4, 3, 7])))
    pose = Pose(arms, legs, **body, yaw=_yaw(rng), head=rng.normal([0, 4, 0], [17, 10, 6]), kind=kind)
    first, second = rng.permutation(list(SIDES))
    _SHAPERS[kind](rng, pose, first, second)
    return _in_radians(rng, pose)


def _in_radians(rng: np.random.Generator, pose: Pose) -> Pose:
    """Within the limits; feet flat where they can be."""
    if pose.kind in FLAT_FEET:
        for leg in pose.legs.values():
            leg[4] += leg[3] - leg[0]
    pose.arms = {side: np.radians(np.clip(arm, *ARM_LIMITS)) for side, arm in pose.arms.items()}
    pose.legs = {side: np.radians(np.clip(leg, *LEG_LIMITS)) for side, leg in pose.legs.items()}
    for name in ("lean", "sway", "twist", "yaw", "pitch"):
        setattr(pose, name, float(np.radians(getattr(pose, name))))
    pose.head = np.radians(np.clip(pose.head, [-70, -45, -35], [70, 50, 35]))
    pose.tilt = float(np.radians(pose.tilt + rng.normal(0, 2.5)))
    return pose


def _stand(rng: Rng, pose: Pose, first: str, second: str) -> None:
    if rng.random() < 0.4:  # the weight on one leg
        pose.legs[first] += [rng.uniform(4, 18), rng.uniform(0, 8), 6, rng.uniform(8, 26), 0]
        pose.sway += rng.normal(0, 4)
    if rng.random() < 0.25:  # apart
        for side in SIDES:
            pose.legs[side][1] += rng.uniform(3, 14)
    if rng.random() < 0.3:  # a hand in the pocket, or before the belly
        pose.arms[first] = rng.normal([-8, 18, -20, 45], [8, 6, 12, 12])
    if rng.random() < 0.15:
        for side in SIDES:
            pose.arms[side] = rng.normal([18, 8, -50, 62], [6, 5, 8, 10])


def _walk(rng: Rng, pose: Pose, first: str, second: str) -> None:
    step, lift = rng.uniform(12, 32), rng.uniform(5, 55)
    pose.legs[first] += [step, 0, -5, rng.uniform(0, 14), 8]
    pose.legs[second] += [-0.7 * step, 0, -5, lift, -18]
    pose.arms[first] += [-0.9 * step, 0, 0, rng.uniform(0, 20)]
    pose.arms[second] += [0.9 * step, 0, 0, rng.uniform(5, 40)]
    _turned_aside(rng, pose, 0.3)


def _run(rng: Rng, pose: Pose, first: str, second: str) -> None:
    reach = rng.uniform(0.5, 1)
    pose.legs[first] += [65 * reach, 0, -8, 75 * reach + rng.normal(0, 12), 0]
    pose.legs[second] += [-22 * reach, 0, -8, rng.uniform(10, 95), -25]
    pose.arms[first] += [-55 * reach, 4, 0, rng.uniform(55, 95)]
    pose.arms[second] += [45 * reach, 0, -15, rng.uniform(60, 100)]
    pose.lean += rng.uniform(4, 18)
    _turned_aside(rng, pose, 0.45)


def _turned_aside(rng: Rng, pose: Pose, share: float) -> None:
    if rng.random() < share:
        pose.yaw = rng.choice([-1, 1]) * rng.uniform(35, 110)


def _raise(rng: Rng, pose: Pose, first: str, second: str) -> None:
    high = rng.uniform(0, 1)
    for side in SIDES:
        pose.arms[side] = rng.normal([10 + 60 * high, 105 + 35 * high, -10, 25], [15, 15, 25, 22])


def _wave(rng: Rng, pose: Pose, first: str, second: str) -> None:
    pose.arms[first] = rng.normal([20, 105, -20, 45], [30, 26, 40, 32])
    if rng.random() < 0.3:
        pose.arms[second] = rng.normal([-5, 40, -60, 80], [10, 7, 12, 12])


def _akimbo(rng: Rng, pose: Pose, first: str, second: str) -> None:
    for side in (first, second) if rng.random() < 0.65 else (first,):
        pose.arms[side] = rng.normal([-14, 44, -62, 84], [6, 6, 8, 9])


def _hold(rng: Rng, pose: Pose, first: str, second: str) -> None:
    """Forearms before the body: eating, reading, at the telephone."""
    for side in (first, second) if rng.random() < 0.6 else (first,):
        pose.arms[side] = rng.normal([18, 8, -28, 88], [14, 8, 16, 20])
    if rng.random() < 0.25:
        pose.arms[first] = rng.normal([35, 25, -25, 132], [10, 12, 12, 8])
    pose.head[1] += rng.uniform(0, 22)


def _reach(rng: Rng, pose: Pose, first: str, second: str) -> None:
    for side in (first, second) if rng.random() < 0.45 else (first,):
        pose.arms[side] = rng.normal([68, 14, -10, 22], [24, 14, 20, 18])
    pose.lean += rng.uniform(-2, 18)
    pose.twist += rng.normal(0, 12)


def _folded(rng: Rng, pose: Pose, first: str, second: str) -> None:
    for side in SIDES:
        pose.arms[side] = rng.normal([26, 6, -62, 98], [5, 4, 5, 6])


def _sit(rng: Rng, pose: Pose, first: str, second: str) -> None:
    apart = rng.uniform(2, 20)
    for side in SIDES:
        thigh = rng.uniform(76, 98)
        pose.legs[side] = np.array([thigh, apart + rng.normal(0, 4), rng.normal(0, 7), thigh + rng.uniform(-28, 22), 0])
        kind = rng.random()
        lap, desk = [26, 7, -18, 62], [42, 14, -20, 72]
        pose.arms[side] = rng.normal(lap if kind < 0.55 else desk, [9, 6, 10, 14])
    if rng.random() < 0.15:  # the legs crossed
        pose.legs[first][:4] = [98, -10, 0, 95]
    pose.lean += rng.uniform(-14, 20)
    if rng.random() < 0.75:
        pose.yaw = rng.choice([-1, 1]) * rng.uniform(15, 100)
    if rng.random() < 0.2:
        pose.arms[first] = rng.normal([50, 20, -20, 110], [20, 20, 20, 20])


def _crouch(rng: Rng, pose: Pose, first: str, second: str) -> None:
    thigh, deep = rng.uniform(60, 110), rng.uniform(0, 15)
    for side in SIDES:
        pose.legs[side] = np.array([thigh + rng.normal(0, 6), rng.uniform(6, 30), 12, thigh + 25 + deep, 0])
        pose.arms[side] = rng.normal([70, 8, -10, 35], [22, 9, 14, 25])
    pose.lean += rng.uniform(15, 45)
    pose.head[1] -= 0.5 * pose.lean
    _turned_aside(rng, pose, 0.5)


def _kneel(rng: Rng, pose: Pose, first: str, second: str) -> None:
    pose.legs[first] = rng.normal([88, 10, 0, 92, 0], [8, 5, 5, 8, 3])
    pose.legs[second] = rng.normal([2, 6, 0, 92, -40], [8, 4, 5, 8, 5])
    if rng.random() < 0.4:
        pose.legs[first] = pose.legs[second] + rng.normal(0, 4, 5)
    for side in SIDES:
        pose.arms[side] += [rng.uniform(10, 60), 5, -5, rng.uniform(0, 60)]
    pose.lean += rng.uniform(0, 30)
    _turned_aside(rng, pose, 0.6)


def _bend(rng: Rng, pose: Pose, first: str, second: str) -> None:
    pose.lean = rng.uniform(35, 95)
    for side in SIDES:
        pose.arms[side] = rng.normal([pose.lean + 8, 8, 0, 14], [16, 8, 12, 12])
        pose.legs[side] += [rng.uniform(0, 22), 5, 0, rng.uniform(0, 34), 0]
    pose.head[1] -= 0.4 * pose.lean
    _turned_aside(rng, pose, 0.7)


def _swing(rng: Rng, pose: Pose, first: str, second: str) -> None:
    """A racket, a bat, a throw, a kick."""
    if rng.random() < 0.5:
        pose.arms[first] = rng.normal([60, 70, 10, 45], [50, 35, 35, 30])
        pose.arms[second] = rng.normal([45, 30, -10, 50], [30, 25, 25, 30])
        pose.legs[first] += rng.normal([25, 12, 0, 30, 0], [12, 6, 5, 15, 5])
        pose.legs[second] += rng.normal([-12, 12, 0, 30, -12], [10, 6, 5, 15, 5])
    else:
        pose.legs[first] += rng.normal([62, 8, 0, 28, -20], [22, 10, 8, 22, 8])
        pose.arms[second] = rng.normal([45, 45, 0, 30], [20, 20, 15, 15])
        pose.arms[first] = rng.normal([-25, 40, 0, 30], [15, 20, 15, 15])
    pose.twist += rng.normal(0, 22)
    pose.lean += rng.uniform(-12, 26)
    pose.sway += rng.normal(0, 10)


def _jump(rng: Rng, pose: Pose, first: str, second: str) -> None:
    for side in SIDES:
        pose.legs[side] = rng.normal([42, 20, 10, 65, -25], [26, 12, 10, 30, 10])
        pose.arms[side] = rng.normal([55, 70, 0, 30], [40, 30, 25, 22])
    pose.tilt = rng.normal(0, 14)


def _board(rng: Rng, pose: Pose, first: str, second: str) -> None:
    low = rng.uniform(15, 60)
    for side in SIDES:
        pose.legs[side] = np.array([low, 22, 18, 1.7 * low, 0]) + rng.normal(0, 4, 5)
        pose.arms[side] = rng.normal([20, 52, 0, 30], [20, 18, 20, 16])
    pose.lean += rng.uniform(0, 30)
    pose.sway += rng.normal(0, 7)
    pose.tilt = rng.normal(0, 9)


def _lie(rng: Rng, pose: Pose, first: str, second: str) -> None:
    pose.pitch = rng.choice([-1, 1]) * rng.uniform(80, 100)
    pose.yaw = rng.choice([-90, 90]) + rng.normal(0, 28)
    for side in SIDES:
        pose.legs[side] += rng.normal([18, 6, 0, 30, -20], [18, 6, 6, 25, 8])
        pose.arms[side] = rng.normal([30, 40, 0, 40], [40, 35, 20, 35])


def _hands_on_the_ground(rng: Rng, pose: Pose, first: str, second: str) -> None:
    if rng.random() < 0.6:  # on hands and knees, or press-ups
        down, knee = 90, rng.choice([3, 85])
        pose.lean, pose.pitch = 0, -75 if knee < 10 else 0
        if knee > 10:
            pose.lean = 80
        for side in SIDES:
            pose.arms[side] = rng.normal([down - 4, 8, 0, 10], [5, 4, 6, 8])
            pose.legs[side] = np.array([4, 5, 0, knee, -20]) + rng.normal(0, 4, 5)
        pose.yaw = rng.choice([-1, 1]) * rng.uniform(50, 110)
        pose.head[1] -= 25
    else:
        pose.tilt = 180 + rng.normal(0, 18)
        for side in SIDES:
            pose.arms[side] = rng.normal([165, 12, 0, 8], [8, 6, 10, 6])
            pose.legs[side] += rng.normal([5, 12, 0, 15, -25], [18, 14, 6, 18, 6])


def _free(rng: Rng, pose: Pose, first: str, second: str) -> None:
    """Anything that the joints allow, but near the middle."""
    for side in SIDES:
        share = rng.beta(2, 2, 4)
        pose.arms[side] = ARM_LIMITS[0] + share * (ARM_LIMITS[1] - ARM_LIMITS[0])
        pose.legs[side] = LEG_LIMITS[0] + rng.beta(2, 3, 5) * (LEG_LIMITS[1] - LEG_LIMITS[0])
    pose.lean, pose.sway, pose.twist = rng.normal([10, 0, 0], [18, 9, 18])
    pose.tilt, pose.pitch = rng.normal(0, 16), rng.normal(0, 12)


FLAT_FEET = ("stand", "raise", "wave", "akimbo", "hold", "reach", "folded", "sit", "sit on a chair", "crouch", "bend", "board")
_SHAPERS = {"stand": _stand, "walk": _walk, "run": _run, "raise": _raise, "wave": _wave, "akimbo": _akimbo, "hold": _hold, "reach": _reach,
            "folded": _folded, "sit": _sit, "sit on a chair": _sit, "crouch": _crouch, "kneel": _kneel, "bend": _bend, "swing": _swing,
            "jump": _jump, "board": _board, "lie": _lie, "hands on the ground": _hands_on_the_ground, "free": _free}  # fmt: skip
