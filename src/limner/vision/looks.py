"""Closer looks at small squares of a picture: one call of a network for several of them.

A call on 64×64 pixels takes as long as one on twice as many, because the network's weights must be read from memory.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from limner.vision import hits
from limner.vision.centerface import CenterFace
from limner.vision.hits import Hits
from limner.vision.pyramid import Pixels, Pyramid
from limner.vision.yunet import YuNet

Network: TypeAlias = YuNet | CenterFace
Square: TypeAlias = tuple[int, int, int]  # left, top, side; see `hits.surroundings`

_AT_ONCE = 7  # bounds the number of shapes, for each of which the runtime keeps a plan


def at_squares(
    network: Network,
    pyramid: Pyramid,
    squares: Sequence[Square],
    side: int,
    min_score: float,
    *,
    at_once: int = _AT_ONCE,
) -> list[Hits]:
    """Hits of at least `min_score` in each square of the picture, scaled to `side` pixels, in the picture's own pixels.

    `side` must be a multiple of 32. `at_once` squares make one call.
    """
    parts = [pyramid.part(*square, side) for square in squares]
    found = in_parts(network, [pixels for pixels, _, _ in parts], side, min_score, at_once)
    return [
        hits.moved(each, factor_x=1 / factor_x, factor_y=1 / factor_y, x=left, y=top)
        for each, (left, top, _), (_, factor_x, factor_y) in zip(found, squares, parts, strict=True)
    ]


def in_parts(
    network: Network, parts: Sequence[Pixels], side: int, min_score: float, at_once: int = _AT_ONCE
) -> list[Hits]:
    """Hits in each of the pictures, in its own pixels. None is higher or wider than `side`, a multiple of 32."""
    found: list[Hits] = []
    for start in range(0, len(parts), at_once):
        row = parts[start : start + at_once]
        sheet = np.zeros((side, side * len(row), 3), np.uint8)
        for at, part in enumerate(row):
            sheet[: part.shape[0], side * at : side * at + part.shape[1]] = part
        together = network.hits(sheet, min_score)
        middle = (together[:, 0] + together[:, 2]) / 2
        for at in range(len(row)):
            there = together[(middle >= side * at) & (middle < side * (at + 1))]
            found.append(hits.moved(there, x=-side * at))
    return found
