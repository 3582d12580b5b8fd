"""Painting figures into a picture and into a buffer that tells what is hidden by what."""

from __future__ import annotations

import cv2
import numpy as np

from data.drawn.body import NOBODY
from data.drawn.figure import Figure
from data.drawn.raster import Surface, rasterised
from data.drawn.shade import Light, albedo, lit

PERSON_STEP = 32  # ids: part label + PERSON_STEP * (person's number from 1); 0 is no person
FINE_BELOW = 120  # pixels of stature: smaller figures are painted at twice the size
Placed = tuple[Figure, float, np.ndarray]  # figure, pixels per stature, pelvis in pixels


def paint_person(image: np.ndarray, ids: np.ndarray, person: Placed, number: int, light: Light) -> int:
    """Draw a person into the image (H, W, 3) uint8 and into `ids` (H, W) int32; how many pixels the person has before anything covers them.

    number: from 1; what the person holds or sits on covers as something that is no person. Below 0: all pixels have this id. 0: of a
    thing (`thing_figure`), all of which covers as no person.
    """
    figure, stature, origin = person
    height, width = image.shape[:2]
    box = figure.extent() * stature + np.tile(origin, 2)
    x0, y0 = np.maximum(np.floor(box[:2]).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(box[2:]).astype(int) + 3, [width, height])
    if x0 >= x1 or y0 >= y1:
        return 1
    fine = 2 if stature < FINE_BELOW else 1
    points = (figure.points * stature + origin - [x0, y0]) * fine
    rows, columns = (int(y1 - y0) * fine, int(x1 - x0) * fine)
    surface = rasterised(points, figure.depth, figure.mesh.triangles, rows, columns)
    if not len(surface.rows):
        return 1
    colour = np.zeros((rows, columns, 4), np.float32)
    colour[surface.rows, surface.columns, :3] = np.clip(_shaded(figure, surface, (rows, columns), fine * stature, light), 0, 255)
    colour[surface.rows, surface.columns, 3] = 1
    labels = np.full((rows, columns), -1, np.int32)
    labels[surface.rows, surface.columns] = figure.mesh.label[surface.triangle]
    if fine > 1:
        colour = cv2.resize(colour, (columns // fine, rows // fine), interpolation=cv2.INTER_AREA)
        labels = labels[fine // 2 :: fine, fine // 2 :: fine]
    else:
        colour = cv2.GaussianBlur(colour, (3, 3), 0.55)
    target = image[y0:y1, x0:x1]
    target[:] = target * (1 - colour[..., 3:]) + colour[..., :3] + 0.5
    there, below = labels >= 0, ids[y0:y1, x0:x1]
    below[there] = number if number < 0 else np.where(labels == NOBODY, 0, number * PERSON_STEP + labels)[there]
    return max(int(np.count_nonzero(labels > 0)), 1)


def _shaded(figure: Figure, surface: Surface, size: tuple[int, int], stature: float, light: Light) -> np.ndarray:
    """(N, 3) BGR of the pixels seen; size (rows, columns) of the canvas, stature in its pixels."""
    mesh, corners = figure.mesh, figure.mesh.triangles[surface.triangle]
    normals_uv = sum(surface.weights[:, i : i + 1] * figure.attributes[corners[:, i]] for i in range(3))
    material, label = mesh.material[surface.triangle], mesh.label[surface.triangle]
    colour = albedo(figure.looks, material, label, normals_uv[:, 3:])
    return lit(colour, normals_uv[:, :3], material, _shadow(surface, size, stature, light), light)


def _shadow(surface: Surface, size: tuple[int, int], stature: float, light: Light) -> np.ndarray:
    """(N,) how much of the light is kept off by what is nearer to the viewer around a pixel, more so towards the light."""
    depth = np.full(size, surface.depth.min() - 0.05, np.float32)
    depth[surface.rows, surface.columns] = surface.depth
    reach = max(int(0.028 * stature), 1)
    shift = np.rint(light.direction[:2] * reach).astype(int)
    around = cv2.blur(depth, (2 * reach + 1, 2 * reach + 1))
    rows, columns = np.clip(surface.rows + shift[1], 0, size[0] - 1), np.clip(surface.columns + shift[0], 0, size[1] - 1)
    near, cast = around[surface.rows, surface.columns] - surface.depth, around[rows, columns] - surface.depth
    return np.clip(near * 7, 0, 0.45) + np.clip((cast - 0.015) * 7, 0, 0.5)
