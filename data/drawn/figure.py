"""One drawn person: joint angles -> joints in space -> a stack of clothed, shaded parts and COCO's 17 keypoints.

Lengths are in statures (a person standing upright is about 1 high), so the same figure can be painted at any size. Space is x to the
right of the picture, y down, z towards the viewer; the pelvis is the origin. A person facing the viewer has the left hand at positive x.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
SIDES = {"left": 1.0, "right": -1.0}
TRUNK, HEAD = 1, 2  # labels of parts; the limbs' labels follow, each side its own, so that a far arm is told from a near one
LIMBS = ("upper_arm", "forearm", "hand", "thigh", "shin", "shoe")
LABELS = {f"{side}_{limb}": 3 + 6 * i + j for i, side in enumerate(SIDES) for j, limb in enumerate(LIMBS)}
# A keypoint is seen where one of these parts is in front. Trunk counts for shoulders and hips only on the side towards the viewer.
HOLDERS = {"shoulder": ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "hip": ("thigh",),
           "knee": ("thigh", "shin"), "ankle": ("shin", "shoe")}  # fmt: skip

HEAD_RADII = np.array([0.068, 0.088, 0.074])  # half width, height, depth: a little larger than life, for small pictures
SKIN = np.array([[165, 190, 228], [150, 180, 225], [130, 165, 215], [105, 140, 195], [75, 105, 160], [50, 72, 115]], np.float32)
HAIR = np.array([[25, 25, 30], [35, 50, 80], [45, 75, 120], [110, 180, 215], [40, 70, 160], [170, 175, 180]], np.float32)
CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 16, endpoint=False)) for f in (np.cos, np.sin)], 1)


@dataclass(frozen=True)
class Cloth:
    """Colours in BGR; `period` of the pattern in statures."""

    colour: np.ndarray
    second: np.ndarray
    pattern: str = "plain"
    period: float = 0.05

    def darker(self, factor: float) -> Cloth:
        return Cloth(self.colour * factor, self.second * factor, self.pattern, self.period)


@dataclass(frozen=True)
class Part:
    """A filled outline (N, 2) in statures. A part with `radius` 0 is flat; others are shaded across their axis (2, 2) like a cylinder."""

    label: int
    outline: np.ndarray
    axis: np.ndarray
    radius: float
    depth: float
    cloth: Cloth


@dataclass(frozen=True)
class Figure:
    """Parts from back to front; `keypoints` (17, 2) in statures; `labels[k]` are the parts that show keypoint k, none if it faces away."""

    parts: list[Part]
    keypoints: np.ndarray
    labels: list[tuple[int, ...]]

    def extent(self) -> np.ndarray:
        """(4,) least x, least y, greatest x, greatest y in statures."""
        points = np.concatenate([part.outline for part in self.parts])
        return np.concatenate([points.min(0), points.max(0)])


@dataclass
class Pose:
    """Angles in radians. A limb is (4,) from hanging down: outwards and forwards of the upper, then of the lower bone."""

    arms: dict[str, np.ndarray]
    legs: dict[str, np.ndarray]
    lean: float  # of the trunk, forwards
    sway: float  # of the trunk, to the person's left
    yaw: float  # 0 faces the viewer, pi shows the back
    head: np.ndarray  # (3,) turn, nod, roll of the head against the trunk
    tilt: float  # of the whole figure in the picture


def _between(rng: np.random.Generator, low: list[float], high: list[float]) -> np.ndarray:
    return np.radians(rng.uniform(low, high))


def random_pose(rng: np.random.Generator) -> Pose:
    """About three in four face the viewer, most stand; one in twenty lies."""
    arms = {s: _between(rng, [6, -12, -12, 0], [28, 18, 28, 40]) for s in SIDES}
    legs = {s: _between(rng, [1, -6, 0, -14], [10, 8, 8, 0]) for s in SIDES}
    lean, sway = _between(rng, [-4, -6], [8, 6])
    turn = rng.random()
    yaw = rng.normal(0, 20) if turn < 0.76 else rng.normal(180, 20) if turn < 0.88 else rng.choice([-1, 1]) * rng.uniform(45, 95)
    action = rng.choice(["stand", "walk", "raise", "wave", "akimbo", "star", "sit", "crouch", "bend"],
                        p=[0.17, 0.16, 0.12, 0.14, 0.11, 0.12, 0.07, 0.05, 0.06])  # fmt: skip
    first, second = rng.permutation(list(SIDES))
    if action == "walk":
        stride, lift = _between(rng, [12, 10], [34, 60])
        legs[first] += [0, stride, 0, stride * 0.6]
        legs[second] -= [0, stride, 0, stride + lift]
        arms[first] -= [0, stride, 0, stride * 0.5]
        arms[second] += [0, stride, 0, stride * 1.5]
    elif action in ("raise", "wave"):
        for side in (first, second) if action == "raise" else (first,):
            arms[side] = _between(rng, [85, -10, 110, -10], [160, 25, 195, 30])
    elif action == "akimbo":
        for side in SIDES:
            arms[side] = _between(rng, [38, -12, -48, 0], [55, 5, -28, 20])
    elif action == "star":
        for side in SIDES:
            arms[side] = _between(rng, [50, -10, 45, -10], [100, 20, 130, 25])
            legs[side] += _between(rng, [8, 0, 8, 0], [22, 4, 22, 2])
    elif action in ("sit", "crouch"):
        low, high = ([4, 68, -4, -14], [20, 92, 8, 8]) if action == "sit" else ([10, 55, 0, -60], [32, 85, 10, -40])
        legs = {s: _between(rng, low, high) for s in SIDES}
        arms = {s: _between(rng, [4, 10, -8, 30], [24, 40, 10, 75]) for s in SIDES}
        lean += 0 if action == "sit" else np.radians(rng.uniform(10, 35))
        yaw += rng.choice([-1, 1]) * rng.uniform(20, 50)  # seen straight on, a thigh that points at the viewer has no length
    elif action == "bend":
        lean = np.radians(rng.uniform(35, 75))
        yaw += rng.choice([-1, 1]) * rng.uniform(30, 60)
        arms = {s: _between(rng, [2, 5, -5, 10], [20, 60, 20, 75]) for s in SIDES}
    tilt = rng.choice([-1, 1]) * rng.uniform(50, 100) if rng.random() < 0.05 else rng.normal(0, 5)
    return Pose(arms, legs, lean, sway, np.radians(yaw), np.radians(rng.normal(0, [14, 7, 5])), np.radians(tilt))


def _bone(away: float, forwards: float, side: float) -> np.ndarray:
    return np.array([side * np.sin(away), np.cos(away) * np.cos(forwards), np.cos(away) * np.sin(forwards)])


def _turned(yaw: float, nod: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(3, 3) rotation of rows: a point turned by roll, then nod (face down is positive), then yaw (to the picture's right)."""
    (cy, cn, cr), (sy, sn, sr) = np.cos([yaw, nod, roll]), np.sin([yaw, nod, roll])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cn, -sn], [0, sn, cn]])
    about_z = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def joints_in_space(pose: Pose, build: np.ndarray) -> dict[str, np.ndarray]:
    """Joint name -> (3,), turned by the pose's yaw. `build` (4,) stretches shoulder width, hip width, trunk and legs."""
    up = np.array([np.sin(pose.sway), -np.cos(pose.lean) * np.cos(pose.sway), np.sin(pose.lean)])
    left = np.cross(up, [0.0, 0.0, 1.0]) * [-1, -1, 1] if abs(up[2]) < 0.5 else np.array([1.0, 0.0, 0.0])
    left = left / np.linalg.norm(left) * np.sign(left[0])
    upright = up + [0, -0.6 * np.sin(pose.lean), 0]  # who bends forwards still raises the head a little
    joints = {"pelvis": np.zeros(3), "chest": 0.275 * build[2] * up, "waist": 0.11 * up}
    joints["head"] = joints["chest"] + 0.125 * upright / np.linalg.norm(upright)
    for name, side in SIDES.items():
        arm, leg = pose.arms[name], pose.legs[name]
        joints[f"{name}_shoulder"] = joints["chest"] + side * 0.115 * build[0] * left
        joints[f"{name}_elbow"] = joints[f"{name}_shoulder"] + 0.165 * _bone(*arm[:2], side)
        joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + 0.145 * _bone(*arm[2:], side)
        joints[f"{name}_hand"] = joints[f"{name}_wrist"] + 0.05 * _bone(*arm[2:], side)
        joints[f"{name}_hip"] = side * 0.068 * build[1] * left
        joints[f"{name}_knee"] = joints[f"{name}_hip"] + 0.225 * build[3] * _bone(*leg[:2], side)
        joints[f"{name}_ankle"] = joints[f"{name}_knee"] + 0.215 * build[3] * _bone(*leg[2:], side)
        joints[f"{name}_heel"] = joints[f"{name}_ankle"] + 0.03 * _bone(*leg[2:], side)
        joints[f"{name}_toe"] = joints[f"{name}_heel"] + [side * 0.03, 0.008, 0.085]
    turn = _turned(pose.yaw)
    return {name: joint @ turn for name, joint in joints.items()}


