"""Landmarks of a face: which of a mesh's points are eyes and mouth, and whether a client's points can be a face's."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from limner.domain.errors import InvalidRequestError

Points: TypeAlias = NDArray[np.float64]  # (N, 2), pixels
Source = Literal["client", "server"]
LANDMARK_COUNTS = (478, 468, 68)
_MIN_EXTENT = 4.0  # px; the landmarks of a smaller face are degenerate
_FACE_PER_FEATURES = 2.5  # a face's size in multiples of the distance between the eyes, or from the eyes to the mouth

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

    InvalidRequestError for a wrong count, a value that is not finite, a point farther outside the picture than the face
    is large, no point inside, or points that lie all in one place or on a line; it names the first wrong landmark. A
    mesh continues outside where the photo's edge cuts a face; how far is only checked of a client's.
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
    if ((points >= -0.01) & (points <= 1.01)).all() and min(width, height) > 4:
        raise InvalidRequestError(
            "All landmarks are between 0 and 1. Send `landmarks_unit` as `normalised` if they are shares of the width "
            "and the height."
        )
    reach = _face_size(points) if source == "client" else np.inf
    near = ((points >= -reach) & (points <= (width + reach, height + reach))).all(axis=1)
    inside = ((points >= 0) & (points <= (width, height))).all(axis=1)
    if not near.all() or not inside.any():
        first = int(np.argmin(near & inside)) if not inside.any() else int(np.argmin(near))
        x, y = points[first]
        raise InvalidRequestError(
            f"Landmark {first} at ({x:.1f}, {y:.1f}) lies outside the picture of {width}×{height} pixels"
            + (", by more than the face's size." if inside.any() else ", like all others.")
        )
    _require_extent(points)
    return points


def _face_size(points: Points) -> float:
    """About the face's larger side, pixels, from eyes and mouth: one wrong point elsewhere does not change it."""
    left, right = eye_centres(points)
    across, down = right - left, mouth_centre(points) - (left + right) / 2
    return _FACE_PER_FEATURES * max(float(np.hypot(*across)), float(np.hypot(*down)))


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
