"""Detections as rows of one array, so that merging many of them is vectorised. `faces` converts them to `Face`s.

A row, (15,) float32: x1, y1, x2, y2 (pixels), score 0..1, then x, y of left eye, right eye, nose, left and right mouth
corner; left and right as seen with the face upright.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision.faces import Box, Face, Landmarks, Point

Hits = npt.NDArray[np.float32]  # (N, 15)

X = [0, 2, 5, 7, 9, 11, 13]
Y = [1, 3, 6, 8, 10, 12, 14]
SCORE = 4
_TINY = np.float32(1e-9)
MAX_HITS = 1024  # only the best are compared: the cost is quadratic, and a low threshold lets tens of thousands through


def empty() -> Hits:
    return np.zeros((0, 15), np.float32)


def joined(parts: Iterable[Hits]) -> Hits:
    return np.concatenate([empty(), *parts])


def moved(hits: Hits, *, factor_x: float = 1, factor_y: float = 1, x: float = 0, y: float = 0) -> Hits:
    """The hits scaled about the origin, then shifted by (x, y)."""
    if not len(hits):
        return hits
    factors, offsets = np.ones(15, np.float32), np.zeros(15, np.float32)
    factors[X], factors[Y], offsets[X], offsets[Y] = factor_x, factor_y, x, y
    return np.asarray(hits * factors + offsets, np.float32)


def rotated_back(hits: Hits, quarter_turns: int, width: int, height: int) -> Hits:
    """Hits in `np.rot90(picture, quarter_turns)`, mapped back to `picture`, which is `width` × `height`."""
    out = hits
    for turn in range(quarter_turns % 4):
        # np.rot90 rotates counter-clockwise: (x, y) moves to (y, width - x). The last turn is undone first.
        side = width if (quarter_turns - turn) % 2 else height
        back = out.copy()
        back[:, X], back[:, Y] = side - out[:, Y], out[:, X]
        back[:, [0, 2]] = np.sort(back[:, [0, 2]], axis=1)
        back[:, [1, 3]] = np.sort(back[:, [1, 3]], axis=1)
        out = back
    return out


def clipped(hits: Hits, width: float, height: float) -> Hits:
    """Boxes clipped to the picture, empty ones dropped; landmarks are not moved and may lie outside."""
    out = hits.copy()
    out[:, [0, 2]] = out[:, [0, 2]].clip(0, width)
    out[:, [1, 3]] = out[:, [1, 3]].clip(0, height)
    return out[(out[:, 2] > out[:, 0]) & (out[:, 3] > out[:, 1])]


def sizes(hits: Hits) -> npt.NDArray[np.float32]:
    """The size of each box: the square root of its area, (N,) pixels."""
    return np.asarray(np.sqrt(_areas(hits)), np.float32)


def surroundings(hit: npt.NDArray[np.float32], reach: float) -> tuple[int, int, int]:
    """Left, top and side of a square of `reach` times the face's size around it, moved into the picture at its left and
    top."""
    extent = max(2, round(reach * float(max(hit[2] - hit[0], hit[3] - hit[1]))))
    x, y = (float(hit[at] + hit[at + 2]) / 2 for at in (0, 1))
    return max(0, round(x - extent / 2)), max(0, round(y - extent / 2)), extent


def overlaps(one: Hits, other: Hits) -> npt.NDArray[np.float32]:
    """Intersection over union of every box of `one` with every box of `other`, (N, M)."""
    shared = _shared(one, other)
    union = _areas(one)[:, None] + _areas(other)[None, :] - shared
    return np.asarray(shared / np.maximum(union, _TINY), np.float32)


def covered(one: Hits, other: Hits) -> npt.NDArray[np.float32]:
    """Intersection over the area of the smaller box, (N, M): 1 where one box lies within the other."""
    smaller = np.minimum(_areas(one)[:, None], _areas(other)[None, :])
    return np.asarray(_shared(one, other) / np.maximum(smaller, _TINY), np.float32)


def best(hits: Hits, max_overlap: float, max_covered: float = 1) -> Hits:
    """Greedy non-maximum suppression; the hits kept, best score first.

    A hit is dropped when a better one overlaps it by more than `max_overlap` (intersection over union) or
    `max_covered` (intersection over the smaller box).
    """
    hits = hits[np.argsort(-hits[:, SCORE], kind="stable")][:MAX_HITS]
    if len(hits) < 2:
        return hits
    if max_covered >= 1:  # which OpenCV does without comparing all with all
        sides = hits[:, :4].astype(np.float64)
        sides[:, 2:] -= sides[:, :2]
        ranks = np.arange(len(hits), 0, -1, dtype=np.float32)  # for scores: it drops those of 0
        return hits[np.asarray(cv2.dnn.NMSBoxes(sides, ranks, 0.5, max_overlap), np.intp)]  # type: ignore[arg-type]
    conflict = (overlaps(hits, hits) > max_overlap) | (covered(hits, hits) > max_covered)
    kept = np.ones(len(hits), np.bool_)
    for index in range(len(hits)):
        if kept[index]:
            kept[index + 1 :] &= ~conflict[index, index + 1 :]
    return hits[kept]


def faces(hits: Hits) -> list[Face]:
    return [
        Face(
            box=Box(x1, y1, x2 - x1, y2 - y1),
            score=min(max(score, 0.0), 1.0),
            landmarks=Landmarks(*(Point(px, py) for px, py in zip(points[::2], points[1::2], strict=True))),
        )
        for x1, y1, x2, y2, score, *points in hits.astype(float).tolist()
    ]


def _areas(hits: Hits) -> npt.NDArray[np.float32]:
    areas: npt.NDArray[np.float32] = (hits[:, 2] - hits[:, 0]) * (hits[:, 3] - hits[:, 1])
    return areas


def _shared(one: Hits, other: Hits) -> npt.NDArray[np.float32]:
    left, top = (np.maximum(one[:, None, at], other[None, :, at]) for at in (0, 1))
    right, bottom = (np.minimum(one[:, None, at], other[None, :, at]) for at in (2, 3))
    shared: npt.NDArray[np.float32] = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    return shared
