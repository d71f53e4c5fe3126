"""The outlines of the parts of a face, one closed polygon per part, from upright landmarks. Read `outlines`.

The 478-point mesh has points for every part; with 68 points, parts between them are estimated from proportions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from limner.vision.landmarks import MOUTH_CORNERS, Points

# Indices of MediaPipe's face mesh. Which of them bound a part is a choice of this module.
# Clockwise as seen, from the top of the forehead.
_RIGHT_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
_LEFT_OVAL = (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
FACE_OVAL = (*_RIGHT_OVAL, *_LEFT_OVAL)
_UPPER_OVAL = (162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389)  # temple to temple
_FOREHEAD_FLOOR = (368, 300, 293, 334, 296, 336, 285, 8, 55, 107, 66, 105, 63, 70, 139)
_BETWEEN_BROWS = 9
_NOSE_ROOT, _INNER_BROW_ENDS = 8, (55, 285)

# Paired parts: (left, right). Brows and lids from the outer side inward.
_BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
_BROW_TAILS = ((46, 70, 156), (276, 300, 383))
_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362))
# From the temple below the eye and up beside the nose, down the nose and the fold to the mouth's corner, and round
# below the mouth's line back up along the face's edge. Under-eye and nose are cut out of it: it overlaps them.
_CHEEKS = (
    (127, 34, 143, 35, 226, 23, 243, 245, 122, 196, 236, 134, 220, 115, 219, 64, 92, 186, 57),
    (356, 264, 372, 265, 446, 253, 463, 465, 351, 419, 456, 363, 440, 344, 439, 294, 322, 410, 287),
)
_CHEEK_ENDS = (((212, 202), (214, 210), (214, 138)), ((432, 422), (434, 430), (434, 367)))  # points between these
_FACE_EDGES = ((58, 132, 93, 234), (288, 361, 323, 454))  # upward
_NOSE_SIDE = ((193, 188, 217, 209, 49, 129, 64, 98, 97, 2), (417, 412, 437, 429, 279, 358, 294, 327, 326, 2))
_UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78)
_LOWER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78)
_MOUTH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_INNER_LIPS = ((82, 87), (13, 14), (312, 317))  # upper and lower edge of the opening
_INNER_CORNERS = (78, 308)
_CHIN = (106, 91, 84, 17, 314, 321, 335, 262, 400, 377, 152, 148, 176, 32)
_JAWS = (
    (58, 57, 43, 106, 194, 32, 140, 176, 149, 150, 136, 172),
    (288, 287, 273, 335, 418, 262, 369, 400, 378, 379, 365, 397),
)
_NOSE_BASE_LINE = (132, 147, 187, 205, 98, 97, 2, 326, 327, 425, 411, 376, 361)
_LOWER_OVAL = (361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132)

_UNDER_EYE_DEPTH = 0.5  # greatest depth of the under-eye, as a share of the wider eye's width
_DEEPEST = 0.42  # where it is deepest, as a share of the way from the outer to the inner corner
_PROFILE = 0.535  # a face is a profile if one brow is at most so wide as the other one
_CLOSED_LIPS = 0.07  # a mouth is closed if its opening is at most this share of its inner width


@dataclass(frozen=True, slots=True)
class Outlines:
    """Closed polygons, (N, 2) pixels, by part; the last point joins the first.

    `parts` has the keys face, forehead, nose, upper_lip, lower_lip, mouth, chin, lower_face, and with the prefixes
    left_ and right_: brow, eye, under_eye, cheek, jaw, and brow_tail, where a brow may go on beyond its landmarks.
    Cheeks, jaws, chin and forehead overlap their neighbours, which are cut out of them. `mouth_line`: the mouth's
    corners, (2, 2), left first. `mouth_is_open`: whether there is an opening between the lips. `brow_level`: y of the
    outer ends of the brows. `width`: width of the face, pixels.
    """

    parts: dict[str, Points]
    mouth_line: Points
    mouth_is_open: bool
    brow_level: float
    width: float
    middle: Points
    """Two points on the middle of the forehead, (2, 2): between the brows, and above."""

    @property
    def far_side(self) -> str | None:
        """`left` or `right` if the face is seen so much from the other side that hardly any of this one shows."""
        left, right = (float(np.ptp(self.parts[f"{side}_brow"][:, 0])) for side in ("left", "right"))
        if min(left, right) >= _PROFILE * max(left, right):
            return None
        return "left" if left < right else "right"


def outlines(landmarks: Points, forehead_reach: float = 1.0, widening: float = 0.5) -> Outlines:
    """The outlines from upright landmarks (eyes level, mouth below): (478, 2), (468, 2) or (68, 2).

    forehead_reach: factor for the distance of the forehead's upper edge from the brows. 1 = the upper edge of the mesh,
    which is below most hairlines. Use more when a label map, or the photo's colours, limit the skin. widening: how much
    of the reach is also applied sideways, 0 to 1.
    """
    reach = np.array([1.0 + (forehead_reach - 1.0) * widening, forehead_reach])
    return _of_68(landmarks, reach) if len(landmarks) == 68 else _of_mesh(landmarks, reach)


def _of_mesh(mesh: Points, forehead_reach: Points) -> Outlines:
    def drawn(indices: Sequence[int]) -> Points:
        return mesh[list(indices)]

    root = (mesh[_NOSE_ROOT] + mesh[list(_INNER_BROW_ENDS)]) / 2
    parts = {
        "face": drawn(FACE_OVAL),
        "forehead": np.concatenate(
            [_raised(drawn(_UPPER_OVAL), mesh[_BETWEEN_BROWS], forehead_reach), drawn(_FOREHEAD_FLOOR)]
        ),
        "nose": np.concatenate([root, drawn(_NOSE_SIDE[1]), drawn(_NOSE_SIDE[0])[-2::-1]]),
        "upper_lip": drawn(_UPPER_LIP),
        "lower_lip": drawn(_LOWER_LIP),
        "mouth": drawn(_MOUTH),
        "chin": drawn(_CHIN),
        "lower_face": drawn(_NOSE_BASE_LINE + _LOWER_OVAL[1:-1]),
    }
    depth = _UNDER_EYE_DEPTH * max(_length(drawn(lid)[[0, -1]]) for lid in _LOWER_LIDS)
    for side, name in enumerate(("left", "right")):
        ends = np.array([(mesh[one] + mesh[other]) / 2 for one, other in _CHEEK_ENDS[side]])
        parts |= {
            f"{name}_brow": drawn(_BROWS[side]),
            f"{name}_brow_tail": drawn(_BROW_TAILS[side]),
            f"{name}_eye": drawn(_EYES[side]),
            f"{name}_under_eye": _crescent(drawn(_LOWER_LIDS[side]), depth),
            f"{name}_cheek": np.concatenate([drawn(_CHEEKS[side]), ends, drawn(_FACE_EDGES[side])]),
            f"{name}_jaw": drawn(_JAWS[side]),
        }
    openings = [_length(drawn(pair)) for pair in _INNER_LIPS]
    return Outlines(
        parts=parts,
        mouth_line=drawn(MOUTH_CORNERS[468]),
        mouth_is_open=float(np.mean(openings)) > _CLOSED_LIPS * _length(drawn(_INNER_CORNERS)),
        brow_level=float(mesh[[70, 300], 1].mean()),
        width=max(float(np.ptp(parts["face"][:, 0])), 1.0),
        middle=mesh[[_NOSE_ROOT, FACE_OVAL[0]]],
    )


def _of_68(points: Points, forehead_reach: Points) -> Outlines:
    """Outlines from the 68 points of iBUG 300-W.

    The forehead is half an ellipse over the ends of the jaw; its height above the brows is 0.8 times the distance from
    the brows to the nose's base. Brows, which are single lines, become a sixth of their length thick.
    """
    jaw = points[:17]
    left_brow, right_brow = points[17:22], points[26:21:-1]  # both from the outer end inward
    between = (left_brow[-1] + right_brow[-1]) / 2
    nose_base = points[33]
    height = float(nose_base[1] - between[1])
    width = max(float(np.ptp(jaw[:, 0])), 1.0)
    upper = _upper_oval(jaw[0], jaw[16], float(between[1]) - 0.8 * height)
    temples = upper[upper[:, 1] < float(points[17:27, 1].max())]
    floor = np.concatenate([_lifted(right_brow, 0.04 * width), [between], _lifted(left_brow, 0.04 * width)[::-1]])
    wings = _spread(points[31:36], points[33], 1.3)
    half_nose = 0.13 * width * np.array([[0.45, 0.0], [0.6, 0.0], [0.8, 0.0]])
    ridge = np.array([between * 0.6 + points[27] * 0.4, points[28], points[29]])
    nose_left, nose_right = ridge - half_nose, ridge + half_nose
    wing_up = np.array([0.0, -0.18 * height])
    below_lip = points[57]
    chin_top = below_lip  # the lip and the gap are cut out of it
    chin_half = (points[54] - points[48]) * 0.36
    parts = {
        "face": np.concatenate([upper, jaw[::-1]]),
        "forehead": np.concatenate([_raised(temples, between, forehead_reach), floor]),
        "nose": np.concatenate([nose_right, [wings[4] + wing_up], wings[::-1], [wings[0] + wing_up], nose_left[::-1]]),
        "upper_lip": points[[48, 49, 50, 51, 52, 53, 54, 64, 63, 62, 61, 60]],
        "lower_lip": points[[48, 59, 58, 57, 56, 55, 54, 64, 65, 66, 67, 60]],
        "mouth": points[60:68],
        "chin": np.concatenate([[chin_top - chin_half, chin_top, chin_top + chin_half], jaw[9:6:-1]]),
        "lower_face": np.concatenate([[wings[0], nose_base, wings[4]], jaw[13:2:-1]]),
    }
    depth = _UNDER_EYE_DEPTH * max(_length(points[[36, 39]]), _length(points[[42, 45]]))
    for name, brow, eye, upper_eye, edge, wing, corner in (
        ("left", left_brow, points[[36, 41, 40, 39]], points[[38, 37]], jaw[5::-1], wings[0], points[48]),
        ("right", right_brow, points[[45, 46, 47, 42]], points[[43, 44]], jaw[11:], wings[4], points[54]),
    ):
        long = float(np.hypot(*(eye[-1] - eye[0])))
        outward = np.array([np.sign(eye[0, 0] - eye[-1, 0]) * long, 0.0])
        down = np.array([0.0, long])
        fold = (wing + corner) / 2 + 0.25 * outward
        beside_corner = corner + 0.25 * outward
        beside_nose = np.stack([eye[-1] - 0.3 * outward, between * 0.2 + points[29] * 0.8, points[33]])
        parts |= {
            f"{name}_brow": _thickened(brow),
            f"{name}_brow_tail": brow[:1].repeat(3, axis=0),
            f"{name}_eye": np.concatenate([eye, upper_eye]),
            f"{name}_under_eye": _crescent(eye, depth),
            f"{name}_cheek": np.concatenate(
                [
                    [edge[-1], eye[0] + 0.25 * outward, eye[1] + 0.1 * down, eye[2] + 0.1 * down],
                    beside_nose,
                    [wing, fold, beside_corner, beside_corner + 0.25 * outward + 0.35 * down, edge[0]],
                    edge[1:-1],
                ]
            ),
            f"{name}_jaw": np.concatenate(
                [
                    [edge[1], beside_corner, chin_top, chin_top + np.sign(outward[0]) * np.abs(chin_half)],
                    jaw[7:2:-1] if name == "left" else jaw[9:14],
                ]
            ),
        }
    openings = [_length(points[list(pair)]) for pair in ((61, 67), (62, 66), (63, 65))]
    is_open = float(np.mean(openings)) > _CLOSED_LIPS * _length(points[[60, 64]])
    brow_level = float((left_brow[0, 1] + right_brow[0, 1]) / 2)
    middle = np.stack([between, between - [0.0, 0.8 * height]])
    return Outlines(parts, points[[48, 54]], is_open, brow_level, width, middle)


def _raised(edge: Points, between_brows: Points, reach: Points) -> Points:
    """The forehead's edge scaled about the point between the brows, sideways and upwards; what is below stays."""
    offset = edge - between_brows
    return _points(between_brows + offset * np.where(offset[:, 1:] < 0, reach, 1.0))