class _Projection:
    """Space -> picture, in statures: seen from slightly above (near things are lower), then tilted."""

    def __init__(self, tilt: float):
        cos, sin = np.cos(tilt), np.sin(tilt)
        self.matrix = np.array([[1, 0], [0, 1], [0, 0.16]]) @ np.array([[cos, sin], [-sin, cos]])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points) @ self.matrix

    def hull(self, points: list[np.ndarray], radii: list[float]) -> np.ndarray:
        """The outline (N, 2) around balls: two make a tapered capsule, more a trunk."""
        rims = self(np.array(points))[:, None] + np.asarray(radii)[:, None, None] * CIRCLE
        return cv2.convexHull(rims.reshape(-1, 2).astype(np.float32))[:, 0]

    def solid(self, label: int, points: list[np.ndarray], radii: list[float], depth: float, cloth: Cloth, width: float = 0) -> Part:
        """A shaded part whose axis runs from the first point to the last."""
        return Part(label, self.hull(points, radii), self([points[0], points[-1]]), width or max(radii), depth, cloth)


@dataclass(frozen=True)
class Looks:
    """What a person wears. Every choice shows where limbs end: a sleeve, a hem, a hand, a shoe."""

    skin: Cloth
    hair: Cloth
    shirt: Cloth
    trousers: Cloth
    shoes: Cloth
    sleeves: int  # 0 none, 1 to the elbow, 2 to the wrist
    legs: str  # "long", "shorts" or "skirt"
    long_hair: bool
    girth: float


