"""Low-poly: Delaunay triangles of one colour each. The mesh's points are corners in the faces, so features stay."""

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.painters.drawn.edges import edge_share
from limner.painters.drawn.fields import Field, Pixels, to_lab, to_pixels, to_rgb
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import LowPoly

Points = NDArray[np.float32]  # (N, 2), worked pixels

# Numbers of the mesh's points, in the order in which they get their place.
# fmt: off
_EYES = (33, 133, 159, 145, 158, 153, 160, 144, 468, 263, 362, 386, 374, 385, 380, 387, 373, 473)
_BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
_LIPS = (61, 291, 0, 17, 37, 267, 39, 269, 40, 270, 84, 314, 91, 321, 78, 308, 13, 14, 81, 311, 178, 402)
_NOSE = (1, 4, 5, 6, 168, 197, 195, 98, 327, 2, 129, 358, 94)
_OVAL = (10, 109, 338, 67, 297, 54, 284, 21, 251, 162, 389, 127, 356, 234, 454, 93, 323, 132, 361, 58, 288, 172, 397,
         136, 365, 150, 379, 149, 378, 176, 400, 148, 377, 152)
# fmt: on
_FEATURES = (*_EYES, *_BROWS, *_LIPS, *_NOSE, *_OVAL)
_FEATURE_DISTANCE, _MESH_DISTANCE = 1.6, 5.0  # between corners in a face, units
_SATURATION, _CONTRAST = 1.2, 1.12
_SHIFT = 4
_SUPERSAMPLED_AREA = 3.0e6


def low_poly(study: Study, style: LowPoly) -> Pixels:
    triangles = _triangles(corners(study, style.points), study.width, study.height)
    lab = to_lab(study.colour)
    lab[..., 0] = np.clip((lab[..., 0] - 50.0) * _CONTRAST + 52.0, 0.0, 100.0)
    lab[..., 1:] *= _SATURATION
    colours = _mean_colours(to_rgb(lab), triangles)
    canvas = study.canvas
    twice = 2 if canvas.width * canvas.height <= _SUPERSAMPLED_AREA else 1
    size = np.array([canvas.width * twice, canvas.height * twice])
    drawn = np.asarray(cv2.resize(to_pixels(study.colour), tuple(size.tolist())), np.uint8)
    factor = size / (study.width, study.height)
    fixed = np.round(((triangles + 0.5) * factor - 0.5) * 2**_SHIFT).astype(np.int32)
    for triangle, colour in zip(fixed, colours.tolist(), strict=True):
        cv2.fillConvexPoly(drawn, triangle, colour, cv2.LINE_8, _SHIFT)
    if twice > 1:
        drawn = np.asarray(cv2.resize(drawn, (canvas.width, canvas.height), interpolation=cv2.INTER_AREA), np.uint8)
    return drawn


def corners(study: Study, count: int) -> Points:
    """The triangles' corners: features of the faces, then other points of their meshes, then `count` by chance, more on
    edges, then the border. Each keeps its distance from the ones before."""
    height, width, unit = study.height, study.width, study.unit
    taken = np.zeros((height, width), np.uint8)
    found: list[tuple[float, float]] = []

    def add(x: float, y: float, distance: float) -> None:
        if 0 <= x <= width - 1 and 0 <= y <= height - 1 and not taken[int(y), int(x)]:
            cv2.circle(taken, (int(x), int(y)), max(1, round(distance)), 1, -1)
            found.append((x, y))

    for mesh in study.meshes:
        own = float(np.ptp(mesh[:, 0])) / 100.0  # this face's unit: smaller faces have smaller triangles
        features = mesh[[index for index in _FEATURES if index < len(mesh)]]
        for points, distance in ((features, _FEATURE_DISTANCE), (mesh, _MESH_DISTANCE)):
            for x, y in points.tolist():
                add(x, y, distance * own)
    rng = study.rng()
    edges = edge_share(study.colour, unit)
    weight = (edges**1.3 + 0.03).ravel().astype(np.float64)
    cumulative = np.cumsum(weight)
    tries = np.searchsorted(cumulative, rng.random(count * 8) * cumulative[-1])
    wanted = len(found) + count
    for place in np.minimum(tries, height * width - 1).tolist():
        y, x = divmod(place, width)
        add(x, y, float(np.clip(3.2 * unit / (edges[y, x] + 0.11), 2.4 * unit, 26 * unit)))
        if len(found) >= wanted:
            break
    border = [(x, y) for x in np.linspace(0, width - 1, 14) for y in (0, height - 1)]
    border += [(x, y) for y in np.linspace(0, height - 1, 14) for x in (0, width - 1)]
    return np.unique(np.array(found + border, np.float32), axis=0)


def _triangles(points: Points, width: int, height: int) -> Points:
    """(N, 3, 2): the Delaunay triangulation; none if all points lie on a line."""
    plane = cv2.Subdiv2D((0, 0, width, height))
    for x, y in points.tolist():
        plane.insert((x, y))
    triangles = np.asarray(plane.getTriangleList(), np.float32).reshape(-1, 3, 2)
    # The list also holds triangles with the corners of the outer frame that the algorithm starts with.
    inside = ((triangles >= 0) & (triangles <= (width - 1, height - 1))).all(axis=(1, 2))
    return triangles[inside]


def _mean_colours(colour: Field, triangles: Points) -> NDArray[np.uint8]:
    """(N, 3) uint8: the mean of the pixels in each triangle, or the pixel in its middle if it holds none."""
    height, width = colour.shape[:2]
    owner = np.full((height, width), -1, np.int32)
    corners_ = np.round(triangles).astype(np.int32)
    for index, triangle in enumerate(corners_):
        cv2.fillConvexPoly(owner, triangle, index)
    flat = owner.ravel()
    pixels = colour.reshape(-1, 3)
    inside = flat >= 0
    counts = np.bincount(flat[inside], minlength=len(triangles))
    sums = [np.bincount(flat[inside], pixels[inside, c], len(triangles)) for c in range(3)]
    middle = np.round(triangles.mean(axis=1)).astype(np.intp) if len(triangles) else np.zeros((0, 2), np.intp)
    means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    means = np.where(counts[:, None] > 0, means, colour[middle[:, 1], middle[:, 0]])
    return np.asarray(np.round(means * 255.0), np.uint8)
