"""A picture at several sizes, each made once."""

import math

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Pyramid:
    """A picture and its halves, quarters, …, made when they are needed. Not for several threads.

    A half drops an odd last row or column, so that its pixels lie exactly over four pixels: averaging those takes a
    tenth of the time of a general resizing.
    """

    def __init__(self, image: Pixels) -> None:
        self._levels = [image]

    @property
    def width(self) -> int:
        """Pixels of the picture itself."""
        return int(self._levels[0].shape[1])

    @property
    def height(self) -> int:
        """Pixels of the picture itself."""
        return int(self._levels[0].shape[0])

    def factor(self, area: int, at_most: float = 1) -> float:
        """The factor that gives the picture this area in pixels, but not more than `at_most`."""
        return min(at_most, math.sqrt(area / (self.width * self.height)))

    def scaled(self, factor: float) -> tuple[Pixels, float, float]:
        """The picture `factor` times as large, and the exact factors across and down, which differ by rounding."""
        number, level = self._level(factor)
        columns, rows = (max(1, round(side * factor * 2**number)) for side in (level.shape[1], level.shape[0]))
        exact = (length / (side * 2**number) for length, side in ((columns, level.shape[1]), (rows, level.shape[0])))
        return _stretched(level, columns, rows), *exact

    def part(self, left: int, top: int, extent: int, side: int) -> tuple[Pixels, float, float]:
        """The square of `extent` pixels from (left, top), as far as the picture goes, scaled to `side`; factors as in
        `scaled`. The square must begin within the picture."""
        number, level = self._level(side / extent)
        unit = 2**number
        x, y = min(left // unit, level.shape[1] - 1), min(top // unit, level.shape[0] - 1)
        cut = level[y : y + max(1, round(extent / unit)), x : x + max(1, round(extent / unit))]
        columns, rows = (max(1, min(side, round(length * unit * side / extent))) for length in cut.shape[1::-1])
        return _stretched(cut, columns, rows), columns / (cut.shape[1] * unit), rows / (cut.shape[0] * unit)

    def turned(self, quarter_turns: int) -> "Pyramid":
        """The pyramid of `np.rot90(picture, quarter_turns)`."""
        return Pyramid(np.ascontiguousarray(np.rot90(self._levels[0], quarter_turns))) if quarter_turns % 4 else self

    def _level(self, factor: float) -> tuple[int, Pixels]:
        """The smallest of the halved pictures that need not be enlarged to be `factor` times the picture's size."""
        number = 0
        while factor * 2 ** (number + 1) <= 1 and min(self._levels[number].shape[:2]) >= 2:
            number += 1
            if number == len(self._levels):
                self._levels.append(half(self._levels[-1]))
        return number, self._levels[number]


def half(image: Pixels) -> Pixels:
    """The averages of 2 × 2 pixels. Both sides must be at least 2; an odd last row or column is dropped."""
    columns, rows = image.shape[1] // 2, image.shape[0] // 2
    even = image[: 2 * rows, : 2 * columns]
    return np.asarray(cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def _stretched(image: Pixels, columns: int, rows: int) -> Pixels:
    if image.shape[:2] == (rows, columns):
        return image
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