def plain(colour: np.ndarray) -> Cloth:
    """One colour (3,) all over."""
    return Cloth(np.asarray(colour, np.float32), np.asarray(colour, np.float32))


def random_colours(rng: np.random.Generator, count: int, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """(N, 3) float32 BGR of any hue, saturation and value within the given ranges of 0 to 255."""
    hsv = rng.uniform([0, saturation[0], value[0]], [180, saturation[1], value[1]], (1, count, 3))
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)[0].astype(np.float32)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """(3,) float32 BGR."""
    return random_colours(rng, 1, saturation, value)[0]


def _contrasting(rng: np.random.Generator, others: list[np.ndarray], saturation: tuple[float, float]) -> np.ndarray:
    colours = random_colours(rng, 5, saturation, (45, 250))
    apart = np.abs(colours[:, None] - np.stack(others)).sum(2).min(1)
    return colours[apart.argmax()]


def random_looks(rng: np.random.Generator, background: np.ndarray) -> Looks:
    """Clothes that differ from the mean colour (3,) behind the person and from each other, so that most people are easy to see."""
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    if np.abs(hair - skin).sum() < 130:  # hair is what tells a back from a face
        hair = HAIR[0] if skin.mean() > 100 else HAIR[-1]
    shirt = _contrasting(rng, [background, skin], (40, 225))
    trousers = _contrasting(rng, [background, shirt, skin], (10, 190))
    pattern = rng.choice(["plain", "stripes", "bars", "checks"], p=[0.5, 0.2, 0.15, 0.15])
    second = shirt + (255 - shirt) * 0.6 if shirt.mean() < 140 else shirt * 0.55
    return Looks(
        skin=plain(skin),
        hair=plain(hair),
        shirt=Cloth(shirt, second, str(pattern), rng.uniform(0.03, 0.08)),
        trousers=plain(trousers),
        shoes=plain(random_colour(rng, (0, 120), (20, 240))),
        sleeves=int(rng.choice([0, 1, 2], p=[0.15, 0.45, 0.4])),
        legs=str(rng.choice(["long", "shorts", "skirt"], p=[0.55, 0.27, 0.18])),
        long_hair=rng.random() < 0.35,
        girth=rng.uniform(0.9, 1.2),
    )


