"""What a photo's colours add to outlines from landmarks: the forehead up to the hairline, brows as full as they are.

Pictures are (H, W, 3) uint8 RGB, masks (H, W) uint8, 0 or 255, in one upright frame.
"""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

_SKIN_DISTANCE = 3.2  # Mahalanobis distance from the forehead's colour up to which a pixel is skin
_MIN_SPREAD = np.array(
    [9.0, 4.0, 4.0], np.float32
)  # standard deviations of L, a, b that are assumed at least: shade and noise of skin
_COLUMNS = 24  # directions in which the hairline is searched
_LOWEST = 0.35  # the hairline is at least so high, as a share of the mesh's forehead
_BELIEVED = 0.6  # share of the directions that must have found it
_MOSTLY_SKIN = 0.6  # what is not of the skin's colour is left out if the rest is more than this; else it is shade
_MIN_BROW_CONTRAST = 10.0  # levels of lightness between brow and skin, below which a brow's hair is not told from skin
_STRAND, _DENT = 0.014, 0.008  # half the width of hair that is no brow, and of dents in one; shares of the face's width
_MAX_BROW_GROWTH = 2.2  # a brow that grows more than this is not only a brow: hair, glasses or shade


def hairline(picture: NDArray[np.uint8], seed: Mask, allowed: Mask, lowest_y: float, mesh_top_y: float) -> Mask | None:
    """`allowed` without what lies above the hairline; None if the photo does not show where that is.

    seed: skin of the forehead that is hardly ever covered. allowed: where the forehead may be. lowest_y: the height
    from which the hairline is searched; mesh_top_y: the upper edge of the mesh, which is below most hairlines.
    """
    x, y, width, height = cv2.boundingRect(cv2.bitwise_or(allowed, seed))
    if width < _COLUMNS or height < 8 or lowest_y <= y + 4:
        return None
    part = np.s_[y : y + height, x : x + width]
    lab = cv2.cvtColor(cv2.GaussianBlur(picture[part], (0, 0), 1.5), cv2.COLOR_RGB2LAB).astype(np.float32)
    sample = lab[seed[part] > 0]
    if len(sample) < 50:
        return None
    middle = np.median(sample, axis=0)
    spread = np.maximum(np.float32(1.4826) * np.median(np.abs(sample - middle), axis=0), _MIN_SPREAD)
    lab -= middle
    lab /= spread
    is_skin = np.zeros(allowed.shape, bool)
    is_skin[part] = np.einsum("ijk,ijk->ij", lab, lab) < _SKIN_DISTANCE**2
    is_skin &= allowed > 0
    edges = np.linspace(x, x + width, _COLUMNS + 1).astype(int)
    floor = int(min(lowest_y, y + height))
    run = max(2, height // 24)
    tops, found = np.empty(_COLUMNS), np.zeros(_COLUMNS, bool)
    for index, (left, right) in enumerate(pairwise(edges.tolist())):
        open_rows = np.flatnonzero((allowed[y:floor, left:right] > 0).any(axis=1))
        tops[index] = ceiling = y + int(open_rows[0]) if len(open_rows) else floor
        if floor - ceiling < run:
            continue
        share = is_skin[ceiling:floor, left:right].mean(axis=1)[::-1]
        # The first run of rows without skin, from below. Single dark rows are wrinkles.
        covered = np.convolve((share < 0.5).astype(int), np.ones(run, int))[run - 1 :]
        ends = np.flatnonzero(covered == run)
        rise = int(ends[0]) if len(ends) else len(share)
        tops[index] = floor - rise
        found[index] = bool(len(ends)) and rise > 0
    inner = slice(_COLUMNS // 6, -_COLUMNS // 6)
    if found[inner].mean() < _BELIEVED:
        return None
    lowest = floor - _LOWEST * (floor - mesh_top_y)
    smooth = np.minimum(_even_line(tops), lowest)
    centres = (edges[:-1] + edges[1:]) / 2
    line = np.interp(np.arange(allowed.shape[1]), centres, smooth)
    below = np.where(np.arange(allowed.shape[0])[:, None] >= line, allowed, 0).astype(np.uint8)
    # Where the head is turned, the mesh reaches beyond it: hair and background at the sides are left out too.
    closed = np.zeros_like(allowed)
    closed[part] = _closed(is_skin[part], width / 16)
    of_skin = cv2.bitwise_and(below, _across(closed))
    keeps = cv2.countNonZero(of_skin) > _MOSTLY_SKIN * cv2.countNonZero(below)
    return np.asarray(of_skin if keeps else below, dtype=np.uint8)


def _closed(mask: NDArray[np.bool_], radius: float) -> Mask:
    """Closing by a disc, at a quarter of the size: it need not be finer, and large discs are slow."""
    height, width = mask.shape
    small = cv2.resize(
        mask.astype(np.uint8) * np.uint8(255), (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA
    )
    reach = max(1, round(radius / 4))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    large = cv2.resize(cv2.morphologyEx(small, cv2.MORPH_CLOSE, disc), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(large >= 128, 255, 0).astype(np.uint8)


def _across(mask: Mask) -> Mask:
    """The mask with each row filled from its first to its last pixel."""
    set_ = mask > 0
    between = np.logical_or.accumulate(set_, axis=1) & np.logical_or.accumulate(set_[:, ::-1], axis=1)[:, ::-1]
    return np.where(between, 255, 0).astype(np.uint8)


def full_brow(picture: NDArray[np.uint8], core: Mask, window: Mask, unit: float) -> Mask:
    """The brow's hair: `core`, and the pixels of `window` that are nearer to its colour than to the skin's.

    `core` itself if its lightness hardly differs from the skin's, or if what is found is no brow. unit: the face's
    width, pixels.
    """
    x, y, width, height = cv2.boundingRect(window)
    part = np.s_[y : y + height, x : x + width]
    around, within = window[part], core[part]
    light = cv2.cvtColor(cv2.GaussianBlur(picture[part], (0, 0), max(0.5, 0.004 * unit)), cv2.COLOR_RGB2LAB)[..., 0]
    hair, skin = light[within > 0], light[(around > 0) & (within == 0)]
    if len(hair) < 20 or len(skin) < 20:
        return core
    dark, bright = float(np.percentile(hair, 35)), float(np.percentile(skin, 65))
    if bright - dark < _MIN_BROW_CONTRAST:
        return core
    is_hair = ((light < (dark + bright) / 2) & (around > 0)) | (within > 0)
    strand, dent = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        for radius in (max(1, round(share * unit)) for share in (_STRAND, _DENT))
    )
    shape = cv2.morphologyEx(is_hair.astype(np.uint8) * np.uint8(255), cv2.MORPH_OPEN, strand)
    shape = cv2.morphologyEx(cv2.bitwise_or(shape, within), cv2.MORPH_CLOSE, dent)
    _, pieces = cv2.connectedComponents(shape)
    shape = np.where(pieces == np.bincount(pieces[within > 0]).argmax(), shape, 0).astype(np.uint8)
    if cv2.countNonZero(shape) > _MAX_BROW_GROWTH * len(hair):
        return core
    full = np.zeros_like(core)
    full[part] = cv2.bitwise_and(shape, around)
    return full


def _even_line(heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """An even curve that is near most of the heights: strands of hair and spots of light are left out.

    The parabola with the least sum of distances, by weighted squares.
    """
    terms = np.vander(np.linspace(-1.0, 1.0, len(heights)), 3)
    weights, line = np.ones(len(heights)), heights
    for _ in range(20):
        root = np.sqrt(weights)
        line = terms @ np.linalg.lstsq(terms * root[:, None], heights * root, rcond=None)[0]
        weights = 1.0 / np.maximum(np.abs(heights - line), 0.5)
    return np.asarray(line, np.float64)
