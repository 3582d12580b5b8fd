"""One drawn person: pose, build and looks -> a net of triangles as it is seen, and COCO's 17 keypoints.

Lengths are in statures (a person standing upright is about 1 high), so the same figure can be painted at any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.drawn.body import HEAD, LABELS, SKIRT, TRUNK, arm_tubes, leg_tubes, trunk_tubes
from data.drawn.head import DIRECTIONS, head_tubes
from data.drawn.looks import Looks, random_looks
from data.drawn.mesh import Mesh, mesh_of
from data.drawn.poses import plain_pose, random_build, random_pose
from data.drawn.skeleton import SIDES, Build, Pose, about_x, skeleton
from data.drawn.things import random_thing, things_of

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
# A keypoint is seen where one of these parts is in front. Trunk counts for shoulders and hips only on the side towards the viewer.
HOLDERS = {"shoulder": ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "hip": ("thigh",),
           "knee": ("thigh", "shin"), "ankle": ("shin", "shoe")}  # fmt: skip
NEAR = {"shoulder": 0.085, "hip": 0.048}  # behind the trunk's middle by less, so that it is not the far side
FACING = np.array([0.0, 0.1, 0.1, -0.42, -0.42])  # a place on the head is turned to the viewer above this; ears are seen from behind too


@dataclass(frozen=True)
class View:
    """The camera that looks at somebody: radians above them, and its distance in statures."""

    elevation: float = 0.06
    distance: float = 5.0
    stature: float = 250.0  # in pixels, from which follows how fine the net must be


@dataclass(frozen=True)
class Figure:
    """mesh; its points (V, 2) in the picture in statures and their depth (V,); attributes (V, 6): normals and uv for shading.

    `keypoints` (17, 2) in statures; `labels[k]` are the parts that show keypoint k, none if it faces away.
    """

    mesh: Mesh
    points: np.ndarray
    depth: np.ndarray
    attributes: np.ndarray
    looks: Looks
    keypoints: np.ndarray
    labels: list[tuple[int, ...]]
    kind: str = ""

    def extent(self) -> np.ndarray:
        """(4,) least x, least y, greatest x, greatest y in statures."""
        x, y = self.points.T
        return np.array([x.min(), y.min(), x.max(), y.max()])


def _projected(points: np.ndarray, view: View) -> np.ndarray:
    """(N, 3) space -> x, y in the picture and depth, all in statures."""
    turned = points @ about_x(-view.elevation)
    nearness = view.distance / np.maximum(view.distance - turned[:, 2:], 0.3)
    return np.concatenate([turned[:, :2] * nearness, turned[:, 2:]], 1)


def build_figure(pose: Pose, looks: Looks, build: Build, view: View = View()) -> Figure:
    """The net and the keypoints of one person."""
    bones = skeleton(pose, build)
    things, gripping = things_of(bones, looks, pose)
    head, face = head_tubes(bones, build, looks)
    tubes = head + trunk_tubes(bones, build, looks) + things
    for side in SIDES:
        tubes += arm_tubes(bones, build, looks, side, side in gripping) + leg_tubes(bones, build, looks, side)
    joints = np.concatenate([face, [bones.joints[name] for name in KEYPOINTS[5:]]])
    keypoints = _projected(joints, view)
    labels = _labels(bones.frames["head"] @ about_x(-view.elevation), keypoints[:, 2], bool(looks.skirt or looks.coat))
    return _figure(mesh_of(tubes, view.stature), looks, view, keypoints[:, :2], labels, pose.kind)


def _figure(mesh: Mesh, looks: Looks, view: View, keypoints: np.ndarray, labels: list[tuple[int, ...]], kind: str) -> Figure:
    seen = _projected(mesh.points, view)
    attributes = np.concatenate([mesh.normals @ about_x(-view.elevation), mesh.uv], 1).astype(np.float32)
    return Figure(mesh, seen[:, :2], seen[:, 2], attributes, looks, keypoints, labels, kind)


def thing_figure(rng: np.random.Generator, background: np.ndarray, view: View) -> Figure:
    """Something that is no person, and has no keypoints."""
    return _figure(mesh_of(random_thing(rng), view.stature), random_looks(rng, background), view, np.zeros((0, 2)), [], "thing")


def _labels(head: np.ndarray, depth: np.ndarray, skirt: bool) -> list[tuple[int, ...]]:
    """The parts that show each keypoint; head (3, 3) its frame as it is seen, depth (17,) of the keypoints."""
    azimuth = DIRECTIONS[:, 0]
    facing = (np.stack([np.sin(azimuth), np.zeros(5), np.cos(azimuth)], 1) @ head)[:, 2] > FACING
    labels: list[tuple[int, ...]] = [(HEAD,) if seen else () for seen in facing]
    middle = depth[[5, 6, 11, 12]].mean()
    for k, name in enumerate(KEYPOINTS[5:], start=5):
        side, joint = name.split("_")
        shown = tuple(LABELS[f"{side}_{part}"] for part in HOLDERS[joint])
        if joint in ("shoulder", "hip") and depth[k] - middle > -NEAR[joint]:
            shown += (TRUNK,)
        if joint in ("hip", "knee") and skirt:
            shown += (SKIRT,)
        labels.append(shown)
    return labels


def random_figure(rng: np.random.Generator, background: np.ndarray, view: View = View(), plain: bool = False) -> Figure:
    """A person of random build, pose and clothes, to stand before the colour `background` (3,). plain: in an easy pose."""
    pose, build = plain_pose(rng) if plain else random_pose(rng), random_build(rng)
    return build_figure(pose, random_looks(rng, background), build, view)
