"""Where people are in a photo: a soft mask by MediaPipe's selfie segmentation (Apache-2.0). Read `PersonMask.find`.

The network sees 256² pixels, so it is asked about the whole photo and about the surroundings of each larger face.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.vision import runtime, weights
from limner.vision.faces import Box

Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]

_SIDE = 256  # what the network takes, px
_WORK_SIDE = 1024  # longer side of the mask: borders are followed this finely
_MOST_FACES = 12
_SURROUNDINGS = 4.0  # side of the square about a face, in faces
_ABOVE = 0.35  # share of it that lies above the face's centre: the rest holds shoulders and chest
_FADE = 0.15  # share of the square over which what was found in it counts less and less
_REACH = 0.006  # how far a border may be moved to where the photo has one, share of the longer side
_SMOOTH = 1e-3  # contrast, squared, that counts as a border


class PersonMask:
    """Finds people. Safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the model files of `weights.py`. ModelError when the file is missing or cannot be loaded."""
        self._session = runtime.session(weights.path(folder, "selfie_segmentation"))
        self._input = self._session.get_inputs()[0].name

    def find(self, photo: Pixels, faces: Sequence[Box]) -> Mask:
        """(H, W) float32, 1 where a person is, 0 elsewhere; H, W are those of the photo, or smaller by one factor.

        photo: (H, W, 3) uint8 RGB, upright. faces: in its pixels; the people of the `_MOST_FACES` largest are found
        however small they are, others where they take a good part of the photo.
        """
        factor = min(1.0, _WORK_SIDE / max(photo.shape[:2]))
        size = (max(1, round(photo.shape[1] * factor)), max(1, round(photo.shape[0] * factor)))
        work = photo if factor == 1 else np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        mask = self._look(work)
        scale = size[0] / photo.shape[1]
        for face in sorted(faces, key=lambda each: -each.width)[:_MOST_FACES]:
            side = max(face.width, face.height) * _SURROUNDINGS * scale
            left, top = (face.x + face.width / 2) * scale - side / 2, (face.y + face.height / 2) * scale - side * _ABOVE
            x0, y0, x1, y1 = max(0, int(left)), max(0, int(top)), min(size[0], int(left + side)), int(top + side)
            y1 = min(size[1], y1)
            if x1 - x0 >= 2 and y1 - y0 >= 2:
                part = mask[y0:y1, x0:x1]
                found = self._look(work[y0:y1, x0:x1]) * _fading(part.shape, (x0, y0, x1, y1), size)
                np.maximum(part, found, out=part)
        return _along_borders(mask, work)

    def _look(self, picture: Pixels) -> Mask:
        """What the network finds in a picture, of its size."""
        shrinks = max(picture.shape[:2]) > _SIDE
        given = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        (found,) = self._session.run(None, {self._input: given[None].astype(np.float32) * np.float32(1 / 255)})
        size = (picture.shape[1], picture.shape[0])
        return np.asarray(cv2.resize(found[0, :, :, 0], size, interpolation=cv2.INTER_LINEAR), np.float32)


def _fading(shape: tuple[int, ...], part: tuple[int, int, int, int], size: tuple[int, int]) -> Mask:
    """1 in the middle of a part of a picture, and towards 0 at those of its borders that are not the picture's."""
    x0, y0, x1, y1 = part
    down = _ramp(shape[0], before=y0 > 0, after=y1 < size[1])
    across = _ramp(shape[1], before=x0 > 0, after=x1 < size[0])
    return np.asarray(down[:, None] * across[None, :], np.float32)


def _ramp(length: int, *, before: bool, after: bool) -> Mask:
    at = (np.arange(length, dtype=np.float32) + 0.5) / max(1.0, length * _FADE)
    rising = np.minimum(at, 1)
    return np.asarray((rising if before else 1) * (rising[::-1] if after else np.float32(1)) * np.ones_like(at))


def _along_borders(mask: Mask, picture: Pixels) -> Mask:
    """The mask with its borders where the picture has some: a guided filter (He, Sun, Tang 2010) on the lightness."""
    radius = max(2, round(max(mask.shape) * _REACH))
    guide = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)

    def mean(values: NDArray[np.float32]) -> Mask:
        return np.asarray(cv2.blur(values, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT), np.float32)

    of_guide, of_mask = mean(guide), mean(mask)
    variance = mean(guide * guide) - of_guide * of_guide
    slope = np.asarray((mean(guide * mask) - of_guide * of_mask) / (variance + _SMOOTH), np.float32)
    offset = of_mask - slope * of_guide
    return np.asarray(np.clip(mean(slope) * guide + mean(offset), 0, 1), np.float32)
