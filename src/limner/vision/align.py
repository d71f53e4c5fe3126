"""Rotate a face upright and crop to its head: 3×3 affine transforms, applied to pictures, label maps and points.

Three frames: the *source* photo, the *upright* canvas (the whole rotated photo), and the *crop* (a part of the canvas).
"""

import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision.faces import Box
from limner.vision.landmarks import Points, eye_centres

Matrix: TypeAlias = NDArray[np.float64]  # (3, 3), affine, acts on column vectors (x, y, 1)
Colour: TypeAlias = tuple[int, int, int]  # RGB, 0..255

_BORDER_SAMPLES = 2_048


def roll_degrees(landmarks: Points) -> float:
    """Tilt of the eye line, -180..180; positive = rotated clockwise as seen in the picture."""
    left, right = eye_centres(landmarks)
    return math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))


def upright(width: int, height: int, roll: float) -> tuple[Matrix, int, int]:
    """The transform source → upright canvas that undoes `roll` degrees, and the canvas's width and height.

    The canvas is the smallest rectangle of whole pixels that holds the whole rotated photo. Multiples of 90° are exact.
    """
    turn = turning(-math.radians(roll))
    corners = apply(turn, np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64))
    low, high = corners.min(axis=0), corners.max(axis=0)
    extent = np.ceil(np.round(high - low, 6))
    # Rounding up adds a part of a pixel; it is split equally between both sides.
    return translation(*((extent - (high - low)) / 2 - low)) @ turn, int(extent[0]), int(extent[1])


def translation(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float) -> Matrix:
    return np.diag([x, y, 1.0])


def turning(radians: float) -> Matrix:
    """Clockwise about the origin, as seen in the picture. Multiples of 90° are exact."""
    cos, sin = (round(f(radians), 12) for f in (math.cos, math.sin))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def apply(matrix: Matrix, points: Points) -> Points:
    """The points (N, 2) transformed."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def inverse(matrix: Matrix) -> Matrix:
    """The inverse transform. Every transform made in this module is invertible."""
    back: Matrix = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    return back


def crop_box(head: Box, padding: float, canvas_width: int, canvas_height: int) -> Box:
    """The head's box enlarged on every side by `padding` × its longer side, in whole pixels, clamped to the canvas."""
    margin = padding * max(head.width, head.height)
    x0, y0 = max(0, math.floor(head.x - margin)), max(0, math.floor(head.y - margin))
    x1 = min(canvas_width, math.ceil(head.x + head.width + margin))
    y1 = min(canvas_height, math.ceil(head.y + head.height + margin))
    x0, y0 = min(x0, canvas_width - 1), min(y0, canvas_height - 1)
    return Box(x0, y0, max(1, x1 - x0), max(1, y1 - y0))


def warp_image(
    image: NDArray[np.uint8], matrix: Matrix, width: int, height: int, fill: Colour | None, *, cubic: bool = False
) -> NDArray[np.uint8]:
    """The transformed picture, (height, width, 3) or (height, width) uint8 as the source; `fill` outside the source, or
    the source's border pixels.

    Bilinear, or with `cubic` bicubic, which keeps an enlarged picture sharper. When shrinking by 2 or more, areas are
    averaged first: bilinear sampling alone would alias fine hair.
    """
    factor = int(1.0 / max(math.sqrt(abs(float(np.linalg.det(matrix[:2, :2])))), 1e-9) + 1e-6)
    if factor >= 2:
        rows, columns = -(-image.shape[0] // factor), -(-image.shape[1] // factor)
        scale = scaling(image.shape[1] / columns, image.shape[0] / rows)
        image = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        matrix = matrix @ scale
    warped = cv2.warpAffine(
        image,
        _for_cv2(matrix),
        (width, height),
        flags=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT,
        borderValue=fill or (0, 0, 0),
    )
    return np.asarray(warped, dtype=np.uint8)


def warp_labels(labels: NDArray[np.uint8], matrix: Matrix, width: int, height: int) -> NDArray[np.uint8]:
    """The transformed label map (H, W), by nearest neighbour: interpolation would create new labels. Outside: 0."""
    warped = cv2.warpAffine(
        labels,
        _for_cv2(matrix),
        (width, height),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(warped, dtype=np.uint8)


def border_colour(image: NDArray[np.uint8]) -> Colour:
    """The median colour of the picture's outermost pixels. It continues a uniform background."""
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    red, green, blue = np.median(edge[:: -(-len(edge) // _BORDER_SAMPLES)], axis=0)
    return int(red), int(green), int(blue)


def _for_cv2(matrix: Matrix) -> NDArray[np.float64]:
    """The 2×3 matrix for `cv2.warpAffine`, which puts pixel centres at whole numbers."""
    return (translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5))[:2]
