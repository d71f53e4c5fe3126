"""Mark faces in a picture: with a box, or unrecognisable by blurring or pixelating. Read `Mark`, then `boxes`."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageFont

from limner.vision.faces import Face

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Region = tuple[int, int, int, int]  # left, top, right, bottom; half-open, within the picture


class Mark(Protocol):
    """The signature of `boxes`, `blur` and `pixelate`.

    They change `image`, (H, W, 3) uint8 RGB, in place; `alpha`, (H, W) uint8, becomes opaque where they paint. `blur`
    and `pixelate` cannot be undone: they keep only a few average colours of a head.
    """

    def __call__(self, image: Pixels, faces: Sequence[Face], alpha: Pixels | None = None) -> None: ...


_LINE: Colour = (94, 234, 190)
_EDGE: Colour = (16, 24, 32)

_MIN_LABELLED_SIDE = 56  # px; a smaller face would be hidden by its label
_BLOCKS = 8  # along the longer side of a head; face recognition fails already with many more
_MIN_BLOCK = 4  # px, for small faces
_LEVELS = 32  # levels kept per colour channel, of 256
_BAND = 256  # rows blended at a time, so that a face as large as the picture does not need a copy of the picture

# How far a head extends beyond the box of its face, in box sizes: above (hair), at the sides (ears), below (chin).
_ABOVE, _BESIDE, _BELOW = 0.4, 0.28, 0.15
_SOFT_REACH = 1.18  # factor for `blur`, whose edge is soft and whose corners are round


def boxes(image: Pixels, faces: Sequence[Face], alpha: Pixels | None = None) -> None:
    """A frame around each face, with the score if there is room for it.

    The frame is light on dark, so it is visible on any background. The largest faces are painted first, so that the
    frame of a smaller face in front is complete.
    """
    for face in sorted(faces, key=lambda face: -face.box.width * face.box.height):
        side = math.sqrt(max(1.0, face.box.width * face.box.height))
        stroke = max(1, min(round(side / 48), round(max(image.shape[:2]) / 160) + 1))
        rim = stroke + (1 if side < 32 else 2 * max(1, round(stroke * 0.45)))
        _frame(image, face, rim, _EDGE)
        _frame(image, face, stroke, _LINE)
        if alpha is not None:
            _frame(alpha, face, rim, (255, 255, 255))
        if side >= _MIN_LABELLED_SIDE:
            _label(image, face, math.ceil(rim / 2), alpha)


def pixelate(image: Pixels, faces: Sequence[Face], alpha: Pixels | None = None) -> None:
    """Cover each head with a few large squares of one colour each."""
    for face in faces:
        region = _head(image, face)
        left, top, right, bottom = region
        if right <= left or bottom <= top:
            continue
        size = (right - left, bottom - top)
        image[top:bottom, left:right] = cv2.resize(_mosaic(image, region), size, interpolation=cv2.INTER_NEAREST)
        if alpha is not None:
            alpha[top:bottom, left:right] = 255


def blur(image: Pixels, faces: Sequence[Face], alpha: Pixels | None = None) -> None:
    """Cover each head with a rounded, soft-edged shape: the mosaic of `pixelate`, smoothed."""
    for face in faces:
        region = _head(image, face, reach=_SOFT_REACH)
        left, top, right, bottom = region
        if right <= left or bottom <= top:
            continue
        # A small mosaic is smoothed and then enlarged: this costs the same for a face of any size.
        smooth = cv2.resize(_mosaic(image, region), (48, 48), interpolation=cv2.INTER_CUBIC)
        smooth = cv2.GaussianBlur(smooth, (0, 0), 2.5)
        shape = _rounded_shape(face, region)
        for start in range(top, bottom, _BAND):
            stop = min(bottom, start + _BAND)
            weight = _enlarged(shape, region, start, stop)
            colours = _enlarged(smooth, region, start, stop)
            rows = np.ascontiguousarray(image[start:stop, left:right])
            image[start:stop, left:right] = cv2.blendLinear(rows, colours, 1 - weight, weight)
            if alpha is not None:
                alpha[start:stop, left:right][weight > 0] = 255


def _frame(image: Pixels, face: Face, stroke: int, colour: Colour) -> None:
    """A rectangle with round corners along the face's box, `stroke` pixels wide, antialiased."""
    height, width = image.shape[:2]
    inset = (stroke - 1) / 2 if stroke > 2 else 0.0
    left, top = max(face.box.x, inset), max(face.box.y, inset)
    right = max(left + 1, min(face.box.x + face.box.width, width - 1 - inset))
    bottom = max(top + 1, min(face.box.y + face.box.height, height - 1 - inset))
    radius = min(right - left, bottom - top) * 0.16
    turns = np.linspace(0, math.pi / 2, 12)
    corners = ((right, bottom, 0), (left, bottom, 1), (left, top, 2), (right, top, 3))
    outline = np.concatenate(
        [
            np.stack(
                [
                    x - math.copysign(radius, x - (left + right) / 2) + radius * np.cos(turns + quarter * math.pi / 2),
                    y - math.copysign(radius, y - (top + bottom) / 2) + radius * np.sin(turns + quarter * math.pi / 2),
                ],
                axis=1,
            )
            for x, y, quarter in corners
        ]
    )
    cv2.polylines(image, [np.round(outline * 16).astype(np.int32)], True, colour, stroke, cv2.LINE_AA, 4)


