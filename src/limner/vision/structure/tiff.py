"""TIFF 6.0 and BigTIFF: the first page's tags, its strips or tiles, and the number of pages.

The kinds of pixels that are accepted are those that Pillow and libtiff read right; all others are named and refused.
"""

import struct

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure.reading import PER_INCH, Structure, check_size, density, unpack

MAX_PAGES = 1000
MAX_VALUES = 1 << 20
"""Numbers in all tags of a page; a picture of 64 megapixels in tiles of 16 × 16 has 500,000."""
MAX_PIECES = 1 << 18
"""Strips or tiles."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_RATIONAL = 5
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # unsigned integers
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000}
_NONE, _JPEG, _OLD_JPEG = 1, 7, 6
_UINT, _INT, _FLOAT = 1, 2, 3
_GREY_INVERTED, _GREY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_FORMATS = {_UINT: "unsigned", _INT: "signed", _FLOAT: "floating-point"}
_CHANNELS = {_GREY_INVERTED: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_IGNORED, _ASSOCIATED, _UNASSOCIATED, _COREL = 0, 1, 2, 999  # ExtraSamples; the last one is an unassociated alpha
_EXTRAS: dict[int, set[tuple[int, ...]]] = {
    _GREY: {(_IGNORED,), (_ASSOCIATED,), (_UNASSOCIATED,)},
    _RGB: {(first, *[_IGNORED] * more) for first in (_IGNORED, _ASSOCIATED, _UNASSOCIATED) for more in range(3)}
    | {(_COREL,)},
    _PALETTE: {(_IGNORED,), (_UNASSOCIATED,)},
    _CMYK: {(_IGNORED,), (_IGNORED, _IGNORED)},
}  # more samples of 8 bits that are accepted, by colour space
_WIDE_EXTRAS: dict[int, set[tuple[int, ...]]] = {_RGB: {(_IGNORED,), (_ASSOCIATED,), (_UNASSOCIATED,)}}  # of 16 bits
_REVERSIBLE = {(_GREY_INVERTED, 1), (_GREY, 1), (_GREY, 8), (_RGB, 8)}  # bits that may be in reverse order
_ACCEPTED = {
    _GREY_INVERTED: {(_UINT, 1), (_UINT, 2), (_UINT, 4), (_UINT, 8)},
    _GREY: {(_UINT, 1), (_UINT, 2), (_UINT, 4), (_UINT, 8), (_UINT, 16), (_INT, 16), (_INT, 32), (_FLOAT, 32)},
    _RGB: {(_UINT, 8), (_UINT, 16)},
    _PALETTE: {(_UINT, 1), (_UINT, 2), (_UINT, 4), (_UINT, 8)},
    _CMYK: {(_UINT, 8), (_UINT, 16)},
    _YCBCR: {(_UINT, 8)},
}  # sample format and bits by colour space
_RAW = {0xC612: "DNG", 0x828E: "camera raw"}  # DNGVersion, CFAPattern

# Tags of TIFF 6.0, section 8 and following.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL = 0xFE, 0x100, 0x101, 0x102, 0x103, 0x106, 0x10A
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 0x111, 0x112, 0x115, 0x116, 0x117, 0x11C
_ACROSS, _DOWN, _UNIT = 0x11A, 0x11B, 0x128
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT = 0x142, 0x143, 0x144, 0x145, 0x152, 0x153
_ONE_NUMBER = {_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _FILL, _ORIENTATION, _SAMPLES, _ROWS, _PLANAR}


def inspect(data: bytes, limits: Limits) -> Structure:
    """See `structure.look`. UnsupportedMediaError names the kind of pixels that is not accepted."""
    file = _File(data)
    tags = file.tags(file.first)
    for tag, kind in _RAW.items():
        if tag in tags:
            raise UnsupportedMediaError(f"The file is a {kind} file. Develop it to JPEG or TIFF.")
    width, height = file.number(tags, _WIDTH, None), file.number(tags, _HEIGHT, None)
    check_size(width, height, limits)
    if file.number(tags, _SUBFILE, 0) & 1:
        raise UnsupportedMediaError("The first picture of the TIFF is only a preview, as in camera raw files.")
    bits, samples, planes = _check_pixels(file, tags)
    _check_pieces(file, tags, limits, (width, height), bits * samples // planes, planes)
    orientation = file.number(tags, _ORIENTATION, 1)
    return Structure(
        width,
        height,
        orientation if 1 <= orientation <= 8 else 1,
        file.pages(),
        _without_planes(file, tags) if samples == 1 else (),
        bits=max(8, bits),
        density=_density(file, tags),
    )


def _without_planes(file: "_File", tags: dict[int, tuple[int, int, int]]) -> tuple[bytes | slice, ...]:
    """The file with its one channel not in a plane of its own: that means the same, but Pillow misreads such pixels."""
    if file.number(tags, _PLANAR, 1) != 2:
        return ()
    kind, _, where = tags[_PLANAR]
    value = struct.pack(file.order + _NUMBERS[kind], 1)
    return slice(0, where), value, slice(where + len(value), len(file.data))


def _density(file: "_File", tags: dict[int, tuple[int, int, int]]) -> tuple[float, float] | None:
    """Pixels per inch (section 8, XResolution and ResolutionUnit)."""
    factor = PER_INCH.get((file.numbers(tags, _UNIT) or (2,))[0], 0.0)
    return density(*(factor * file.fraction(tags, tag) for tag in (_ACROSS, _DOWN)))


class _File:
    """The directories of a TIFF. A tag is (type, count, offset of its values)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = "<" if data[:1] == b"I" else ">"
        self.big = data[2:4] in {b"+\0", b"\0+"}
        self.entry, self.offset = ("HHQ", "Q") if self.big else ("HHI", "I")
        self.step = struct.calcsize("=" + self.entry + self.offset)
        (self.first,) = self._read(self.offset, 8 if self.big else 4)

    def _read(self, form: str, at: int) -> tuple[int, ...]:
        return unpack(self.order + form, self.data, at)

    def _entries(self, at: int) -> tuple[int, int]:
        """The number of a directory's entries, and where they begin."""
        (count,) = self._read("Q" if self.big else "H", at)
        start = at + (8 if self.big else 2)
        if start + count * self.step > len(self.data):
            raise BadImageError("A directory of the TIFF ends outside the file.")
        return count, start

    def tags(self, at: int) -> dict[int, tuple[int, int, int]]:
        """A directory's tags, each checked to lie within the file."""
        count, start = self._entries(at)
        if not 0 < count <= 4096:
            raise BadImageError("The TIFF's directory has no tags, or too many.")
        found: dict[int, tuple[int, int, int]] = {}
        values = held = 0
        inline = 8 if self.big else 4
        for place in range(start, start + count * self.step, self.step):
            tag, kind, number = self._read(self.entry, place)
            size = _SIZES.get(kind, 1) * number
            where = place + self.step - inline
            if size > inline:
                (where,) = self._read(self.offset, where)
            if where + size > len(self.data):
                raise BadImageError("A tag of the TIFF lies outside the file.")
            values += number if _SIZES.get(kind, 1) > 1 else 0
            held += size
            if tag in found:
                raise BadImageError("The TIFF has a tag twice.")  # libraries differ in which they take
            found[tag] = (kind, number, where)
        if values > MAX_VALUES:
            raise BadImageError("The tags of the TIFF have too many values.")
        if held > 2 * len(self.data):
            raise BadImageError("The tags of the TIFF overlap.")  # libraries copy each
        return found

    def numbers(self, tags: dict[int, tuple[int, int, int]], tag: int) -> tuple[int, ...]:
        """All values of a tag, () if it is missing. BadImageError if they are no unsigned integers."""
        if tag not in tags:
            return ()
        kind, count, where = tags[tag]
        if kind not in _NUMBERS:
            raise BadImageError(f"The tag {tag} of the TIFF has a wrong type.")
        return struct.unpack_from(f"{self.order}{count}{_NUMBERS[kind]}", self.data, where)

    def fraction(self, tags: dict[int, tuple[int, int, int]], tag: int) -> float:
        """The first value of a tag with fractions; 0 if it is missing or has no value."""
        kind, count, where = tags.get(tag, (0, 0, 0))
        if kind != _RATIONAL or count < 1:
            return 0.0
        number, divisor = self._read("II", where)
        return number / divisor if divisor else 0.0

    def number(self, tags: dict[int, tuple[int, int, int]], tag: int, default: int | None) -> int:
        """The first value of a tag, or the default. BadImageError if there is neither."""
        if tag in tags and tag in _ONE_NUMBER and tags[tag][1] != 1:
            raise BadImageError(f"The tag {tag} of the TIFF has more than one value.")
        found = self.numbers(tags, tag)
        if found:
            return found[0]
        if default is None:
            raise BadImageError(f"The TIFF lacks the tag {tag}.")
        return default

    def pages(self) -> int:
        """The number of directories in the chain: it ends at the first that was seen or lies outside the file."""
        seen: set[int] = set()
        at = self.first
        while at and at not in seen and len(seen) < MAX_PAGES:
            try:
                count, start = self._entries(at)
                seen.add(at)
                (at,) = self._read(self.offset, start + count * self.step)
            except BadImageError:
                break
        return max(1, len(seen))


