"""Label maps: pictures in which each pixel's value says what part of the head it shows."""

import io
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from limner.domain.errors import InvalidRequestError, TooLargeError

MEANINGS: Mapping[int, str] = {
    0: "background",
    1: "skin",
    2: "left_brow",
    3: "right_brow",
    4: "left_eye",
    5: "right_eye",
    6: "nose",
    7: "upper_lip",
    8: "mouth",
    9: "lower_lip",
    10: "hair",
}
"""What the values are taken to mean unless the caller says otherwise; left as seen in the picture. Skin has the ears
in it, the mouth is what shows between the lips."""

MOST_VALUES = 64
MOST_ASPECT_DIFFERENCE = 0.02
_GREY_CHANNELS = {"RGB": 3, "RGBA": 3}


def decode(data: bytes, max_pixels: int = 50_000_000) -> NDArray[np.uint8]:
    """The values of a map's picture, (H, W) uint8: 8-bit grey or palette (its indices), or colour whose channels are
    equal everywhere, which is how a browser's canvas writes grey. InvalidRequestError for any other picture,
    TooLargeError for one of more than `max_pixels`."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > max_pixels:
                raise TooLargeError(f"The segmentation map has more than {max_pixels:,} pixels.")
            mode, values = picture.mode, np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidRequestError("The segmentation map is not a picture that can be read.") from error
    if mode in {"L", "P"}:
        return values
    if mode in _GREY_CHANNELS and (values[..., :1] == values[..., 1:3]).all():
        return np.ascontiguousarray(values[..., 0])
    raise InvalidRequestError(
        f"The segmentation map is not a label picture: one 8-bit channel or a palette is needed, not {mode}."
    )


def check(values: NDArray[np.uint8], photo_width: int, photo_height: int) -> list[int]:
    """The values that occur in a map, ascending.

    InvalidRequestError when it is not a label picture (not (H, W) uint8; more than 64 values, as in a photo; none but
    0) or when its aspect is not the photo's within 2 %.
    """
    if values.ndim != 2 or values.dtype != np.uint8 or values.size == 0:
        raise InvalidRequestError("The segmentation map is not a label picture: one 8-bit channel is needed.")
    height, width = values.shape
    if abs(width * photo_height / (height * photo_width) - 1.0) > MOST_ASPECT_DIFFERENCE:
        raise InvalidRequestError(
            f"The segmentation map is {width}×{height}, the photo {photo_width}×{photo_height}: their aspects differ "
            f"by more than {MOST_ASPECT_DIFFERENCE:.0%}."
        )
    counts = cv2.calcHist([values], [0], None, [256], [0, 256])  # a sixth of what np.bincount takes
    present = np.flatnonzero(counts).tolist()
    if len(present) > MOST_VALUES:
        raise InvalidRequestError(
            f"The segmentation map is not a label picture: it has {len(present)} values, more than {MOST_VALUES}."
        )
    if present == [0]:
        raise InvalidRequestError("The segmentation map is empty: every pixel is 0, the background.")
    return present