def _label(image: Pixels, face: Face, stroke: int, alpha: Pixels | None) -> None:
    """The score on a dark tag: above the box, else below it, else inside it if the face is much larger."""
    size = max(12, min(round(face.box.height * 0.12), round(max(image.shape[:2]) / 40) + 8))
    text = _text(f"{round(face.score * 100)} %", size)
    pad = max(3, size // 3)
    rows, columns = text.shape[0] + 2 * pad, text.shape[1] + 2 * pad
    if columns > min(face.box.width * 1.2, image.shape[1]):
        return
    left = round(min(max(face.box.x - stroke / 2, 0), image.shape[1] - columns))
    gap = stroke + 2
    places = (
        (round(face.box.y) - gap - rows, True),
        (round(face.box.y + face.box.height) + gap, True),
        (round(max(face.box.y, 0)) + gap + stroke, rows < 0.12 * face.box.height),
    )
    for top, allowed in places:
        if allowed and top >= 0 and top + rows <= image.shape[0]:
            if top > face.box.y and top < face.box.y + face.box.height:
                left = min(left + gap + stroke, image.shape[1] - columns)
            tag = image[top : top + rows, left : left + columns]
            shape = _tag_shape(rows, columns)
            tag[:] = _mixed(tag, _EDGE, shape * 0.86)
            inner = tag[pad : pad + text.shape[0], pad : pad + text.shape[1]]
            inner[:] = _mixed(inner, _LINE, text)
            if alpha is not None:
                under = alpha[top : top + rows, left : left + columns]
                np.maximum(under, (shape * 255).astype(np.uint8), out=under)
            return


def _mixed(pixels: Pixels, colour: Colour, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`colour` blended over the pixels with the opacity `weight`, (H, W), 0..1."""
    return np.asarray(pixels + (np.array(colour, np.float32) - pixels) * weight[:, :, None] + 0.5, np.float32)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(text: str, size: int) -> npt.NDArray[np.float32]:
    """The text's coverage 0..1, cropped to its bounding box."""
    mask = _font(size).getmask(text, mode="L")
    return np.asarray(np.asarray(mask, np.float32).reshape(mask.size[1], mask.size[0]) / 255, np.float32)


def _tag_shape(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The coverage 0..1 of a rectangle with round corners."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) + 0.5
    radius = min(rows, columns) * 0.28
    out = np.hypot(
        np.maximum(np.abs(x - columns / 2) - (columns / 2 - radius), 0),
        np.maximum(np.abs(y - rows / 2) - (rows / 2 - radius), 0),
    )
    return np.asarray(np.clip(radius - out + 0.5, 0, 1), np.float32)


def _extents(face: Face, reach: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the head, not clipped to the picture. The hair's side follows the face's rotation."""
    quarter = round(face.roll_degrees / 90) % 4  # clockwise: with one quarter turn the hair is on the right
    reaches = [_ABOVE, _BESIDE, _BELOW, _BESIDE]  # above, right, below, left of an upright face
    above, right, below, left = (reaches[(at - quarter) % 4] for at in range(4))
    box = face.box
    x1, x2 = box.x - left * box.width, box.x + (1 + right) * box.width
    y1, y2 = box.y - above * box.height, box.y + (1 + below) * box.height
    more_x, more_y = (x2 - x1) * (reach - 1) / 2, (y2 - y1) * (reach - 1) / 2
    return x1 - more_x, y1 - more_y, x2 + more_x, y2 + more_y


def _head(image: Pixels, face: Face, reach: float = 1.0) -> Region:
    left, top, right, bottom = _extents(face, reach)
    height, width = image.shape[:2]
    return (
        max(0, math.floor(left)),
        max(0, math.floor(top)),
        min(width, math.ceil(right)),
        min(height, math.ceil(bottom)),
    )


def _mosaic(image: Pixels, region: Region) -> Pixels:
    """Average colours of at most `_BLOCKS` squares along the longer side, quantised: all that is kept of a head."""
    left, top, right, bottom = region
    size = max(_MIN_BLOCK, math.ceil(max(right - left, bottom - top) / _BLOCKS))
    columns, rows = max(1, (right - left) // size), max(1, (bottom - top) // size)
    means = cv2.resize(image[top:bottom, left:right], (columns, rows), interpolation=cv2.INTER_AREA)
    step = 256 // _LEVELS
    return np.asarray(means // step * step + step // 2, np.uint8)


def _rounded_shape(face: Face, region: Region) -> npt.NDArray[np.float32]:
    """Weights 0..1 over the region on a 96 × 96 grid: 1 over the head, decreasing to 0 at its edges."""
    x1, y1, x2, y2 = _extents(face, _SOFT_REACH)
    left, top, right, bottom = region
    x = (np.linspace(left, right, 96) - (x1 + x2) / 2) / ((x2 - x1) / 2)
    y = (np.linspace(top, bottom, 96) - (y1 + y2) / 2) / ((y2 - y1) / 2)
    distance = (np.abs(x[None, :]) ** 3 + np.abs(y[:, None]) ** 3) ** (1 / 3)  # between an ellipse and a rectangle
    return np.asarray(np.clip((1 - distance) / 0.12, 0, 1), np.float32)


def _enlarged(small: npt.NDArray[Any], region: Region, start: int, stop: int) -> npt.NDArray[Any]:
    """`small` stretched over the region, bilinear; only the picture's rows `start` to `stop`."""
    left, top, right, bottom = region
    across, down = small.shape[1] / (right - left), small.shape[0] / (bottom - top)
    matrix = np.array([[across, 0, across / 2 - 0.5], [0, down, (start - top + 0.5) * down - 0.5]])
    method = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (right - left, stop - start)
    return np.asarray(cv2.warpAffine(small, matrix, size, flags=method, borderMode=cv2.BORDER_REPLICATE))
