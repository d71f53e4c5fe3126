"""GIF89a: the screen, the first frame, and how many frames follow. Only the first frame is kept for the codec."""

from limner.domain.errors import BadImageError
from limner.vision.header import Limits
from limner.vision.structure.reading import Structure, check_size, unpack

MAX_BLOCKS = 400_000
"""Forty megabytes in data blocks of 100 bytes; encoders write 255."""

_IMAGE, _EXTENSION, _END, _GRAPHIC_CONTROL = 0x2C, 0x21, 0x3B, 0xF9


def inspect(data: bytes, limits: Limits) -> Structure:
    """See `structure.look`. The size is the screen's; a first frame that reaches over it enlarges it, as in Pillow."""
    width, height, packed = unpack("<HHB", data, 6)
    start = at = 13 + _table(packed)
    control = slice(0, 0)
    first: slice | None = None
    frames = 0
    steps = MAX_BLOCKS
    while steps > 0 and at < len(data) and data[at] != _END:
        steps -= 1
        if data[at] == _IMAGE:
            left, top, frame_width, frame_height, packed = unpack("<HHHHB", data, at + 1)
            body = at + 10 + _table(packed) + 1  # behind the code size
            end, steps = _skip_blocks(data, body, steps)
            if first is None:
                if frame_width == 0 or frame_height == 0:
                    raise BadImageError("The first frame of the GIF has no pixels.")
                width, height = max(width, left + frame_width), max(height, top + frame_height)
                check_size(width, height, limits)
                first = slice(at, end)
            frames += 1
        elif data[at] == _EXTENSION:
            end, steps = _skip_blocks(data, at + 2, steps)
            if first is None and data[at + 1 : at + 2] == bytes([_GRAPHIC_CONTROL]):
                control = slice(at, end)
        else:
            if first is None:
                raise BadImageError("The GIF has an unknown block before its first frame.")
            break
        at = end
    check_size(width, height, limits)
    if first is None:
        raise BadImageError("The GIF has no pixels.")
    return Structure(width, height, 1, frames, (slice(0, start), control, first, bytes([_END])))


def _table(packed: int) -> int:
    """The length of a colour table that follows."""
    return 3 << (packed & 7) + 1 if packed & 0x80 else 0


def _skip_blocks(data: bytes, at: int, steps: int) -> tuple[int, int]:
    """Where a chain of data blocks ends, and the steps that are left; at most the end of the file."""
    while steps > 0 and at < len(data):
        steps -= 1
        size = data[at]
        at += size + 1
        if size == 0:
            return at, steps
    if steps <= 0:
        return len(data), 0
    return len(data), steps
