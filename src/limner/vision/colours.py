"""Colours as requests write them: `#rgb`, `#rrggbb` or a CSS colour name."""

from typing import Annotated

from pydantic import AfterValidator, Field

from limner.domain.formats import must_be

COLOUR_PATTERN = r"^(#[0-9A-Fa-f]{3}|#[0-9A-Fa-f]{6}|[A-Za-z]{3,20})$"
"""The longest CSS name has 20 letters."""


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255. ValueError if there is no such colour."""
    from PIL import ImageColor  # the web process needs nothing else of Pillow

    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


def _known(colour: str) -> str:
    rgb(colour)
    return colour


Colour = Annotated[
    str,
    Field(pattern=COLOUR_PATTERN, max_length=20, examples=["#A16AA9", "black"]),
    AfterValidator(_known),
    must_be("This is not a colour. Use #rgb, #rrggbb or a CSS colour name."),
]
