"""A clothed body round a skeleton, as tubes."""

from __future__ import annotations

import numpy as np

from data.drawn.looks import BOTTOM, COLLAR, HAIR, SHOE, SKIN, SOCK, TOP, Looks
from data.drawn.mesh import RINGS, Tube, tube
from data.drawn.skeleton import SIDES, Build, Skeleton

TRUNK, HEAD = 1, 2  # labels of parts; the limbs' labels follow, each side its own, so that a far arm is told from a near one
LIMBS = ("upper_arm", "forearm", "hand", "thigh", "shin", "shoe")
LABELS = {f"{side}_{limb}": 3 + 6 * i + j for i, side in enumerate(SIDES) for j, limb in enumerate(LIMBS)}
NOBODY = 0  # label of what is no part of the body
COVER, SKIRT = 15, 16  # hair and hats, which hide ears; what hangs round the legs, through which knees are told

# Place along the limb, half width in statures
ARM = np.array([[-0.12, 0.008], [-0.05, 0.02], [0.05, 0.0285], [0.25, 0.028], [0.5, 0.0265], [0.75, 0.0245], [1, 0.0215], [1.15, 0.0235],
                [1.3, 0.023], [1.6, 0.0185], [1.9, 0.0145], [2, 0.014]])  # fmt: skip
LEG = np.array([[-0.2, 0.03], [-0.08, 0.05], [0.1, 0.056], [0.3, 0.052], [0.6, 0.043], [0.85, 0.036], [1, 0.034], [1.12, 0.032],
                [1.3, 0.035], [1.5, 0.032], [1.75, 0.023], [1.92, 0.0195], [2.04, 0.019]])  # fmt: skip
ARM_PLACES = np.array([-0.12, -0.06, 0.03, 0.2, 0.45, 0.7, 0.88, 1, 1.12, 1.3, 1.6, 1.85, 1.99])
LEG_PLACES = np.array([-0.2, -0.1, 0.05, 0.3, 0.6, 0.84, 0.94, 1.06, 1.16, 1.35, 1.6, 1.85, 2.04])
# Height from pelvis (0) to chest (1), half width, half depth, how far its middle is before the spine
TRUNK_RINGS = np.array([[1.13, 0.026, 0.026, 0.0], [1.07, 0.056, 0.036, -0.006], [1.0, 0.09, 0.047, -0.008], [0.92, 0.096, 0.058, -0.004],
                        [0.8, 0.095, 0.067, 0.002], [0.68, 0.088, 0.066, 0.004], [0.52, 0.08, 0.059, 0.005], [0.38, 0.079, 0.057, 0.004],
                        [0.22, 0.088, 0.062, 0.0], [0.05, 0.096, 0.068, -0.007], [-0.1, 0.094, 0.068, -0.011],
                        [-0.22, 0.07, 0.05, -0.008], [-0.28, 0.03, 0.03, 0.0]])  # fmt: skip
HAND_PROFILE = np.array([[0, 0.013, 0.012], [0.2, 0.017, 0.013], [0.45, 0.0215, 0.012], [0.6, 0.021, 0.011], [0.85, 0.017, 0.009],
                         [0.97, 0.011, 0.006], [1, 0.004, 0.003]])  # fmt: skip
FIST_PROFILE = np.array([[0, 0.013, 0.012], [0.2, 0.018, 0.016], [0.45, 0.023, 0.02], [0.65, 0.022, 0.02], [0.75, 0.014, 0.012]])
SHOE_PROFILE = np.array([[0, 0.01, 0.012], [0.05, 0.02, 0.024], [0.2, 0.023, 0.031], [0.4, 0.022, 0.027], [0.6, 0.026, 0.02],
                         [0.85, 0.025, 0.015], [0.97, 0.016, 0.011], [1, 0.006, 0.007]])  # fmt: skip


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)


