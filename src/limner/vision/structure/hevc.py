"""HEVC (ITU-T H.265) in a HEIC file: the size in its parameter sets, and that an item is one picture."""

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.structure.bits import Bits
from limner.vision.structure.reading import unpack

MAX_UNITS = 2000
"""NAL units of an item: a picture may be cut into slices, of which the largest level allows 600."""
_SPS = 33
_SLICES = range(32)
_HEADER_BYTES = 256  # of a sequence parameter set: the size is told in its first fifty


def configuration(record: bytes) -> tuple[int, tuple[int, int], tuple[int, int]]:
    """From an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3): bytes of a length, coded and cropped size.

    BadImageError unless it holds sequence parameter sets that all have the same size.
    """
    if len(record) < 23:
        raise BadImageError("The picture does not tell how it is coded.")
    length_size = (record[21] & 3) + 1
    at, units = 23, 0
    sizes = set()
    for _ in range(record[22]):
        kind, count = unpack(">BH", record, at)
        at += 3
        for _ in range(count):
            units += 1
            (length,) = unpack(">H", record, at)
            if at + 2 + length > len(record) or units > MAX_UNITS:
                raise BadImageError("The parameter sets of the picture are cut short.")
            if kind & 63 == _SPS:
                sizes.add(_sequence_size(record[at + 2 : at + 2 + min(length, _HEADER_BYTES)]))
            at += 2 + length
    if len(sizes) != 1:
        raise BadImageError("The picture has no one size.")
    return length_size, *sizes.pop()


def check_one_picture(content: bytes | memoryview, length_size: int) -> None:
    """BadImageError unless an item's NAL units are the slices of one picture, without parameter sets of their own."""
    at = pictures = 0
    for _ in range(MAX_UNITS):
        if at + length_size + 3 > len(content):
            break
        length = int.from_bytes(content[at : at + length_size])
        start = at + length_size
        if start + length > len(content):
            raise BadImageError("The picture's data are cut short.")
        kind = content[start] >> 1 & 63
        if kind == _SPS:
            raise BadImageError("The picture changes its size in its data.")
        if kind in _SLICES and length > 2 and content[start + 2] & 0x80:  # first_slice_segment_in_pic_flag
            pictures += 1
        at = start + length
    else:
        raise BadImageError("The picture has too many slices.")
    if pictures != 1:
        raise BadImageError("An item of the file is not one picture.")


def _sequence_size(unit: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Coded and cropped size from a sequence parameter set (7.3.2.2)."""
    bits = Bits(unit.replace(b"\0\0\3", b"\0\0"))
    bits.read(16 + 4)  # NAL header, vps_id
    more_layers = bits.read(3)
    bits.read(1)
    _skip_profile(bits, more_layers)
    bits.exp_golomb()  # sps_id
    chroma = bits.exp_golomb()
    if chroma > 3:
        raise BadImageError("The picture's kind of colour is not valid.")
    if chroma == 3 and bits.flag():
        raise UnsupportedMediaError("The picture's colours are coded in separate planes, which is not accepted.")
    width, height = bits.exp_golomb(), bits.exp_golomb()
    left = right = top = bottom = 0
    if bits.flag():
        left, right, top, bottom = (bits.exp_golomb() for _ in range(4))
    across, down = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}[chroma]
    return (width, height), (width - across * (left + right), height - down * (top + bottom))


def _skip_profile(bits: Bits, more_layers: int) -> None:
    """profile_tier_level (7.3.3)."""
    bits.read(88 + 8)
    present = [(bits.flag(), bits.flag()) for _ in range(more_layers)]
    if more_layers:
        bits.read(2 * (8 - more_layers))
    for profile, level in present:
        bits.read(88 * profile + 8 * level)
