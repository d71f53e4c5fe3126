"""Head pose (yaw, pitch, roll) from a face mesh."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Symmetric pairs of mesh points (left, right in the picture): face edge, eyes, cheeks, mouth corners.
_PAIRS = np.array([[127, 356], [234, 454], [93, 323], [33, 263], [133, 362], [50, 280], [61, 291], [58, 288]])
_TOP, _BOTTOM = 10, 152  # forehead and chin: vertical above each other in MediaPipe's canonical face, within 1°


@dataclass(frozen=True, slots=True)
class Pose:
    """Degrees; all zero = looking into the camera, upright.

    yaw: positive = towards the picture's right. pitch: positive = up. roll: positive = clockwise as seen in the
    picture, like `Face.roll_degrees`.
    """

    yaw: float
    pitch: float
    roll: float


def head_pose(points: NDArray[np.float32]) -> Pose:
    """The pose of a mesh, (468 or 478, 3); z in the scale of x and y, smaller = nearer.

    The head's axes in the picture's frame (x right, y down, z away from the camera) are the columns of
    R = Rz(roll)·Ry·Rx: "across" is the mean of the symmetric pairs, "down" is forehead to chin, made orthogonal to it.
    Own derivation. It assumes an orthographic view, because the mesh's depth is scaled like its width. MediaPipe's
    depth is flatter than real faces, so large angles come out some degrees too small.
    """
    mesh = np.asarray(points, dtype=np.float64)[:, :3]
    across = _unit((mesh[_PAIRS[:, 1]] - mesh[_PAIRS[:, 0]]).sum(axis=0))
    down = mesh[_BOTTOM] - mesh[_TOP]
    down = _unit(down - (down @ across) * across)
    roll = math.atan2(across[1], across[0])
    yaw = math.asin(float(np.clip(across[2], -1.0, 1.0)))
    # With roll and yaw undone, "down" lies in the plane x = 0, so its angle is the pitch.
    level = math.cos(roll) * down[1] - math.sin(roll) * down[0]
    sideways = math.cos(roll) * down[0] + math.sin(roll) * down[1]
    depth = math.cos(yaw) * down[2] - math.sin(yaw) * sideways
    return Pose(math.degrees(yaw), -math.degrees(math.atan2(depth, level)), math.degrees(roll))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
