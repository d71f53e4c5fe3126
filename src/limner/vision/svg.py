"""Write the regions over the photo as SVG 1.1, without scripts or external references. Read `document`.

Text from the request is escaped and colours are validated.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from limner.vision import lettering
from limner.vision.landmarks import Points
from limner.vision.smooth import Beziers, Ring
from limner.vision.style import REFERENCE_FACE, Style

_SMALL = 40  # px; on a ring of at most this size a tenth of a pixel is visible
_FONT, _MIN_FONT, _MAX_FONT = 0.042, 9.0, 44.0  # letters as a share of the face's width, and in drawn pixels
_LINE_FACTORS = (0.35, 4.0)  # a line gets at most so much thinner and thicker than on a face of `REFERENCE_FACE`


@dataclass(frozen=True, slots=True)
class Shape:
    """One region to draw. `key`: for `id` and `data-region`. `text`: written on it, if any. `part`: what it is."""

    key: str
    title: str
    text: str | None
    rings: Sequence[Ring]
    part: str = ""


@dataclass(frozen=True, slots=True)
class Photo:
    """The encoded picture below the regions; it covers the whole view box."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Document:
    """The SVG's text, and its width and height as drawn, pixels."""

    text: str
    width: int
    height: int


def document(
    width: int,
    height: int,
    shapes: Sequence[Shape],
    style: Style,
    *,
    face: float,
    photo: Photo | None = None,
    clip: Sequence[Points | Sequence[Ring]] = (),
    scale: float = 1.0,
    title: str = "Facial contours",
) -> Document:
    """The SVG document. width, height: the crop, in the pixels of the rings; one of them is drawn `scale` pixels wide.

    face: the face's width, crop pixels: lines, dashes and letters follow it. clip: outlines that the photo is clipped
    to, each a polygon (N, 2) or rings; only the part inside all of them shows. Ids begin with a hash of what is drawn,
    so that several drawings can be put into one page.
    """
    pixel = 1.0 / scale  # a drawn pixel, in units of the view box
    font = min(max(_FONT * face, _MIN_FONT * pixel), _MAX_FONT * pixel)
    wanted = [lettering.Wanted(s.text, s.rings, s.part == "hair") if s.text else None for s in shapes]
    placed, room = lettering.place(wanted, font, width, height)
    left, right, below = (float(np.ceil(needed)) for needed in room)
    drawn = (max(1, round((width + left + right) * scale)), max(1, round((height + below) * scale)))
    paths = ["".join(path_data(ring.beziers, fine=pixel < 0.5) for ring in shape.rings) for shape in shapes]
    prefix = _prefix(photo, paths, drawn)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    view = f"{_number(-left)} 0 {_number(width + left + right)} {_number(height + below)}"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg {spaces} version="1.1" width="{drawn[0]}" height="{drawn[1]}" viewBox="{view}">',
        f"<title>{escape(title)}</title>",
    ]
    if photo is not None:
        lines += _photo(photo, width, height, clip, prefix)
    line, dash = _line_and_dash(style, face, pixel)
    # fill-opacity instead of opacity, so that it does not apply to the stroke.
    lines.append(
        f'<g class="regions" fill-opacity="{_number(style.opacity)}" fill-rule="evenodd" '
        f'stroke-width="{_number(line)}" stroke-dasharray="{dash}" stroke-linejoin="round">'
    )
    for number, (shape, path, label) in enumerate(zip(shapes, paths, placed, strict=True)):
        colour = style.colour_of(shape.key, shape.part, number)
        name = quoteattr(f"{prefix}-{_identifier(shape.key)}")
        colours = f'fill="{colour}" stroke="{style.stroke or colour}"'
        lines.append(f'<g id={name} class="region" data-region={quoteattr(shape.key)} {colours}>')
        lines.append(f"<title>{escape(shape.title)}</title>")
        lines.append(f'<path d="{path}"/>')
        if label is not None:
            lines += _lettered(label, style, font)
        lines.append("</g>")
    lines += ["</g>", "</svg>", ""]
    return Document("\n".join(lines), *drawn)


def path_data(beziers: Beziers, *, fine: bool = False) -> str:
    """One closed ring as path commands: absolute start, relative curves, one decimal, or two if small or `fine`.

    Curves are relative to the rounded points, so that rounding errors do not accumulate.
    """
    digits = 1 if np.ptp(beziers[:, 0], axis=0).max() > _SMALL and not fine else 2
    points = np.round(beziers * 10**digits).astype(np.int64)
    x, y = points[0, 0].tolist()
    steps = (points[:, 1:] - points[:, :1]).reshape(-1, 6).tolist()
    curves = "".join("c" + " ".join(_decimal(n, digits) for n in step).replace(" -", "-") for step in steps)
    return f"M{_decimal(x, digits)} {_decimal(y, digits)}{curves}z"


