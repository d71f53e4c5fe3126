"""What the formats share: the result of an inspection, the limits of size, and numbers that are read within bounds."""

import struct
from dataclasses import dataclass
from functools import lru_cache

from limner.domain.errors import BadImageError, TooLargeError
from limner.vision.header import Limits


@dataclass(frozen=True, slots=True)
class CodePoints:
    """Colours as ITU-T H.273 numbers them. `peak_nits` is the brightest that an HDR picture says it has."""

    primaries: int
    transfer: int
    peak_nits: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Colours by measurement: xy of white, red, green and blue, and the exponents that make red, green, blue linear."""

    chromaticities: tuple[tuple[float, float], ...]
    gammas: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Structure:
    """What is found without decoding.

    Width and height are as stored; `orientation` (1..8, EXIF 2.32 tag 0x112) makes them upright. `pieces` is what a
    codec is given in place of the file, as byte strings and ranges of the file; empty: the whole file. `profile` is
    where the file holds its ICC profile, for formats whose codec does not give it; `deflated` as in a PNG.
    `points` and `calibration` tell colours in numbers. A profile comes before them, but not before the points of a PNG.
    `scans` are those of a JPEG. `bits` are those of a channel; `density` is pixels per inch across and down, as stored.
    """

    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    pieces: tuple[bytes | slice, ...] = ()
    profile: slice | None = None
    deflated: bool = False
    points: CodePoints | None = None
    calibration: Calibration | None = None
    bits: int = 8
    density: tuple[float, float] | None = None
    lossless: bool = False
    scans: int = 1

    def for_codec(self, data: bytes) -> bytes:
        """The bytes for a codec: only what the first picture needs."""
        if not self.pieces:
            return data
        return b"".join(data[piece] if isinstance(piece, slice) else piece for piece in self.pieces)


def check_size(width: int, height: int, limits: Limits) -> None:
    """BadImageError for no pixels, TooLargeError over a limit."""
    if width < 1 or height < 1:
        raise BadImageError("The picture has no pixels.")
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise TooLargeError(
            f"The picture has {width} × {height} pixels. The limits are {limits.max_side:,} pixels per side and "
            f"{limits.max_pixels:,} pixels in total."
        )


@lru_cache(64)
def _compiled(form: str) -> struct.Struct:
    return struct.Struct(form)


def unpack(form: str, data: bytes, at: int) -> tuple[int, ...]:
    """Numbers at an offset (`struct`'s format). BadImageError if the data end before."""
    try:
        return _compiled(form).unpack_from(data, at)
    except (struct.error, OverflowError):  # an offset of 64 bits
        raise BadImageError from None


@dataclass(frozen=True, slots=True)
class Exif:
    """What is used of an EXIF block: the orientation, 1..8, and the pixels per inch across and down."""

    orientation: int = 1
    density: tuple[float, float] | None = None


PER_INCH = {2: 1.0, 3: 2.54}
"""Of ResolutionUnit (EXIF 2.32, tag 0x128), inch and centimetre."""
METRE = 39.3701
"""Inches."""


def read_exif(block: bytes) -> Exif:
    """Of the first directory. What is missing or broken counts as not told, because the picture itself is usable."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return Exif()
    orientation, unit, across, down = 1, 2, 0.0, 0.0
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, start)
        for at in range(start + 2, start + 2 + 12 * min(count, 1000), 12):
            tag, kind = struct.unpack_from(order + "HH", block, at)
            if tag in {0x112, 0x128}:
                (value,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), block, at + 8)
                orientation, unit = (value, unit) if tag == 0x112 else (orientation, value)
            elif tag in {0x11A, 0x11B} and kind == 5:
                (where,) = struct.unpack_from(order + "I", block, at + 8)
                number, divisor = struct.unpack_from(order + "II", block, where)
                value = number / divisor if divisor else 0.0
                across, down = (value, down) if tag == 0x11A else (across, value)
    except struct.error:
        pass
    told = density(across * PER_INCH.get(unit, 0.0), down * PER_INCH.get(unit, 0.0))
    return Exif(orientation if 1 <= orientation <= 8 else 1, told)


def density(across: float, down: float) -> tuple[float, float] | None:
    """Pixels per inch, None if that is no density of a picture."""
    return (across, down) if 1 <= across <= 65_535 and 1 <= down <= 65_535 else None
