"""One person on a photograph of COCO, for tests of published weights."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from config.load import load_skeleton
from data.images import read_image
from utils.oks import object_keypoint_similarity

IMAGE_ID = 153797


class PersonOnPhotograph(NamedTuple):
    """image (H, W, 3) uint8 BGR; keypoints (1, 17, 3) x, y, visibility in pixels; box (1, 4) x, y, width, height; area: of the mask."""

    image: np.ndarray
    keypoints: np.ndarray
    box: np.ndarray
    area: float

    def oks(self, keypoints: np.ndarray) -> float:
        """Return the OKS of predicted keypoints (17, 3)."""
        sigmas = load_skeleton("coco17").oks_sigmas
        return object_keypoint_similarity(keypoints[None], self.keypoints, np.array([self.area]), self.box, sigmas)[0, 0]


def person_on_photograph(shared: Path) -> PersonOnPhotograph:
    """Read the only person with keypoints on a photograph of coco_mini."""
    folder = shared / "data" / "coco_mini"
    content = json.loads((folder / "annotations" / "person_keypoints_val2017.json").read_text())
    (person,) = (a for a in content["annotations"] if a["image_id"] == IMAGE_ID and a["num_keypoints"])
    image = read_image(folder / "val2017" / f"{IMAGE_ID:012}.jpg")
    return PersonOnPhotograph(image, np.reshape(person["keypoints"], (1, 17, 3)).astype(float), np.array([person["bbox"]]), person["area"])
