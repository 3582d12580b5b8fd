"""What people look like: skin, hair, clothes, and what they carry."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

# What a triangle of a figure is made of: the row of Looks.palette, and how it is shaded
SKIN, FACE, HAIR, TOP, BOTTOM, SHOE, SOCK, HAT, THING, METAL, COLLAR = MATERIALS = range(11)
BARE = (SKIN, FACE)
CLOTH = (TOP, BOTTOM, HAT)

SKIN_TONES = np.array([[172, 194, 232], [160, 187, 228], [150, 180, 225], [136, 168, 215], [115, 150, 202], [95, 128, 184], [72, 100, 156],
                       [55, 78, 126], [42, 58, 98]], np.float32)  # fmt: skip
HAIR_TONES = np.array([[22, 22, 26], [28, 34, 46], [34, 48, 72], [45, 70, 110], [80, 130, 170], [120, 180, 215], [40, 70, 150],
                       [165, 168, 172], [215, 215, 218]], np.float32)  # fmt: skip
HAIR_SHARES = (0.14, 0.15, 0.18, 0.17, 0.1, 0.09, 0.05, 0.07, 0.05)
HAIR_KINDS = ("bald", "short", "buzz", "bob", "long", "tail", "bun", "afro")
PATTERNS = ("plain", "stripes", "bars", "checks", "dots", "noise", "print", "halves")
HELD = ("", "bag", "ball", "racket", "phone", "stick", "backpack")


@dataclass(frozen=True)
class Cloth:
    """Colours in BGR; `period` of the pattern in statures; `shift` tells one cloth's folds and prints from another's."""

    colour: np.ndarray
    second: np.ndarray
    pattern: str = "plain"
    period: float = 0.05
    folds: float = 0.3
    shift: int = 0


@dataclass(frozen=True)
class Looks:
    """Lengths of clothes are places along limbs: 0 at the shoulder or hip, 1 at elbow or knee, 2 at wrist or ankle."""

    skin: np.ndarray
    hair: np.ndarray
    top: Cloth
    bottom: Cloth
    shoes: np.ndarray
    sleeves: float = 0.5
    legs: float = 1.95
    skirt: float = 0.0  # its length, 0 for none
    coat: float = 0.0  # how far the top hangs over the legs, 0 for not
    open_front: float = 0.0  # angle round the trunk within which the top shows what is under it
    under: np.ndarray = field(default_factory=lambda: np.full(3, 230.0, np.float32))
    neckline: float = 0.2
    slack: float = 1.0  # how wide the clothes are
    socks: float = 1.9  # where they begin
    hair_kind: str = "short"
    fringe: float = -0.5  # where the hair ends on the forehead: -1 is the crown, 1 the chin
    beard: float = 0.0
    glasses: int = 0  # 1 clear, 2 dark
    hat: str = ""
    hat_colour: np.ndarray = field(default_factory=lambda: np.full(3, 90.0, np.float32))
    held: str = ""
    thing: np.ndarray = field(default_factory=lambda: np.full(3, 60.0, np.float32))
    lips: float = 0.2

    def palette(self) -> np.ndarray:
        """(M, 3) BGR of every material."""
        metal = np.full(3, 120.0)
        rows = (self.skin, self.skin, self.hair, self.top.colour, self.bottom.colour, self.shoes, self.under, self.hat_colour, self.thing,
                metal, self.under)  # fmt: skip
        return np.array(rows, np.float32)


def random_colours(rng: np.random.Generator, count: int, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """(N, 3) float32 BGR of any hue, saturation and value within the given ranges of 0 to 255."""
    hsv = rng.uniform([0, saturation[0], value[0]], [180, saturation[1], value[1]], (1, count, 3))
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)[0].astype(np.float32)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """(3,) float32 BGR."""
    return random_colours(rng, 1, saturation, value)[0]


def _cloth_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """(N, 3) colours as clothes have them: as often white, grey, black and navy as bright."""
    kind = rng.choice(4, count, p=[0.34, 0.16, 0.24, 0.26])  # grey, navy, pale, bright
    low = np.array([[0, 0, 0], [100, 70, 25], [0, 10, 130], [0, 70, 80]])[kind]
    high = np.array([[180, 14, 255], [120, 200, 90], [180, 90, 245], [180, 205, 225]])[kind]
    hsv = rng.uniform(low, high)
    greys = rng.choice([26, 42, 65, 95, 135, 175, 212, 236], count) + rng.normal(0, 5, count)
    hsv[:, 2] = np.where(kind == 0, greys, hsv[:, 2])
    colours = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8)[None], cv2.COLOR_HSV2BGR)[0]
    return np.clip(colours * [0.97, 0.95, 1.04], 20, 245).astype(np.float32)


def _unlike(rng: np.random.Generator, colours: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """One of the colours (N, 3), mostly the one that differs most from the others (3,)."""
    apart = np.abs(colours[:, None] - np.stack(others)).sum(2).min(1)
    return colours[apart.argmax() if rng.random() < 0.75 else 0]


def random_cloth(rng: np.random.Generator, others: list[np.ndarray], shares: tuple[float, ...]) -> Cloth:
    """A cloth that differs from the other colours (3,) mostly; shares of PATTERNS."""
    colours = _cloth_colours(rng, 4)
    colour = _unlike(rng, colours[1:], others)
    second = colours[0] if rng.random() < 0.5 else colour + (255 - colour) * 0.55 if colour.mean() < 130 else colour * 0.5
    return Cloth(
        colour,
        np.asarray(second, np.float32),
        str(rng.choice(PATTERNS, p=shares)),
        float(rng.uniform(0.014, 0.06)),
        float(rng.uniform(0.06, 0.27)),
        int(rng.integers(256)),
    )


def random_looks(rng: np.random.Generator, background: np.ndarray) -> Looks:
    """Clothes that differ mostly from the mean colour (3,) behind the person and from each other."""
    tone = float(np.clip(rng.normal(2.6, 2.3), 0, len(SKIN_TONES) - 1.01))
    skin = SKIN_TONES[int(tone)] * (1 - tone % 1) + SKIN_TONES[int(tone) + 1] * (tone % 1) + rng.normal(0, 4, 3)
    dark = tone > 4.5
    hair = HAIR_TONES[rng.integers(3) if dark and rng.random() < 0.85 else rng.choice(len(HAIR_TONES), p=HAIR_SHARES)] * rng.uniform(
        0.8, 1.15
    )
    top = random_cloth(rng, [background, skin], (0.5, 0.11, 0.04, 0.07, 0.03, 0.06, 0.14, 0.05))
    trousers = random_cloth(rng, [background, top.colour], (0.84, 0.02, 0.04, 0.05, 0.02, 0.03, 0.0, 0.0))
    if rng.random() < 0.3:  # jeans
        colour = np.array([118, 90, 66], np.float32) * rng.uniform(0.45, 1.5)
        trousers = Cloth(colour, colour * 1.18 + 6, "noise", 0.03, trousers.folds, trousers.shift)
    outfit = rng.choice(["casual", "sport", "suit", "dress", "coat", "jacket"], p=[0.5, 0.16, 0.07, 0.1, 0.06, 0.11])
    spare = _cloth_colours(rng, 4)
    worn: dict = {
        "sleeves": float(
            rng.choice([rng.uniform(0, 0.2), rng.uniform(0.4, 0.85), rng.uniform(1.1, 1.7), 1.93], p=[0.13, 0.44, 0.06, 0.37])
        ),
        "legs": float(rng.choice([rng.uniform(0.3, 0.6), rng.uniform(0.65, 1.1), rng.uniform(1.3, 1.7), 1.93], p=[0.06, 0.22, 0.04, 0.68])),
        "neckline": float(rng.choice([rng.uniform(0.0, 0.12), rng.uniform(0.15, 0.42)])),
    }
    if outfit == "sport":
        worn |= {"sleeves": float(rng.uniform(0.05, 0.7)), "legs": float(rng.uniform(0.35, 0.9)), "socks": float(rng.uniform(1.3, 1.9))}
    elif outfit == "suit":
        top = Cloth(random_colour(rng, (0, 60), (18, 110)), top.second, "plain", 0.05, 0.15, top.shift)
        trousers = Cloth(top.colour * rng.uniform(0.85, 1.05), top.colour, "plain", 0.05, 0.15, trousers.shift)
        worn |= {"sleeves": 1.93, "legs": 1.95, "open_front": rng.uniform(0.2, 0.45), "coat": 0.22, "neckline": 0.0}
    elif outfit == "dress":
        worn |= {"sleeves": float(rng.choice([0.05, 0.4, 1.9])), "legs": 0.0, "skirt": float(rng.uniform(0.55, 1.6))}
        trousers = top if rng.random() < 0.6 else trousers
    elif outfit in ("coat", "jacket"):
        worn |= {"sleeves": 1.95, "coat": 0.8 if outfit == "coat" else 0.0, "open_front": rng.choice([0, rng.uniform(0.15, 0.7)])}
    kinds = [0.08, 0.42, 0.1, 0.12, 0.13, 0.07, 0.05, 0.03]
    return Looks(
        skin=np.asarray(skin, np.float32),
        hair=np.asarray(hair, np.float32),
        top=top,
        bottom=trousers,
        shoes=random_colour(rng, (0, 60), (10, 70)) if rng.random() < 0.55 else spare[0],
        under=np.full(3, 232.0) if rng.random() < 0.5 else spare[1],
        slack=float(rng.uniform(0.5, 1.7)),
        hair_kind=str(rng.choice(HAIR_KINDS, p=kinds)),
        fringe=float(rng.uniform(-0.68, -0.3)),
        beard=float(rng.choice([0, rng.uniform(0.3, 1)], p=[0.8, 0.2])),
        glasses=int(rng.choice(3, p=[0.8, 0.12, 0.08])),
        hat=str(rng.choice(["", "cap", "beanie", "helmet", "brim"], p=[0.76, 0.11, 0.04, 0.06, 0.03])),
        hat_colour=spare[2],
        held=str(rng.choice(HELD, p=[0.72, 0.07, 0.04, 0.05, 0.04, 0.03, 0.05])),
        thing=spare[3],
        lips=float(rng.uniform(0.1, 0.6)),
        **worn,
    )
