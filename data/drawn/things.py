"""What people sit on, hold and carry, and what stands about by itself, as tubes."""

from __future__ import annotations

import numpy as np

from data.drawn.body import NOBODY
from data.drawn.looks import BOTTOM, HAIR, METAL, SHOE, THING, TOP, Looks
from data.drawn.mesh import Tube, ball, box, tube
from data.drawn.skeleton import Pose, Skeleton, about_y, about_z

THIN = np.array([[0, 1.0, 1.0], [1, 1.0, 1.0]])


def things_of(bones: Skeleton, looks: Looks, pose: Pose) -> tuple[list[Tube], tuple[str, ...]]:
    """Tubes, and the sides whose hands grip one of them."""
    below = {"sit on a chair": _seat, "sit": _bench, "board": _board}.get(pose.kind)
    tubes = below(bones, pose) if below else []
    if not looks.held or pose.kind == "hands on the ground":
        return tubes, ()
    if looks.held == "backpack":
        return tubes + _backpack(bones), ()
    side = "left" if pose.arms["left"][3] < pose.arms["right"][3] else "right"  # the straighter arm
    if looks.held == "phone":
        side = "right" if side == "left" else "left"
    return tubes + _in_hand(looks.held, side, bones), (side,)


def _in_hand(kind: str, side: str, bones: Skeleton) -> list[Tube]:
    """A ball, a phone, a bag, a stick or a racket in the hand of that side."""
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


def _bench(bones: Skeleton, pose: Pose) -> list[Tube]:
    """A bench, a wall or a box below the pelvis, down to the feet."""
    turn, down = about_y(pose.yaw), np.array([0.0, 1.0, 0.0])
    top = bones.joints["pelvis"] + 0.065 * down + 0.02 * turn[2]
    deep = max(max(bones.joints["left_toe"][1], bones.joints["right_toe"][1]) - top[1], 0.05) / 2
    wide = 0.16 + 0.5 * abs(np.sin(7 * pose.sway))  # as anything that differs from person to person
    return [box(top + deep * down, wide * turn[0], deep * down, 0.15 * turn[2], THING, NOBODY)]


def _board(bones: Skeleton, pose: Pose) -> list[Tube]:
    """A board below both feet."""
    ankles = bones.joints["left_ankle"], bones.joints["right_ankle"]
    middle = (ankles[0] + ankles[1]) / 2 + [0, 0.05, 0]
    along = ankles[0] - ankles[1]
    along = along / max(np.linalg.norm(along), 1e-6)
    foot = bones.frames["left_foot"]
    across = np.cross(along, foot[1])
    profile = np.array([[0, 0.03, 0.006], [0.1, 0.05, 0.008], [0.9, 0.05, 0.008], [1, 0.03, 0.006]])
    return [tube(middle - 0.26 * along, middle + 0.26 * along, across, profile, THING, NOBODY)]


# What stands about. Its lowest point is at y = 0; sizes are in statures of people


def random_thing(rng: np.random.Generator) -> list[Tube]:
    """A piece of furniture, an animal, a plant, a ball, a bag: what is shaded as people are, and is none."""
    make = rng.choice([_table, _stool, _animal, _plant, _pillar, _heap], p=[0.2, 0.13, 0.25, 0.15, 0.12, 0.15])
    return make(rng, about_y(rng.uniform(0, 2 * np.pi)))


def _legs(frame: np.ndarray, width: float, depth: float, top: float, thick: float, material: int) -> list[Tube]:
    """Four, from the height `top` down."""
    corners = [x * width * frame[0] + z * depth * frame[2] for x in (-1, 1) for z in (-1, 1)]
    return [tube(at - [0, top, 0], at, frame[0], THIN * [1, thick, thick], material, NOBODY) for at in corners]


def _table(rng: np.random.Generator, frame: np.ndarray) -> list[Tube]:
    top, width, depth = rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.35)
    plate = box(np.array([0, -top, 0]), width * frame[0], np.array([0, 0.015, 0]), depth * frame[2], THING, NOBODY)
    return [plate, *_legs(frame, 0.85 * width, 0.8 * depth, top, 0.015, int(rng.choice([THING, METAL])))]


def _stool(rng: np.random.Generator, frame: np.ndarray) -> list[Tube]:
    top, down = rng.uniform(0.2, 0.4), np.array([0, 1.0, 0])
    seat = box(-top * down, 0.12 * frame[0], 0.015 * down, 0.12 * frame[2], THING, NOBODY)
    back = box(-(top + 0.17) * down - 0.11 * frame[2], 0.12 * frame[0], rng.uniform(0.05, 0.15) * down, 0.01 * frame[2], TOP, NOBODY)
    return [seat, back, *_legs(frame, 0.11, 0.11, top, 0.01, METAL)]