def _limb_parts(j: dict[str, np.ndarray], looks: Looks, project: _Projection) -> list[Part]:
    """Arms and legs. What is added to the depth settles what touches: hands lie on clothes, thighs end under them.

    The further bone is a little darker, so that a straight elbow, wrist or knee shows too.
    """
    upper_sleeve, lower_sleeve = (looks.shirt if looks.sleeves >= n else looks.skin for n in (1, 2))
    shin_cloth = looks.trousers if looks.legs == "long" else looks.skin
    thigh_cloth = looks.skin if looks.legs == "skirt" else looks.trousers
    bones = (
        ("upper_arm", "shoulder", "elbow", 0.037, 0.029, 0.015, upper_sleeve),
        ("forearm", "elbow", "wrist", 0.029, 0.02, 0.025, lower_sleeve.darker(0.9)),
        ("hand", "wrist", "hand", 0.019, 0.027, 0.03, looks.skin.darker(0.8)),
        ("thigh", "hip", "knee", 0.056, 0.04, -0.03, thigh_cloth),
        ("shin", "knee", "ankle", 0.04, 0.025, -0.035, shin_cloth.darker(0.88)),
        ("shoe", "heel", "toe", 0.031, 0.026, -0.03, looks.shoes),
    )
    parts = []
    for side in SIDES:
        for name, a, b, start, end, nearer, cloth in bones:
            ends = [j[f"{side}_{a}"], j[f"{side}_{b}"]]
            depth = (ends[0][2] + ends[1][2]) / 2 + nearer
            radii = [start * looks.girth, end * looks.girth]
            parts.append(project.solid(LABELS[f"{side}_{name}"], ends, radii, depth, cloth))
    return parts


def _trunk_parts(j: dict[str, np.ndarray], looks: Looks, project: _Projection, facing: float) -> list[Part]:
    """Shirt, hips, neck, skirt, and what only the front has: an open collar and a buckle."""
    g = looks.girth
    shoulders, hips = [j["left_shoulder"], j["right_shoulder"]], [j["left_hip"], j["right_hip"]]
    depth = (j["chest"][2] + j["pelvis"][2]) / 2
    width = 0.12 * max(abs(facing), 0.65) * g
    flanks = [j["waist"] + 0.62 * (hip - j["pelvis"]) for hip in hips]
    parts = [
        project.solid(TRUNK, [j["pelvis"], *hips, *flanks, j["waist"]], [0.06 * g] + [0.05 * g] * 4 + [0.062 * g], depth - 0.01,
                      looks.trousers, width),
        project.solid(TRUNK, [j["chest"], *shoulders, *flanks, j["waist"]], [0.045 * g] + [0.036 * g] * 2 + [0.05 * g] * 2 + [0.064 * g],
                      depth, looks.shirt, width),
        project.solid(HEAD, [j["chest"], j["head"]], [0.036, 0.034], j["chest"][2] + 0.008,
                      looks.skin.darker(0.85)),
    ]  # fmt: skip
    if looks.legs == "skirt":
        hem = [hip + 0.55 * (j[f"{side}_knee"] - hip) for side, hip in zip(SIDES, hips)]
        over_thighs = depth - 0.005 + 0.9 * max(0.0, hem[0][2], hem[1][2])
        radii = [0.055 * g] * 2 + [0.066 * g] * 2
        parts.append(project.solid(TRUNK, [*hips, *hem], radii, over_thighs, looks.trousers, width))
    if facing > 0.25:
        front = np.cross(j["left_shoulder"] - j["chest"], j["chest"] - j["pelvis"])
        front = 0.045 * front / np.linalg.norm(front) * np.sign(front[2])
        spine = j["pelvis"] - j["chest"]
        across = 0.36 * (j["left_shoulder"] - j["chest"])
        collar = project([j["chest"] + across, j["chest"] - across, j["chest"] + front + 0.25 * spine])
        buckle = project.hull([j["waist"] + front], [0.013])
        nearest = depth + 0.009
        parts += [
            Part(TRUNK, collar, collar[:2], 0, nearest, looks.skin),
            Part(TRUNK, buckle, collar[:2], 0, nearest, plain([60, 200, 230])),
        ]
    return parts


