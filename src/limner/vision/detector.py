"""Face detection at several scales, with YuNet's uncertain detections verified by CenterFace.

Read `Detector.detect`, then `_detect_at_all_scales`.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision import hits
from limner.vision.centerface import CenterFace
from limner.vision.faces import DEFAULT_MIN_SCORE, Box, Face, Landmarks, Point
from limner.vision.hits import Hits
from limner.vision.yunet import YuNet

Pixels = npt.NDArray[np.uint8]
Network = YuNet | CenterFace

# Scales are given by the area of the resized picture, in pixels, not by its longer side: with a fixed longer side a
# panorama would become too low.
_THUMBNAIL_AREA = 160 * 120
_ROTATION_AREA = 400 * 300
_COARSE_AREA = 640 * 480
_FINE_AREA = 1280 * 960
_MAX_AREA = 3264 * 2448
_MAX_ENLARGEMENT = 1.5  # enlarging further finds no more faces
_MIN_SCALE_STEP = 1.25  # the next scale must be at least this many times the last

# The face sizes (square roots of box areas) that are accepted at each scale, in pixels of the resized picture.
_THUMBNAIL_MIN_SIZE = 24
_COARSE_MAX_SIZE = 300
_FINE_MAX_SIZE = 96  # also the overlap of neighbouring tiles, so that a face cut by one tile is whole in the other
_MIN_SIZE = 24  # does not apply to the largest scale, which accepts all smaller faces

# Larger pictures are processed in tiles: this bounds the memory and uses the processor's cache better.
_TILE_SIDES: dict[type[Network], int] = {YuNet: 768, CenterFace: 640}
_MULTIPLE = 32  # tile sides are padded to multiples of the coarsest stride
_MIN_PICTURE_SIDE = 8  # a smaller picture cannot show a face
_MAX_OVERLAP = 0.3
_MAX_COVERED = 0.7
_FLOOR = 0.3  # detection threshold before merging; low, so that weaker duplicates take part in the suppression

_CROWD_COUNT = 3  # this many faces below `_CROWD_MAX_SIZE` make the search go on at a larger scale
_CROWD_MAX_SIZE = 28

_CERTAIN = 0.8  # YuNet's detections below this score are verified
_CERTAIN_LARGE = 0.9  # the same for large faces: real ones score more than this
_LARGE = 0.06  # a face is large from this share of the square root of the picture's area
_MAX_VERIFIED = 24  # uncertain ones first, then the largest; in a crowd nearly all the others are faces
_VERIFY_SIDE = 128
_VERIFY_MIN_SCORE = 0.4

_CERTAINLY_UPRIGHT = 0.92  # rotated faces score up to 0.90; the best upright face scores more
_ROTATED_MIN_SCORE = 0.7  # higher, because searching three more orientations triples the false positives


class Detector:
    """Detects with YuNet and verifies with CenterFace; `precise` uses only CenterFace. Safe for several threads.

    One scale does not suffice: faces of a dozen pixels need a large picture, while a large face is missed there and
    causes false positives. So the picture is searched at several scales, from small to large, and each scale is used
    for the face sizes that the networks detect well.
    """

    def __init__(self, weights_folder: Path) -> None:
        """Load both networks. ModelError when a file is missing."""
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

        If no face is certain, the picture is also searched rotated by 90°, 180° and 270°, because a photo without an
        EXIF orientation may be stored rotated. Boxes and points are in the picture as given. Left and right are as seen
        with the face upright, so `Face.roll_degrees` gives the rotation.
        """
        height, width = image.shape[:2]
        if min(height, width) < _MIN_PICTURE_SIDE:
            return []
        small = _halved(image, _MAX_AREA)
        network = self._centerface if precise else self._yunet
        found = self._verified(network, small, min_score)
        turns = self._quarter_turns(small, found)
        if turns:
            rotated = np.ascontiguousarray(np.rot90(small, turns))
            found = self._verified(network, rotated, max(min_score, _ROTATED_MIN_SCORE))
            found = hits.rotated_back(found, turns, small.shape[1], small.shape[0])
        found = hits.moved(found, factor_x=width / small.shape[1], factor_y=height / small.shape[0])
        return hits.faces(hits.clipped(found, width, height)[:max_faces])

    def _verified(self, network: Network, image: Pixels, min_score: float) -> Hits:
        """Hits of at least `min_score`, best first; those of YuNet verified by CenterFace.

        YuNet gives dogs, wheels and folds of cloth scores up to 0.9. If CenterFace does not detect a face there, the
        score of an uncertain hit is halved. If it does, its landmarks replace YuNet's: for tilted faces their error is
        half as large.
        """
        found = _detect_at_all_scales(network, image, min(min_score, _FLOOR))
        found = hits.clipped(found[found[:, hits.SCORE] >= min_score], image.shape[1], image.shape[0])
        if network is self._yunet and len(found):
            sizes = hits.sizes(found)
            large = sizes > _LARGE * math.sqrt(image.shape[0] * image.shape[1])
            uncertain = found[:, hits.SCORE] < np.where(large, _CERTAIN_LARGE, _CERTAIN)
            for index in np.lexsort((-sizes, ~uncertain))[:_MAX_VERIFIED]:
                match = self._match(image, found[index])
                if match is not None:
                    found[index, 5:] = match[5:]
                elif uncertain[index]:
                    found[index, hits.SCORE] /= 2
            found = found[found[:, hits.SCORE] >= min_score]
        return found[np.argsort(-found[:, hits.SCORE], kind="stable")]

    def _match(self, image: Pixels, hit: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """CenterFace's detection of the same face, in a square of twice its size around it; None if there is none."""
        x, y = (float(hit[at] + hit[at + 2]) / 2 for at in (0, 1))
        extent = max(2, round(2 * float(max(hit[2] - hit[0], hit[3] - hit[1]))))
        left, top = round(x - extent / 2), round(y - extent / 2)
        part = image[max(0, top) : top + extent, max(0, left) : left + extent]
        rows, columns = (max(1, round(length * _VERIFY_SIDE / extent)) for length in part.shape[:2])
        found = self._centerface.hits(_resized(part, columns, rows), _VERIFY_MIN_SCORE, (_VERIFY_SIDE, _VERIFY_SIDE))
        found = hits.moved(
            found, factor_x=part.shape[1] / columns, factor_y=part.shape[0] / rows, x=max(0, left), y=max(0, top)
        )
        overlaps = hits.overlaps(hit[None], found)[0]
        return found[int(overlaps.argmax())] if (overlaps > _MAX_OVERLAP).any() else None

    def _quarter_turns(self, image: Pixels, upright: Hits) -> int:
        """How many quarter turns (of `np.rot90`) bring the faces upright; 0 unless another orientation scores higher.

        YuNet detects many rotated faces, but with a lower score and with the landmarks of an upright face. So unless a
        face is certain, all four orientations are compared at a small scale.
        """
        if len(upright) and upright[:, hits.SCORE].max() >= _CERTAINLY_UPRIGHT:
            return 0
        factor = min(1.0, math.sqrt(_ROTATION_AREA / (image.shape[0] * image.shape[1])))
        small = _resized(image, max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        totals = np.zeros(4)
        for turns in range(4):
            found = _detect_at_scale(self._yunet, np.ascontiguousarray(np.rot90(small, turns)), 1, DEFAULT_MIN_SCORE)
            totals[turns] = (found[:, hits.SCORE] - DEFAULT_MIN_SCORE).sum()
        best = int(np.argmax(totals))
        return best if totals[best] > max(1.05 * totals[0], _ROTATED_MIN_SCORE - DEFAULT_MIN_SCORE) else 0


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


def _detect_at_all_scales(network: Network, image: Pixels, min_score: float) -> Hits:
    """Hits of at least `min_score` from all scales that the picture needs, merged, in the picture's own pixels.

    Larger scales than the coarse and the fine one are searched only while they show a crowd of small faces.
    """
    area = image.shape[0] * image.shape[1]
    thumbnail, coarse, largest = (
        min(_MAX_ENLARGEMENT, math.sqrt(at / area)) for at in (_THUMBNAIL_AREA, _COARSE_AREA, _MAX_AREA)
    )
    found = _detect_at_scale(network, image, thumbnail, min_score)
    accepted = [found[hits.sizes(found) * thumbnail >= _THUMBNAIL_MIN_SIZE]]

    factor, following, max_size = coarse, min(1.0, math.sqrt(_FINE_AREA / area)), _COARSE_MAX_SIZE
    while True:
        found = _detect_at_scale(network, image, factor, min_score)
        sizes = hits.sizes(found) * factor
        found, sizes = found[sizes <= max_size], sizes[sizes <= max_size]
        if factor > coarse or following < _MIN_SCALE_STEP * factor:
            following = min(largest, 2 * factor) if _is_crowd(found, sizes) else 0
        if following < _MIN_SCALE_STEP * factor:
            return hits.best(hits.joined([*accepted, found]), _MAX_OVERLAP, _MAX_COVERED)
        accepted.append(found[sizes >= _MIN_SIZE])
        factor, max_size = following, _FINE_MAX_SIZE


def _is_crowd(found: Hits, sizes: npt.NDArray[np.float32]) -> bool:
    return int(np.count_nonzero((sizes < _CROWD_MAX_SIZE) & (found[:, hits.SCORE] >= 0.5))) >= _CROWD_COUNT


def _detect_at_scale(network: Network, image: Pixels, factor: float, min_score: float) -> Hits:
    """Hits in the picture scaled by `factor`, tile by tile, in the picture's own pixels."""
    height, width = image.shape[:2]
    columns, rows = max(1, round(width * factor)), max(1, round(height * factor))
    resized = _resized(image, columns, rows)
    across, down = (_spans(length, _TILE_SIDES[type(network)]) for length in (columns, rows))
    shape = _padded(down[0][1]), _padded(across[0][1])
    found = [
        hits.moved(network.hits(resized[top:bottom, left:right], min_score, shape), x=left, y=top)
        for top, bottom in down
        for left, right in across
    ]
    merged = found[0] if len(found) == 1 else hits.best(hits.joined(found), _MAX_OVERLAP)
    return hits.moved(merged, factor_x=width / columns, factor_y=height / rows)


def _spans(length: int, at_most: int) -> list[tuple[int, int]]:
    """The fewest equal half-open intervals that cover `length`; neighbours overlap by at least `_FINE_MAX_SIZE`."""
    if length <= at_most:
        return [(0, length)]
    count = math.ceil((length - _FINE_MAX_SIZE) / (at_most - _FINE_MAX_SIZE))
    size = math.ceil((length + (count - 1) * _FINE_MAX_SIZE) / count)
    return [(start, start + size) for start in (i * (length - size) // (count - 1) for i in range(count))]


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _halved(image: Pixels, min_area: int) -> Pixels:
    """The picture halved while at least `min_area` pixels are left: no scale needs more."""
    while image.shape[0] * image.shape[1] >= 4 * min_area and min(image.shape[:2]) >= 2:
        image = _resized(image, image.shape[1] // 2, image.shape[0] // 2)
    return image


def _resized(image: Pixels, columns: int, rows: int) -> Pixels:
    """The picture resized: halved as long as possible, then bilinear. This costs a tenth of averaging areas."""
    while image.shape[0] >= 2 * rows and image.shape[1] >= 2 * columns:
        half = image.shape[1] // 2, image.shape[0] // 2
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
    if image.shape[:2] == (rows, columns):
        return image
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
