"""Cover areas of a picture so that what was there cannot be recovered. Read `Cover`, then `blur`.

Only a few average colours of an area are kept, or none.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision.faces import Box
from limner.vision.heads import Area, bounds

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Region = tuple[int, int, int, int]  # left, top, right, bottom; half-open, within the picture
Weights = npt.NDArray[np.float32]

_BLOCKS = 8  # along the longer side of an area; face recognition fails already with many more
_MIN_BLOCK = 4  # px, for small faces
_LEVELS = 32  # levels kept per colour channel, of 256
_BAND = 256  # rows blended at a time, so that a face as large as the picture does not need a copy of the picture
_GRID, _FINE = 48, 97  # cells a side: of the smoothed mosaic of `blur`, of the shape of round areas

_SOFT_REACH = 1.18  # factor for round shapes, whose corners are cut off, and whose edge is soft in `blur`
_SOFT_EDGE, _HARD_EDGE = 0.12, 0.02  # width of the edge, of half the shape


class Cover(Protocol):
    """The signature of `blur` and `pixelate`.

    They change `image`, (H, W, 3) uint8 RGB, in place; `alpha`, (H, W) uint8, becomes opaque where they paint.
    """

    def __call__(self, image: Pixels, areas: Sequence[Area], alpha: Pixels | None = None) -> None: ...


def exactly(box: Box) -> Area:
    """A rectangle that a person has drawn: all of it is covered."""
    return Area(box.x + box.width / 2, box.y + box.height / 2, box.width, box.height)


def pixelate(image: Pixels, areas: Sequence[Area], alpha: Pixels | None = None) -> None:
    """Cover each area with a few large squares of one colour each."""
    for area in areas:
        region = _region(image, area)
        left, top, right, bottom = region
        if right <= left or bottom <= top:
            continue
        mosaic = _mosaic(image, region)
        touched = _touched(area, region, *mosaic.shape[:2])
        across = np.arange(right - left) * mosaic.shape[1] // (right - left)
        for start in range(top, bottom, _BAND):
            stop = min(bottom, start + _BAND)
            down = np.arange(start - top, stop - top) * mosaic.shape[0] // (bottom - top)
            squares, mask = (np.ascontiguousarray(each[down][:, across]) for each in (mosaic, touched))
            rows = np.ascontiguousarray(image[start:stop, left:right])
            image[start:stop, left:right] = cv2.copyTo(squares, mask, rows)
            if alpha is not None:
                alpha[start:stop, left:right][mask > 0] = 255


def blur(image: Pixels, areas: Sequence[Area], alpha: Pixels | None = None) -> None:
    """Cover each area with the mosaic of `pixelate`, smoothed."""
    for area in areas:
        region = _region(image, area, _SOFT_REACH if area.round else 1.0)
        if region[2] <= region[0] or region[3] <= region[1]:
            continue
        # A small mosaic is smoothed and then enlarged: this costs the same for a face of any size.
        smooth = cv2.resize(_mosaic(image, region), (_GRID, _GRID), interpolation=cv2.INTER_CUBIC)
        _paint(image, alpha, area, region, np.asarray(cv2.GaussianBlur(smooth, (0, 0), 2.5), np.uint8), _SOFT_EDGE)


def solid(image: Pixels, areas: Sequence[Area], alpha: Pixels | None = None, *, colour: Colour = (0, 0, 0)) -> None:
    """Cover each area with one colour."""
    for area in areas:
        region = _region(image, area, _SOFT_REACH if area.round else 1.0)
        if region[2] <= region[0] or region[3] <= region[1]:
            continue
        _paint(image, alpha, area, region, np.full((1, 1, 3), colour, np.uint8), _HARD_EDGE)


def _paint(image: Pixels, alpha: Pixels | None, area: Area, region: Region, colours: Pixels, edge: float) -> None:
    """Blend `colours`, stretched over the region, where the area is."""
    left, top, right, bottom = region
    distances = _distances(area, region) if area.round else np.zeros((1, 1), np.float32)
    for start in range(top, bottom, _BAND):
        stop = min(bottom, start + _BAND)
        distance = _enlarged(distances, region, start, stop) / _SOFT_REACH
        weight = np.clip((1 - distance) / edge, 0, 1).astype(np.float32)
        over = _enlarged(colours, region, start, stop)
        rows = np.ascontiguousarray(image[start:stop, left:right])
        image[start:stop, left:right] = cv2.blendLinear(rows, over, 1 - weight, weight)
        if alpha is not None:
            alpha[start:stop, left:right][weight > 0] = 255


def _region(image: Pixels, area: Area, reach: float = 1.0) -> Region:
    """The part of the picture that holds the area, enlarged by `reach`."""
    around = bounds(area)
    half_x, half_y = around.width * reach / 2, around.height * reach / 2
    height, width = image.shape[:2]
    return (
        max(0, math.floor(area.x - half_x + 1e-6)),
        max(0, math.floor(area.y - half_y + 1e-6)),
        min(width, math.ceil(area.x + half_x - 1e-6)),
        min(height, math.ceil(area.y + half_y - 1e-6)),
    )


def _own_frame(area: Area, x: Weights, y: Weights) -> tuple[Weights, Weights]:
    """Places of the picture in the area's own frame: -1 and 1 are its sides."""
    sine, cosine = math.sin(area.turn), math.cos(area.turn)
    right, down = x - np.float32(area.x), y - np.float32(area.y)
    across = (right * cosine + down * sine) / max(area.width / 2, 0.5)
    along = (down * cosine - right * sine) / max(area.height / 2, 0.5)
    return np.asarray(across, np.float32), np.asarray(along, np.float32)


