"""Label maps (semantic segmentation): pictures in which each pixel's value is the class of a part of the head."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from limner.domain.errors import BadImageError, InvalidRequestError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure import inspect

if TYPE_CHECKING:  # the web process checks sizes only, and loads nothing that works on pixels
    import numpy as np
    from numpy.typing import NDArray

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
"""The default meanings of the values; left and right as seen in the picture. Skin includes the ears; the mouth is the
opening between the lips."""

MAX_VALUES = 64
MAX_ASPECT_DIFFERENCE = 0.02
_GREY_CHANNELS = {"RGB": 3, "RGBA": 3}


def decode(data: bytes, limits: Limits) -> "NDArray[np.uint8]":
    """The values of a label map's file, (H, W) uint8.

    Accepted are 8-bit grey, palette (its indices), and colour with equal channels, which a browser's canvas writes for
    grey. InvalidRequestError for any other file, TooLargeError over a limit.
    """
    import numpy as np

    from limner.vision.image import broken_is_bad, open_pillow

    try:
        media_type, structure = inspect(data, limits)
        with broken_is_bad(), open_pillow(media_type, structure.for_codec(data)) as picture:
            mode, values = picture.mode, np.asarray(picture)
    except (BadImageError, UnsupportedMediaError) as error:
        raise InvalidRequestError("The segmentation map cannot be read as a picture.") from error
    if mode in {"L", "P"}:
        return values
    if mode in _GREY_CHANNELS and (values[..., :1] == values[..., 1:3]).all():
        return np.ascontiguousarray(values[..., 0])
    raise InvalidRequestError(
        f"The segmentation map must have one 8-bit channel or a palette, not {mode}: it is a label picture."
    )


def check_aspect(width: int, height: int, photo_width: int, photo_height: int) -> None:
    """InvalidRequestError if a map's aspect ratio differs from the photo's by more than 2 %."""
    if abs(width * photo_height / (height * photo_width) - 1.0) > MAX_ASPECT_DIFFERENCE:
        raise InvalidRequestError(
            f"The segmentation map is {width}×{height}, the photo {photo_width}×{photo_height}: their aspect "
            f"ratios differ by more than {MAX_ASPECT_DIFFERENCE:.0%}."
        )


def check(values: "NDArray[np.uint8]", photo_width: int, photo_height: int) -> list[int]:
    """The values that occur in a map, ascending.

    InvalidRequestError if it is not (H, W) uint8, has more than 64 values (as a photo has) or only the value 0, or if
    its aspect ratio differs from the photo's by more than 2 %.
    """
    import numpy as np

    if values.ndim != 2 or values.dtype != np.uint8 or values.size == 0:
        raise InvalidRequestError("The segmentation map must have one 8-bit channel: it is a label picture.")
    height, width = values.shape
    check_aspect(width, height, photo_width, photo_height)
    import cv2

    counts = cv2.calcHist([values], [0], None, [256], [0, 256])  # six times as fast as np.bincount
    present = np.flatnonzero(counts).tolist()
    if len(present) > MAX_VALUES:
        raise InvalidRequestError(
            f"The segmentation map has {len(present)} values; a label picture has at most {MAX_VALUES}."
        )
    if present == [0]:
        raise InvalidRequestError("The segmentation map is empty: every pixel is 0 (background).")
    return present
