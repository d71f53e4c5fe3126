"""At which sizes to look at a picture, and which hits to believe: the strategy round the two detectors.

One working size cannot serve: a crowd's faces of a dozen pixels want the picture large, while a close-up raises false
alarms there and its one big face goes unseen. So a picture is looked at several times, from small to large, each size
is trusted for the faces it sees well, and a doubtful hit wants a second opinion. Read `Detector.detect`, then `_look`.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision import hits
from limner.vision.centerface import CenterFace
from limner.vision.faces import Box, Face, Landmarks, Point
from limner.vision.hits import Hits
from limner.vision.yunet import YuNet

DEFAULT_MIN_SCORE = 0.6

Pixels = npt.NDArray[np.uint8]
Network = YuNet | CenterFace

# Working sizes as areas in pixels, so that a panorama is not shrunk to a thread.
_GLANCE_AREA = 160 * 120
_COARSE_AREA = 640 * 480
_FINE_AREA = 1280 * 960
_MAX_AREA = 3264 * 2448
_MAX_ENLARGEMENT = 1.5
# Sides of a box at the working size, pixels: which faces each size is trusted for.
_GLANCE_MIN_SIDE = 24
_COARSE_MAX_SIDE = 300
_FINE_MAX_SIDE = 96  # also what neighbouring tiles share, so that no face is cut by both
_TILE_SIDE = 736
_CROWD = 3  # so many faces at one size below the next figure, and the next larger size is looked at too
_CROWD_MAX_SIDE = 28
_FLOOR = 0.3
_MAX_OVERLAP = 0.3


class Detector:
    """YuNet first, CenterFace for second opinions and for `precise`. May be used from several threads."""

    def __init__(self, weights_folder: Path) -> None:
        self._yunet = YuNet(weights_folder)
        self._centerface = CenterFace(weights_folder)

    def detect(
        self, image: Pixels, *, min_score: float = DEFAULT_MIN_SCORE, precise: bool = False, max_faces: int | None = None
    ) -> list[Face]:
        """Faces in upright RGB (H, W, 3) uint8, best score first, boxes within the picture."""
        height, width = image.shape[:2]
        network = self._centerface if precise else self._yunet
        found = _look(network, image, min(min_score, _FLOOR))
        found = hits.clipped(found[found[:, hits.SCORE] >= min_score], width, height)
        return hits.faces(found[:max_faces])


def _look(network: Network, image: Pixels, floor: float) -> Hits:
    """Hits of at least `floor` at all working sizes that the picture calls for, merged."""
    area = image.shape[0] * image.shape[1]
    glance = min(_MAX_ENLARGEMENT, math.sqrt(_GLANCE_AREA / area))
    coarse = min(_MAX_ENLARGEMENT, math.sqrt(_COARSE_AREA / area))
    fine = min(1.0, math.sqrt(_FINE_AREA / area))
    most = min(_MAX_ENLARGEMENT, math.sqrt(_MAX_AREA / area))
    at_glance = _at(network, image, glance, floor)
    found = [at_glance[hits.sides(at_glance) * glance >= _GLANCE_MIN_SIDE]]
    at_coarse = _at(network, image, coarse, floor)
    found.append(at_coarse[hits.sides(at_coarse) * coarse <= _COARSE_MAX_SIDE])
    factor, last = coarse, found[-1]
    upto = fine
    while upto >= 1.25 * factor:
        factor = upto
        at_fine = _at(network, image, factor, floor)
        last = at_fine[hits.sides(at_fine) * factor <= _FINE_MAX_SIDE]
        found.append(last)
        upto = min(most, 2 * factor) if _is_crowd(last, factor) else factor
    return hits.best(hits.joined(found), _MAX_OVERLAP)


def _is_crowd(found: Hits, factor: float) -> bool:
    small = found[(hits.sides(found) * factor < _CROWD_MAX_SIDE) & (found[:, hits.SCORE] >= 0.5)]
    return len(small) >= _CROWD


def _at(network: Network, image: Pixels, factor: float, floor: float) -> Hits:
    """Hits in the picture scaled by `factor`, tile by tile; in the picture's own pixels."""
    height, width = image.shape[:2]
    columns, rows = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    scaled = image if (columns, rows) == (width, height) else cv2.resize(image, (columns, rows), interpolation=method)
    found = []
    across, down = _spans(columns), _spans(rows)
    for top, bottom in down:
        for left, right in across:
            shape = (_padded(down[0][1] - down[0][0]), _padded(across[0][1] - across[0][0]))
            part = network.hits(scaled[top:bottom, left:right], floor, shape)
            found.append(hits.moved(part, x=left, y=top))
    merged = hits.joined(found)
    if len(found) > 1:
        merged = hits.best(merged, _MAX_OVERLAP)
    return hits.moved(merged, factor_x=width / columns, factor_y=height / rows)


def _spans(length: int) -> list[tuple[int, int]]:
    """Stretches of one length that cover `length` and share `_FINE_MAX_SIDE` with their neighbours."""
    if length <= _TILE_SIDE:
        return [(0, length)]
    count = math.ceil((length - _FINE_MAX_SIDE) / (_TILE_SIDE - _FINE_MAX_SIDE))
    size = math.ceil((length + (count - 1) * _FINE_MAX_SIDE) / count)
    return [(start, start + size) for start in (round(i * (length - size) / (count - 1)) for i in range(count))]


def _padded(length: int) -> int:
    return max(64, -(-length // 32) * 32)


def scaled(faces: list[Face], factor_x: float, factor_y: float) -> list[Face]:
    """The same faces in a picture `factor_x` times as wide and `factor_y` times as high."""

    def point(p: Point) -> Point:
        return Point(p.x * factor_x, p.y * factor_y)

    return [
        Face(
            box=Box(
                face.box.x * factor_x, face.box.y * factor_y, face.box.width * factor_x, face.box.height * factor_y
            ),
            score=face.score,
            landmarks=Landmarks(
                left_eye=point(face.landmarks.left_eye),
                right_eye=point(face.landmarks.right_eye),
                nose=point(face.landmarks.nose),
                mouth_left=point(face.landmarks.mouth_left),
                mouth_right=point(face.landmarks.mouth_right),
            ),
        )
        for face in faces
    ]
