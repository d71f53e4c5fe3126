"""PNG (third edition): the chunks of the still picture. Animation, texts and private chunks are kept from the codec.

OpenCV 5.0 ends its process on some animations, and takes the memory that a chunk's length claims before it reads.
"""

from collections.abc import Iterator

from limner.domain.errors import BadImageError
from limner.vision.header import Limits
from limner.vision.structure.reading import Structure, exif_orientation, unpack

MAX_CHUNKS = 50_000
"""Twenty megabytes in chunks of 400 bytes; encoders write 8 KB and more."""
MAX_PROFILE_BYTES = 1 << 20

_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}  # by colour type (11.2.1)
_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP"}
_LONGEST = {b"tRNS": 256, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"PLTE": 768, b"iCCP": MAX_PROFILE_BYTES}
_IEND = b"\0\0\0\0IEND\xaeB`\x82"


def inspect(data: bytes, limits: Limits) -> Structure:  # noqa: ARG001  # the caller checks the size
    """See `structure.look`. Checksums are left to the codec."""
    width, height, depth, colour, compression, filtering, interlace = unpack(">8xIIBBBBB", data, 8)
    if data[8:16] != b"\0\0\0\rIHDR":
        raise BadImageError("The PNG does not begin with its header.")
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise BadImageError("The PNG's header is not valid.")
    pieces: list[bytes | slice] = [data[:8]]
    orientation, frames, kind, at = 0, 1, b"", 8
    seen: set[bytes] = set()
    for kind, at, end in _chunks(data):
        if kind == b"eXIf" and not orientation:
            orientation = exif_orientation(data[at + 8 : end - 4])
        elif kind == b"acTL":
            frames = max(1, int.from_bytes(data[at + 8 : at + 12]))
        elif kind in _KEPT and end - at - 12 <= _LONGEST.get(kind, end) and (kind == b"IDAT" or kind not in seen):
            seen.add(kind)
            _keep(pieces, at, end)
        elif kind[:1].isupper() and kind not in _KEPT and kind != b"IEND":
            raise BadImageError("The PNG has a critical chunk that is not known.")
    if b"IDAT" not in seen:
        raise BadImageError("The PNG has no pixels.")
    if colour == 3 and b"PLTE" not in seen:
        raise BadImageError("The PNG has no palette.")
    whole = kind == b"IEND" and pieces[1:] == [slice(8, at)]
    return Structure(width, height, orientation or 1, frames, () if whole else (*pieces, _IEND))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of each chunk, up to IEND or the end of the file. BadImageError if one ends outside."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        (length,) = unpack(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) and kind != b"IEND":
            raise BadImageError("A chunk of the PNG ends outside the file.")
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise BadImageError(f"The PNG has more than {MAX_CHUNKS:,} chunks.")


def _keep(pieces: list[bytes | slice], start: int, end: int) -> None:
    """Add a range, in one piece with the last where they meet."""
    last = pieces[-1]
    if isinstance(last, slice) and last.stop == start:
        pieces[-1] = slice(last.start, end)
    else:
        pieces.append(slice(start, end))
