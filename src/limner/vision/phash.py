"""A perceptual hash: 64 bits that two encodings of the same photo share, or nearly.

The usual DCT hash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): the
brightness of the picture shrunk to 32×32, its cosine transform, the 8×8 lowest frequencies without the constant one's
row and column, each bit telling whether the coefficient is above their median.

It sees the composition, not the details: never compare label maps or landmarks by it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SAME_PHOTO = 4
"""Distance up to which two pictures of the same aspect count as the same photo: re-encoding, resizing and slight
blurring moved at most 2 bits when measured, while different photos were 22 and more apart."""

_SIDE = 32
_KEPT = 8


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """The 64-bit hash of a picture, (H, W, 3) uint8 RGB."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = np.asarray(cv2.dct(grey))[1 : _KEPT + 1, 1 : _KEPT + 1].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(one: int, other: int) -> int:
    """How many of the 64 bits differ."""
    return (one ^ other).bit_count()