def _limb(
    ends: tuple[np.ndarray, np.ndarray, np.ndarray],
    hinge: np.ndarray,
    s: np.ndarray,
    widths: np.ndarray,
    edge: float,
    wear: tuple[int, int],
    labels: tuple[int, int],
) -> Tube:
    """From the first joint over the second to the third; what is worn (material) changes at the place `edge`.

    s (K,): the `_limb_places`, widths (K,) there; hinge (3,) is the axis that the second joint bends about.
    """
    first, second, third = ends
    upper, lower = second - first, third - second
    s, widths = np.append(s, s[-1]), np.append(widths, 0)
    widths[0] = 0
    below = np.clip(s - 1, 0, None)[:, None]
    centres = first + np.minimum(s, 1)[:, None] * upper + below * lower
    turned = np.clip((s - 0.84) / 0.32, 0, 1)[:, None]
    along = _unit(_unit(upper) * (1 - turned) + _unit(lower) * turned)
    deep = np.cross(np.broadcast_to(hinge, along.shape), along)
    material = np.where(s < edge - 0.006, *wear)
    label = np.where(s < 1, *labels)
    length = np.linalg.norm(upper) * np.minimum(s, 1) + np.linalg.norm(lower) * below[:, 0]
    return Tube(centres, widths[:, None] * hinge, widths[:, None] * _unit(deep), length, material, label)


def _limb_places(places: np.ndarray, edge: float) -> np.ndarray:
    """(K + 2,) the places (K,) along a limb and both sides of the edge, in order."""
    return np.sort(np.concatenate([places, [edge - 0.012, edge]]))


def _limb_widths(table: np.ndarray, s: np.ndarray, edge: float, girth: float, slack: float, flare: float) -> np.ndarray:
    """(K,) half widths at the places s (K,); clothes, which end at the edge, stand off by `slack`, below by `flare` more."""
    dressed = s < edge - 0.006
    return np.interp(s, table[:, 0], table[:, 1]) * girth + dressed * (slack + flare * np.clip(s, 0, 2))


def arm_tubes(bones: Skeleton, build: Build, looks: Looks, side: str, closed: bool) -> list[Tube]:
    """An arm, its hand and the thumb."""
    j, upper, lower = bones.joints, bones.frames[f"{side}_upper_arm"], bones.frames[f"{side}_forearm"]
    girth = build.girth**0.8
    edge = max(looks.sleeves, 0.02)
    s = _limb_places(ARM_PLACES, edge)
    widths = _limb_widths(ARM, s, edge, girth, 0.005 * looks.slack, 0.002 * looks.slack)
    joints = j[f"{side}_shoulder"], j[f"{side}_elbow"], j[f"{side}_wrist"]
    labels = LABELS[f"{side}_upper_arm"], LABELS[f"{side}_forearm"]
    arm = _limb(joints, upper[0], s, widths, edge, (TOP, SKIN), labels)
    flat = _unit(lower[2] + 0.5 * SIDES[side] * lower[0])  # a hanging hand shows its back to the side
    wrist, size = j[f"{side}_wrist"], build.arms
    tips = j[f"{side}_hand"] + 0.012 * lower[2]
    profile = (FIST_PROFILE if closed else HAND_PROFILE) * [1, girth**0.5, girth**0.5]
    label = LABELS[f"{side}_hand"]
    hand = tube(wrist - 0.008 * lower[1], tips, flat, profile, SKIN, label, bow=-0.004 * SIDES[side] * lower[0])
    thumb_root = wrist + 0.022 * size * lower[1] + 0.008 * flat
    thumb_tip = wrist + (0.055 * lower[1] + (0.018 if closed else 0.034) * flat - 0.012 * SIDES[side] * lower[0]) * size
    thumb = tube(thumb_root, thumb_tip, flat, np.array([[0, 0.008, 0.008], [0.8, 0.007, 0.007], [1, 0.004, 0.004]]), SKIN, label)
    return [arm, hand, thumb]