def _distances(area: Area, region: Region) -> Weights:
    """On a coarse grid over the region, how far from the centre of a round area: 1 at the middle of its sides."""
    left, top, right, bottom = region
    x = np.linspace(left, right, _FINE, dtype=np.float32)[None]
    y = np.linspace(top, bottom, _FINE, dtype=np.float32)[:, None]
    across, along = (np.abs(each) for each in _own_frame(area, x, y))
    return np.asarray(np.cbrt(across**3 + along**3), np.float32)  # between an ellipse and a rectangle


def _touched(area: Area, region: Region, rows: int, columns: int) -> Pixels:
    """Which squares of the region's mosaic the area touches: (rows, columns), 255 or 0."""
    left, top, right, bottom = region
    fine = 8  # samples a square
    x = np.linspace(left, right, columns * fine + 1, dtype=np.float32)[None]
    y = np.linspace(top, bottom, rows * fine + 1, dtype=np.float32)[:, None]
    across, along = _own_frame(area, x, y)
    inside = (np.abs(across) <= 1) & (np.abs(along) <= 1)
    cells = inside[:-1, :-1] | inside[1:, :-1] | inside[:-1, 1:] | inside[1:, 1:]
    touched = cells.reshape(rows, fine, columns, fine).any(axis=(1, 3))
    return np.asarray(touched * 255, np.uint8)


def _mosaic(image: Pixels, region: Region) -> Pixels:
    """Average colours of at most `_BLOCKS` squares along the longer side, quantised: all that is kept."""
    left, top, right, bottom = region
    size = max(_MIN_BLOCK, math.ceil(max(right - left, bottom - top) / _BLOCKS))
    columns, rows = max(1, (right - left) // size), max(1, (bottom - top) // size)
    means = cv2.resize(image[top:bottom, left:right], (columns, rows), interpolation=cv2.INTER_AREA)
    step = 256 // _LEVELS
    return np.asarray(means // step * step + step // 2, np.uint8)


def _enlarged(small: npt.NDArray[Any], region: Region, start: int, stop: int) -> npt.NDArray[Any]:
    """`small` stretched over the region, bilinear; only the picture's rows `start` to `stop`."""
    left, top, right, bottom = region
    across, down = small.shape[1] / (right - left), small.shape[0] / (bottom - top)
    matrix = np.array([[across, 0, across / 2 - 0.5], [0, down, (start - top + 0.5) * down - 0.5]])
    method = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (right - left, stop - start)
    return np.asarray(cv2.warpAffine(small, matrix, size, flags=method, borderMode=cv2.BORDER_REPLICATE))
