"""Write the regions over the photo as SVG 1.1, without scripts or external references. Read `document`.

Text from the request is escaped and colours are validated.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np

from limner.vision.landmarks import Points
from limner.vision.smooth import Beziers, Ring
from limner.vision.style import Style

_POLE_GRID = 96  # side of the grid on which the pole is searched; the error is about 1 % of the region's size
_SMALL = 40  # px; on a ring of at most this size a tenth of a pixel is visible
_FIRST_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Shape:
    """One region to draw: its key (for `id` and `data-region`), its title, the text on it (or None), its rings."""

    key: str
    title: str
    text: str | None
    rings: Sequence[Ring]


@dataclass(frozen=True, slots=True)
class Photo:
    """The encoded picture below the regions; it covers the whole view box."""

    data: bytes
    media_type: str


def document(
    width: int,
    height: int,
    shapes: Sequence[Shape],
    style: Style,
    *,
    photo: Photo | None = None,
    clip: Sequence[Points | Sequence[Ring]] = (),
    size: tuple[int, int] | None = None,
    title: str = "Facial contours",
) -> str:
    """The SVG document. width, height: the view box, in the pixels of the rings. size: drawn width and height, default
    the view box.

    clip: outlines that the photo is clipped to, each a polygon (N, 2) or rings; only the part inside all of them shows.
    """
    drawn = size or (width, height)
    pixel = width / drawn[0]  # a drawn pixel, in units of the view box
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg {spaces} version="1.1" width="{drawn[0]}" height="{drawn[1]}" viewBox="0 0 {width} {height}">',
        f"<title>{escape(title)}</title>",
    ]
    if photo is not None:
        lines += _photo(photo, width, height, clip)
    dash = ",".join(_number(length * pixel) for length in style.dash) if any(style.dash) else "none"
    # fill-opacity instead of opacity, so that it does not apply to the stroke.
    lines.append(
        f'<g class="regions" fill="{style.fill}" fill-opacity="{_number(style.opacity)}" fill-rule="evenodd" '
        f'stroke="{style.stroke}" stroke-width="{_number(style.stroke_width * pixel)}" stroke-dasharray="{dash}" '
        'stroke-linejoin="round">'
    )
    font = max(8.0, 0.022 * max(width, height))
    for shape in shapes:
        lines += _region(shape, style, font, width)
    lines += ["</g>", "</svg>", ""]
    return "\n".join(lines)


def inner_pole(rings: Sequence[Ring]) -> tuple[float, float, float, float]:
    """The pole of inaccessibility: x, y, its distance to the edge, and its horizontal distance to the edge.

    It maximises the distance transform of the rings drawn on a small grid, so it is always inside, unlike the centroid.
    A long shape has many such points: of those within 5 % of the maximum, the one nearest to the centroid is used.
    """
    polygons = [ring.polygon for ring in rings]
    low = np.min([polygon.min(axis=0) for polygon in polygons], axis=0)
    extent = float(np.max([(polygon - low).max() for polygon in polygons]))
    scale = _POLE_GRID / max(extent, 1e-6)
    drawn = np.zeros((_POLE_GRID + 4, _POLE_GRID + 4), np.uint8)
    cv2.fillPoly(drawn, [np.round((polygon - low) * scale + 2).astype(np.int32) for polygon in polygons], 255)
    distance = np.asarray(cv2.distanceTransform(drawn, cv2.DIST_L2, 5))
    rows, columns = np.nonzero(distance >= 0.95 * distance.max())
    inside = np.argwhere(drawn)
    middle = inside.mean(axis=0)
    best = int(np.argmin((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2))
    row, column = int(rows[best]), int(columns[best])
    walls = np.flatnonzero(drawn[row] == 0)
    beside = float(np.abs(walls - column).min())
    x, y = (np.array([column, row]) - 2) / scale + low
    return float(x), float(y), float(distance[row, column]) / scale, beside / scale


def path_data(beziers: Beziers) -> str:
    """One closed ring as path commands: absolute start, relative curves, one decimal or two for a small ring.

    Curves are relative to the rounded points, so that rounding errors do not accumulate.
    """
    digits = 1 if np.ptp(beziers[:, 0], axis=0).max() > _SMALL else 2
    points = np.round(beziers * 10**digits).astype(np.int64)
    x, y = points[0, 0].tolist()
    steps = (points[:, 1:] - points[:, :1]).reshape(-1, 6).tolist()
    curves = "".join("c" + " ".join(_decimal(n, digits) for n in step).replace(" -", "-") for step in steps)
    return f"M{_decimal(x, digits)} {_decimal(y, digits)}{curves}z"


def _region(shape: Shape, style: Style, font: float, width: int) -> list[str]:
    fill = style.fills.get(shape.key)
    colour = f' fill="{fill}"' if fill else ""
    data = "".join(path_data(ring.beziers) for ring in shape.rings)
    lines = [
        f'<g id={quoteattr(_identifier(shape.key))} class="region" data-region={quoteattr(shape.key)}{colour}>',
        f"<title>{escape(shape.title)}</title>",
        f'<path d="{data}"/>',
    ]
    if shape.text is not None:
        x, y, around, beside = inner_pole(shape.rings)
        # A letter is about 0.55 of the font size wide and 0.7 high.
        fitting = max(0.4 * font, min(font, 3.4 * beside / max(len(shape.text), 1), 2.2 * around))
        x = float(np.clip(x, fitting, max(width - fitting, fitting)))
        lines.append(
            f'<text x="{_number(x)}" y="{_number(y)}" dy=".35em" text-anchor="middle" font-family="sans-serif" '
            f'font-size="{_number(fitting)}" fill="{style.label}" fill-opacity="1" stroke="none">'
            f"{escape(shape.text)}</text>"
        )
    return [*lines, "</g>"]


def _photo(photo: Photo, width: int, height: int, clip: Sequence[Points | Sequence[Ring]]) -> list[str]:
    data = base64.b64encode(photo.data).decode("ascii")
    lines = []
    for number, shape in enumerate(clip):
        outline = (
            "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in shape) + "z"
            if isinstance(shape, np.ndarray)
            else "".join(path_data(ring.beziers) for ring in shape)
        )
        lines.append(f'<clipPath id="limner-clip-{number}"><path d="{outline}" clip-rule="evenodd"/></clipPath>')
    if lines:
        lines = ["<defs>", *lines, "</defs>"]
    opened = [f'<g clip-path="url(#limner-clip-{number})">' for number in range(len(clip))]
    image = (
        f'<image class="photo" x="0" y="0" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'xlink:href="data:{photo.media_type};base64,{data}"/>'
    )
    return [*lines, *opened, image, *("</g>" for _ in opened)]


def _identifier(key: str) -> str:
    """An XML id that is unique per key: letters, digits, `_` and `-` are kept, other characters become their code point
    between dots, and a key that does not start with a letter gets the prefix `region.`."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f".{ord(c):x}." for c in key)
    return name if _FIRST_LETTER.match(name) else f"region.{name}"


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
