"""AV1 (AOMedia's specification) in an AVIF file: what its sequence header tells, and that an item is one picture."""

from dataclasses import dataclass

from limner.domain.errors import BadImageError
from limner.vision.structure.bits import Bits
from limner.vision.structure.reading import CodePoints

MAX_UNITS = 2000
MAX_FRAMES = 8
"""Of an item: a still picture is one, with layers at most four."""
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_HEADER_BYTES = 256


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a sequence header tells (5.5.1): the largest size of a frame, bits of a channel, colours."""

    width: int
    height: int
    bits: int
    points: CodePoints | None


def sequence(content: bytes | memoryview) -> Sequence | None:
    """From an item's OBUs (5.3); None if there is no sequence header.

    BadImageError if the headers differ, or for too many frames.
    """
    at = frames = 0
    told: Sequence | None = None
    for _ in range(MAX_UNITS):
        if at >= len(content):
            break
        head = content[at]
        kind = head >> 3 & 15
        at += 2 if head & 4 else 1
        length = len(content) - at
        if head & 2:
            length, at = _leb128(content, at)
        if head & 0x80 or at + length > len(content):
            raise BadImageError("The picture's data are cut short.")
        if kind == _SEQUENCE:
            found = _sequence(Bits(bytes(content[at : at + min(length, _HEADER_BYTES)])))
            if told is not None and (told.width, told.height) != (found.width, found.height):
                raise BadImageError("The picture changes its size in its data.")
            told = told or found
        frames += kind in {_FRAME_HEADER, _FRAME}
        if frames > MAX_FRAMES:
            raise BadImageError("An item of the file is not one picture.")
        at += length
    else:
        raise BadImageError("The picture has too many parts.")
    return told


def _leb128(content: bytes | memoryview, at: int) -> tuple[int, int]:
    """A number of up to eight bytes, and where the next begins (4.10.5)."""
    value = 0
    for index, byte in enumerate(content[at : at + 8]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, at + index + 1
    raise BadImageError("The picture's data are cut short.")


def _sequence(bits: Bits) -> Sequence:
    """From a sequence header (5.5.1)."""
    profile = bits.read(3)
    bits.read(1)  # still_picture
    reduced = bits.flag()
    if reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    wide, high = bits.read(4) + 1, bits.read(4) + 1
    width, height = bits.read(wide) + 1, bits.read(high) + 1
    if not reduced and bits.flag():  # frame_id_numbers_present_flag
        bits.read(4 + 3)
    bits.read(3)  # superblocks of 128, filter_intra, intra_edge_filter
    if not reduced:
        _skip_tools(bits)
    bits.read(3)  # superres, cdef, restoration
    high_depth = bits.flag()
    depth = (12 if bits.flag() else 10) if profile == 2 and high_depth else (10 if high_depth else 8)
    if profile != 1:
        bits.read(1)  # mono_chrome
    points = CodePoints(bits.read(8), bits.read(8)) if bits.flag() else None
    return Sequence(width, height, depth, points)


def _skip_tools(bits: Bits) -> None:
    """What is not told of a single picture: how it may be predicted from others."""
    bits.read(4)  # interintra, masked, warped, dual filter
    order_hint = bits.flag()
    if order_hint:
        bits.read(2)
    force_screen_content = 2 if bits.flag() else bits.read(1)
    if force_screen_content and not bits.flag():
        bits.read(1)
    if order_hint:
        bits.read(3)


def _skip_operating_points(bits: Bits) -> None:
    delay_bits = 0
    decoder_model = False
    if bits.flag():  # timing_info
        bits.read(64)
        if bits.flag():
            bits.exp_golomb()
        decoder_model = bits.flag()
        if decoder_model:
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5 + 5)
    initial_delay = bits.flag()
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if decoder_model and bits.flag():
            bits.read(2 * delay_bits + 1)
        if initial_delay and bits.flag():
            bits.read(4)
