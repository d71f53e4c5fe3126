"""One network over a picture at as many scales as the picture needs. Read `search`."""

import math

import numpy as np
import numpy.typing as npt

from limner.vision import hits, looks
from limner.vision.hits import Hits
from limner.vision.looks import Network
from limner.vision.pyramid import Pyramid

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
_CONFIRMED = 0.5  # places without a face seldom get this score
_ALONE_MIN_SCORE = 0.75  # of a face that only a closer look shows: text and gravel get scores up to 0.72

_STRONG_HINT = 0.25
_MAX_STRONG = 6  # more are worth the whole fine scale
_MAX_LOOKS, _MAX_LOOKS_ALONE = 6, 12  # beside a certain face, and where there is none
_LOOK_REACH, _LOOK_SIDE = 3, 96  # the square that is looked at, in sizes of the hint and in pixels, a multiple of 32
_LOOK_MIDDLE, _LOOK_MAX_SIZE = 0.375, 0.5  # of the square's side: how far from its middle a face is, and its size


def search(network: Network, pyramid: Pyramid, min_score: float) -> Hits:
    """Hits of at least `min_score` from all scales that the picture needs, merged, in the picture's own pixels.

    A thumbnail shows faces as large as the picture, the coarse scale those of a thirtieth of its side. Where a face is
    certain, this suffices, with a closer look at what may be a smaller one. Else, or where many small ones show, the
    fine scale follows, and larger ones while they show a crowd. What may be a face in a picture without any is looked
    at more closely too: the next scale would cost four times as much.
    """
    thumbnail = pyramid.factor(_THUMBNAIL_AREA, _ENLARGED)
    found = at_scale(network, pyramid, thumbnail, min_score)
    accepted = [found[hits.sizes(found) * thumbnail >= _THUMBNAIL_MIN_SIZE]]
    coarse = _within(pyramid, COARSE_AREA)
    factor, max_size, best = coarse, _COARSE_MAX_SIZE, _best(accepted[0])
    while True:
        # Hints are wanted only where `_looks` may follow; in a crowd there are hundreds.
        hint = network.hint if factor == coarse or best < _CONFIRMED else min_score
        found = at_scale(network, pyramid, factor, min(min_score, hint))
        sizes = hits.sizes(found) * factor
        found, sizes = found[sizes <= max_size], sizes[sizes <= max_size]
        best = max(best, _best(found))
        following = _next(pyramid, factor, coarse, best, found[:, hits.SCORE], sizes)
        if following < _MIN_SCALE_STEP * factor:
            break
        accepted.append(found[sizes >= _MIN_SIZE])
        factor, max_size = following, _FINE_MAX_SIZE
    accepted.append(found)
    if best < _CONFIRMED:
        looked = _looks(network, pyramid, found[sizes < _MIN_SIZE], found, _MAX_LOOKS_ALONE)
        accepted.append(looked[looked[:, hits.SCORE] >= _ALONE_MIN_SCORE])
    elif factor == coarse:
        accepted.append(_looks(network, pyramid, found[sizes < _MIN_SIZE], found, _MAX_LOOKS))
    merged = hits.best(hits.joined(accepted), _MAX_OVERLAP, _MAX_COVERED)
    return merged[merged[:, hits.SCORE] >= min_score]


def glance(network: Network, pyramid: Pyramid, min_score: float) -> Hits:
    """Hits of at least `min_score` from the thumbnail and the coarse scale alone, in the picture's own pixels.

    Faces smaller than about a thirtieth of the picture's side are not found, and nothing is looked at twice.
    """
    thumbnail, coarse = pyramid.factor(_THUMBNAIL_AREA, _ENLARGED), _within(pyramid, COARSE_AREA)
    large = at_scale(network, pyramid, thumbnail, min_score)
    others = at_scale(network, pyramid, coarse, min_score)
    accepted = [
        large[hits.sizes(large) * thumbnail >= _THUMBNAIL_MIN_SIZE],
        others[hits.sizes(others) * coarse <= _COARSE_MAX_SIZE],
    ]
    return hits.best(hits.joined(accepted), _MAX_OVERLAP, _MAX_COVERED)


def _next(
    pyramid: Pyramid,
    factor: float,
    coarse: float,
    best: float,
    scores: npt.NDArray[np.float32],
    sizes: npt.NDArray[np.float32],
) -> float:
    """The scale to search after that of `factor`, which gave hits with these scores and sizes (in its own pixels); 0 to
    stop. `best` is the best score of all scales up to now."""
    if factor == coarse:
        if best >= CERTAIN and np.count_nonzero((sizes < _MIN_SIZE) & (scores >= _STRONG_HINT)) <= _MAX_STRONG:
            return 0.0
        fine = pyramid.factor(FINE_AREA)
        # A small picture has more to show only if it is enlarged.
        return fine if fine >= _MIN_SCALE_STEP * factor else _ENLARGED * factor
    if np.count_nonzero((sizes < _CROWD_MAX_SIZE) & (scores >= _CONFIRMED)) >= _CROWD_COUNT:
        return min(pyramid.factor(MAX_AREA, _ENLARGED), 2 * factor)
    return 0.0


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


def _looks(network: Network, pyramid: Pyramid, small: Hits, found: Hits, at_most: int) -> Hits:
    """The faces where the best of the `small` hits are looked at more closely, which neither are certain nor lie within
    a certain face of those `found`."""
    hints = small[small[:, hits.SCORE] < CERTAIN]
    clear = found[found[:, hits.SCORE] >= CERTAIN]
    if len(clear) and len(hints):
        hints = hints[hits.covered(hints, clear).max(axis=1) <= _MAX_COVERED]
    squares = [hits.surroundings(hit, _LOOK_REACH) for hit in hits.best(hints, 0)[:at_most]]
    looked = []
    for (left, top, extent), there in zip(
        squares, looks.at_squares(network, pyramid, squares, _LOOK_SIDE, _STRONG_HINT), strict=True
    ):
        # Nearer to an edge, a face may be cut. A much larger one than the hint was seen well before.
        x, y = ((there[:, at] + there[:, at + 2]) / 2 - corner for at, corner in ((0, left), (1, top)))
        away = np.maximum(abs(x - extent / 2), abs(y - extent / 2))
        looked.append(there[(away < _LOOK_MIDDLE * extent) & (hits.sizes(there) < _LOOK_MAX_SIZE * extent)])
    return hits.best(hits.joined(looked), _MAX_OVERLAP)


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


def _within(pyramid: Pyramid, area: int) -> float:
    """The largest factor, up to 1, at which the picture padded to multiples of 32 has at most this area."""
    width, height = pyramid.width, pyramid.height
    about = max(1, int(math.sqrt(area * width / height)) // _MULTIPLE)
    sides = (
        (columns * _MULTIPLE, area // (columns * _MULTIPLE) // _MULTIPLE * _MULTIPLE) for columns in (about, about + 1)
    )
    return min(1.0, max(min(columns / width, rows / height) for columns, rows in sides))


def _spans(length: int, at_most: int) -> list[tuple[int, int]]:
    """The fewest equal half-open intervals that cover `length`; neighbours overlap by at least `_FINE_MAX_SIZE`."""
    if length <= at_most:
        return [(0, length)]
    count = math.ceil((length - _FINE_MAX_SIZE) / (at_most - _FINE_MAX_SIZE))
    size = math.ceil((length + (count - 1) * _FINE_MAX_SIZE) / count)
    return [(start, start + size) for start in (i * (length - size) // (count - 1) for i in range(count))]


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE
