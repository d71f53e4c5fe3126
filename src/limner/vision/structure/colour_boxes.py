"""What the properties of a picture in HEIC and AVIF tell of its colours (ISO/IEC 14496-12, 12.1.5 and following)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from limner.vision.structure.reading import CodePoints, unpack

_SRGB, _TELEVISION = 13, {1, 6, 14, 15}


@dataclass(slots=True)
class Box:
    """A box of the file: its kind, and where its content begins and ends."""

    kind: bytes
    start: int
    stop: int


def code_points(data: bytes, properties: Sequence[Box]) -> CodePoints | None:
    """Those of `colr` (type nclx), with the brightest of `clli`, or else of the display in `mdcv`; None without."""
    peaks: dict[bytes, float] = {}
    points: tuple[int, ...] | None = None
    for box in properties:
        if box.kind == b"clli":
            peaks[box.kind] = unpack(">H", data, box.start)[0]
        elif box.kind == b"mdcv":
            peaks[box.kind] = unpack(">I", data, box.start + 16)[0] / 10_000
        elif box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx":
            points = points or unpack(">HH", data, box.start + 4)
    if points is None:
        return None
    return of_a_still(CodePoints(points[0], points[1], peaks.get(b"clli") or peaks.get(b"mdcv") or None))


def of_a_still(points: CodePoints) -> CodePoints:
    """With sRGB's transfer for those of television, which encoders write for want of a better one; so do browsers."""
    return replace(points, transfer=_SRGB) if points.transfer in _TELEVISION else points


def bits(data: bytes, properties: Sequence[Box]) -> int:
    """Of a channel, as `pixi` says; 8 if it does not."""
    for box in properties:
        if box.kind == b"pixi":
            told: bytes = data[box.start + 5 : min(box.start + 9, box.stop)]
            return max(8, max(told, default=8))
    return 8
