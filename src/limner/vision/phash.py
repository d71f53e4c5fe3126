"""A perceptual hash of 64 bits, equal or nearly equal for two encodings of the same photo.

It describes the composition and not the details, so it cannot compare label maps or landmarks.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME_PHOTO = 4
"""Hamming distance up to which two pictures of the same aspect ratio count as the same photo. Measured: re-encoding,
resizing and slight blurring change at most 2 bits; different photos differ in 22 or more."""

_SIDE = 32
_KEPT = 8


def perceptual_hash(image: "NDArray[np.uint8]") -> int:
    """The 64-bit hash of a picture, (H, W, 3) uint8 RGB.

    The DCT hash of C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010: brightness at
    32×32, its cosine transform, and for each of the 8×8 lowest frequencies (without the row and the column of frequency
    zero) whether its coefficient is above their median.
    """
    import cv2  # the web process compares hashes and makes none
    import numpy as np

    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = np.asarray(cv2.dct(grey))[1 : _KEPT + 1, 1 : _KEPT + 1].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(one: int, other: int) -> int:
    """The Hamming distance: how many of the 64 bits differ."""
    return (one ^ other).bit_count()
