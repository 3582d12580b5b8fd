"""A person's skeleton: lengths of bones, joint angles and, from the two, where the joints are in space.

Lengths are in statures (an adult standing upright is about 1 high). Space is x to the right of the picture, y down, z towards the viewer;
the pelvis is the origin. A person facing the viewer has the left hand at positive x. A bone's frame (3, 3) has in its rows where the
person's left, the way along the bone and the front of the body have come to; a row of coordinates is turned from the left: row @ frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SIDES = {"left": 1.0, "right": -1.0}
# Degrees. Arms: forwards, outwards, turned outwards, elbow; legs: forwards, outwards, turned outwards, knee, toes up
ARM_LIMITS = np.array([[-55, -25, -85, 0], [178, 150, 70, 145]])
LEG_LIMITS = np.array([[-30, -15, -30, 0, -50], [125, 60, 45, 145, 28]])
UPPER_ARM, FOREARM, HAND, THIGH, SHIN, SOLE = 0.172, 0.15, 0.1, 0.236, 0.232, 0.045
TRUNK_LENGTH, WAIST, NECK, HEAD_UP = 0.3, 0.12, 0.045, 0.064
SHOULDER, HIP = 0.102, 0.056  # from the middle


@dataclass(frozen=True)
class Build:
    """How a body differs from an average adult's, of whom all are 1: lengths and widths of parts, and girth of limbs and belly."""

    shoulders: float = 1.0
    hips: float = 1.0
    trunk: float = 1.0
    legs: float = 1.0
    arms: float = 1.0
    head: float = 1.0
    girth: float = 1.0
    belly: float = 1.0
    bust: float = 0.0  # 0 flat, 1 full


@dataclass
class Pose:
    """Angles in radians, within the limits of the joints above; arms are told against the chest, legs against the upright pelvis."""

    arms: dict[str, np.ndarray]  # (4,) forwards, outwards, turned outwards, elbow
    legs: dict[str, np.ndarray]  # (5,) forwards, outwards, turned outwards, knee, toes up
    lean: float = 0.0  # of the trunk, forwards
    sway: float = 0.0  # of the trunk, to the person's left
    twist: float = 0.0  # of the chest against the pelvis, to the left
    yaw: float = 0.0  # 0 faces the viewer, pi shows the back
    head: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) turn, nod, roll against the chest
    pitch: float = 0.0  # of the whole body, backwards: at pi / 2 it lies on its back
    tilt: float = 0.0  # of the whole figure in the picture
    kind: str = ""


def about_x(angle: float) -> np.ndarray:
    """(3, 3) turning down to the front."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def about_y(angle: float) -> np.ndarray:
    """(3, 3) turning the front to the left."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def about_z(angle: float) -> np.ndarray:
    """(3, 3) turning down to the left."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Skeleton:
    """Joint name -> (3,) in space, and bone name -> its frame (3, 3)."""

    joints: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]


def skeleton(pose: Pose, build: Build) -> Skeleton:
    """Forward kinematics: pelvis -> chest -> head and arms, pelvis -> legs."""
    root = about_x(pose.pitch) @ about_y(pose.yaw) @ about_z(pose.tilt)
    pelvis = about_z(-0.4 * pose.sway) @ about_x(-0.5 * pose.lean) @ root
    chest = about_y(pose.twist) @ about_z(-pose.sway) @ about_x(-pose.lean) @ root
    turn, nod, roll = pose.head
    head = about_z(-roll) @ about_x(-nod) @ about_y(turn) @ chest
    joints, frames = {"pelvis": np.zeros(3)}, {"pelvis": pelvis, "chest": chest, "head": head}
    joints["waist"] = -WAIST * build.trunk * pelvis[1]
    joints["chest"] = joints["waist"] - (TRUNK_LENGTH - WAIST) * build.trunk * chest[1]
    joints["neck"] = joints["chest"] - NECK * chest[1] + 0.008 * chest[2]
    joints["head"] = joints["neck"] - HEAD_UP * build.head * head[1] + 0.012 * head[2]
    for name, side in SIDES.items():
        forwards, outwards, turned, elbow = pose.arms[name]
        raised = max(0.0, float(np.sin(min(outwards, 1.6)) + forwards / 3.1 - 0.75))  # shoulders rise with a raised arm
        upper = about_y(side * turned) @ about_z(side * outwards) @ about_x(forwards) @ chest
        lower = about_x(elbow) @ upper
        at = joints["chest"] + side * SHOULDER * build.shoulders * (1 - 0.1 * raised) * chest[0] - 0.035 * raised * chest[1]
        frames[f"{name}_upper_arm"], frames[f"{name}_forearm"] = upper, lower
        joints[f"{name}_shoulder"] = at + 0.02 * chest[1]
        joints[f"{name}_elbow"] = joints[f"{name}_shoulder"] + UPPER_ARM * build.arms * upper[1]
        joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + FOREARM * build.arms * lower[1]
        joints[f"{name}_hand"] = joints[f"{name}_wrist"] + HAND * build.arms * lower[1]
        forwards, outwards, turned, knee, toes = pose.legs[name]
        thigh = about_y(side * turned) @ about_z(side * outwards) @ about_x(forwards) @ root
        shin = about_x(-knee) @ thigh
        foot = about_x(-toes) @ shin
        frames[f"{name}_thigh"], frames[f"{name}_shin"], frames[f"{name}_foot"] = thigh, shin, foot
        joints[f"{name}_hip"] = side * HIP * build.hips * pelvis[0]
        joints[f"{name}_knee"] = joints[f"{name}_hip"] + THIGH * build.legs * thigh[1]
        joints[f"{name}_ankle"] = joints[f"{name}_knee"] + SHIN * build.legs * shin[1]
        joints[f"{name}_toe"] = joints[f"{name}_ankle"] + 0.03 * foot[1] + 0.1 * foot[2]
    return Skeleton(joints, frames)


def through_the_body(bones: Skeleton) -> bool:
    """Whether a hand or an elbow is inside the trunk, the head or a thigh."""
    j = bones.joints
    ends = [(j["waist"], j["chest"], 0.07), (j["pelvis"], j["waist"], 0.075), (j["neck"], j["head"], 0.05)]
    ends += [(j[f"{side}_hip"], j[f"{side}_knee"], 0.035) for side in SIDES]
    starts, stops = np.array([e[0] for e in ends]), np.array([e[1] for e in ends])
    points = np.array([j[f"{side}_{joint}"] for side in SIDES for joint in ("elbow", "wrist", "hand")])
    along = stops - starts
    share = np.clip(((points[:, None] - starts) * along).sum(-1) / (along * along).sum(-1), 0, 1)
    apart = np.linalg.norm(points[:, None] - starts - share[..., None] * along, axis=-1)
    return bool((apart < [e[2] for e in ends]).any())
