"""The drawn styles and their parameters. Imports neither NumPy nor OpenCV."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Field

from limner.choices import NullIsAbsent


class _Style(NullIsAbsent):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cartoon(_Style):
    """Flat colours with black outlines."""

    style: Literal["cartoon"] = "cartoon"
    tones: int = Field(7, ge=3, le=12, description="How many steps of lightness there are.")
    outlines: float = Field(1.0, ge=0, le=2, description="How bold the outlines are; 0 = none.")


class Ink(_Style):
    """Black brush lines and black areas on paper."""

    style: Literal["ink"] = "ink"
    detail: float = Field(0.5, ge=0, le=1, description="How faint an edge may be to get a line.")
    blacks: float = Field(0.5, ge=0, le=1, description="How much of the dark areas is filled with black.")


class Pencil(_Style):
    """Graphite lines with hatching in the shadows."""

    style: Literal["pencil"] = "pencil"
    hatching: float = Field(0.5, ge=0, le=1, description="How strong the hatching is.")


class Engraving(_Style):
    """Lines that swell with the tone, as on a banknote."""

    style: Literal["engraving"] = "engraving"
    spacing: float = Field(1.0, ge=0.6, le=2.5, description="Distance of the lines; 1 suits a portrait.")


class PopArt(_Style):
    """A screen print of few bright inks with dots between them."""

    style: Literal["pop-art"] = "pop-art"
    palette: Literal["sunset", "ocean", "candy", "forest"] = Field("sunset", description="The inks.")


class Oil(_Style):
    """Brush strokes in oil that follow the forms."""

    style: Literal["oil"] = "oil"
    brush: float = Field(1.0, ge=0.5, le=2, description="Width of the brush; 1 suits a portrait.")


class Watercolour(_Style):
    """Washes with dark borders, pencil underneath, a ragged white margin."""

    style: Literal["watercolour"] = "watercolour"
    brush: float = Field(1.0, ge=0.5, le=2, description="Width of the brush; 1 suits a portrait.")
    margin: bool = Field(True, description="Whether the paper shows round the picture.")


class Halftone(_Style):
    """Printed dots in cyan, magenta, yellow and black, or in black alone."""

    style: Literal["halftone"] = "halftone"
    dot: float = Field(1.0, ge=0.5, le=3, description="Distance of the dots; 1 suits a portrait.")
    inks: Literal["cmyk", "black"] = Field("cmyk", description="The printing inks.")


class Pointillism(_Style):
    """Dabs of pure colour that mix in the eye."""

    style: Literal["pointillism"] = "pointillism"
    dot: float = Field(1.0, ge=0.5, le=2, description="Size of the dabs; 1 suits a portrait.")


class Pixel(_Style):
    """Large square pixels in few colours, as in old video games."""

    style: Literal["pixel"] = "pixel"
    across_face: int = Field(28, ge=10, le=60, description="Squares across the main face.")
    colours: int = Field(20, ge=2, le=64, description="How many colours there are.")


class LowPoly(_Style):
    """Flat triangles, small in the faces and large elsewhere."""

    style: Literal["low-poly"] = "low-poly"
    points: int = Field(1800, ge=100, le=6000, description="How many corners there are outside the faces.")


AnyStyle: TypeAlias = (
    Cartoon | Ink | Pencil | Engraving | PopArt | Oil | Watercolour | Halftone | Pointillism | Pixel | LowPoly
)
DrawnStyle: TypeAlias = Annotated[AnyStyle, Field(discriminator="style")]
"""For parameters: `style` decides which other fields there are."""

DRAWN_STYLES: Mapping[str, type[AnyStyle]] = {
    style.model_fields["style"].default: style for style in get_args(AnyStyle)
}
"""By name, in the order of the union."""
