"""The face mesh: 478 points on a face, and how surely there is one.

Two networks of MediaPipe (Apache-2.0) after one another: `face_landmark` (468 points and a presence score) and, per
eye, `iris_landmark` (a finer eye outline and five points of the iris). The numbering is MediaPipe's: 0..467 the face,
468 and 473 the centres of the irises, each followed by its right, upper, left and lower point.
Read `FaceMesh.fit` first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision import runtime, weights
from limner.vision.faces import Face, Landmarks
from limner.vision.mesh_symmetry import MIRRORED

FloatArray = NDArray[np.float32]

_FACE_SIDE = 192  # what the networks take, px
_EYE_SIDE = 64
_FACE_MARGIN = 1.5  # region : extent of the points, as in MediaPipe's face_landmark graph
_EYE_MARGIN = 2.3  # region : distance of the eye's corners, as in MediaPipe's iris_landmark graph
# Measured on meshes of faces seen from the front: where the mesh's centre lies on the way from the eyes to the mouth,
# and its longer side as a multiple of that way.
_CENTRE_DOWN = 0.41
_SIDE_PER_EYES_TO_MOUTH = 2.5
_EYES_TO_MOUTH_PER_EYES = 1.05


def _indices(text: str) -> NDArray[np.intp]:
    return np.array(text.split(), dtype=np.intp)


# Which mesh points the 71 eye points of `iris_landmark` are: MediaPipe's topology, the eye on the picture's left.
# Lids (lower, upper), then the rings round them outward up to the brow.
_LEFT_EYE_POINTS = _indices(
    "33 7 163 144 145 153 154 155 133 246 161 160 159 158 157 173 "
    "130 25 110 24 23 22 26 112 243 247 30 29 27 28 56 190 "
    "226 31 228 229 230 231 232 233 244 113 225 224 223 222 221 189 "
    "35 124 46 53 52 65 143 111 117 118 119 120 121 128 245 "
    "156 70 63 105 66 107 55 193"
)
_RIGHT_EYE_POINTS = _indices(
    "263 249 390 373 374 380 381 382 362 466 388 387 386 385 384 398 "
    "359 255 339 254 253 252 256 341 463 467 260 259 257 258 286 414 "
    "446 261 448 449 450 451 452 453 464 342 445 444 443 442 441 413 "
    "265 353 276 283 282 295 372 340 346 347 348 349 350 357 465 "
    "383 300 293 334 296 336 285 417"
)
_LEFT_CORNERS = (33, 133)
_RIGHT_CORNERS = (362, 263)


@dataclass(frozen=True, slots=True)
class MeshResult:
    """One face's mesh. `points`: (478, 3) float32, x and y in pixels of the picture, z in the same scale, smaller =
    nearer to the camera, 0 about the middle of the head. `presence`: 0..1, how surely the region holds a face."""

    points: FloatArray
    presence: float


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the picture that a network looks at. Pixels; `angle` in radians, positive = turned clockwise."""

    x: float
    y: float
    side: float
    angle: float

    def matrix(self, pixels: int) -> NDArray[np.float64]:
        """2×3: from picture coordinates to those of the region drawn `pixels` wide."""
        scale = pixels / self.side
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        half = pixels / 2
        return np.array(
            [[cos, sin, half - cos * self.x - sin * self.y], [-sin, cos, half + sin * self.x - cos * self.y]]
        )

    def cut(self, image: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
        """The region as (pixels, pixels, 3) uint8; outside the picture its border goes on."""
        source, matrix = _shrunk_about(image, self, self.matrix(pixels), int(self.side / pixels))
        # warpAffine puts pixel centres at whole numbers, this package at halves.
        matrix = matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        cut = cv2.warpAffine(source, matrix, (pixels, pixels), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cut, dtype=np.uint8)

    def back(self, points: FloatArray, pixels: int) -> FloatArray:
        """Points (N, 3) of the region drawn `pixels` wide, in picture coordinates; z keeps its meaning."""
        scale = self.side / pixels
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        x, y = points[:, 0] - pixels / 2, points[:, 1] - pixels / 2
        placed = np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y, points[:, 2] * scale], axis=1)
        return placed.astype(np.float32)


