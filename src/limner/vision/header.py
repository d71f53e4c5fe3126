"""What kind of picture a file holds and how large it is, from its header; nothing is decoded. Read `probe`.

The web process imports this and no other module of pixels, so it stands apart from `image.py` and its codecs.
"""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from limner.domain.errors import BadImageError, LimnerError, TooLargeError, UnsupportedMediaError

# `Limits` is checked before decoding. Pillow's own limit would add a warning or another error.
Image.MAX_IMAGE_PIXELS = None

Format = Literal["jpeg", "png", "webp"]

_PILLOW = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
}
_MAGIC = {
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/tiff": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "image/bmp": re.compile(rb"BM....\0\0\0\0", re.DOTALL),
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_OUTPUT: dict[str, Format] = {
    "image/jpeg": "jpeg",
    "image/heic": "jpeg",
    "image/avif": "jpeg",
    "image/webp": "webp",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest file and picture that are accepted; each limit is inclusive."""

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Type and size from the header. Width and height are those of the upright picture."""

    media_type: str
    width: int
    height: int

    @property
    def output_format(self) -> Format:
        """The default format for a picture made from this one: the same if it can be written."""
        return _OUTPUT.get(self.media_type, "png")


def probe(data: bytes, limits: Limits) -> ImageInfo:
    """Type and size from the header, without decoding.

    UnsupportedMediaError if it is not an accepted kind of picture, TooLargeError over a limit, BadImageError if the
    header cannot be read.
    """
    return Header(data, limits).info


def media_type_of(data: bytes) -> str:
    """The media type, from the first bytes. UnsupportedMediaError if the type is not accepted."""
    for media_type, pattern in _MAGIC.items():
        if pattern.match(data):
            return media_type
    if data[4:8] == b"ftyp":
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4]), 256), 4))}
        if brands & {b"avif", b"avis"}:
            return "image/avif"
        if brands & _HEIF_BRANDS:
            return "image/heic"
    raise UnsupportedMediaError("The file is not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF picture.")


class Header:
    """One file whose header has been read and checked."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        if len(data) > limits.max_bytes:
            raise TooLargeError(f"The file has {len(data):,} bytes. The limit is {limits.max_bytes:,} bytes.")
        self.data = data
        self.media_type = media_type_of(data)
        self.limits = limits
        with broken_is_bad():
            if self.media_type == "image/webp":  # Pillow makes room for the picture when it opens a WebP
                self._check(*_webp_size(data))
            if self.media_type == "image/heic":
                import pi_heif  # type: ignore[import-untyped]  # most pictures are not HEIC

                self.heif = pi_heif.open_heif(data)
                # libheif turns the picture itself, by the container's own property; EXIF only repeats it.
                width, height = self.heif.size
                self.orientation = 1
            else:
                self.image = Image.open(io.BytesIO(data), formats=[_PILLOW[self.media_type]])
                width, height = self._stored_size()
            self._check(width, height)
        turned = self.orientation > 4
        self.info = ImageInfo(self.media_type, *((height, width) if turned else (width, height)))

    def _stored_size(self) -> tuple[int, int]:
        """Width and height as stored; sets `orientation`."""
        if self.media_type == "image/tiff":
            tags = self.image.tag_v2  # type: ignore[attr-defined]
            self.orientation = _valid_orientation(tags.get(0x112))
            tile = int(tags.get(0x142, 0)) * int(tags.get(0x143, 0))
            if tile > max(1 << 20, 4 * self.limits.max_pixels // 10):
                raise BadImageError("A tile of the TIFF is larger than the pixel limit.")
            return int(tags[0x100]), int(tags[0x101])
        self.orientation = _orientation(self.image.info.get("exif") or b"")
        return self.image.size

    def _check(self, width: int, height: int) -> None:
        limits = self.limits
        if width < 1 or height < 1:
            raise BadImageError("The picture has no pixels.")
        if max(width, height) > limits.max_side or width * height > limits.max_pixels:
            raise TooLargeError(
                f"The picture has {width} × {height} pixels. The limits are {limits.max_side:,} pixels per side and "
                f"{limits.max_pixels:,} pixels in total."
            )


@contextmanager
def broken_is_bad() -> Iterator[None]:
    """Turn everything that a codec raises for a broken file into BadImageError."""
    try:
        yield
    except LimnerError:
        raise
    except (Exception, MemoryError) as error:
        raise BadImageError from error


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from the first chunk (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    raise BadImageError


def _orientation(exif: bytes) -> int:
    """The orientation, 1..8, from an EXIF block; 1 if it is missing or broken, because the picture itself is usable."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", block, at)
            if tag == 0x112:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), block, at + 8)
                return _valid_orientation(value)
    except struct.error:
        return 1
    return 1


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