def _check_pixels(file: _File, tags: dict[int, tuple[int, int, int]]) -> tuple[int, int, int]:
    """Bits of a sample, samples of a pixel, and planes (1 if the samples of a pixel lie together)."""
    compression = file.number(tags, _COMPRESSION, _NONE)
    if compression not in _COMPRESSIONS:
        name = "old-style JPEG" if compression == _OLD_JPEG else f"number {compression}"
        raise UnsupportedMediaError(f"The TIFF's compression ({name}) is not accepted. Use LZW, Deflate or none.")
    space = file.number(tags, _PHOTOMETRIC, _GREY_INVERTED)
    if space not in _ACCEPTED:
        raise UnsupportedMediaError(f"The TIFF's colour space (number {space}) is not accepted. Convert it to RGB.")
    if space == _YCBCR and compression == _NONE:
        raise UnsupportedMediaError("The TIFF has uncompressed YCbCr pixels. Convert it to RGB.")
    samples = file.number(tags, _SAMPLES, 1)
    if samples < _CHANNELS[space]:
        raise BadImageError("The TIFF has fewer channels than its colour space.")
    bit, form = _sample(file, tags)
    kind = f"{bit}-bit {_FORMATS.get(form, 'complex')} samples, {samples} a pixel"
    if space == _GREY_INVERTED:
        kind += ", with 0 as white"
    has_extra = samples > _CHANNELS[space]
    if (form, bit) not in _ACCEPTED[space] or (has_extra and bit not in {8, 16}):
        raise UnsupportedMediaError(f"The TIFF has {kind}. Save it with 8 bits per channel.")
    meanings = _extra_channels(file, tags, space, bit, samples)
    if meanings is None:
        raise UnsupportedMediaError(f"The TIFF has {kind}, with extra channels. Save it without them.")
    is_reversed = file.number(tags, _FILL, 1) == 2
    if is_reversed and ((space, bit) not in _REVERSIBLE or has_extra):
        raise UnsupportedMediaError(f"The TIFF has {kind}, with reversed bits. Save it with bits in their usual order.")
    is_planar = file.number(tags, _PLANAR, 1) == 2 and samples > 1
    is_odd = compression == _NONE and (is_reversed or (has_extra and meanings not in {(_UNASSOCIATED,), (_COREL,)}))
    if is_planar and (bit != 8 or space not in {_RGB, _CMYK, _YCBCR} or is_odd):
        raise UnsupportedMediaError(f"The TIFF has {kind}, in separate planes. Save it with interleaved channels.")
    return bit, samples, samples if is_planar else 1


