"""JPEG (ITU-T T.81): the segments of the first picture, as libjpeg walks them. Thumbnails are inside segments."""

import re
from collections.abc import Iterator

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure.reading import Exif, Structure, density, read_exif, unpack

MAX_SCANS = 100
"""Of a progressive picture: encoders write about ten, and each costs a pass over all pixels."""
MAX_SEGMENTS = 10_000
"""Forty megabytes of the largest segments are six hundred."""

_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)  # after fill bytes (B.1.1.2)
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # not a stuffed byte, not a restart
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SUPPORTED = {0xC0, 0xC1, 0xC2}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_EOI, _SOS, _APP0, _APP1 = 0xD9, 0xDA, 0xE0, 0xE1
_KINDS = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical",
    0xC9: "arithmetic coded",
    0xCA: "arithmetic coded",
    0xCB: "arithmetic coded",
    0xCD: "arithmetic coded",
    0xCE: "arithmetic coded",
    0xCF: "arithmetic coded",
}


def inspect(data: bytes, limits: Limits) -> Structure:  # noqa: ARG001  # the caller checks the size
    """See `structure.look`. A picture without its end marker is given one."""
    size: tuple[int, int] | None = None
    scans = 0
    exif: Exif | None = None
    of_jfif: tuple[float, float] | None = None
    ended = False
    for marker, at, length in _segments(data):
        if marker in _SOF:
            if size is not None:
                raise BadImageError("The JPEG has more than one frame header.")
            size = _frame(data, at, marker, length)
        elif marker == _SOS:
            scans += 1
            if size is None or scans > MAX_SCANS:
                raise BadImageError(f"The JPEG has more than {MAX_SCANS} scans, or one before its frame header.")
        elif marker == _APP1 and exif is None and data[at + 2 : at + 8] == b"Exif\0\0":
            exif = read_exif(data[at + 8 : at + length])
        elif marker == _APP0 and of_jfif is None and data[at + 2 : at + 7] == b"JFIF\0" and length >= 14:
            of_jfif = _jfif_density(data, at)
        ended = marker == _EOI
    if size is None or not scans:
        raise BadImageError("The JPEG has no pixels.")
    exif = exif or Exif()
    pieces = () if ended else (slice(None), b"\xff\xd9")
    return Structure(*size, exif.orientation, pieces=pieces, density=of_jfif or exif.density, scans=scans)


def _jfif_density(data: bytes, at: int) -> tuple[float, float] | None:
    """Pixels per inch (ITU-T T.871, 10.1); None if only the shape of a pixel is told."""
    unit, across, down = unpack(">BHH", data, at + 9)
    factor = {1: 1.0, 2: 2.54}.get(unit, 0.0)
    return density(across * factor, down * factor)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, offset and length of each segment, up to the end marker, which is the last; bytes between are skipped."""
    at, pattern, in_picture = 2, _MARKER, False
    for _ in range(MAX_SEGMENTS):
        found = pattern.search(data, at)
        if found is None:
            return
        at = found.end()
        marker = data[at - 1]
        if marker == _EOI:
            yield marker, at, 0
            return
        if marker in _ALONE:
            continue
        in_picture |= marker == _SOS
        (length,) = unpack(">H", data, at)
        if length < 2 or (at + length > len(data) and not in_picture):
            raise BadImageError("A segment of the JPEG ends outside the file.")
        yield marker, at, length
        pattern = _AFTER_SCAN if marker == _SOS else _MARKER
        at += length
    raise BadImageError(f"The JPEG has more than {MAX_SEGMENTS:,} segments.")


def _frame(data: bytes, at: int, marker: int, length: int) -> tuple[int, int]:
    """Width and height from a frame header (B.2.2)."""
    if marker not in _SUPPORTED:
        raise UnsupportedMediaError(f"The JPEG is {_KINDS[marker]}. Save it as an ordinary (baseline) JPEG.")
    precision, height, width, components = unpack(">BHHB", data, at + 2)
    if precision != 8:
        raise UnsupportedMediaError(f"The JPEG has {precision} bits per channel. Save it with 8 bits.")
    if components not in {1, 3, 4}:
        raise UnsupportedMediaError(f"The JPEG has {components} channels. Save it as grey, RGB or CMYK.")
    if length < 8 + 3 * components:
        raise BadImageError("The JPEG's frame header is cut short.")
    if height == 0:
        raise UnsupportedMediaError("The JPEG tells its height after its pixels (DNL). Save it as an ordinary JPEG.")
    return width, height
