"""At which sizes to look at a picture, and which hits to believe: the strategy round the two detectors.

One working size cannot serve: a crowd's faces of a dozen pixels want the picture large, while a close-up raises false
alarms there and its one big face goes unseen. So a picture is looked at several times, from small to large; each size
is trusted for the faces it sees well, and a doubtful hit wants a second opinion. Read `Detector.detect`, then `_look`.
"""

import math
from collections.abc import Sequence
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

# Working sizes as areas in pixels, not as long sides, so that a panorama is not shrunk to a thread.
_GLANCE_AREA = 160 * 120
_TURN_AREA = 400 * 300
_COARSE_AREA = 640 * 480
_FINE_AREA = 1280 * 960
_MAX_AREA = 3264 * 2448
_MAX_ENLARGEMENT = 1.5  # more finds nothing more
_WORTHWHILE = 1.25  # a larger size must be so much larger than the last

# Which faces each working size is trusted for: sides of the box there, in pixels.
_GLANCE_MIN_SIDE = 24
_COARSE_MAX_SIDE = 300
_FINE_MAX_SIDE = 96  # also what neighbouring tiles share, so that a face cut by one is whole in the other
_MIN_SIDE = 24  # except at the largest size, which is trusted for all that is smaller

# Larger pictures go in tiles: memory stays the same however large they are, and the processor's cache is used better.
_TILE_SIDES: dict[type[Network], int] = {YuNet: 768, CenterFace: 640}
_MULTIPLE = 32  # of the coarsest stride
_MIN_PICTURE_SIDE = 8  # no face fits into less
_MAX_OVERLAP = 0.3
_MAX_COVERED = 0.7
_FLOOR = 0.3  # below any score that is shown, so that a weaker twin is seen to be one

_CROWD = 3  # so many faces below the next figure, and the next larger size is looked at too
_CROWD_MAX_SIDE = 28

_DOUBTFUL = 0.8
_DOUBTFUL_LARGE = 0.9  # real faces that are large score more than this
_LARGE = 0.06  # of the root of the picture's area
_MAX_OPINIONS = 24  # the doubtful first, then the largest; the many others of a crowd are nearly all faces
_OPINION_SIDE = 128
_CONFIRMED = 0.4

_SURELY_UPRIGHT = 0.92  # faces on their side or upside down score up to .90, of faces upright the best scores more
_TURNED_MIN_SCORE = 0.7  # three more tries make three times as many false alarms


