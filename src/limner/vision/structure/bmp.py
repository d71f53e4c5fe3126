"""BMP (Windows bitmap): its header, and that the pixels which it claims are in the file."""

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure.reading import Calibration, Structure, check_size, unpack

_HEADERS = {40, 52, 56, 64, 108, 124}
_V4, _V5 = 108, 124
_CALIBRATED, _EMBEDDED = 0, 0x4D424544  # bV5CSType: LCS_CALIBRATED_RGB, PROFILE_EMBEDDED
_D65 = (0.3127, 0.329)
_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_DEPTHS = {_RGB: {1, 4, 8, 16, 24, 32}, _BITFIELDS: {16, 32}, _ALPHA_BITFIELDS: {16, 32}}


def inspect(data: bytes, limits: Limits) -> Structure:
    """See `structure.look`. Run-length coded pictures are refused: no decoder that we have bounds their work."""
    offset, header = unpack("<II", data, 10)
    if header == 12:
        width, height, _, depth = unpack("<HHHH", data, 18)
        compression = _RGB
    elif header in _HEADERS:
        width, height, _, depth, compression = unpack("<iiHHI", data, 18)
    else:
        raise BadImageError("The BMP's header is not valid.")
    height = abs(height)
    check_size(width, height, limits)
    if compression in {_RLE8, _RLE4}:
        raise UnsupportedMediaError("The BMP is run-length coded. Save it without compression, or as PNG.")
    if depth not in _DEPTHS.get(compression, ()):
        raise UnsupportedMediaError("The BMP's kind of pixels is not accepted. Save it as PNG.")
    row = (width * depth + 31) // 32 * 4
    if offset < 14 + header or offset + row * (height - 1) + (width * depth + 7) // 8 > len(data):
        raise BadImageError("The BMP is cut short.")
    return Structure(width, height, profile=_profile(data, header), calibration=_calibration(data, header))


def _calibration(data: bytes, header: int) -> Calibration | None:
    """The end points and gammas of a header of version 4 or 5, whose white is D65 (BITMAPV4HEADER)."""
    if header < _V4 or unpack("<I", data, 14 + 56)[0] != _CALIBRATED:
        return None
    ends = unpack("<9I", data, 14 + 60)
    gammas = [value / 65_536 for value in unpack("<3I", data, 14 + 96)]
    sums = [sum(ends[at : at + 3]) for at in (0, 3, 6)]
    if not all(sums) or not all(gammas):
        return None
    points = [(ends[3 * at] / total, ends[3 * at + 1] / total) for at, total in enumerate(sums)]
    return Calibration((_D65, *points), (gammas[0], gammas[1], gammas[2]))


def _profile(data: bytes, header: int) -> slice | None:
    """Where a header of version 5 says that the ICC profile is (BITMAPV5HEADER)."""
    if header < _V5 or unpack("<I", data, 14 + 56)[0] != _EMBEDDED:
        return None
    start, size = unpack("<II", data, 14 + 112)
    return slice(14 + start, 14 + start + size)
