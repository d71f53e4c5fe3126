"""Synthetic faces: landmarks from formulas, a label map that matches them, boxes as a detector finds them; noise."""

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision import align
from limner.vision.faces import Box, Face, Landmarks, Point

Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

SIDE = 600


def landmarks_68(side: int = SIDE, roll: float = 0.0) -> Points:
    """68 iBUG points of an oval face in the middle of a square picture, rotated clockwise by `roll` degrees."""

    def row(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
        return list(pairs)

    jaw = [(-np.cos(t) * 1.0, np.sin(t) * 1.25 + 0.0) for t in np.linspace(-0.1, np.pi + 0.1, 17)]
    brow = row((-0.75, -0.32), (-0.6, -0.42), (-0.45, -0.45), (-0.3, -0.42), (-0.15, -0.36))
    nose = row((0, -0.15), (0, 0.02), (0, 0.18), (0, 0.33))
    base = row((-0.18, 0.42), (-0.1, 0.45), (0, 0.47), (0.1, 0.45), (0.18, 0.42))
    eye = row((-0.62, -0.12), (-0.5, -0.19), (-0.36, -0.19), (-0.25, -0.1), (-0.36, -0.06), (-0.5, -0.06))
    right_eye = [(-x, y) for x, y in (eye[3], eye[2], eye[1], eye[0], eye[5], eye[4])]
    lips = row((-0.38, 0.72), (-0.24, 0.65), (-0.1, 0.61), (0, 0.63), (0.1, 0.61), (0.24, 0.65), (0.38, 0.72))
    lips += row((0.24, 0.84), (0.1, 0.89), (0, 0.9), (-0.1, 0.89), (-0.24, 0.84))
    inner = row((-0.32, 0.72), (-0.1, 0.69), (0, 0.7), (0.1, 0.69), (0.32, 0.72), (0.1, 0.79), (0, 0.8), (-0.1, 0.79))
    unit = np.array([*jaw, *brow, *[(-x, y) for x, y in brow[::-1]], *nose, *base, *eye, *right_eye, *lips, *inner])
    upright: Points = unit * side * 0.25 + side * 0.5
    return align.apply(rotation(side, roll), upright)


def label_map(side: int = SIDE, roll: float = 0.0, *, pixels: int | None = None) -> Pixels:
    """The label map of the same face with ears and hair, values as in `labels.MEANINGS`; `pixels` is its own side."""
    drawn = np.zeros((side, side), np.uint8)
    centre, unit = side / 2, side * 0.25

    def ellipse(x: float, y: float, half_width: float, half_height: float, value: int) -> None:
        at = (round(centre + x * unit), round(centre + y * unit))
        cv2.ellipse(drawn, at, (round(half_width * unit), round(half_height * unit)), 0, 0, 360, value, -1)

    points = landmarks_68(side)

    def polygon(indices: list[int], value: int) -> None:
        cv2.fillPoly(drawn, [np.round(points[indices]).astype(np.int32)], value)

    ellipse(0, -0.25, 1.15, 1.3, 10)
    for lean in (-1, 1):
        ellipse(lean * 1.05, 0.05, 0.16, 0.3, 1)
    ellipse(0, 0, 1.0, 1.25, 1)
    drawn[: round(centre - 0.85 * unit)][drawn[: round(centre - 0.85 * unit)] == 1] = 10
    for value, start in ((2, 17), (3, 22)):
        cv2.polylines(drawn, [np.round(points[start : start + 5]).astype(np.int32)], False, value, round(0.09 * unit))
    polygon(list(range(36, 42)), 4)
    polygon(list(range(42, 48)), 5)
    polygon([27, 35, 34, 33, 32, 31], 6)
    polygon([48, 49, 50, 51, 52, 53, 54, 64, 63, 62, 61, 60], 7)
    polygon([48, 59, 58, 57, 56, 55, 54, 64, 65, 66, 67, 60], 9)
    polygon(list(range(60, 68)), 8)
    size = pixels or side
    scale = align.scaling(size / side, size / side)
    return align.warp_labels(drawn, scale @ rotation(side, roll), size, size)


def photo(side: int = SIDE) -> Pixels:
    """A photo for the background: a gradient with a grid and a border of one colour."""
    y, x = np.mgrid[:side, :side]
    pixels = np.stack([x * 255 // side, y * 255 // side, np.full_like(x, 128)], axis=2).astype(np.uint8)
    pixels[::20] = 200
    pixels[:2] = pixels[-2:] = (10, 200, 30)
    pixels[:, :2] = pixels[:, -2:] = (10, 200, 30)
    return pixels


def rotation(side: int, roll: float) -> npt.NDArray[np.float64]:
    """3×3: a clockwise rotation of the square picture about its centre."""
    angle = np.radians(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return align.translation(side / 2, side / 2) @ turn @ align.translation(-side / 2, -side / 2)


def face(x: float, y: float, width: float, height: float, turn: float = 0) -> Face:
    """A face whose eyes are turned clockwise by `turn` degrees about the box's centre."""
    centre_x, centre_y = x + width / 2, y + height / 2
    reach = min(width, height) / 5
    across, down = reach * np.cos(np.radians(turn)), reach * np.sin(np.radians(turn))
    eyes = (Point(centre_x - across, centre_y - down), Point(centre_x + across, centre_y + down))
    return Face(Box(x, y, width, height), 0.93, Landmarks(*eyes, Point(centre_x, centre_y), *eyes))


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    """Random pixels, (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
