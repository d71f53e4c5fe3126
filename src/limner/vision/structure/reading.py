"""What the formats share: the result of an inspection, the limits of size, and numbers that are read within bounds."""

import struct
from dataclasses import dataclass
from functools import lru_cache

from limner.domain.errors import BadImageError, TooLargeError
from limner.vision.header import Limits


@dataclass(frozen=True, slots=True)
class Structure:
    """What is found without decoding.

    Width and height are as stored; `orientation` (1..8, EXIF 2.32 tag 0x112) makes them upright. `pieces` is what a
    codec is given in place of the file, as byte strings and ranges of the file; empty: the whole file. `profile` is
    where a WebP holds its colour profile.
    """

    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    pieces: tuple[bytes | slice, ...] = ()
    profile: slice | None = None

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


def exif_orientation(block: bytes) -> int:
    """The orientation, 1..8, from an EXIF block; 1 if it is missing or broken, because the picture itself is usable."""
    block = block.removeprefix(b"Exif\0\0")
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
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
