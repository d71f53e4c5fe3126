"""How regions are drawn: colours, lines and texts. `svg.py` draws."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from limner.domain.errors import InvalidRequestError
from limner.vision.colours import COLOUR_PATTERN

_COLOUR = re.compile(COLOUR_PATTERN)

SKY, BLUE, GREEN, YELLOW, VERMILION, PURPLE = "#56B4E9", "#0072B2", "#009E73", "#F0E442", "#D55E00", "#CC79A7"
HUES = (SKY, VERMILION, GREEN, PURPLE, YELLOW, BLUE)
"""Six colours that people with any kind of colour blindness can tell apart: M. Okabe and K. Ito, "Color Universal
Design" (2008)."""

PART_HUES: Mapping[str, str] = {
    "forehead": SKY,
    "under_eye": YELLOW,
    "cheek": PURPLE,
    "nose": GREEN,
    "lower_face": BLUE,
    "jaw": BLUE,
    "chin": SKY,
    "upper_lip": VERMILION,
    "lower_lip": VERMILION,
    "mouth": YELLOW,
    "eye": GREEN,
    "brow": VERMILION,
    "ear": YELLOW,
    "hair": BLUE,
    "skin": PURPLE,
}
"""The hue of each part, the same on both sides; parts that touch differ, except the lips."""


def part_of(name: str) -> str:
    """A region's name without its side: `left_cheek` → `cheek`."""
    return name.removeprefix("left_").removeprefix("right_")


@dataclass(frozen=True, slots=True)
class Style:
    """How regions are drawn. Colours match `COLOUR_PATTERN`.

    `line` and `dash` are pixels on a face that is drawn `REFERENCE_FACE` wide, and follow its size; `exact_line` and
    `exact_dash` are pixels of the drawn SVG whatever the face's size.
    """

    fill: str | None = None
    """One colour for all regions; None: `PART_HUES`."""
    opacity: float = 0.38
    stroke: str | None = None
    """None: the colour of the region's fill."""
    line: float = 1.6
    dash: tuple[float, ...] = (5.0, 3.5)
    exact_line: float | None = None
    exact_dash: tuple[float, ...] | None = None
    label: str = "#1B2430"
    halo: str = "#FFFFFF"
    fills: Mapping[str, str] = field(default_factory=dict)  # by region, instead of `fill`

    def colour_of(self, key: str, part: str, number: int) -> str:
        """The fill of a region. key: as in the result; part: what it is, if known; number: its place in the list."""
        return self.fills.get(key) or self.fill or PART_HUES.get(part_of(part)) or HUES[number % len(HUES)]

    def checked(self) -> "Style":
        """Itself; InvalidRequestError if a colour or a number is invalid."""
        for colour in (self.fill, self.stroke, self.label, self.halo, *self.fills.values()):
            if colour is not None and not _COLOUR.fullmatch(colour):
                raise InvalidRequestError(f"{colour!r} is not a colour. Use #rgb, #rrggbb or a colour name.")
        if not 0.0 <= self.opacity <= 1.0:
            raise InvalidRequestError("`opacity` must be from 0 to 1.")
        line, dash = self.exact_line or 0.0, self.exact_dash or ()
        if not 0.0 <= line <= 100.0 or len(dash) > 16 or any(not 0 <= d <= 1000 for d in dash):
            raise InvalidRequestError(
                "`stroke_width` must be from 0 to 100, and `dash` at most 16 lengths from 0 to 1000."
            )
        return self


REFERENCE_FACE = 400.0
STYLES: Mapping[str, Style] = {
    "default": Style(),
    "classic": Style(
        fill="#A16AA9", stroke="#A16AA9", opacity=0.5, line=2.0, dash=(5.0, 5.0), label="#FFFFFF", halo="#4A2A50"
    ),
    "light": Style(fill="#AFC0C4", stroke="#80929C", opacity=0.5, line=2.0, dash=(4.0, 2.0), label="#3C4A50"),
}
