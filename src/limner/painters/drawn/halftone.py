"""Halftone: dot screens of the printing inks, each at its angle."""

import numpy as np

from limner.painters.drawn.fields import Field, Pixels, blurred, to_lab, to_pixels, to_rgb
from limner.painters.drawn.paper import inked
from limner.painters.drawn.screens import dot_screen, tiled
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Halftone

_PAPER = np.array([0.985, 0.965, 0.915], np.float32)
_INKS = (  # angle in degrees, colour on white paper
    (18.0, (0.05, 0.62, 0.87)),
    (72.0, (0.90, 0.12, 0.50)),
    (0.0, (1.0, 0.88, 0.10)),
    (45.0, (0.10, 0.09, 0.11)),
)
_MIN_CELL = 4.0  # output pixels: smaller dots cannot be told apart


def halftone(study: Study, style: Halftone) -> Pixels:
    canvas = study.canvas
    cell = style.dot * max(2.2 * study.unit * canvas.scale, _MIN_CELL)
    blur = 0.2 * cell / canvas.scale
    drawn = canvas.empty()
    if style.inks == "black":
        tone, screen = blurred(study.tone, blur), dot_screen(cell, 45)
        for band in canvas.bands(drawn):
            dots = _dots(1.0 - _printed(band.of(tone)), tiled(screen, band.top, band.height, band.width), cell)
            drawn[band.top : band.top + band.height] = inked(dots, (251, 246, 233), (26, 23, 28))
        return drawn
    lab = to_lab(study.colour)
    lab[..., 0] = np.clip((lab[..., 0] - 50.0) * 1.12 + 54.0, 0.0, 100.0)
    lab[..., 1:] *= 1.4
    shares = _separated(blurred(to_rgb(lab), blur))
    screens = [dot_screen(cell, angle) for angle, _ in _INKS]
    for band in canvas.bands(drawn):
        colour = np.broadcast_to(_PAPER, (band.height, band.width, 3)).copy()
        for share, screen, (_, ink) in zip(shares, screens, _INKS, strict=True):
            dots = _dots(band.of(share), tiled(screen, band.top, band.height, band.width), cell)
            colour *= 1.0 - dots[..., None] * (1.0 - np.array(ink, np.float32))
        drawn[band.top : band.top + band.height] = to_pixels(colour)
    return drawn


def _dots(share: Field, thresholds: Field, cell: float) -> Field:
    """Ink, 0..1: dots that cover `share` of the area, with edges about one pixel wide; none below 2 %."""
    cover = (share - thresholds) * np.float32(cell / 2.2) + 0.5
    return np.asarray(np.clip(cover, 0.0, 1.0) * np.clip(share * 50.0, 0.0, 1.0), np.float32)


def _printed(tone: Field) -> Field:
    """Share of white paper that shows a lightness: its luminance, as CIE defines it, but half as steep in the dark."""
    return np.asarray(0.5 * np.clip(tone, 0, 1) + 0.5 * np.clip(tone, 0, 1) ** 2, np.float32)


def _separated(colour: Field) -> list[Field]:
    """Cyan, magenta, yellow and black of RGB 0..1; black replaces most of what is common to the other three."""
    common = 1.0 - colour.max(axis=2)
    black = np.clip(1.2 * common - 0.12, 0.0, 1.0)
    rest = np.maximum(1.0 - black, 1e-3)
    inks = [np.clip((1.0 - colour[..., channel] - black) / rest, 0.0, 1.0) for channel in range(3)]
    return [np.ascontiguousarray(ink, np.float32) for ink in (*inks, black)]
