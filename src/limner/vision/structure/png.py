"""PNG (third edition): the chunks of the still picture. Animation, texts and private chunks are kept from the codec.

OpenCV 5.0 ends its process on some animations, and takes the memory that a chunk's length claims before it reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from limner.domain.errors import BadImageError
from limner.vision.header import Limits
from limner.vision.structure.reading import METRE, Calibration, CodePoints, Exif, Structure, density, read_exif, unpack

MAX_CHUNKS = 50_000
"""Forty megabytes in chunks of 800 bytes; encoders write 8 KB and more."""

_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}  # by colour type (11.2.1)
_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs"}
_LONGEST = {b"tRNS": 256, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"PLTE": 768, b"pHYs": 9}
# Bytes of what is told before the pixels.
_TOLD = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"mDCV": 24, b"cLLI": 8, b"pHYs": 9, b"acTL": 8}
_SRGB = [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06]  # white, red, green, blue
_IEND = b"\0\0\0\0IEND\xaeB`\x82"


def inspect(data: bytes, limits: Limits) -> Structure:  # noqa: ARG001  # the caller checks the size
    """See `structure.look`. Checksums are left to the codec."""
    width, height, depth, colour, compression, filtering, interlace = unpack(">8xIIBBBBB", data, 8)
    if data[8:16] != b"\0\0\0\rIHDR":
        raise BadImageError("The PNG does not begin with its header.")
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise BadImageError("The PNG's header is not valid.")
    pieces: list[bytes | slice] = [data[:8]]
    kind, at = b"", 8
    seen: set[bytes] = set()
    beside = _Beside()
    for kind, at, end in _chunks(data):
        if kind in _KEPT and end - at - 12 <= _LONGEST.get(kind, end) and (kind == b"IDAT" or kind not in seen):
            seen.add(kind)
            _keep(pieces, at, end)
        elif kind[:1].isupper() and kind not in _KEPT and kind != b"IEND":
            raise BadImageError("The PNG has a critical chunk that is not known.")
        if kind == b"eXIf" and beside.exif is None:
            beside.exif = read_exif(data[at + 8 : end - 4])
        elif b"IDAT" not in seen and (kind == b"iCCP" or end - at - 12 == _TOLD.get(kind)):
            beside.told.setdefault(kind, slice(at + 8, end - 4))
    if b"IDAT" not in seen:
        raise BadImageError("The PNG has no pixels.")
    if colour == 3 and b"PLTE" not in seen:
        raise BadImageError("The PNG has no palette.")
    whole = kind == b"IEND" and pieces[1:] == [slice(8, at)]
    return beside.described(
        Structure(width, height, pieces=() if whole else (*pieces, _IEND), bits=max(8, depth)), data
    )


@dataclass(slots=True)
class _Beside:
    """What a PNG tells beside its pixels."""

    exif: Exif | None = None
    told: dict[bytes, slice] = field(default_factory=dict)

    def described(self, structure: Structure, data: bytes) -> Structure:
        """The structure with all that."""
        exif = self.exif or Exif()
        told = {name: data[where] for name, where in self.told.items() if name != b"iCCP"}
        return replace(
            structure,
            orientation=exif.orientation,
            frames=max(1, int.from_bytes(told.get(b"acTL", b"")[:4])),
            profile=_profile(data, self.told.get(b"iCCP")),
            deflated=True,
            points=_code_points(told),
            calibration=_calibration(told),
            density=_density(told.get(b"pHYs", b"")) or exif.density,
        )


def _density(body: bytes) -> tuple[float, float] | None:
    """Pixels per inch (11.3.4.3); None if only the shape of a pixel is told."""
    if body[8:9] != b"\1":
        return None
    across, down = unpack(">II", body, 0)
    return density(across / METRE, down / METRE)


def _profile(data: bytes, chunk: slice | None) -> slice | None:
    """Where the deflated ICC profile is (11.3.2.3)."""
    if chunk is None:
        return None
    name = data.find(b"\0", chunk.start, min(chunk.stop, chunk.start + 80))
    return None if name < 0 or data[name + 1 : name + 2] != b"\0" else slice(name + 2, chunk.stop)


def _code_points(told: dict[bytes, bytes]) -> CodePoints | None:
    """Of cICP, if it is for RGB in full range, with the brightest of cLLI, or else of the display in mDCV."""
    points = told.get(b"cICP", b"")
    if points[2:4] != b"\0\1":
        return None
    peak = told.get(b"cLLI", b"")[:4] or told.get(b"mDCV", b"")[16:20]
    return CodePoints(points[0], points[1], int.from_bytes(peak) / 10_000 or None)


def _calibration(told: dict[bytes, bytes]) -> Calibration | None:
    """Of gAMA and cHRM, which count only where no sRGB is told (4.3)."""
    gamma = int.from_bytes(told.get(b"gAMA", b""))
    if b"sRGB" in told or not gamma:
        return None
    xy = [value / 100_000 for value in unpack(">8I", told[b"cHRM"], 0)] if b"cHRM" in told else _SRGB
    exponent = 100_000 / gamma
    return Calibration(tuple(zip(xy[::2], xy[1::2], strict=True)), (exponent, exponent, exponent))


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
