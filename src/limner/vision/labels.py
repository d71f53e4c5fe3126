"""Label maps (semantic segmentation): pictures in which each pixel's value is the class of a part of the head."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from limner.domain.errors import BadImageError, InvalidRequestError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure import inspect

if TYPE_CHECKING:  # the web process checks sizes only, and loads nothing that works on pixels
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

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

Values = Literal["grey", "indices"]
"""What a palette picture's values are: the greys that it shows, or its indices."""

MAX_VALUES = 64
MAX_ASPECT_DIFFERENCE = 0.02
_ACCEPTED = "Send a PNG with 1 to 16 bits of grey."
_LOSSY = {"image/jpeg": "JPEG", "image/avif": "AVIF", "image/heic": "HEIC"}
_PNG_GREY, _PNG_GREY_ALPHA = 0, 4  # colour types
_LINES = 1_000  # rows and columns of a map that are looked at for signs of interpolation
# Measured on maps drawn, scaled by nearest neighbour, interpolated (up to 3 % and from 30 %), and stored as JPEG.
_MAX_BETWEEN, _MAX_SPECKS, _MIN_BORDERS = 0.2, 0.1, 50


def decode(data: bytes, limits: Limits, values: Values = "grey") -> "NDArray[np.uint8]":
    """The values of a label map's file, (H, W) uint8, exactly as they are stored; upright by EXIF.

    Accepted are grey of 1 to 16 bits, with alpha or without, colour of 8 bits with equal channels, which a browser's
    canvas writes for grey, and palettes: with values="indices" any, else those that show their indices as grey. Pixels
    that alpha hides are 0. InvalidRequestError says what is wrong with any other file, and with values that were
    interpolated or compressed with loss. TooLargeError over a limit.
    """
    import numpy as np
    from PIL import ImageOps

    from limner.vision.image import broken_is_bad, open_pillow

    try:
        media_type, structure = inspect(data, limits)
        if media_type in _LOSSY or (media_type == "image/webp" and not _is_lossless(structure.for_codec(data))):
            kind = _LOSSY.get(media_type, "lossy WebP")
            raise InvalidRequestError(
                f"The segmentation map must be a label picture, and {kind} changes labels at borders. {_ACCEPTED}"
            )
        with broken_is_bad(), open_pillow(media_type, structure.for_codec(data)) as picture:
            # numpy would hide what loading raises.
            picture.load()
            depth = _depth(picture, data)
            palette = picture.getpalette("RGB") if picture.mode == "P" else None
            upright = ImageOps.exif_transpose(picture)
            mode, read = picture.mode, np.asarray(upright)
    except (BadImageError, UnsupportedMediaError) as error:
        raise InvalidRequestError("The segmentation map cannot be read as a picture.") from error
    if mode == "P":
        labels = _from_palette(read, palette or [], values)
    elif values == "indices":
        raise InvalidRequestError("The segmentation map has no palette, so it has no `indices`.")
    else:
        labels = _from_channels(read, mode, depth)
    _require_exact(labels)
    return labels


def _is_lossless(webp: bytes) -> bool:
    """Whether the first picture in a WebP is lossless: `VP8L`, not `VP8 `."""
    at = 12
    while at + 8 <= len(webp):
        kind, size = webp[at : at + 4], int.from_bytes(webp[at + 4 : at + 8], "little")
        if kind in {b"VP8L", b"VP8 "}:
            return kind == b"VP8L"
        at += 8 + size + size % 2
    return False


def _depth(picture: "Image", data: bytes) -> int:
    """Bits per sample as stored. InvalidRequestError for grey that Pillow gives in another way than it is stored."""
    if picture.format == "PNG":
        depth, colour_type = data[24], data[25]
        if depth == 16 and colour_type != _PNG_GREY:
            raise InvalidRequestError(f"The segmentation map has 16 bits and colour or alpha. {_ACCEPTED}")
        return depth
    if picture.format == "TIFF":
        depth, *others = picture.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        if picture.tag_v2.get(262) == 0:  # type: ignore[attr-defined]
            raise InvalidRequestError(f"The segmentation map is a TIFF with white as 0. {_ACCEPTED}")
        if depth > 8 and others:
            raise InvalidRequestError(f"The segmentation map has {depth} bits and colour or alpha. {_ACCEPTED}")
        return int(depth)
    return 8


