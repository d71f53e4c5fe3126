"""Puts parts of one picture into another without seams: the faces, the background, or the colours alone."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision.outlines import FACE_OVAL

Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]

_GROWN = 1.06  # the oval of the mesh ends at the jaw's skin, and a little of its border belongs to the face
_FEATHER = 0.06  # share of the oval's width over which one picture turns into the other
_ROWS = 256  # worked on at a time, so that little memory is needed


def faces_mask(size: tuple[int, int], meshes: Sequence[NDArray[np.float32]]) -> Mask:
    """(H, W) float32, 1 in the faces, 0 elsewhere, with soft borders.

    size: width and height. meshes: (478, 2 or more) points of `vision.mesh`, pixels of a picture of that size.
    """
    width, height = size
    mask = np.zeros((height, width), np.float32)
    for mesh in meshes:
        oval = mesh[list(FACE_OVAL), :2].astype(np.float64)
        oval = (oval - oval.mean(axis=0)) * _GROWN + oval.mean(axis=0)
        low, high = oval.min(axis=0), oval.max(axis=0)
        sigma = max(0.5, float(high[0] - low[0]) * _FEATHER)
        reach = int(np.ceil(3 * sigma)) + 1
        left, top = (max(0, int(at) - reach) for at in low)
        right, bottom = min(width, int(high[0]) + reach + 1), min(height, int(high[1]) + reach + 1)
        if left >= right or top >= bottom:
            continue  # outside the picture
        one = np.zeros((bottom - top, right - left), np.float32)
        corners = np.round((oval - (left, top)) * 16).astype(np.int32)  # in sixteenths of a pixel
        cv2.fillPoly(one, [corners], 1.0, lineType=cv2.LINE_AA, shift=4)
        one = np.asarray(cv2.GaussianBlur(one, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)
        part = mask[top:bottom, left:right]
        np.maximum(part, one, out=part)
    return mask


def either(mask: Mask, other: Mask) -> Mask:
    """(H, W) of `mask`: where one of the two is. `other` may have another size; it is stretched. `mask` is changed."""
    height, width = mask.shape
    if other.shape != mask.shape:
        other = np.asarray(cv2.resize(other, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return np.maximum(mask, other, out=mask)


def blend(below: Pixels, above: Pixels, mask: Mask) -> Pixels:
    """`above` where `mask` is 1, `below` where it is 0. Pictures (H, W, 3) uint8, the mask (H, W) 0..1."""
    out = np.empty_like(below)
    for top in range(0, len(below), _ROWS):
        rows = slice(top, top + _ROWS)
        weight = mask[rows, :, None]
        mixed = below[rows] + (above[rows].astype(np.float32) - below[rows]) * weight
        np.clip(np.rint(mixed), 0, 255, out=mixed)
        out[rows] = mixed
    return out


def with_colours_of(painted: Pixels, photo: Pixels) -> Pixels:
    """The lightness of `painted` with the hues of `photo` (CIE L*a*b*). Both (H, W, 3) uint8 RGB of one size."""
    out = np.empty_like(painted)
    for top in range(0, len(painted), _ROWS):
        rows = slice(top, top + _ROWS)
        lab = cv2.cvtColor(photo[rows], cv2.COLOR_RGB2LAB)
        lab[:, :, 0] = cv2.cvtColor(painted[rows], cv2.COLOR_RGB2LAB)[:, :, 0]
        out[rows] = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return out