def leg_tubes(bones: Skeleton, build: Build, looks: Looks, side: str) -> list[Tube]:
    """A leg and its shoe."""
    j, thigh, foot = bones.joints, bones.frames[f"{side}_thigh"], bones.frames[f"{side}_foot"]
    dressed = looks.legs > 0 or looks.skirt > 0
    edge = looks.legs or 0.55 * min(looks.skirt, 1.0)  # under a skirt too, which does not close round every pose
    wear = (BOTTOM, SKIN if edge < looks.socks else SOCK)
    slack = 0.004 * looks.slack * dressed
    s = _limb_places(LEG_PLACES, edge)
    widths = _limb_widths(LEG, s, edge, build.girth, slack, 0.0025 * looks.slack * dressed)
    joints = j[f"{side}_hip"], j[f"{side}_knee"], j[f"{side}_ankle"]
    leg = _limb(joints, thigh[0], s, widths, edge, wear, (LABELS[f"{side}_thigh"], LABELS[f"{side}_shin"]))
    if looks.socks < 1.85:
        low = leg.along > np.interp(looks.socks, [0, 1, 2], [0, 0.236, 0.468]) * build.legs
        leg.material[low & (leg.material == SKIN)] = SOCK
    ankle = j[f"{side}_ankle"]
    heel, toe = ankle + 0.016 * foot[1] - 0.032 * foot[2], ankle + 0.03 * foot[1] + 0.108 * foot[2]
    shoe = tube(heel, toe, foot[0], SHOE_PROFILE, SHOE, LABELS[f"{side}_shoe"], 0.8)
    return [leg, shoe]