def _sample(file: _File, tags: dict[int, tuple[int, int, int]]) -> tuple[int, int]:
    """Bits and format of each sample. UnsupportedMediaError if they differ."""
    bits = set(file.numbers(tags, _BITS) or (1,))
    formats = set(file.numbers(tags, _FORMAT) or (_UINT,))
    if len(bits) != 1 or len(formats) != 1:
        raise UnsupportedMediaError("The channels of the TIFF differ in kind. Save it with 8 bits per channel.")
    return bits.pop(), formats.pop()


def _extra_channels(
    file: _File, tags: dict[int, tuple[int, int, int]], space: int, bit: int, samples: int
) -> tuple[int, ...] | None:
    """The meanings of the channels beyond those of the colour space; None if they are not accepted."""
    meanings = file.numbers(tags, _EXTRA)
    extra = samples - _CHANNELS[space]
    if not extra and not meanings:
        return ()
    if extra == 1 and not meanings and space == _RGB:
        return (_UNASSOCIATED,)  # so Pillow reads it
    known = (_EXTRAS if bit == 8 else _WIDE_EXTRAS).get(space, ())
    return meanings if len(meanings) == extra and meanings in known else None


def _check_pieces(
    file: _File,
    tags: dict[int, tuple[int, int, int]],
    limits: Limits,
    size: tuple[int, int],
    bits: int,
    planes: int,
) -> None:
    """BadImageError unless every strip or tile lies in the file and none is much larger than the picture."""
    width, height = size
    if _TILES in tags:
        piece = file.number(tags, _TILE_WIDTH, None), file.number(tags, _TILE_HEIGHT, None)
        if min(piece) < 1 or piece[0] * piece[1] > max(1 << 20, 4 * limits.max_pixels // 10):
            raise BadImageError("A tile of the TIFF is larger than the pixel limit.")
        needed = -(-width // piece[0]) * -(-height // piece[1])
        offsets, lengths = file.numbers(tags, _TILES), file.numbers(tags, _TILE_BYTES)
    else:
        rows = min(file.number(tags, _ROWS, height), height)
        if rows < 1:
            raise BadImageError("A strip of the TIFF has no rows.")
        piece = width, rows
        needed = -(-height // rows)
        offsets, lengths = file.numbers(tags, _STRIPS), file.numbers(tags, _STRIP_BYTES)
    needed *= planes
    if needed > MAX_PIECES or needed > len(offsets) or (lengths and needed > len(lengths)):
        raise BadImageError("The TIFF lacks some of its pixels.")
    end = len(file.data)
    if any(offset > end for offset in offsets[:needed]):
        raise BadImageError("Pixels of the TIFF lie outside the file.")
    if file.number(tags, _COMPRESSION, _NONE) == _NONE:
        row = (piece[0] * bits + 7) // 8
        last = (height - (needed // planes - 1) * piece[1]) if _TILES not in tags else piece[1]
        for index, offset in enumerate(offsets[:needed]):
            rows = last if (index + 1) % (needed // planes) == 0 else piece[1]
            if offset + row * rows > end:
                raise BadImageError("Pixels of the TIFF lie outside the file.")
    else:
        _check_lengths(offsets[:needed], lengths[:needed], end)


def _check_lengths(offsets: tuple[int, ...], lengths: tuple[int, ...], end: int) -> None:
    """BadImageError unless compressed strips or tiles lie in the file, of which each is read whole."""
    if any(offset + length > end for offset, length in zip(offsets, lengths, strict=False)):
        raise BadImageError("Pixels of the TIFF lie outside the file.")
    if sum(lengths) > 2 * end:
        raise BadImageError("The strips or tiles of the TIFF overlap.")