def _upper_oval(left: Points, right: Points, top: float) -> Points:
    """Half an ellipse from `left` to `right` with its highest point at y = `top`, 13 points."""
    angle = np.linspace(np.pi, 0.0, 13)
    middle, half = (left + right) / 2, (right - left) / 2
    return _points(middle + np.cos(angle)[:, None] * half + np.sin(angle)[:, None] * np.array([0.0, top - middle[1]]))


def _lifted(line: Points, by: float) -> Points:
    return _points(line - np.array([0.0, by]))


def _spread(line: Points, about: Points, factor: float) -> Points:
    return _points(about + (line - about) * np.array([factor, 1.0]))


def _points(values: npt.ArrayLike) -> Points:
    return np.asarray(values, dtype=np.float64)


def _crescent(lid: Points, depth: float) -> Points:
    """The under-eye below a lid that runs from the outer to the inner corner: deepest a little outside the middle."""
    line = _even(lid, 33)
    reach = (line[0] - line[-1]) * 0.12
    line = np.concatenate([[line[0] + reach], line[1:-1], [line[-1] - reach]])
    along = np.linspace(0.0, 1.0, len(line)) ** (np.log(0.5) / np.log(_DEEPEST))
    lower = line + np.stack([np.zeros(len(line)), depth * (4.0 * along * (1.0 - along)) ** 0.55], axis=1)
    return np.concatenate([line, lower[-2:0:-1]])


def _length(pair: Points) -> float:
    return float(np.hypot(*(pair[1] - pair[0])))


def _even(line: Points, count: int) -> Points:
    """An open line resampled to `count` evenly spaced points."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(at, along, line[:, 0]), np.interp(at, along, line[:, 1])], axis=1)


def _thickened(brow: Points) -> Points:
    """A polygon around a brow's line, thin at the outer end."""
    length = float(np.hypot(*(brow[-1] - brow[0])))
    half = np.array([0.02, 0.07, 0.085, 0.09, 0.075]) * length
    up = np.stack([np.zeros(5), -half], axis=1)
    return np.concatenate([brow + up, (brow - up)[::-1]])