def _animal(rng: np.random.Generator, frame: np.ndarray) -> list[Tube]:
    """On four legs, from a cat to a horse."""
    long, high = rng.uniform(0.12, 0.75), rng.uniform(0.5, 0.8)
    thick, fur, up = long * rng.uniform(0.16, 0.26), int(rng.choice([HAIR, THING, BOTTOM])), np.array([0, -1.0, 0])
    back, front = (high * long * up + end * 0.45 * long * frame[2] for end in (-1, 1))
    body = np.array([[0, 0.6, 0.6], [0.1, 0.9, 0.95], [0.5, 0.85, 0.9], [0.85, 0.95, 1.1], [1, 0.6, 0.6]]) * [1, thick, thick]
    head = front + 0.35 * long * up + 0.22 * long * frame[2]
    nose = head + 0.3 * long * frame[2] - rng.uniform(0, 0.15) * long * up
    neck = np.array([[0, 0.7, 0.7], [1, 0.45, 0.45]]) * [1, thick, thick]
    skull = np.array([[0, 0.4, 0.4], [0.35, 0.6, 0.6], [0.8, 0.3, 0.3], [1, 0.2, 0.2]]) * [1, thick, thick]
    tail = back - 0.3 * long * frame[2] + rng.uniform(-0.4, 0.3) * long * up
    tubes = [
        tube(back - 0.06 * long * frame[2], front + 0.06 * long * frame[2], frame[0], body, fur, NOBODY),
        tube(front, head, frame[0], neck, fur, NOBODY),
        tube(head - 0.08 * long * frame[2], nose, frame[0], skull, fur, NOBODY),
        tube(back, tail, frame[0], np.array([[0, 0.2, 0.2], [1, 0.1, 0.1]]) * [1, thick, thick], fur, NOBODY),
    ]
    leg = np.array([[0, 0.45, 0.5], [0.5, 0.25, 0.28], [0.9, 0.18, 0.2], [1, 0.2, 0.26]]) * [1, thick, thick]
    for z in (-0.42, 0.42):
        for x in (-1, 1):
            hip = high * long * up + z * long * frame[2] + x * 0.5 * thick * frame[0]
            foot = hip - high * long * up + rng.normal(0, 0.08) * long * frame[2]
            tubes.append(tube(hip, foot * [1, 0, 1], frame[0], leg, fur, NOBODY))
    return tubes


def _plant(rng: np.random.Generator, frame: np.ndarray) -> list[Tube]:
    high, wide = rng.uniform(0.1, 0.25), rng.uniform(0.05, 0.12)
    pot = np.array([[0, 1.1, 1.1], [0.15, 1.0, 1.0], [1, 0.75, 0.75]]) * [1, wide, wide]
    tubes = [tube(np.array([0, -high, 0]), np.zeros(3), frame[0], pot, THING, NOBODY)]
    for _ in range(rng.integers(4, 9)):
        tip = np.array([rng.normal(0, 0.16), -high - rng.uniform(0.15, 0.6), rng.normal(0, 0.16)])
        leaf = np.array([[0, 0.008, 0.004], [0.6, 0.03, 0.006], [1, 0.002, 0.002]])
        tubes.append(tube(np.array([0, -high, 0]), tip, frame[0], leaf, BOTTOM, NOBODY, bow=0.3 * tip * [1, 0, 1]))
    return tubes


def _pillar(rng: np.random.Generator, frame: np.ndarray) -> list[Tube]:
    """A bollard, a hydrant, a lamp post, a bin."""
    high, wide = rng.choice([rng.uniform(0.3, 0.7), rng.uniform(1.5, 2.5)]), rng.uniform(0.02, 0.13)
    profile = np.array([[0, 0.5, 0.5], [0.08, 1, 1], [0.12, 0.85, 0.85], [0.95, 0.9, 0.9], [1, 1.1, 1.1]]) * [1, wide, wide]
    tubes = [tube(np.array([0, -high, 0]), np.zeros(3), frame[0], profile, THING, NOBODY, float(rng.choice([0.25, 1.0])))]
    if rng.random() < 0.5:
        tubes.append(ball(np.array([0, -high - 0.6 * wide, 0]), 1.1 * wide, frame, TOP, NOBODY))
    return tubes


def _heap(rng: np.random.Generator, frame: np.ndarray) -> list[Tube]:
    """Cushions, bags, balls and sticks, as thick as limbs are."""
    tubes = []
    for _ in range(rng.integers(2, 7)):
        turn = about_z(rng.uniform(0, np.pi)) @ frame
        long, thick = rng.uniform(0.1, 0.45), rng.uniform(0.015, 0.08)
        middle = np.array([rng.normal(0, 0.18), -rng.uniform(0.04, 0.3), rng.normal(0, 0.12)])
        profile = np.array([[0, 0.5, 0.5], [0.15, 1, 1], [0.85, rng.uniform(0.6, 1), 0.8], [1, 0.4, 0.4]]) * [1, thick, thick]
        start = middle - long / 2 * turn[1]
        tubes.append(tube(start, middle + long / 2 * turn[1], turn[0], profile, int(rng.choice([THING, TOP, BOTTOM, SHOE])), NOBODY))
    return tubes
