"""Which part of a photo to show: a window of a given shape about the faces, or about what else catches the eye.

Read `window`. All boxes are pixels of the photo.
"""

import cv2
import numpy as np
import numpy.typing as npt

from limner.vision.faces import Box

Pixels = npt.NDArray[np.uint8]

_EYE_LINE = 1 / 3  # of the window's height from its top: the rule of thirds
_EYES_IN_HEAD = 0.45  # of a head's height from its top
_HEADROOM = 0.25  # of the uppermost head's height, where there is room
_ROOM = 1.5  # of the heads' extent: the closest window
_ROUNDING = 1e-6  # px
_STEPS = 64  # places that are tried along an axis
_INTEREST_SIDE = 256  # px; more detail does not move the window
_CENTRED = 0.3  # how much less detail counts at the picture's edge than in its middle


def window(photo: Pixels, heads: list[Box], aspect: float, zoom: float = 0.0) -> Box:
    """A window of `aspect`, width divided by height, within the photo.

    `zoom` 0 shows as much of the photo as has this shape, 1 hardly more than the heads. All heads are within the window
    if they fit; else the largest ones.
    """
    height, width = photo.shape[:2]
    largest = (min(width, height * aspect), min(height, width / aspect))
    if not heads:
        return _about_detail(photo, *largest)
    left, top = min(head.x for head in heads), min(head.y for head in heads)
    right = max(head.x + head.width for head in heads)
    bottom = max(head.y + head.height for head in heads)
    closest = max((right - left) * _ROOM, (bottom - top) * _ROOM * aspect, 1.0)
    columns = largest[0] + (min(largest[0], closest) - largest[0]) * zoom
    rows = columns / aspect
    weights = np.array([head.width * head.height for head in heads])
    across = _within([(head.x, head.x + head.width) for head in heads], width)
    down = _within([(head.y - _HEADROOM * head.height, head.y + head.height) for head in heads], height)
    if not _fit(down, rows):
        down = _within([(head.y, head.y + head.height) for head in heads], height)
    middle = float(np.average([(start + end) / 2 for start, end in across], weights=weights))
    eyes = float(np.average([head.y + _EYES_IN_HEAD * head.height for head in heads], weights=weights))
    x = _placed(across, weights, columns, width, middle - columns / 2)
    y = _placed(down, weights, rows, height, eyes - rows * _EYE_LINE)
    return Box(x, y, columns, rows)


def _within(spans: list[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """What of the spans lies between 0 and `end`: the rest of a head is outside the photo."""
    return [(min(max(start, 0.0), end), max(min(stop, end), 0.0)) for start, stop in spans]


def _fit(spans: list[tuple[float, float]], length: float) -> bool:
    """Whether a window of `length` can show all spans."""
    return max(stop for _, stop in spans) - min(start for start, _ in spans) <= length + _ROUNDING


def _placed(
    spans: list[tuple[float, float]], weights: npt.NDArray[np.float64], length: float, end: float, wanted: float
) -> float:
    """Where a window of `length` starts: near `wanted`, and where most of the spans, by weight, are within it."""
    most = max(0.0, end - length)
    if _fit(spans, length):
        low, high = max(stop for _, stop in spans) - length, min(start for start, _ in spans)
        return min(max(min(max(wanted, low), high), 0.0), most)
    starts, ends = np.array(spans).T
    # Also where a head just fits.
    places = np.clip(np.concatenate([np.linspace(0, most, _STEPS), starts, ends - length]), 0, most)
    seen = np.minimum(ends, places[:, None] + length) - np.maximum(starts, places[:, None])
    share = np.clip(seen / np.maximum(ends - starts, _ROUNDING), 0, 1)
    # A head that is cut is worth far less than a whole one.
    worth = (share**4 * weights).sum(axis=1) - 1e-3 * weights.sum() * np.abs(places - wanted) / max(end, 1.0)
    return float(places[int(worth.argmax())])


def _about_detail(photo: Pixels, columns: float, rows: float) -> Box:
    """The place for a window of this size that holds most detail: the sum of gradients, less towards the edges."""
    height, width = photo.shape[:2]
    factor = min(1.0, _INTEREST_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    grey = cv2.cvtColor(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    from_middle = [np.abs(np.linspace(-1, 1, each)) if each > 1 else np.zeros(1) for each in (size[1], size[0])]
    detail *= 1 - _CENTRED * np.maximum(from_middle[0][:, None], from_middle[1][None])
    x = _densest(detail.sum(axis=0), columns * size[0] / width) * width / size[0]
    y = _densest(detail.sum(axis=1), rows * size[1] / height) * height / size[1]
    return Box(min(max(x, 0.0), width - columns), min(max(y, 0.0), height - rows), columns, rows)


def _densest(values: npt.NDArray[np.float32], length: float) -> float:
    """Where the interval of `length` with the largest sum starts; the middle one of equal ones."""
    taken = min(len(values), max(1, round(length)))
    sums = np.convolve(values, np.ones(taken), "valid")
    best = np.flatnonzero(sums >= sums.max() * (1 - 1e-6))
    return float(best[len(best) // 2]) if sums.max() > 0 else (len(values) - length) / 2