class FaceMesh:
    """Fits the mesh. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the model files of `weights.py`. ModelError when one is missing or cannot be loaded."""
        self._face = _Network(weights.path(folder, "face_landmark"))
        self._iris = _Network(weights.path(folder, "iris_landmark"))

    def fit(self, image: NDArray[np.uint8], faces: Sequence[Face], *, symmetric: bool = False) -> list[MeshResult]:
        """One mesh per face, in the faces' order.

        image: (H, W, 3) uint8 RGB, upright. The detector's five points only say where to look first: the mesh is
        fitted twice, the second time in the region that the first mesh spans, so that it hardly depends on them.
        symmetric: the second time also mirrored, and averaged; a mirrored picture then gives a mirrored mesh, to within
        about a hundredth of the face's width instead of three. It takes half as long again.
        """
        return [self._fit_one(image, face.landmarks, symmetric) for face in faces]

    def presence(self, image: NDArray[np.uint8], faces: Sequence[Face]) -> list[float]:
        """How surely each is a face, 0..1: one pass of the face network alone, for verifying doubtful detections."""
        return [self._look(image, region_of(face.landmarks)).presence for face in faces]

    def _fit_one(self, image: NDArray[np.uint8], landmarks: Landmarks, symmetric: bool) -> MeshResult:
        first = self._look(image, region_of(landmarks))
        region = _region_of_mesh(first.points)
        second = self._look_both_ways(image, region) if symmetric else self._look(image, region)
        return MeshResult(self._with_irises(image, second.points), second.presence)

    def _look(self, image: NDArray[np.uint8], region: Region) -> MeshResult:
        """468 points and the presence of the face in one region."""
        points, logit = self._face.run(region.cut(image, _FACE_SIDE))
        placed = region.back(points.reshape(-1, 3), _FACE_SIDE)
        return MeshResult(placed, _share(logit))

    def _look_both_ways(self, image: NDArray[np.uint8], region: Region) -> MeshResult:
        """The mean of what the network says of a region and of its mirror image."""
        cut = region.cut(image, _FACE_SIDE)
        points, logit = self._face.run(cut)
        mirrored, other_logit = self._face.run(np.ascontiguousarray(cut[:, ::-1]))
        there = mirrored.reshape(-1, 3)[MIRRORED]
        there[:, 0] = _FACE_SIDE - there[:, 0]
        half = np.float32(0.5)
        placed = region.back((points.reshape(-1, 3) + there) * half, _FACE_SIDE)
        return MeshResult(placed, _share((logit + other_logit) * half))

    def _with_irises(self, image: NDArray[np.uint8], mesh: FloatArray) -> FloatArray:
        """The mesh with finer eyes and the ten points of the irises, (478, 3)."""
        refined = np.concatenate([mesh, np.zeros((10, 3), np.float32)])
        for corners, indices, iris_at in (
            (_LEFT_CORNERS, _LEFT_EYE_POINTS, 468),
            (_RIGHT_CORNERS, _RIGHT_EYE_POINTS, 473),
        ):
            mirrored = iris_at == 473  # the network knows only the eye on the picture's left
            region = _region_of_eye(mesh[corners[0]], mesh[corners[1]])
            if region.side < 1.0:
                outline, iris = mesh[indices], np.repeat(mesh[list(corners)].mean(axis=0)[None], 5, axis=0)
            else:
                outline, iris = self._look_at_eye(image, region, mirrored=mirrored)
            refined[indices, :2] = outline[:, :2]  # its depth has another zero than the mesh's: not taken
            refined[iris_at : iris_at + 5, :2] = iris[:, :2]
            refined[iris_at : iris_at + 5, 2] = mesh[indices[:16], 2].mean()
        return refined

    def _look_at_eye(
        self, image: NDArray[np.uint8], region: Region, *, mirrored: bool
    ) -> tuple[FloatArray, FloatArray]:
        """The eye's 71 and the iris's 5 points, in picture coordinates."""
        cut = region.cut(image, _EYE_SIDE)
        outline, iris = self._iris.run(np.ascontiguousarray(cut[:, ::-1]) if mirrored else cut)
        outline, iris = outline.reshape(-1, 3), iris.reshape(-1, 3)
        if mirrored:
            outline[:, 0] = _EYE_SIDE - outline[:, 0]
            iris[:, 0] = _EYE_SIDE - iris[:, 0]
        # The numbering wants right, upper, left, lower on both eyes, so mirroring has swapped two.
        iris = iris[[0, 3, 2, 1, 4]] if mirrored else iris
        return region.back(outline, _EYE_SIDE), region.back(iris, _EYE_SIDE)


