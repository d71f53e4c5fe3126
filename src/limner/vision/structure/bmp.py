"""BMP (Windows bitmap): its header, and that the pixels which it claims are in the file."""

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure.reading import Structure, check_size, unpack

_HEADERS = {40, 52, 56, 64, 108, 124}
_V5 = 124
_EMBEDDED = 0x4D424544  # bV5CSType; end points and gammas, its other way to tell colours, browsers do not use
_RGB, _RLE8, _RLE4, _BITFIELDS = 0, 1, 2, 3
_DEPTHS = {_RGB: {1, 4, 8, 16, 24, 32}, _BITFIELDS: {16, 32}}
_MASKS = {
    (16, 0xF800, 0x7E0, 0x1F, 0),
    (16, 0x7C00, 0x3E0, 0x1F, 0),
    (32, 0xFF0000, 0xFF00, 0xFF, 0),
    (32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (32, 0xFF000000, 0xFF0000, 0xFF00, 0),
    (32, 0xFF000000, 0xFF0000, 0xFF00, 0xFF),
}  # bits of a pixel, and those of red, green, blue and alpha, that Pillow reads right
_MASKS_AT, _WITH_ALPHA = 54, 56


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
    if compression == _BITFIELDS:
        masks = (
            *unpack("<III", data, _MASKS_AT),
            *(unpack("<I", data, _MASKS_AT + 12) if header >= _WITH_ALPHA else (0,)),
        )
        if (depth, *masks) not in _MASKS:
            raise UnsupportedMediaError("The BMP's arrangement of colours in a pixel is not accepted. Save it as PNG.")
    row = (width * depth + 31) // 32 * 4
    if offset < 14 + header or offset + row * (height - 1) + (width * depth + 7) // 8 > len(data):
        raise BadImageError("The BMP is cut short.")
    return Structure(width, height, profile=_profile(data, header))


def _profile(data: bytes, header: int) -> slice | None:
    """Where a header of version 5 says that the ICC profile is (BITMAPV5HEADER)."""
    if header < _V5 or unpack("<I", data, 14 + 56)[0] != _EMBEDDED:
        return None
    start, size = unpack("<II", data, 14 + 112)
    return slice(14 + start, 14 + start + size)
