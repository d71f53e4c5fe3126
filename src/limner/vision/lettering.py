"""Where the regions' names are written: inside a region where they fit, else beside the face with a line. Read `place`.

All lengths are in the units of the view box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision.smooth import Ring

_POLE_GRID = 96  # side of the grid on which the pole is searched; the error is about 1 % of the region's size
_HEIGHT = 0.74  # of a capital letter, as a share of the font's size
_LINE_HEIGHT = 1.35  # distance of names below each other, as a share of the font's size
_AWAY = 1.1  # distance of names from the face, as a share of the font's size
_NARROW, _WIDE = "fijlrtI.,:;|!'()[] ", "mwMW@%"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A text and the rings of its region."""

    text: str
    rings: Sequence[Ring]
    is_around_face: bool = False  # hair: the names of other regions may lie on it


@dataclass(frozen=True, slots=True)
class Placed:
    """A text about its vertical middle `y`. `anchor` is SVG's text-anchor; `leader`: from the text to the region."""

    text: str
    x: float
    y: float
    anchor: str
    leader: tuple[tuple[float, float], tuple[float, float]] | None = None


def place(
    wanted: Sequence[Wanted | None], font: float, width: float, height: float
) -> tuple[list[Placed | None], tuple[float, float, float]]:
    """Each text's place, None for None, and how much room the names need left, right and below the view box.

    A text fits if its box lies in the largest circle inside its region. Texts outside are in a column on their
    region's side, in the order of their regions' heights, and do not touch each other.
    """
    poles = [inner_pole(each.rings) if each is not None else (0.0, 0.0, 0.0) for each in wanted]
    placed: list[Placed | None] = [None] * len(wanted)
    outside: list[int] = []
    for index, each in enumerate(wanted):
        if each is None or not each.text:
            continue
        x, y, radius = poles[index]
        if np.hypot(text_width(each.text, font), _HEIGHT * font) / 2 <= radius:
            placed[index] = Placed(each.text, x, y, "middle")
        else:
            outside.append(index)
    if not outside:
        return placed, (0.0, 0.0, 0.0)
    bounds = [_columns(each.rings) for each in wanted if each is not None and not each.is_around_face]
    bounds = bounds or [_columns(each.rings) for each in wanted if each is not None]
    low, high = min(left for left, _ in bounds), max(right for _, right in bounds)
    texts = [each.text if each is not None else "" for each in wanted]
    columns = _sides(outside, texts, poles, (low + high) / 2, high - low)
    room = [0.0, 0.0, 0.0]
    for side, members in enumerate(columns):
        heights = _spread([poles[index][1] for index in members], font * _LINE_HEIGHT, font, height - font)
        room[2] = max([room[2], *(y + font - height for y in heights)])
        edge = low - _AWAY * font if side == 0 else high + _AWAY * font
        for index, y in zip(members, heights, strict=True):
            each = wanted[index]
            if each is None:
                continue
            start = (edge + (0.25 if side == 0 else -0.25) * font, y)
            line = (start, near_point(each.rings, start))
            placed[index] = Placed(each.text, edge, y, "end" if side == 0 else "start", line)
            reach = text_width(each.text, font) + 0.4 * font
            room[side] = max(room[side], reach - edge if side == 0 else edge + reach - width)
    return placed, (max(0.0, room[0]), max(0.0, room[1]), max(0.0, room[2]))


def inner_pole(rings: Sequence[Ring]) -> tuple[float, float, float]:
    """The pole of inaccessibility: x, y and its distance to the edge, the radius of the largest circle inside.

    It maximises the distance transform of the rings drawn on a small grid, so it is always inside, unlike the centroid.
    A long shape has many such points: of those within 5 % of the maximum, the one nearest to the centroid is used.
    """
    distance, low, scale = _distances(rings)
    middle = np.argwhere(distance > 0).mean(axis=0)
    x, y, radius = _nearest(distance, 0.95, (middle[1], middle[0]))
    return x / scale + low[0], y / scale + low[1], max(0.0, radius - 0.5) / scale


def near_point(rings: Sequence[Ring], point: tuple[float, float]) -> tuple[float, float]:
    """The point well inside the rings that is nearest to another one."""
    distance, low, scale = _distances(rings)
    x, y, _ = _nearest(distance, 0.7, ((point[0] - low[0]) * scale, (point[1] - low[1]) * scale))
    return x / scale + low[0], y / scale + low[1]


def _distances(rings: Sequence[Ring]) -> tuple[NDArray[np.float32], tuple[float, float], float]:
    """How far each pixel of a small grid is from the rings' edge; the place of the grid's origin, and its scale."""
    polygons = [ring.polygon for ring in rings]
    low = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    extent = float(np.max([(polygon - low).max() for polygon in polygons]))
    scale = _POLE_GRID / max(extent, 1e-6)
    drawn = np.zeros((_POLE_GRID + 4, _POLE_GRID + 4), np.uint8)
    cv2.fillPoly(drawn, [np.round((polygon - low) * scale + 2).astype(np.int32) for polygon in polygons], 255)
    x, y = (low - 2 / scale).tolist()
    return np.asarray(cv2.distanceTransform(drawn, cv2.DIST_L2, 5), np.float32), (x, y), scale


def _nearest(distance: NDArray[np.float32], share: float, point: tuple[float, float]) -> tuple[float, float, float]:
    """Of the pixels with at least a share of the greatest distance, the nearest to a point: x, y, its distance."""
    rows, columns = np.nonzero(distance >= share * distance.max())
    best = int(np.argmin((rows - point[1]) ** 2 + (columns - point[0]) ** 2))
    return float(columns[best]), float(rows[best]), float(distance[rows[best], columns[best]])


@lru_cache(maxsize=1024)
def text_width(text: str, font: float) -> float:
    """The width of a text in a common sans-serif font, rather too wide than too narrow."""
    units = sum(0.34 if c in _NARROW else 0.92 if c in _WIDE else 0.58 if ord(c) < 0x2E80 else 1.0 for c in text)
    return units * font


def _columns(rings: Sequence[Ring]) -> tuple[float, float]:
    xs = np.concatenate([ring.polygon[:, 0] for ring in rings])
    return float(xs.min()), float(xs.max())


def _sides(
    members: Sequence[int],
    texts: Sequence[str],
    poles: Sequence[tuple[float, float, float]],
    middle: float,
    width: float,
) -> tuple[list[int], list[int]]:
    """The texts left and right of the face, from above. Those of regions in the middle go where there are fewer; of two
    with the same text, one goes to each side."""
    left: list[int] = []
    right: list[int] = []
    for index in members:
        twins = [other for other in members if texts[other] == texts[index]]
        offset = poles[index][0] - middle
        if len(twins) == 2:
            (left if poles[index][0] <= min(poles[other][0] for other in twins) else right).append(index)
        elif abs(offset) > 0.08 * width:
            (left if offset < 0 else right).append(index)
    for index in sorted(set(members) - set(left) - set(right), key=lambda index: poles[index][1]):
        (left if len(left) < len(right) else right).append(index)
    return sorted(left, key=lambda index: poles[index][1]), sorted(right, key=lambda index: poles[index][1])


def _spread(heights: Sequence[float], apart: float, top: float, bottom: float) -> list[float]:
    """The ascending heights moved so that neighbours are `apart`, within top and bottom while there is room."""
    moved: list[float] = []
    for y in heights:
        moved.append(max(y, moved[-1] + apart if moved else top))
    limit = max(bottom, top + apart * (len(moved) - 1))
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - apart
    return moved