def _head_parts(
    j: dict[str, np.ndarray], looks: Looks, project: _Projection, turn: np.ndarray
) -> tuple[list[Part], np.ndarray, np.ndarray]:
    """The head's parts, the five keypoints (5, 3) in space and which of them face the viewer (5,).

    `turn` (3, 3) is the head's rotation. The head is hair with a face painted on its front, so that a back view is hair alone.
    """
    centre, skin, depth = j["head"], looks.skin, j["head"][2] + 0.04

    def surface(directions: np.ndarray) -> np.ndarray:
        return (np.asarray(directions) * HEAD_RADII) @ turn + centre

    def flat(outline: np.ndarray, cloth: Cloth, order: int) -> Part:
        return Part(HEAD, outline, outline[:2], 0, depth + 0.001 * order, cloth)

    ball = project(surface(np.concatenate([CIRCLE, 0 * CIRCLE[:, :1]], 1) @ turn.T))
    top = project(surface([[0, -1, 0], [0, 1, 0]]))
    parts = [Part(HEAD, ball, top, 0.09, depth, looks.hair)]
    if looks.long_hair:
        fall = [surface([0, -0.2, -0.5]), surface([0.4, 1.35, -0.65]), surface([-0.4, 1.35, -0.65])]
        parts.append(project.solid(HEAD, fall, [0.06, 0.04, 0.04], (surface([0, 0.6, -0.7]))[2] * 1.3, looks.hair))
    # The face is a cap of the ball down to the chin; where its rim is turned away it lies on the ball's outline.
    rim = np.concatenate([CIRCLE * [0.86, 0.8] + [0, 0.24], 0.5 - 0.55 * np.maximum(CIRCLE[:, 1:], 0)], 1)
    rim = (rim / np.linalg.norm(rim, axis=1, keepdims=True)) @ turn
    away = rim[:, 2] < 0
    rim[away, :2] /= np.linalg.norm(rim[away, :2], axis=1, keepdims=True)
    if turn[2, 2] > -0.1:
        flattened = np.concatenate([rim[:, :2] * HEAD_RADII[:2] * 0.98 + centre[:2], np.full((16, 1), centre[2])], 1)
        outline = cv2.convexHull(project(flattened).astype(np.float32))[:, 0]
        parts.append(Part(HEAD, outline, top, 0.09, depth + 0.001, skin))
    directions = np.array([[0, 0.16, 1.08], [0.42, -0.1, 0.9], [-0.42, -0.1, 0.9], [1.04, 0.08, -0.05], [-1.04, 0.08, -0.05]])
    points = surface(directions)
    facing = (directions @ turn)[:, 2] > [0.0, 0.12, 0.12, -0.36, -0.36]
    for ear in (3, 4):
        if facing[ear]:
            parts.append(flat(project.hull([points[ear]], [0.02]), skin.darker(0.8), 2))
    for eye in (1, 2):
        if facing[eye]:
            corners = [points[eye] + 0.008 * turn[0], points[eye] - 0.008 * turn[0]]
            parts.append(flat(project.hull(corners, [0.011, 0.011]), plain([245, 245, 245]), 3))
            parts.append(flat(project.hull([points[eye]], [0.0105]), plain([30, 25, 20]), 4))
    if facing[0]:
        nose = surface([[0, -0.08, 1.0], [0.17, 0.26, 0.98], [0, 0.3, 1.14], [-0.17, 0.26, 0.98]])
        parts.append(flat(project(nose), skin.darker(0.66), 5))
    if turn[2, 2] > 0.35:
        parts.append(flat(project(surface([[-0.28, 0.52, 0.84], [0.28, 0.52, 0.84], [0, 0.62, 0.8]])), plain([70, 60, 190]), 3))
    return parts, points, facing


def build_figure(pose: Pose, looks: Looks, build: np.ndarray) -> Figure:
    """All parts and keypoints of one person."""
    joints, project = joints_in_space(pose, build), _Projection(pose.tilt)
    head_turn, nod, roll = pose.head
    turn = _turned(pose.yaw + head_turn, nod + 0.35 * pose.lean, roll - pose.sway)
    head, face, facing = _head_parts(joints, looks, project, turn)
    parts = head + _trunk_parts(joints, looks, project, float(np.cos(pose.yaw))) + _limb_parts(joints, looks, project)
    keypoints, labels = project(face).tolist(), [(HEAD,) if seen else () for seen in facing]
    middle = (joints["chest"][2] + joints["pelvis"][2]) / 2
    for name in KEYPOINTS[5:]:
        side, joint = name.split("_")
        shown = tuple(LABELS[f"{side}_{part}"] for part in HOLDERS[joint])
        if joint in ("shoulder", "hip") and joints[name][2] - middle > -0.08:
            shown += (TRUNK,)
        keypoints.append(project(joints[name]).tolist())
        labels.append(shown)
    return Figure(sorted(parts, key=lambda part: part.depth), np.array(keypoints), labels)


def random_figure(rng: np.random.Generator, background: np.ndarray) -> Figure:
    """A person of random build, pose and clothes, to stand before the colour `background` (3,)."""
    pose = random_pose(rng)
    return build_figure(pose, random_looks(rng, background), rng.uniform([0.9, 0.85, 0.94, 0.94], [1.12, 1.15, 1.06, 1.06]))