def _share(logit: FloatArray) -> float:
    return 1.0 / (1.0 + math.exp(-float(np.clip(logit.ravel()[0], -50.0, 50.0))))


def region_of(landmarks: Landmarks) -> Region:
    """Where a detector's five points say that the mesh lies, with MediaPipe's margin of one half.

    The tilt is taken from the eyes and from the way to the mouth together: in a profile the eyes alone mislead.
    """
    eyes_x = (landmarks.left_eye.x + landmarks.right_eye.x) / 2
    eyes_y = (landmarks.left_eye.y + landmarks.right_eye.y) / 2
    down_x = (landmarks.mouth_left.x + landmarks.mouth_right.x) / 2 - eyes_x
    down_y = (landmarks.mouth_left.y + landmarks.mouth_right.y) / 2 - eyes_y
    across_x, across_y = landmarks.right_eye.x - landmarks.left_eye.x, landmarks.right_eye.y - landmarks.left_eye.y
    longer = max(math.hypot(down_x, down_y), _EYES_TO_MOUTH_PER_EYES * math.hypot(across_x, across_y), 1.0)
    return Region(
        x=eyes_x + _CENTRE_DOWN * down_x,
        y=eyes_y + _CENTRE_DOWN * down_y,
        side=_FACE_MARGIN * _SIDE_PER_EYES_TO_MOUTH * longer,
        angle=math.atan2(across_y - down_x, across_x + down_y),
    )


def _region_of_mesh(points: FloatArray) -> Region:
    """The square that the points span along the eye line, with the margin."""
    across = points[263, :2] - points[33, :2]
    angle = math.atan2(float(across[1]), float(across[0]))
    cos, sin = math.cos(angle), math.sin(angle)
    along = points[:, 0] * cos + points[:, 1] * sin
    below = points[:, 1] * cos - points[:, 0] * sin
    middle_along, middle_below = float(along.min() + along.max()) / 2, float(below.min() + below.max()) / 2
    return Region(
        x=middle_along * cos - middle_below * sin,
        y=middle_along * sin + middle_below * cos,
        side=_FACE_MARGIN * max(float(np.ptp(along)), float(np.ptp(below)), 1.0),
        angle=angle,
    )


def _region_of_eye(left_corner: FloatArray, right_corner: FloatArray) -> Region:
    across = right_corner - left_corner
    return Region(
        x=float(left_corner[0] + right_corner[0]) / 2,
        y=float(left_corner[1] + right_corner[1]) / 2,
        side=_EYE_MARGIN * float(np.hypot(across[0], across[1])),
        angle=math.atan2(float(across[1]), float(across[0])),
    )


def _shrunk_about(
    image: NDArray[np.uint8], region: Region, matrix: NDArray[np.float64], factor: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture about the region, made `factor` times smaller by averaging, and the matrix that fits it.

    Bilinear sampling alone skips pixels when it shrinks more than twice: a large face would come out grainy.
    """
    if factor < 2:
        return image, matrix
    reach = region.side * 0.75  # more than half the diagonal of the square
    height, width = image.shape[:2]
    x0, x1 = (int(np.clip(v, 0, width)) for v in (region.x - reach, region.x + reach + 1))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (region.y - reach, region.y + reach + 1))
    x1, y1 = x0 + (x1 - x0) // factor * factor, y0 + (y1 - y0) // factor * factor
    if x1 <= x0 or y1 <= y0:
        return image, matrix
    size = ((x1 - x0) // factor, (y1 - y0) // factor)
    small = cv2.resize(image[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
    fitted = matrix.copy()
    fitted[:, 2] += matrix[:, :2] @ (x0, y0)
    fitted[:, :2] *= factor
    return np.asarray(small, dtype=np.uint8), fitted


class _Network:
    """One of the two networks: takes one square picture. Safe to share between threads."""

    def __init__(self, file: Path) -> None:
        self._session = runtime.session(file)
        self._input = self._session.get_inputs()[0].name

    def run(self, picture: NDArray[np.uint8]) -> list[FloatArray]:
        """picture: (side, side, 3) uint8 RGB. The outputs, the larger first."""
        given = picture[None].astype(np.float32) * np.float32(1 / 255)
        outputs: list[FloatArray] = self._session.run(None, {self._input: given})
        return sorted(outputs, key=np.size, reverse=True)
