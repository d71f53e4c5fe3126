"""Draw a frame around each face. `cover.py` makes faces unrecognisable."""

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageFont

from limner.vision.faces import Box, Face

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_LINE: Colour = (94, 234, 190)
_EDGE: Colour = (16, 24, 32)

_MIN_LABELLED_SIDE = 56  # px; a smaller face would be hidden by its label

_TURNS = np.linspace(0, math.pi / 2, 12) + np.arange(4)[:, None] * (math.pi / 2)
_ARC = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=2).reshape(-1, 2)  # four quarters of a circle, clockwise
_ROUND = np.repeat([[1, 1], [-1, 1], [-1, -1], [1, -1]], 12, axis=0)  # towards which corner of a frame each goes


def boxes(image: Pixels, faces: Sequence[Face | Box], alpha: Pixels | None = None) -> None:
    """A frame around each face or box, with the face's score if there is room for it.

    `image`, (H, W, 3) uint8 RGB, changes in place; `alpha`, (H, W) uint8, becomes opaque where it is painted. The
    frame is light on dark, so it is visible on any background. The largest faces are painted first, so that the frame
    of a smaller face in front is complete.
    """
    framed = [(each, None) if isinstance(each, Box) else (each.box, each) for each in faces]
    for box, face in sorted(framed, key=lambda pair: -pair[0].width * pair[0].height):
        side = math.sqrt(max(1.0, box.width * box.height))
        stroke = max(1, min(round(side / 48), round(max(image.shape[:2]) / 160) + 1))
        rim = stroke + (1 if side < 32 else 2 * max(1, round(stroke * 0.45)))
        _frame(image, box, rim, _EDGE)
        _frame(image, box, stroke, _LINE)
        if alpha is not None:
            _frame(alpha, box, rim, (255, 255, 255))
        if face is not None and side >= _MIN_LABELLED_SIDE:
            _label(image, face, math.ceil(rim / 2), alpha)


def _frame(image: Pixels, box: Box, stroke: int, colour: Colour) -> None:
    """A rectangle with round corners along the box, `stroke` pixels wide, antialiased."""
    height, width = image.shape[:2]
    inset = (stroke - 1) / 2 if stroke > 2 else 0.0
    left, top = max(box.x, inset), max(box.y, inset)
    right = max(left + 1, min(box.x + box.width, width - 1 - inset))
    bottom = max(top + 1, min(box.y + box.height, height - 1 - inset))
    radius = min(right - left, bottom - top) * 0.16
    corners = np.array([[right - radius, bottom - radius], [left + radius, top + radius]])
    outline = np.where(_ROUND > 0, corners[0], corners[1]) + radius * _ARC
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
            inner[:] = _mixed(inner, _LINE, np.divide(text, 255, dtype=np.float32))
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


@lru_cache(maxsize=32)
def _text(text: str, size: int) -> Pixels:
    """The text's coverage 0..255, cropped to its bounding box."""
    mask = _font(size).getmask(text, mode="L")
    return np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])


def _tag_shape(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The coverage 0..1 of a rectangle with round corners."""
    radius = min(rows, columns) * 0.28
    down, across = (
        np.maximum(np.abs(np.arange(length, dtype=np.float32) + 0.5 - length / 2) - (length / 2 - radius), 0)
        for length in (rows, columns)
    )
    out = np.hypot(across, down[:, None])
    return np.asarray(np.clip(radius - out + 0.5, 0, 1), np.float32)
