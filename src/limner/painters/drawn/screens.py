"""Dot screens as printers use them: a tile of thresholds that repeats at every angle without seams."""

import math

import numpy as np

from limner.painters.drawn.fields import Field

_TANGENTS = ((0, 1), (1, 3), (1, 2), (1, 1), (2, 1), (3, 1))
"""Rational tangents near which a screen's angle is rounded: only they repeat after whole cells (Holladay, "An optimum
algorithm for halftone generation", 1980)."""


def dot_screen(cell: float, degrees: float) -> Field:
    """(side, side) thresholds, evenly distributed in 0..1: ink where the wanted share of ink is larger.

    cell: distance of the dots, pixels; rounded so that the tile repeats. degrees: 0..90, rounded to 0, 18, 27, 45, 63
    or 72. Light tones are round dots of ink, dark ones round holes.
    """
    rise, run = min(_TANGENTS, key=lambda t: abs(math.degrees(math.atan2(t[0], t[1])) - degrees % 90))
    length = math.hypot(rise, run)
    side = max(4, round(cell * length))
    # Cells across the tile: its side is `length` cells along the screen's axes, so both phases count whole cells.
    x, y = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side) + 0.5) / side)
    u, v = run * x + rise * y, run * y - rise * x
    height = 0.5 - 0.25 * (np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v))
    rank = np.empty(side * side, np.float32)
    rank[np.argsort(height, axis=None, kind="stable")] = (np.arange(side * side) + 0.5) / (side * side)
    return rank.reshape(side, side)


def tiled(tile: Field, top: int, height: int, width: int) -> Field:
    """Rows `top` to `top + height` of the plane covered with the tile, `width` pixels wide."""
    side = tile.shape[0]
    rows = np.arange(top, top + height) % side
    covered: Field = np.take(np.take(tile, rows, axis=0), np.arange(width) % side, axis=1)
    return covered
