"""A bounded look at a picture's file, before any codec: its type, size and frames, or why it is refused. Read `look`.

Plain Python without a library of pictures, so the web process may use it: at most one pass over the bytes, a limit on
the steps of every loop, and no memory in proportion to what a file claims. One file a format.
"""

import re

from limner.domain.errors import TooLargeError, UnsupportedMediaError
from limner.vision.header import ImageInfo, Limits
from limner.vision.structure import bmp, gif, isobmff, jpeg, png, tiff, webp
from limner.vision.structure.reading import Structure, check_size

__all__ = ["Structure", "described", "inspect", "look", "media_type_of"]

_MAGIC = {
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/tiff": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "image/bmp": re.compile(rb"BM....\0\0\0\0", re.DOTALL),
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MAX_BRANDS_BYTES = 256
_INSPECT = {
    "image/jpeg": jpeg.inspect,
    "image/png": png.inspect,
    "image/webp": webp.inspect,
    "image/gif": gif.inspect,
    "image/tiff": tiff.inspect,
    "image/bmp": bmp.inspect,
    "image/heic": isobmff.inspect_heic,
    "image/avif": isobmff.inspect_avif,
}


def look(data: bytes, limits: Limits) -> ImageInfo:
    """Type, upright size and number of frames, without decoding.

    UnsupportedMediaError if it is not a kind of picture that is accepted, TooLargeError over a limit, BadImageError
    if its structure is broken. A picture that passes may still turn out to be broken when it is decoded.
    """
    return described(*inspect(data, limits))


def described(media_type: str, found: Structure) -> ImageInfo:
    """What is told of a picture: its size is the upright one."""
    turned = found.orientation > 4
    width, height = (found.height, found.width) if turned else (found.width, found.height)
    return ImageInfo(media_type, width, height, found.frames)


def inspect(data: bytes, limits: Limits) -> tuple[str, Structure]:
    """The media type and what a decoder needs to know. Raises what `look` raises."""
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"The file has {len(data):,} bytes. The limit is {limits.max_bytes:,} bytes.")
    media_type = media_type_of(data)
    found = _INSPECT[media_type](data, limits)
    check_size(found.width, found.height, limits)
    return media_type, found


def media_type_of(data: bytes) -> str:
    """The media type, from the first bytes. UnsupportedMediaError if the type is not accepted."""
    for media_type, pattern in _MAGIC.items():
        if pattern.match(data):
            return media_type
    if data[4:8] == b"ftyp":
        end = min(int.from_bytes(data[:4]), _MAX_BRANDS_BYTES)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
        if brands & {b"avif", b"avis"}:
            return "image/avif"
        if brands & _HEIF_BRANDS:
            return "image/heic"
    raise UnsupportedMediaError(
        "The file is not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF picture.", accepts=[*_INSPECT]
    )
