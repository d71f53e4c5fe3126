"""AV1 (AOMedia's specification) in an AVIF file: the size in its sequence header, and that an item is one picture."""

from limner.domain.errors import BadImageError
from limner.vision.structure.bits import Bits

MAX_UNITS = 2000
MAX_FRAMES = 8
"""Of an item: a still picture is one, with layers at most four."""
_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
_HEADER_BYTES = 256


def sequence_size(content: bytes | memoryview) -> tuple[int, int] | None:
    """The largest width and height of a frame, from an item's OBUs (5.3); None if there is no sequence header.

    BadImageError if the headers differ, or for too many frames.
    """
    at = frames = 0
    size: tuple[int, int] | None = None
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
            found = _size(Bits(bytes(content[at : at + min(length, _HEADER_BYTES)])))
            if size not in {None, found}:
                raise BadImageError("The picture changes its size in its data.")
            size = found
        frames += kind in {_FRAME_HEADER, _FRAME}
        if frames > MAX_FRAMES:
            raise BadImageError("An item of the file is not one picture.")
        at += length
    else:
        raise BadImageError("The picture has too many parts.")
    return size


def _leb128(content: bytes | memoryview, at: int) -> tuple[int, int]:
    """A number of up to eight bytes, and where the next begins (4.10.5)."""
    value = 0
    for index, byte in enumerate(content[at : at + 8]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, at + index + 1
    raise BadImageError("The picture's data are cut short.")


def _size(bits: Bits) -> tuple[int, int]:
    """Width and height from a sequence header (5.5.1)."""
    bits.read(3 + 1)  # profile, still_picture
    if bits.flag():  # reduced_still_picture_header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    wide, high = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(wide) + 1, bits.read(high) + 1


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
