"""WebP (RFC 9649): its chunks, and the first frame of an animation as a still picture, which decoders read cheaper."""

from collections.abc import Iterator

from limner.domain.errors import BadImageError, UnsupportedMediaError
from limner.vision.header import Limits
from limner.vision.structure.reading import Exif, Structure, check_size, read_exif, unpack

MAX_CHUNKS = 20_000
_PROFILE, _ALPHA, _EXIF, _ANIMATION = 0x20, 0x10, 0x08, 0x02  # flags of VP8X
_PICTURES = {b"VP8 ", b"VP8L"}


def inspect(data: bytes, limits: Limits) -> Structure:
    """See `structure.look`."""
    (claimed,) = unpack("<I", data, 4)
    end = min(len(data), claimed + 8)
    kind = data[12:16]
    if kind in _PICTURES:
        start, stop = _body(data, 12, end)
        width, height = _stored_size(kind, data, start, stop)
        return Structure(width, height, lossless=kind == b"VP8L")
    if kind != b"VP8X":
        raise BadImageError("The WebP does not begin with a picture.")
    (flags,) = unpack("<B9x", data, 20)
    width, height = _int24(data[24:27]) + 1, _int24(data[27:30]) + 1
    check_size(width, height, limits)
    return _extended(data, end, flags, width, height)


def _extended(data: bytes, end: int, flags: int, width: int, height: int) -> Structure:
    """A file with chunks of its own for everything."""
    animated, frames, exif, lossless = bool(flags & _ANIMATION), 0, Exif(), False
    profile: slice | None = None
    picture = slice(0, 0)
    for kind, start, stop in _chunks(data, 12, end, MAX_CHUNKS):
        if kind in _PICTURES and not animated:
            if not frames and _stored_size(kind, data, start, stop) != (width, height):
                raise BadImageError("The WebP's canvas and its picture differ in size.")
            lossless = kind == b"VP8L" if not frames else lossless
            frames += 1
        elif kind == b"ANMF" and animated:
            if not frames:
                picture = _first_frame(data, start, stop, width, height)
            frames += 1
        elif kind == b"EXIF" and flags & _EXIF:
            exif = read_exif(data[start:stop])
        elif kind == b"ICCP" and flags & _PROFILE:
            profile = slice(start, stop)
    if not frames:
        raise BadImageError("The WebP has no pixels.")
    return Structure(
        width,
        height,
        exif.orientation,
        frames,
        _still(data, picture) if animated else (),
        profile,
        density=exif.density,
        lossless=lossless,
    )


def _still(data: bytes, picture: slice) -> tuple[bytes | slice, ...]:
    """The chunks of one frame as a file of their own; RFC 9649 asks for VP8X where there is an alpha chunk."""
    head = bytearray(data[12:30])
    head[4:8] = (10).to_bytes(4, "little")
    head[8] &= _ALPHA
    size = 4 + len(head) + picture.stop - picture.start
    return (b"RIFF" + size.to_bytes(4, "little") + b"WEBP" + bytes(head), picture)


def _first_frame(data: bytes, start: int, stop: int, width: int, height: int) -> slice:
    """The chunks of an animation's first frame. UnsupportedMediaError if it does not fill the canvas."""
    left, top, wide, high = (_int24(data[at : at + 3]) for at in range(start, start + 12, 3))
    size = (wide + 1, high + 1)
    if (left, top) != (0, 0) or size != (width, height):
        raise UnsupportedMediaError("The first frame of the WebP does not fill it. Save it as a still picture.")
    for kind, body, end in _chunks(data, start + 16, stop, 100):
        if kind in _PICTURES:
            if _stored_size(kind, data, body, end) != size:
                raise BadImageError("A frame of the WebP and its picture differ in size.")
            return slice(start + 16, min(end + (end & 1), stop))
    raise BadImageError("The first frame of the WebP has no pixels.")


def _chunks(data: bytes, at: int, end: int, most: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the content begins and ends, of each chunk in a range. BadImageError for more than `most`."""
    for _ in range(most):
        if at + 8 > end:
            return
        start, stop = _body(data, at, end)
        yield data[at : at + 4], start, stop
        at = stop + (stop & 1)
    raise BadImageError(f"The WebP has more than {most:,} chunks.")


def _body(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where a chunk's content begins and ends. BadImageError if it ends outside."""
    (size,) = unpack("<I", data, at + 4)
    if at + 8 + size > end:
        raise BadImageError("A chunk of the WebP ends outside the file.")
    return at + 8, at + 8 + size


def _stored_size(kind: bytes, data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Width and height of one picture's data."""
    if kind == b"VP8L":
        if stop - start < 5 or data[start] != 0x2F:
            raise BadImageError("The WebP's pixels have no header.")
        bits = int.from_bytes(data[start + 1 : start + 5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if stop - start < 10 or data[start] & 1 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":  # RFC 6386, 9.1
        raise BadImageError("The WebP's pixels have no header.")
    width, height = unpack("<HH", data, start + 6)
    return width & 0x3FFF, height & 0x3FFF


def _int24(data: bytes) -> int:
    return int.from_bytes(data, "little")