def _spine(bones: Skeleton, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (K, 3), directions down (K, 3) and to the left (K, 3) at t: 0 at the pelvis, 1 at the chest."""
    j, (pelvis, chest) = bones.joints, (bones.frames["pelvis"], bones.frames["chest"])
    inside = np.clip(t, 0, 1)[:, None]
    bend = j["waist"] * 1.12 - 0.06 * j["chest"]
    points = 2 * inside * (1 - inside) * bend + inside**2 * j["chest"]
    height = np.linalg.norm(j["chest"])
    points = points + np.minimum(t, 0)[:, None] * height * -pelvis[1] + np.maximum(t - 1, 0)[:, None] * height * -chest[1]
    down = _unit((1 - inside) * pelvis[1] + inside * chest[1])
    left = (1 - inside) * pelvis[0] + inside * chest[0]
    left = _unit(left - (left * down).sum(1, keepdims=True) * down)
    return points, down, left


def trunk_tubes(bones: Skeleton, build: Build, looks: Looks) -> list[Tube]:
    """Trunk and neck, and what hangs from the waist."""
    hem = 0.02 if looks.skirt else -0.24 if looks.coat else 0.1  # under a coat there is coat wherever a leg is not
    t = np.concatenate([TRUNK_RINGS[:, 0], [hem + 0.004, hem - 0.004]])
    t = np.sort(t)[::-1]
    t = np.concatenate([t[:1] + 0.01, t])
    ascending = TRUNK_RINGS[::-1]
    width, depth, before = (np.interp(t, ascending[:, 0], ascending[:, k]) for k in (1, 2, 3))
    hips, shoulders = np.interp(t, [0.1, 0.5], [1, 0]), np.interp(t, [0.45, 0.85], [0, 1])
    width = width * (1 + (build.hips - 1) * hips + (build.shoulders - 1) * shoulders)
    bulge = np.exp(-(((t - 0.3) / 0.22) ** 2)) * (build.belly - 1)
    bust = np.exp(-(((t - 0.73) / 0.1) ** 2)) * build.bust * 0.018
    girth = build.girth**0.7
    width, depth = width * girth * (1 + 0.45 * bulge), depth * girth * (1 + 0.8 * bulge) + bust / 2
    before = before + bust / 2 + 0.03 * bulge
    wide = (t > hem) * 0.005 * looks.slack * np.interp(t, [0.9, 1.1], [1, 0])
    width, depth = width + wide, depth + wide
    width[[0, -1]] = depth[[0, -1]] = 0
    points, down, left = _spine(bones, t)
    front = np.cross(left, down)
    material = np.where(t > hem, TOP, BOTTOM)
    along = (1.15 - t) * 0.3 * build.trunk
    trunk = Tube(
        points + before[:, None] * front, width[:, None] * left, depth[:, None] * front, along, material, np.full(RINGS, TRUNK), 0.86
    )
    chest, head = bones.frames["chest"], bones.frames["head"]
    neck = tube(
        bones.joints["chest"] - 0.012 * chest[1] - 0.012 * chest[2],
        bones.joints["head"] + 0.03 * build.head * head[1] - 0.012 * head[2],
        chest[0],
        np.array([[0, 0.042, 0.04], [0.3, 0.034, 0.034], [1, 0.031, 0.032]]) * [1, girth, girth],
        COLLAR if looks.neckline < 0.02 else SKIN,
        HEAD,
    )
    return [trunk, neck] + _hanging(bones, build, looks)


def _hanging(bones: Skeleton, build: Build, looks: Looks) -> list[Tube]:
    """A skirt, or the lower part of a coat, round both legs."""
    length, material = (looks.skirt, BOTTOM) if looks.skirt else (looks.coat, TOP)
    if not length:
        return []
    j = bones.joints
    s = np.concatenate([[0], np.linspace(0, length, RINGS - 2), [length]])
    legs = []
    for side in SIDES:
        hip, knee, ankle = j[f"{side}_hip"], j[f"{side}_knee"], j[f"{side}_ankle"]
        legs.append(hip + np.minimum(s, 1)[:, None] * (knee - hip) + np.maximum(s - 1, 0)[:, None] * (ankle - knee))
    left, right = legs
    radius = np.interp(s, LEG[:, 0], LEG[:, 1]) * build.girth + 0.015 + 0.022 * s * looks.slack
    waist = (np.interp(s, [0, 0.3], [1, 0]) * 0.22)[:, None] * (j["waist"] * 2)
    centres = (left + right) / 2 + waist
    way = np.gradient(centres, axis=0)
    way[0], way[-1] = way[1], way[-2]
    way = _unit(way)
    pelvis = bones.frames["pelvis"][0]
    apart = left - right
    across = apart - (apart * way).sum(1, keepdims=True) * way
    across = _unit(np.where(((across @ pelvis) > 0.03)[:, None], across, pelvis - (way @ pelvis)[:, None] * way))
    width = np.linalg.norm(apart, axis=1) / 2 * np.interp(s, [0, 0.2], [0.9, 1]) + radius
    front = np.cross(across, way)
    spread = np.abs((apart * front).sum(1)) / 2
    width = np.clip(width, 0, 0.22)
    depth = np.maximum(radius + spread, 0.6 * np.minimum(width, 0.12))
    width[[0, -1]] = depth[[0, -1]] = 0
    return [
        Tube(centres, width[:, None] * across, depth[:, None] * front, 0.3 + 0.236 * s, np.full(RINGS, material), np.full(RINGS, SKIRT))
    ]


def hair_down(bones: Skeleton, size: float, looks: Looks, surface: np.ndarray) -> list[Tube]:
    """Hair that stands off or hangs from the head; surface (3,) half width, height and depth of the head."""
    head, centre = bones.frames["head"], bones.joints["head"]
    down = head[1]
    hang = _unit(down + 0.8 * np.array([0, 1.0, 0]))  # it falls
    w, h, d = surface
    back = centre - 0.35 * d * head[2]
    if looks.hair_kind in ("long", "bob"):
        length = (1.1 if looks.hair_kind == "bob" else 2.2) * h
        profile = np.array([[0, 0.5 * w, 0.4 * d], [0.2, 1.1 * w, 0.8 * d], [0.45, 1.25 * w, 0.72 * d], [0.8, 1.25 * w, 0.5 * d],
                            [1, 0.9 * w, 0.25 * d]])  # fmt: skip
        return [tube(back - 0.95 * h * down, back + length * hang - 0.3 * d * head[2], head[0], profile, HAIR, COVER)]
    if looks.hair_kind == "tail":
        root = centre - 1.05 * d * head[2] - 0.35 * h * down
        profile = np.array([[0, 0.3 * w, 0.3 * w], [0.3, 0.5 * w, 0.45 * w], [0.7, 0.45 * w, 0.4 * w], [1, 0.15 * w, 0.1 * w]])
        return [tube(root, root + 1.9 * h * hang - 0.5 * d * head[2], head[0], profile, HAIR, COVER, bow=-0.4 * d * head[2])]
    if looks.hair_kind in ("bun", "afro"):
        bun = looks.hair_kind == "bun"
        middle = centre - (0.95 * d * head[2] + 0.6 * h * down if bun else 0.3 * d * head[2] + 0.3 * h * down)
        radius = (0.55 if bun else 1.55) * w
        turns = np.linspace(0, np.pi, 9)
        profile = np.stack([(1 - np.cos(turns)) / 2, radius * np.sin(turns), radius * np.sin(turns)], 1)
        return [tube(middle - radius * down, middle + radius * down, head[0], profile, HAIR, COVER)]
    return []