class Detector:
    """YuNet first, CenterFace for second opinions and for `precise`. May be used from several threads."""

    def __init__(self, weights_folder: Path) -> None:
        """Loads both networks. ModelError when a file is missing."""
        self._yunet = YuNet(weights_folder)
        self._centerface = CenterFace(weights_folder)

    def detect(
        self,
        image: Pixels,
        *,
        min_score: float = DEFAULT_MIN_SCORE,
        precise: bool = False,
        max_faces: int | None = None,
    ) -> list[Face]:
        """Faces in upright RGB (H, W, 3) uint8, best score first; boxes lie within the picture.

        A photo that lies on its side or upside down without saying so is turned in search of faces when none that is
        beyond doubt is found upright. Boxes and points are then those of the picture as given; a face's left is where
        it would be with the face upright, so `Face.roll_degrees` tells how it lies.
        """
        height, width = image.shape[:2]
        if min(height, width) < _MIN_PICTURE_SIDE:
            return []
        small = _halved(image, _MAX_AREA)
        network = self._centerface if precise else self._yunet
        found = self._believed(network, small, min_score)
        turns = self._turns(small, found)
        if turns:
            turned = np.ascontiguousarray(np.rot90(small, turns))
            found = self._believed(network, turned, max(min_score, _TURNED_MIN_SCORE))
            found = hits.unturned(found, turns, small.shape[1], small.shape[0])
        found = hits.moved(found, factor_x=width / small.shape[1], factor_y=height / small.shape[0])
        return hits.faces(hits.clipped(found, width, height)[:max_faces])

    def _believed(self, network: Network, image: Pixels, min_score: float) -> Hits:
        """Hits of at least `min_score`, best first; of YuNet's, those that CenterFace has had a look at too.

        Dogs, wheels and folds of cloth score up to .9 with YuNet, but CenterFace sees no face there: their score is
        halved. Where it does, its five points are taken: of tilted faces they are twice as near.
        """
        found = _look(network, image, min(min_score, _FLOOR))
        found = hits.clipped(found[found[:, hits.SCORE] >= min_score], image.shape[1], image.shape[0])
        if network is self._yunet and len(found):
            sides = hits.sides(found)
            large = sides > _LARGE * math.sqrt(image.shape[0] * image.shape[1])
            doubtful = found[:, hits.SCORE] < np.where(large, _DOUBTFUL_LARGE, _DOUBTFUL)
            for index in np.lexsort((-sides, ~doubtful))[:_MAX_OPINIONS]:
                seen = self._opinion(image, found[index])
                if seen is not None:
                    found[index, 5:] = seen[5:]
                elif doubtful[index]:
                    found[index, hits.SCORE] /= 2
            found = found[found[:, hits.SCORE] >= min_score]
        return found[np.argsort(-found[:, hits.SCORE], kind="stable")]

    def _opinion(self, image: Pixels, hit: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """The same face as CenterFace sees it in a square about it, twice its size; None if it does not."""
        x, y = (float(hit[at] + hit[at + 2]) / 2 for at in (0, 1))
        extent = max(2, round(2 * float(max(hit[2] - hit[0], hit[3] - hit[1]))))
        left, top = round(x - extent / 2), round(y - extent / 2)
        part = image[max(0, top) : top + extent, max(0, left) : left + extent]
        rows, columns = (max(1, round(length * _OPINION_SIDE / extent)) for length in part.shape[:2])
        seen = self._centerface.hits(_resized(part, columns, rows), _CONFIRMED, (_OPINION_SIDE, _OPINION_SIDE))
        seen = hits.moved(
            seen, factor_x=part.shape[1] / columns, factor_y=part.shape[0] / rows, x=max(0, left), y=max(0, top)
        )
        overlaps = hits.overlaps(hit[None], seen)[0]
        return seen[int(overlaps.argmax())] if (overlaps > _MAX_OVERLAP).any() else None

    def _turns(self, image: Pixels, upright: Hits) -> int:
        """How many quarter turns (of `np.rot90`) bring the faces upright; 0 where nothing speaks for any.

        YuNet finds many a face that lies on its side, but with a lower score and with the points of an upright one. So
        where no face is beyond doubt, it looks again, at a small size, in all four positions.
        """
        if len(upright) and upright[:, hits.SCORE].max() >= _SURELY_UPRIGHT:
            return 0
        factor = min(1.0, math.sqrt(_TURN_AREA / (image.shape[0] * image.shape[1])))
        small = _resized(image, max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        totals = np.zeros(4)
        for turns in range(4):
            found = _at(self._yunet, np.ascontiguousarray(np.rot90(small, turns)), 1, DEFAULT_MIN_SCORE)
            totals[turns] = (found[:, hits.SCORE] - DEFAULT_MIN_SCORE).sum()
        best = int(np.argmax(totals))
        return best if totals[best] > max(1.05 * totals[0], _TURNED_MIN_SCORE - DEFAULT_MIN_SCORE) else 0


def scaled(faces: Sequence[Face], factor_x: float, factor_y: float) -> list[Face]:
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


def _look(network: Network, image: Pixels, floor: float) -> Hits:
    """Hits of at least `floor` at all working sizes that the picture calls for, merged, in the picture's pixels."""
    area = image.shape[0] * image.shape[1]
    glance, coarse, most = (
        min(_MAX_ENLARGEMENT, math.sqrt(at / area)) for at in (_GLANCE_AREA, _COARSE_AREA, _MAX_AREA)
    )
    at_glance = _at(network, image, glance, floor)
    trusted = [at_glance[hits.sides(at_glance) * glance >= _GLANCE_MIN_SIDE]]

    factor, following, max_side = coarse, min(1.0, math.sqrt(_FINE_AREA / area)), _COARSE_MAX_SIDE
    while True:
        found = _at(network, image, factor, floor)
        sides = hits.sides(found) * factor
        found, sides = found[sides <= max_side], sides[sides <= max_side]
        if factor > coarse or following < _WORTHWHILE * factor:
            following = min(most, 2 * factor) if _is_crowd(found, sides) else 0
        if following < _WORTHWHILE * factor:
            return hits.best(hits.joined([*trusted, found]), _MAX_OVERLAP, _MAX_COVERED)
        trusted.append(found[sides >= _MIN_SIDE])
        factor, max_side = following, _FINE_MAX_SIDE


def _is_crowd(found: Hits, sides: npt.NDArray[np.float32]) -> bool:
    return int(np.count_nonzero((sides < _CROWD_MAX_SIDE) & (found[:, hits.SCORE] >= 0.5))) >= _CROWD


def _at(network: Network, image: Pixels, factor: float, floor: float) -> Hits:
    """Hits in the picture scaled by `factor`, tile by tile, in the picture's own pixels."""
    height, width = image.shape[:2]
    columns, rows = max(1, round(width * factor)), max(1, round(height * factor))
    resized = _resized(image, columns, rows)
    across, down = (_spans(length, _TILE_SIDES[type(network)]) for length in (columns, rows))
    shape = _padded(down[0][1]), _padded(across[0][1])
    found = [
        hits.moved(network.hits(resized[top:bottom, left:right], floor, shape), x=left, y=top)
        for top, bottom in down
        for left, right in across
    ]
    merged = found[0] if len(found) == 1 else hits.best(hits.joined(found), _MAX_OVERLAP)
    return hits.moved(merged, factor_x=width / columns, factor_y=height / rows)


def _spans(length: int, at_most: int) -> list[tuple[int, int]]:
    """Equal stretches (half-open), as few as will cover `length`, neighbours sharing at least `_FINE_MAX_SIDE`."""
    if length <= at_most:
        return [(0, length)]
    count = math.ceil((length - _FINE_MAX_SIDE) / (at_most - _FINE_MAX_SIDE))
    size = math.ceil((length + (count - 1) * _FINE_MAX_SIDE) / count)
    return [(start, start + size) for start in (i * (length - size) // (count - 1) for i in range(count))]


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _halved(image: Pixels, min_area: int) -> Pixels:
    """Halved as often as leaves `min_area`: what no working size needs is not carried along."""
    while image.shape[0] * image.shape[1] >= 4 * min_area and min(image.shape[:2]) >= 2:
        image = _resized(image, image.shape[1] // 2, image.shape[0] // 2)
    return image


def _resized(image: Pixels, columns: int, rows: int) -> Pixels:
    """Halved while it can be, which is quick and exact, then bilinear: a tenth of the cost of averaging areas."""
    while image.shape[0] >= 2 * rows and image.shape[1] >= 2 * columns:
        half = image.shape[1] // 2, image.shape[0] // 2
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
    if image.shape[:2] == (rows, columns):
        return image
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