def _line_and_dash(style: Style, face: float, pixel: float) -> tuple[float, str]:
    """The width of lines, and the value of stroke-dasharray, in units of the view box."""
    factor = pixel * float(np.clip(face / pixel / REFERENCE_FACE, *_LINE_FACTORS))
    line = style.line * factor if style.exact_line is None else style.exact_line * pixel
    lengths = (
        [length * factor for length in style.dash]
        if style.exact_dash is None
        else [length * pixel for length in style.exact_dash]
    )
    return line, ",".join(_number(length) for length in lengths) if any(lengths) else "none"


def _lettered(label: lettering.Placed, style: Style, font: float) -> list[str]:
    """The text, below it its halo, and below both the line to its region.

    The halo is a text of its own: `paint-order`, which would draw a stroke below the letters, is not in SVG 1.1.
    """
    lines = []
    if label.leader is not None:
        (x1, y1), (x2, y2) = ((_number(x), _number(y)) for x, y in label.leader)
        for colour, thick in ((style.halo, 0.16 * font), (style.label, 0.06 * font)):
            lines.append(
                f'<path class="leader" d="M{x1} {y1}L{x2} {y2}" fill="none" stroke="{colour}" '
                f'stroke-width="{_number(thick)}" stroke-dasharray="none" stroke-linecap="round"/>'
            )
        lines.append(
            f'<circle class="leader" cx="{x2}" cy="{y2}" r="{_number(0.14 * font)}" fill="{style.label}" '
            f'fill-opacity="1" stroke="{style.halo}" stroke-width="{_number(0.05 * font)}" stroke-dasharray="none"/>'
        )
    place = (
        f'x="{_number(label.x)}" y="{_number(label.y)}" dy=".35em" text-anchor="{label.anchor}" '
        f'font-family="sans-serif" font-size="{_number(font)}" fill-opacity="1"'
    )
    around = f'stroke="{style.halo}" stroke-width="{_number(0.22 * font)}" stroke-opacity=".85" stroke-dasharray="none"'
    text = escape(label.text)
    lines.append(f'<text class="halo" {place} fill="{style.halo}" {around}>{text}</text>')
    lines.append(f'<text class="name" {place} fill="{style.label}" stroke="none">{text}</text>')
    return lines


def _prefix(photo: Photo | None, paths: Sequence[str], drawn: tuple[int, int]) -> str:
    """What ids begin with: the same for the same drawing only."""
    hashed = hashlib.sha256(photo.data if photo else b"")
    hashed.update(repr((paths, drawn)).encode())
    return f"limner-{hashed.hexdigest()[:12]}"


def _photo(photo: Photo, width: int, height: int, clip: Sequence[Points | Sequence[Ring]], prefix: str) -> list[str]:
    data = base64.b64encode(photo.data).decode("ascii")
    lines = []
    for number, shape in enumerate(clip):
        outline = (
            "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in shape) + "z"
            if isinstance(shape, np.ndarray)
            else "".join(path_data(ring.beziers) for ring in shape)
        )
        lines.append(f'<clipPath id="{prefix}-clip-{number}"><path d="{outline}" clip-rule="evenodd"/></clipPath>')
    if lines:
        lines = ["<defs>", *lines, "</defs>"]
    opened = [f'<g clip-path="url(#{prefix}-clip-{number})">' for number in range(len(clip))]
    image = (
        f'<image class="photo" x="0" y="0" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'xlink:href="data:{photo.media_type};base64,{data}"/>'
    )
    return [*lines, *opened, image, *("</g>" for _ in opened)]


def _identifier(key: str) -> str:
    """A part of an XML name that is unique per key: letters, digits, `_` and `-` are kept, other characters become
    their code point between dots."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f".{ord(c):x}." for c in key)


def _number(value: float) -> str:
    """At most two decimals, without trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


@lru_cache(maxsize=8192)
def _decimal(value: int, digits: int) -> str:
    """`value` / 10**`digits` in the shortest form that SVG allows: `.5`, `-3`, `12.4`."""
    whole, rest = divmod(abs(value), 10**digits)
    text = f"{whole or ''}.{rest:0{digits}}".rstrip("0") if rest else str(whole)
    return f"-{text}" if value < 0 else text
