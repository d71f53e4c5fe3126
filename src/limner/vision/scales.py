"""One network over a picture at as many scales as the picture needs. Read `search`."""

import math

import numpy as np

from limner.vision import hits
from limner.vision.centerface import CenterFace
from limner.vision.hits import Hits
from limner.vision.pyramid import Pyramid
from limner.vision.yunet import YuNet

Network = YuNet | CenterFace

# Scales are given by the area of the resized picture, in pixels, not by its longer side: with a fixed longer side a
# panorama would become too low.
_THUMBNAIL_AREA = 160 * 120
COARSE_AREA = 640 * 448
FINE_AREA = 1280 * 960
MAX_AREA = 3264 * 2448
_ENLARGED = 1.5  # enlarging further finds no more faces
_MIN_SCALE_STEP = 1.25  # the next scale must be at least this many times the last

# The face sizes (square roots of box areas) that are accepted at each scale, in pixels of the resized picture.
_THUMBNAIL_MIN_SIZE = 24
_COARSE_MAX_SIZE = 300
_FINE_MAX_SIZE = 96  # also the overlap of neighbouring tiles, so that a face cut by one tile is whole in the other
_MIN_SIZE = 24  # does not apply to the largest scale, which accepts all smaller faces

_MULTIPLE = 32  # tile sides are padded to multiples of the coarsest stride
_MAX_OVERLAP = 0.3
_MAX_COVERED = 0.7

_CROWD_COUNT = 3  # this many faces below `_CROWD_MAX_SIZE` make the search go on at a larger scale
_CROWD_MAX_SIZE = 28
CERTAIN = 0.8  # a picture without a face of at least this score is searched at the fine scale too
_HINT = 0.25  # a small face that the coarse scale does not show well has at least this score
_HINT_CONFIRMED = 0.5  # and this one where it is looked at more closely
_ALONE_MIN_SCORE = 0.75  # of a face that only an additional scale shows: text and gravel get scores up to 0.72
_MAX_HINTS = 6  # more are worth the whole fine scale
_HINT_REACH = 3  # the square that is looked at, in face sizes
_HINT_SIDE = 96  # pixels; a multiple of 32


def search(network: Network, pyramid: Pyramid, min_score: float) -> Hits:
    """Hits of at least `min_score` from all scales that the picture needs, merged, in the picture's own pixels.

    `min_score` must not exceed 0.25, the score of a hint. A thumbnail shows faces as large as the picture, the coarse
    scale those of a thirtieth of its side. `_next` decides what follows.
    """
    thumbnail = pyramid.factor(_THUMBNAIL_AREA, _ENLARGED)
    found = at_scale(network, pyramid, thumbnail, min_score)
    accepted = [found[hits.sizes(found) * thumbnail >= _THUMBNAIL_MIN_SIZE]]
    factor, max_size, best = pyramid.factor(COARSE_AREA), _COARSE_MAX_SIZE, _best(accepted[0])
    while True:
        found = at_scale(network, pyramid, factor, min_score)
        if factor > pyramid.factor(FINE_AREA) and best < _HINT_CONFIRMED:
            found = found[found[:, hits.SCORE] >= _ALONE_MIN_SCORE]
        sizes = hits.sizes(found) * factor
        found, sizes = found[sizes <= max_size], sizes[sizes <= max_size]
        best = max(best, _best(found))
        following = _next(network, pyramid, factor, best, found[sizes < _CROWD_MAX_SIZE])
        if following < _MIN_SCALE_STEP * factor:
            return hits.best(hits.joined([*accepted, found]), _MAX_OVERLAP, _MAX_COVERED)
        accepted.append(found[sizes >= _MIN_SIZE])
        factor, max_size = following, _FINE_MAX_SIZE


def _next(network: Network, pyramid: Pyramid, factor: float, best: float, small: Hits) -> float:
    """The scale to search after that of `factor`, which showed the `small` faces; 0 to stop. `best` is the best score
    of all scales up to now.

    The fine one follows where no face is certain, or where small ones show. Larger ones follow while they show a crowd
    of small faces. A picture without any face is searched once more, at twice the fine scale.
    """
    if factor == pyramid.factor(COARSE_AREA):
        if best >= CERTAIN and not _shows_small(network, pyramid, small[hits.sizes(small) * factor < _MIN_SIZE]):
            return 0.0
        fine = pyramid.factor(FINE_AREA)
        # A small picture has more to show only if it is enlarged.
        return fine if fine >= _MIN_SCALE_STEP * factor else _ENLARGED * factor
    if np.count_nonzero(small[:, hits.SCORE] >= _HINT_CONFIRMED) >= _CROWD_COUNT:
        return min(pyramid.factor(MAX_AREA, _ENLARGED), 2 * factor)
    return min(1.0, 2 * factor) if factor == pyramid.factor(FINE_AREA) and best < _HINT_CONFIRMED else 0.0


def search_all(network: Network, pyramid: Pyramid, min_score: float, *, max_area: int) -> Hits:
    """As `search`, but at the coarse, the fine and the largest scale of at most `max_area`, whatever they show.

    A box may lie within another one.
    """
    found = []
    for area in sorted({_THUMBNAIL_AREA, *(min(at, max_area) for at in (COARSE_AREA, FINE_AREA, MAX_AREA))}):
        factor = pyramid.factor(area, _ENLARGED)
        found.append(at_scale(network, pyramid, factor, min_score))
        if factor == _ENLARGED:
            break
    return hits.best(hits.joined(found), _MAX_OVERLAP)


def _shows_small(network: Network, pyramid: Pyramid, small: Hits) -> bool:
    """Whether a weak, small hit is a face where it is looked at more closely, or whether there are many."""
    if len(small) > _MAX_HINTS:
        return True
    for hit in small:
        square = hits.surroundings(hit, _HINT_REACH)
        part = pyramid.part(*square, _HINT_SIDE)[0]
        if len(network.hits(part, _HINT_CONFIRMED, (_HINT_SIDE, _HINT_SIDE))):
            return True
    return False


def _best(found: Hits) -> float:
    return float(found[:, hits.SCORE].max(initial=0))


def at_scale(network: Network, pyramid: Pyramid, factor: float, min_score: float) -> Hits:
    """Hits in the picture scaled by `factor`, tile by tile, in the picture's own pixels."""
    resized, factor_x, factor_y = pyramid.scaled(factor)
    down, across = (_spans(length, network.tile_side) for length in resized.shape[:2])
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
