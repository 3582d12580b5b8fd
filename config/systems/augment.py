"""The augmentation keys that all pose systems share: flip, color jitter, occlusion and other photometric changes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from config.section import ConfigSection, Positive, Probability

JpegQuality = Annotated[int, Field(ge=1, le=100)]


class AugmentationConfig(ConfigSection):
    """Augmentations of every system, each applied with its probability, in this order."""

    flip_probability: Probability = 0.5
    hsv_probability: Probability = 0.0
    hue: tuple[int, int] = (-10, 10)  # OpenCV's 8-bit units: hue 0..179, the others 0..255
    saturation: tuple[int, int] = (-20, 60)
    value: tuple[int, int] = (-20, 40)
    # Beyond the papers
    occlusion: tuple[Positive, Positive] = (0.1, 0.5)  # sides of a patch over a keypoint, in heights of the person's box; uniform
    occlusion_probability: Probability = 0.0  # covered keypoints stay labeled, as occluded ones in COCO
    gamma: tuple[Positive, Positive] = (0.6, 1.7)  # exponent of brightness from 0 to 1, log-uniform
    gamma_probability: Probability = 0.0
    contrast: tuple[Positive, Positive] = (0.6, 1.5)  # factor about the image's mean, log-uniform
    contrast_probability: Probability = 0.0
    cast: Annotated[float, Field(ge=0, lt=1)] = 0.25  # color cast: a factor of each of blue, green and red, uniform in 1 +- this
    cast_probability: Probability = 0.0
    grey_probability: Probability = 0.0
    blur: tuple[Positive, Positive] = (0.5, 2.0)  # standard deviation of a Gaussian, input pixels; uniform
    blur_probability: Probability = 0.0
    motion: tuple[Positive, Positive] = (3.0, 9.0)  # length of a blur in any direction, input pixels; uniform
    motion_probability: Probability = 0.0
    noise: tuple[Positive, Positive] = (2.0, 12.0)  # standard deviation of Gaussian noise, of 255; uniform
    noise_probability: Probability = 0.0
    jpeg: tuple[JpegQuality, JpegQuality] = (20, 70)  # quality, 1..100; uniform
    jpeg_probability: Probability = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        for key, limits in self:
            if isinstance(limits, tuple) and limits[0] > limits[1]:
                raise ValueError(f"{key}: {limits[0]} is above {limits[1]}")
        return self