def _from_palette(read: "NDArray[np.uint8]", palette: list[int], values: Values) -> "NDArray[np.uint8]":
    """The indices, if they are meant, or if the palette shows each index that occurs as the grey of its number."""
    import numpy as np

    if values == "indices":
        return read
    colours = np.zeros((256, 3), int)
    colours[: len(palette) // 3] = np.reshape(palette[: len(palette) // 3 * 3], (-1, 3))[:256]
    used = np.flatnonzero(_counts(read))
    if (colours[used] != used[:, None]).any():
        raise InvalidRequestError(
            "The segmentation map has a palette, whose indices need not be the labels: programs that write small files "
            "number them anew. Send `map_values` as `indices` if they are, or else a grey picture."
        )
    return read


def _from_channels(read: "NDArray[Any]", mode: str, depth: int) -> "NDArray[np.uint8]":
    import numpy as np

    alpha = None
    if mode in {"LA", "RGBA"}:
        alpha, read = read[..., -1], read[..., :-1]
        if ((alpha > 0) & (alpha < 255)).any():
            raise InvalidRequestError(f"The segmentation map is partly transparent, as after smoothing. {_ACCEPTED}")
    if read.ndim == 3:
        if (read != read[..., :1]).any():
            raise InvalidRequestError("The segmentation map has colours, not grey: it must be a label picture.")
        read = read[..., 0]
    if mode == "1" or (mode in {"L", "LA"} and depth in (1, 2, 4)):
        # Pillow stretches these to 0..255 (and one bit to 0 and 1).
        read = read.astype(np.uint8) if mode == "1" else read // (255 // (2**depth - 1))
    elif mode not in {"L", "LA", "RGB", "RGBA", "I"} and not mode.startswith("I;16"):
        raise InvalidRequestError(f"The segmentation map must be grey or have a palette, not {mode}: a label picture.")
    if read.size and (int(read.max()) > 255 or int(read.min()) < 0):
        raise InvalidRequestError("The segmentation map has values outside 0 to 255. Labels are 0 to 255.")
    labels = np.ascontiguousarray(read, dtype=np.uint8)
    return labels if alpha is None else np.where(alpha > 0, labels, 0).astype(np.uint8)


def _require_exact(values: "NDArray[np.uint8]") -> None:
    """InvalidRequestError if labels were mixed at borders, by interpolation, smooth edges or lossy compression.

    Mixing puts values between two labels on their border, or specks around it. Rows and columns are looked at.
    """
    import numpy as np

    jumps, between, specks, borders = 0, 0, 0, 0
    for axis in (0, 1):
        step = max(1, values.shape[axis] // _LINES)
        lines = (values[::step] if axis == 0 else values[:, ::step].T).astype(np.int16)
        change = np.diff(lines, axis=1)
        before, after = change[:, :-1], change[:, 1:]
        jumps += int(np.count_nonzero(np.abs(change) >= 2))
        borders += int(np.count_nonzero(change))
        between += int(np.count_nonzero(before * after > 0))
        specks += int(np.count_nonzero((before != 0) & (before == -after)))
    if borders < _MIN_BORDERS:
        return
    if between > _MAX_BETWEEN * (between + jumps) or specks > _MAX_SPECKS * borders:
        raise InvalidRequestError(
            "The segmentation map has values mixed from two labels at the borders between them, as after scaling with "
            "interpolation, smooth edges or JPEG. Scale label pictures by nearest neighbour, and store them as PNG."
        )


def _counts(values: "NDArray[np.uint8]") -> "NDArray[np.float32]":
    """How often each value occurs, (256,); six times as fast as np.bincount, in less memory."""
    import cv2
    import numpy as np

    return np.asarray(cv2.calcHist([values], [0], None, [256], [0, 256]), np.float32).ravel()


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
    present = np.flatnonzero(_counts(values)).tolist()
    if len(present) > MAX_VALUES:
        raise InvalidRequestError(
            f"The segmentation map has {len(present)} values; a label picture has at most {MAX_VALUES}."
        )
    if present == [0]:
        raise InvalidRequestError("The segmentation map is empty: every pixel is 0 (background).")
    return present
