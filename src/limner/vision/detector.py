"""Face detection with YuNet, its doubtful detections verified by CenterFace.

Read `Detector.detect`. `scales.py` decides at which sizes a picture is searched.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from limner.vision import hits, looks, scales
from limner.vision.centerface import CenterFace
from limner.vision.faces import COVER_MIN_SCORE, DEFAULT_MIN_SCORE, Box, Face, Landmarks, Point
from limner.vision.hits import Hits
from limner.vision.looks import Network
from limner.vision.pyramid import Pixels, Pyramid, half
from limner.vision.yunet import YuNet

_ROTATION_AREA = 400 * 300
_MIN_PICTURE_SIDE = 8  # a smaller picture cannot show a face
_FLOOR = 0.25  # detection threshold before merging; low, so that weaker duplicates take part in the suppression

_CERTAIN_LARGE = 0.9  # below this a large face is verified, as a small one is below `scales.CERTAIN`
_CERTAIN_BESIDE = 0.87  # the same beside a face that is certain; dogs get 0.88 at most
_LARGE = 0.06  # a face is large from this share of the square root of the picture's area
_MAX_VERIFIED = 24  # the largest uncertain ones; in a crowd nearly all the others are faces
_MAX_REFINED = 7  # the largest certain ones
_TURNED_SIDE = 128
_VERIFY_MIN_SCORE = 0.4
_MAX_OVERLAP = 0.3

_CERTAINLY_UPRIGHT = 0.92  # rotated faces score up to 0.90; the best upright face scores more
_ROTATED_MIN_SCORE = 0.7  # higher, because searching three more orientations triples the false positives


class _Look(NamedTuple):
    """How CenterFace looks at a face: in a square of `reach` times its size that is scaled to `side` pixels."""

    reach: float
    side: int
    at_once: int


# Alone: beside other squares, CenterFace confirms a third more of what is no face.
_VERIFY = _Look(2.0, 96, at_once=1)
# Where only the landmarks are wanted, those of several faces cost half as much this way, and are as exact.
_REFINE, _REFINE_SEVERAL = _Look(1.15, 96, at_once=1), _Look(1.1, 64, at_once=7)


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
        min_score: float | None = None,
        precise: bool = False,
        cover: bool = False,
        max_faces: int | None = None,
    ) -> list[Face]:
        """Faces in upright RGB (H, W, 3) uint8, best score first; boxes lie within the picture.

        If no face is certain, the picture is also searched rotated by 90°, 180° and 270°, because a photo without an
        EXIF orientation may be stored rotated. Boxes and points are in the picture as given. Left and right are as seen
        with the face upright, so `Face.roll_degrees` gives the rotation.

        `cover` is for faces that must not stay visible: both networks search at every scale, and rotated faces are
        found beside upright ones. It finds more faces and more that are none, in several times the time, and does not
        depend on `precise`. `min_score` is by default 0.6, and 0.4 with `cover`.
        """
        if min_score is None:
            min_score = COVER_MIN_SCORE if cover else DEFAULT_MIN_SCORE
        height, width = image.shape[:2]
        if min(height, width) < _MIN_PICTURE_SIDE:
            return []
        small, factor = image, 1
        while small.shape[0] * small.shape[1] >= 4 * scales.MAX_AREA:  # no scale needs more
            small, factor = half(small), 2 * factor
        pyramid = Pyramid(small)
        if cover:
            found = self._every(pyramid, min_score)
        else:
            found = self._upright(self._centerface if precise else self._yunet, pyramid, min_score)
        found = hits.moved(found, factor_x=factor, factor_y=factor)
        return hits.faces(hits.clipped(found, width, height)[:max_faces])

    def _upright(self, network: Network, pyramid: Pyramid, min_score: float) -> Hits:
        """Verified hits, best first, of the picture as it is, or rotated if this brings its faces upright."""
        found = self._verified(network, pyramid, min_score)
        turns = self._quarter_turns(pyramid, found)
        if turns:
            turned = self._verified(network, pyramid.turned(turns), max(min_score, _ROTATED_MIN_SCORE))
            if turned[:, hits.SCORE].sum() > found[:, hits.SCORE].sum():
                return hits.rotated_back(turned, turns, pyramid.width, pyramid.height)
        return found

    def _every(self, pyramid: Pyramid, min_score: float) -> Hits:
        """What either network takes for a face at any scale, and YuNet in the picture rotated; best score first."""
        found = [
            scales.search_all(self._yunet, pyramid, min_score, max_area=scales.MAX_AREA),
            scales.search_all(self._centerface, pyramid, min_score, max_area=scales.FINE_AREA),
        ]
        coarse, factor_x, factor_y = pyramid.scaled(pyramid.factor(scales.COARSE_AREA))
        small = Pyramid(coarse)
        for turns in (1, 2, 3):
            turned = scales.at_scale(self._yunet, small.turned(turns), 1, max(min_score, _ROTATED_MIN_SCORE))
            turned = hits.rotated_back(turned, turns, small.width, small.height)
            found.append(hits.moved(turned, factor_x=1 / factor_x, factor_y=1 / factor_y))
        return hits.best(hits.joined(found), _MAX_OVERLAP)

    def _verified(self, network: Network, pyramid: Pyramid, min_score: float) -> Hits:
        """Hits of at least `min_score`, best first; the doubtful ones of YuNet verified by CenterFace.

        YuNet gives dogs, wheels and folds of cloth scores up to 0.9. If CenterFace does not detect a face there, the
        score of an uncertain hit is halved. If it does, its landmarks replace YuNet's, which draws tilted faces too
        upright: 20 degrees may look like 6. For their sake the largest of the certain hits are looked at too.
        """
        found = scales.search(network, pyramid, min(min_score, _FLOOR))
        found = hits.clipped(found[found[:, hits.SCORE] >= min_score], pyramid.width, pyramid.height)
        if network is self._yunet and len(found):
            sizes = hits.sizes(found)
            large = sizes > _LARGE * math.sqrt(pyramid.width * pyramid.height)
            beside = found[:, hits.SCORE].max() >= _CERTAINLY_UPRIGHT
            certain = np.where(large, _CERTAIN_BESIDE if beside else _CERTAIN_LARGE, scales.CERTAIN)
            uncertain = found[:, hits.SCORE] < certain
            largest_first = np.argsort(-sizes, kind="stable")
            chosen = largest_first[uncertain[largest_first]][:_MAX_VERIFIED]
            refined = largest_first[~uncertain[largest_first]][:_MAX_REFINED]
            for index, match in self._matches(pyramid, found, chosen, _VERIFY):
                if match is None:
                    found[index, hits.SCORE] /= 2
                else:
                    found[index, 5:] = match[5:]
            refine = _REFINE if len(refined) == 1 else _REFINE_SEVERAL
            for index, match in self._matches(pyramid, found, refined, refine):
                if match is not None:
                    found[index, 5:] = match[5:]
            found = found[found[:, hits.SCORE] >= min_score]
        return found[np.argsort(-found[:, hits.SCORE], kind="stable")]

    def _matches(
        self, pyramid: Pyramid, found: Hits, indices: npt.NDArray[np.intp], look: _Look
    ) -> Iterator[tuple[int, npt.NDArray[np.float32] | None]]:
        """Each index with CenterFace's detection of the same face, or with None."""
        squares = [hits.surroundings(found[index], look.reach) for index in indices]
        seen = looks.at_squares(self._centerface, pyramid, squares, look.side, _VERIFY_MIN_SCORE, at_once=look.at_once)
        for index, there in zip(indices.tolist(), seen, strict=True):
            overlaps = hits.overlaps(found[index, None], there)[0]
            yield index, there[int(overlaps.argmax())] if (overlaps > _MAX_OVERLAP).any() else None

    def _is_upright(self, pyramid: Pyramid, hit: npt.NDArray[np.float32]) -> bool:
        """Whether YuNet gives this certain face its best score as it is, and not turned by a quarter or a half."""
        if hit[hits.SCORE] < scales.CERTAIN:
            return False
        part = pyramid.part(*hits.surroundings(hit, 2), _TURNED_SIDE)[0]
        turned = [np.rot90(part, turns) for turns in range(4)]
        found = looks.in_parts(self._yunet, turned, _TURNED_SIDE, DEFAULT_MIN_SCORE)
        scores = [each[0, hits.SCORE] if len(each) else 0.0 for each in found]
        return int(np.argmax(scores)) == 0

    def _quarter_turns(self, pyramid: Pyramid, upright: Hits) -> int:
        """How many quarter turns (of `np.rot90`) bring the faces upright; 0 unless another orientation scores higher.

        YuNet detects many rotated faces, but with a lower score and with the landmarks of an upright face. So unless a
        face is certain, all four orientations are compared at a small scale.
        """
        if len(upright) and (upright[0, hits.SCORE] >= _CERTAINLY_UPRIGHT or self._is_upright(pyramid, upright[0])):
            return 0
        area = _ROTATION_AREA if len(upright) else scales.COARSE_AREA
        small = Pyramid(pyramid.scaled(pyramid.factor(area))[0])
        totals = np.zeros(4)
        for turns in range(4):
            found = scales.at_scale(self._yunet, small.turned(turns), 1, DEFAULT_MIN_SCORE)
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
