"""One network over a picture at as many scales as the picture needs. Read `search`."""

import math

import numpy as np
import numpy.typing as npt

from limner.vision import hits
from limner.vision.centerface import CenterFace
from limner.vision.hits import Hits
from limner.vision.pyramid import Pyramid
from limner.vision.yunet import YuNet

Network = YuNet | CenterFace

# Scales are given by the area of the resized picture, in pixels, not by its longer side: with a fixed longer side a
# panorama would become too low.
_THUMBNAIL_AREA = 160 * 120
_COARSE_AREA = 640 * 480
_FINE_AREA = 1280 * 960
MAX_AREA = 3264 * 2448
_MAX_ENLARGEMENT = 1.5  # enlarging further finds no more faces
_MIN_SCALE_STEP = 1.25  # the next scale must be at least this many times the last

# The face sizes (square roots of box areas) that are accepted at each scale, in pixels of the resized picture.
_THUMBNAIL_MIN_SIZE = 24
_COARSE_MAX_SIZE = 300
_FINE_MAX_SIZE = 96  # also the overlap of neighbouring tiles, so that a face cut by one tile is whole in the other
_MIN_SIZE = 24  # does not apply to the largest scale, which accepts all smaller faces

# Larger pictures are processed in tiles: this bounds the memory and uses the processor's cache better.
_TILE_SIDES: dict[type[Network], int] = {YuNet: 768, CenterFace: 640}
_MULTIPLE = 32  # tile sides are padded to multiples of the coarsest stride
_MAX_OVERLAP = 0.3
_MAX_COVERED = 0.7

_CROWD_COUNT = 3  # this many faces below `_CROWD_MAX_SIZE` make the search go on at a larger scale
_CROWD_MAX_SIZE = 28
CERTAIN = 0.8  # a picture without a face of at least this score is searched at larger scales
_HINT = 0.25  # the score of a small face that the coarse scale does not show well


def search(network: Network, pyramid: Pyramid, min_score: float) -> Hits:
    """Hits of at least `min_score` from all scales that the picture needs, merged, in the picture's own pixels.

    The coarse scale shows faces of 1/40 of the picture's side. The fine one follows if the coarse one shows something
    small or nothing certain; larger ones while they show a crowd of small faces, and once if there is no face at all.
    """
    area = pyramid.height * pyramid.width
    thumbnail, coarse, largest = (
        min(_MAX_ENLARGEMENT, math.sqrt(at / area)) for at in (_THUMBNAIL_AREA, _COARSE_AREA, MAX_AREA)
    )
    found = at_scale(network, pyramid, thumbnail, min_score)
    accepted = [found[hits.sizes(found) * thumbnail >= _THUMBNAIL_MIN_SIZE]]

    factor, following, max_size = coarse, min(1.0, math.sqrt(_FINE_AREA / area)), _COARSE_MAX_SIZE
    while True:
        found = at_scale(network, pyramid, factor, min_score)
        sizes = hits.sizes(found) * factor
        found, sizes = found[sizes <= max_size], sizes[sizes <= max_size]
        certain = any(bool((part[:, hits.SCORE] >= CERTAIN).any()) for part in (*accepted, found))
        if factor == coarse and certain and not ((sizes < _MIN_SIZE) & (found[:, hits.SCORE] >= _HINT)).any():
            following = 0.0
        elif factor > coarse or following < _MIN_SCALE_STEP * factor:
            following = min(largest, 2 * factor) if _is_crowd(found, sizes) else 0
        if following < _MIN_SCALE_STEP * factor:
            return hits.best(hits.joined([*accepted, found]), _MAX_OVERLAP, _MAX_COVERED)
        accepted.append(found[sizes >= _MIN_SIZE])
        factor, max_size = following, _FINE_MAX_SIZE


def _is_crowd(found: Hits, sizes: npt.NDArray[np.float32]) -> bool:
    return int(np.count_nonzero((sizes < _CROWD_MAX_SIZE) & (found[:, hits.SCORE] >= 0.5))) >= _CROWD_COUNT


def at_scale(network: Network, pyramid: Pyramid, factor: float, min_score: float) -> Hits:
    """Hits in the picture scaled by `factor`, tile by tile, in the picture's own pixels."""
    resized, factor_x, factor_y = pyramid.scaled(factor)
    down, across = (_spans(length, _TILE_SIDES[type(network)]) for length in resized.shape[:2])
    shape = _padded(down[0][1]), _padded(across[0][1])
    found = [
        hits.moved(network.hits(resized[top:bottom, left:right], min_score, shape), x=left, y=top)
        for top, bottom in down
        for left, right in across
    ]
    merged = found[0] if len(found) == 1 else hits.best(hits.joined(found), _MAX_OVERLAP)
    return hits.moved(merged, factor_x=1 / factor_x, factor_y=1 / factor_y)


def _spans(length: int, at_most: int) -> list[tuple[int, int]]:
    """The fewest equal half-open intervals that cover `length`; neighbours overlap by at least `_FINE_MAX_SIZE`."""
    if length <= at_most:
        return [(0, length)]
    count = math.ceil((length - _FINE_MAX_SIZE) / (at_most - _FINE_MAX_SIZE))
    size = math.ceil((length + (count - 1) * _FINE_MAX_SIZE) / count)
    return [(start, start + size) for start in (i * (length - size) // (count - 1) for i in range(count))]


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE
