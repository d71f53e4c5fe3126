"""Landmarks of a face: which of a mesh's points are eyes and mouth, and whether a client's points can be a face's."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limner.domain.errors import InvalidRequestError

Points: TypeAlias = NDArray[np.float64]  # (N, 2), pixels
Source = Literal["client", "server"]
LANDMARK_COUNTS = (478, 468, 68)
_MIN_EXTENT = 4.0  # px; the landmarks of a smaller face are degenerate
_EDGE = 1.0  # px that a client's landmark may lie outside the photo, to allow for rounding

_EYES = {478: ((33, 133), (362, 263)), 468: ((33, 133), (362, 263)), 68: (tuple(range(36, 42)), tuple(range(42, 48)))}
MOUTH_CORNERS = {478: (61, 291), 468: (61, 291), 68: (48, 54)}


def eye_centres(landmarks: Points) -> tuple[Points, Points]:
    """The centres of the left and the right eye, (2,) each. `landmarks`: 478 or 468 mesh points, or 68 iBUG points."""
    left, right = _EYES[len(landmarks)]
    return landmarks[list(left)].mean(axis=0), landmarks[list(right)].mean(axis=0)


def mouth_centre(landmarks: Points) -> Points:
    """The midpoint between the mouth's corners, (2,)."""
    middle: Points = landmarks[list(MOUTH_CORNERS[len(landmarks)])].mean(axis=0)
    return middle


def checked_landmarks(landmarks: Points, width: int, height: int, source: Source = "client") -> Points:
    """The landmarks as (N, 2) float64.

    InvalidRequestError for a wrong count, a value that is not finite, a point outside the picture, or points that lie
    all in one place or on a line; it names the first wrong landmark. Only a client's points must lie inside: the
    server's mesh continues outside where the photo's edge cuts a face.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim != 2 or points.shape[0] not in LANDMARK_COUNTS or points.shape[1] < 2:
        count = points.shape[0] if points.ndim else 0
        raise InvalidRequestError(
            f"There are {count} landmarks. Send {', '.join(map(str, LANDMARK_COUNTS[:-1]))} or {LANDMARK_COUNTS[-1]} "
            "points, each with x and y."
        )
    points = np.ascontiguousarray(points[:, :2])
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise InvalidRequestError(f"Landmark {int(np.argmin(finite))} is not a pair of finite numbers.")
    inside = ((points >= -_EDGE) & (points <= (width + _EDGE, height + _EDGE))).all(axis=1)
    if not inside.any() or (source == "client" and not inside.all()):
        first = int(np.argmin(inside))
        x, y = points[first]
        raise InvalidRequestError(
            f"Landmark {first} at ({x:.1f}, {y:.1f}) lies outside the picture of {width}×{height} pixels."
        )
    _require_extent(points)
    return points


def _require_extent(points: Points) -> None:
    """InvalidRequestError unless the points have a width, a height and two separate eyes."""
    centred = points - points.mean(axis=0)
    narrow = float(np.linalg.svd(centred, compute_uv=False)[-1]) / np.sqrt(len(points))
    left, right = eye_centres(points)
    mouth = mouth_centre(points)
    if narrow * 4 < _MIN_EXTENT or np.hypot(*(right - left)) < 1.0 or np.hypot(*(mouth - (left + right) / 2)) < 1.0:
        first = int(np.argmin(np.hypot(*(points[1:] - points[0]).T))) + 1
        raise InvalidRequestError(
            f"The landmarks have collapsed: landmark {first} lies on landmark 0, or all of them lie on one line."
        )
