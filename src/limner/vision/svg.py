"""The drawing: regions over the photo as SVG 1.1, without scripts and without references to anything outside.

Read `document` first. Every text that comes from outside is escaped, every colour checked.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np

from limner.domain.errors import InvalidRequestError
from limner.vision.align import Points
from limner.vision.smooth import Beziers, Ring

_COLOUR = re.compile(r"#[0-9A-Fa-f]{3}(?:[0-9A-Fa-f]{3})?|[A-Za-z]{3,24}")
_POLE_GRID = 96  # the pole is looked for on a grid of this size, then no label is off by more than a percent
_SMALL = 40  # px; a tenth of a pixel shows on a ring that is no larger
_FIRST_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Style:
    """How regions are drawn. Colours are `#rgb`, `#rrggbb` or a name; lengths are pixels as drawn."""

    fill: str = "#A16AA9"
    opacity: float = 0.5
    stroke: str = "#A16AA9"
    stroke_width: float = 2.0
    dash: tuple[float, ...] = (5.0, 5.0)
    label: str = "#FFFFFF"
    fills: Mapping[str, str] = field(default_factory=dict)  # fills of single regions, by name

    def checked(self) -> "Style":
        """Itself; InvalidRequestError when a colour or a number cannot be drawn."""
        for colour in (self.fill, self.stroke, self.label, *self.fills.values()):
            if not _COLOUR.fullmatch(colour):
                raise InvalidRequestError(f"{colour!r} is not a colour: give #rgb, #rrggbb or a colour's name.")
        if not 0.0 <= self.opacity <= 1.0:
            raise InvalidRequestError("The opacity must be from 0 to 1.")
        if not 0.0 <= self.stroke_width <= 100.0 or len(self.dash) > 16 or any(not 0 <= d <= 1000 for d in self.dash):
            raise InvalidRequestError("The stroke must be at most 100 wide, its dashes at most 16 and 1000 long.")
        return self


STYLES: Mapping[str, Style] = {
    "default": Style(),
    "light": replace(Style(), fill="#AFC0C4", stroke="#80929C", dash=(4.0, 2.0), label="#3C4A50"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One region to draw: its key (id and `data-region`), its title, the text on it (or none), its rings."""

    key: str
    title: str
    text: str | None
    rings: Sequence[Ring]


@dataclass(frozen=True, slots=True)
class Photo:
    """The picture below the regions, as encoded bytes, drawn over the whole view."""

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
    """The SVG text. width, height: the view, in the pixels of the rings. size: drawn width and height, else the view's.

    clip: outlines that the photo is cut to, each a polygon (N, 2) or rings; it shows where it is inside all of them.
    """
    drawn = size or (width, height)
    thin = width / drawn[0]  # a pixel as drawn, in pixels of the view
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg {spaces} version="1.1" width="{drawn[0]}" height="{drawn[1]}" viewBox="0 0 {width} {height}">',
        f"<title>{escape(title)}</title>",
    ]
    if photo is not None:
        lines += _photo(photo, width, height, clip)
    dash = ",".join(_number(length * thin) for length in style.dash) if any(style.dash) else "none"
    # fill-opacity and not opacity, so that the stroke stays as strong as it is asked for.
    lines.append(
        f'<g class="regions" fill="{style.fill}" fill-opacity="{_number(style.opacity)}" fill-rule="evenodd" '
        f'stroke="{style.stroke}" stroke-width="{_number(style.stroke_width * thin)}" stroke-dasharray="{dash}" '
        'stroke-linejoin="round">'
    )
    font = max(8.0, 0.022 * max(width, height))
    for shape in shapes:
        lines += _region(shape, style, font, width)
    lines += ["</g>", "</svg>", ""]
    return "\n".join(lines)


def inner_pole(rings: Sequence[Ring]) -> tuple[float, float, float, float]:
    """The visual centre of the rings' inside: x, y, the distance to the edge there, and the room to its sides.

    Where the distance transform of the rings drawn small is greatest: inside even where the centroid is not. A long
    shape has a whole ridge of such places, so of those within a twentieth of the greatest distance the one nearest
    to the centroid is taken.
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
    """One closed ring as path commands: absolute start, relative curves with one decimal, or two if it is small.

    Relative to the rounded points, not the exact ones, so that rounding does not add up.
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
        # A letter is about 0.55 of the font's size wide and 0.7 high.
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
    """An XML id for a region, another for each key: letters, digits, `_` and `-` kept, all else by its number between
    dots; `region.` before a key that does not start with a letter."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else f".{ord(c):x}." for c in key)
    return name if _FIRST_LETTER.match(name) else f"region.{name}"


def _number(value: float) -> str:
    """At most two decimals, none that say nothing."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


@lru_cache(maxsize=8192)
def _decimal(value: int, digits: int) -> str:
    """A whole number of tenths or hundredths as decimal, as short as SVG allows: `.5`, `-3`, `12.4`."""
    whole, rest = divmod(abs(value), 10**digits)
    text = f"{whole or ''}.{rest:0{digits}}".rstrip("0") if rest else str(whole)
    return f"-{text}" if value < 0 else text
