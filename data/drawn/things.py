"""What people sit on, hold and carry, as tubes."""

from __future__ import annotations

import numpy as np

from data.drawn.body import NOBODY
from data.drawn.looks import METAL, THING, Looks
from data.drawn.mesh import Tube, ball, box, tube
from data.drawn.skeleton import Pose, Skeleton, about_y

THIN = np.array([[0, 1.0, 1.0], [1, 1.0, 1.0]])


def things_of(bones: Skeleton, looks: Looks, pose: Pose) -> tuple[list[Tube], tuple[str, ...]]:
    """Tubes, and the sides whose hands grip one of them."""
    tubes = _seat(bones, pose) if pose.kind == "sit on a chair" else _board(bones) if pose.kind == "board" else []
    if not looks.held or pose.kind == "hands on the ground":
        return tubes, ()
    if looks.held == "backpack":
        return tubes + _backpack(bones), ()
    side = "left" if pose.arms["left"][3] < pose.arms["right"][3] else "right"  # the straighter arm
    if looks.held == "phone":
        side = "right" if side == "left" else "left"
    return tubes + _in_hand(looks.held, side, bones), (side,)


def _in_hand(kind: str, side: str, bones: Skeleton) -> list[Tube]:
    frame, wrist = bones.frames[f"{side}_forearm"], bones.joints[f"{side}_wrist"]
    grip = wrist + 0.055 * frame[1]
    if kind == "ball":
        return [ball(grip + 0.075 * frame[1] + 0.02 * frame[2], 0.065, frame, THING, NOBODY)]
    if kind == "phone":
        return [box(grip + 0.02 * frame[1] + 0.01 * frame[2], 0.022 * frame[0], 0.04 * frame[1], 0.005 * frame[2], THING, NOBODY)]
    if kind == "bag":
        down = np.array([0, 1.0, 0])
        return [
            tube(grip, grip + 0.12 * down, frame[2], THIN * [1, 0.02, 0.006], THING, NOBODY),
            box(grip + 0.2 * down, 0.075 * frame[2], 0.085 * down, 0.03 * frame[0], THING, NOBODY),
        ]
    forward = frame[2] + 0.4 * frame[1]
    forward /= np.linalg.norm(forward)
    if kind == "stick":
        return [tube(grip - 0.25 * forward, grip + 0.42 * forward, frame[0], THIN * [1, 0.007, 0.007], THING, NOBODY)]
    turns = np.linspace(0, np.pi, 9)
    head = np.stack([(1 - np.cos(turns)) / 2, 0.075 * np.sin(turns), np.full(9, 0.006)], 1)
    shaft = tube(grip - 0.03 * forward, grip + 0.17 * forward, frame[0], THIN * [1, 0.008, 0.008], METAL, NOBODY)
    return [shaft, tube(grip + 0.16 * forward, grip + 0.36 * forward, frame[1], head, THING, NOBODY)]


def _backpack(bones: Skeleton) -> list[Tube]:
    frame = bones.frames["chest"]
    middle = bones.joints["chest"] + 0.12 * frame[1] - 0.115 * frame[2]
    return [box(middle, 0.085 * frame[0], 0.12 * frame[1], 0.055 * frame[2], THING, NOBODY)]


def _seat(bones: Skeleton, pose: Pose) -> list[Tube]:
    """A chair or a stool below the pelvis; its legs reach the feet."""
    turn = about_y(pose.yaw)
    left, front, down = turn[0], turn[2], np.array([0.0, 1.0, 0.0])
    top = bones.joints["pelvis"] + 0.062 * down + 0.06 * front
    floor = max(bones.joints["left_toe"][1], bones.joints["right_toe"][1])
    tubes = [box(top + 0.015 * down, 0.13 * left, 0.012 * down, 0.13 * front, THING, NOBODY)]
    for x in (-0.115, 0.115):
        for z in (-0.115, 0.115):
            start = top + x * left + z * front
            tubes.append(tube(start, start + max(floor - start[1], 0.05) * down, left, THIN * [1, 0.01, 0.01], METAL, NOBODY))
    if pose.arms["left"][1] < 0.35:  # some have no back
        tubes.append(box(top - 0.17 * down - 0.13 * front, 0.125 * left, 0.1 * down, 0.01 * front, THING, NOBODY))
    return tubes


def _board(bones: Skeleton) -> list[Tube]:
    """A board below both feet."""
    heels = bones.joints["left_ankle"], bones.joints["right_ankle"]
    middle = (heels[0] + heels[1]) / 2 + [0, 0.05, 0]
    along = (heels[0] - heels[1]) * [1, 1, 1]
    along = along / max(np.linalg.norm(along), 1e-6)
    foot = bones.frames["left_foot"]
    across = np.cross(along, foot[1])
    profile = np.array([[0, 0.03, 0.006], [0.1, 0.05, 0.008], [0.9, 0.05, 0.008], [1, 0.03, 0.006]])
    return [tube(middle - 0.26 * along, middle + 0.26 * along, across, profile, THING, NOBODY)]
