"""How regions are drawn: colours, lines and texts. `svg.py` draws."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from limner.domain.errors import InvalidRequestError
from limner.vision.colours import COLOUR_PATTERN

_COLOUR = re.compile(COLOUR_PATTERN)


@dataclass(frozen=True, slots=True)
class Style:
    """How regions are drawn. Colours match `COLOUR_PATTERN`; lengths are pixels of the drawn SVG."""

    fill: str = "#A16AA9"
    opacity: float = 0.5
    stroke: str = "#A16AA9"
    stroke_width: float = 2.0
    dash: tuple[float, ...] = (5.0, 5.0)
    label: str = "#FFFFFF"
    fills: Mapping[str, str] = field(default_factory=dict)  # by region, instead of `fill`

    def checked(self) -> "Style":
        """Itself; InvalidRequestError if a colour or a number is invalid."""
        for colour in (self.fill, self.stroke, self.label, *self.fills.values()):
            if not _COLOUR.fullmatch(colour):
                raise InvalidRequestError(f"{colour!r} is not a colour. Use #rgb, #rrggbb or a colour name.")
        if not 0.0 <= self.opacity <= 1.0:
            raise InvalidRequestError("`opacity` must be from 0 to 1.")
        if not 0.0 <= self.stroke_width <= 100.0 or len(self.dash) > 16 or any(not 0 <= d <= 1000 for d in self.dash):
            raise InvalidRequestError(
                "`stroke_width` must be from 0 to 100, and `dash` at most 16 lengths from 0 to 1000."
            )
        return self


STYLES: Mapping[str, Style] = {
    "default": Style(),
    "light": replace(Style(), fill="#AFC0C4", stroke="#80929C", dash=(4.0, 2.0), label="#3C4A50"),
}
