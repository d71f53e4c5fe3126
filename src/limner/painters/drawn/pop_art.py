"""Pop art: a screen print of four flat inks by tone, dots where two of them meet, dark outlines."""

import numpy as np

from limner.painters.drawn.fields import Pixels, blurred, to_pixels
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.kuwahara import painted
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.screens import dot_screen, tiled
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import PopArt

_PALETTES = {  # from dark to light
    "sunset": ("#3D1552", "#E6288C", "#FF8C3F", "#FFE68C"),
    "ocean": ("#0B2149", "#1477B8", "#3FD0C9", "#F7F3C8"),
    "candy": ("#4A1060", "#E0218A", "#5CC8F2", "#FFF2B8"),
    "forest": ("#12302B", "#1F8A5B", "#F2B134", "#FFF3D0"),
}
_LIFT = 0.78  # puts faces between the two lightest inks
_MIN_CELL = 4.0  # output pixels


def pop_art(study: Study, style: PopArt) -> Pixels:
    unit, canvas = study.unit, study.canvas
    inks = np.array([_rgb(colour) for colour in _PALETTES[style.palette]], np.float32)
    flow = flow_of(study.tone, 2.2 * unit)
    tone = painted(study.tone[..., None], 3.0 * unit, flow)[..., 0]
    low, high = np.percentile(tone, (3, 97))
    tone = np.clip((tone - low) / max(float(high - low), 0.15), 0.0, 1.0) ** _LIFT
    strength = line_strength(blurred(study.tone, 0.3 * unit), flow, width=0.95 * unit, reach=2.4 * unit)
    cell = max(2.4 * unit * canvas.scale, _MIN_CELL)
    screen = dot_screen(cell, 45)
    drawn = canvas.empty()
    for band in canvas.bands(drawn):
        place = np.clip(band.of(tone), 0.0, 1.0) * np.float32(len(inks) - 1)
        lower = np.clip(np.floor(place), 0, len(inks) - 2)
        # Dots only in the middle of a step, so that each ink also has a flat area.
        share = np.clip((place - lower - 0.5) * 1.7 + 0.5, 0.0, 1.0)
        dots = (share - tiled(screen, band.top, band.height, band.width)) * np.float32(cell / 3.2) + 0.5
        dots = np.where(share <= 0, 0, np.where(share >= 1, 1, np.clip(dots, 0.0, 1.0)))[..., None]
        index = lower.astype(np.intp)
        colour = inks[index] * (1 - dots) + inks[index + 1] * dots
        line = line_cover(band.of(strength), threshold=0.022, softness=0.009 / min(canvas.scale, 3.0))[..., None]
        colour += line * (inks[0] * 0.6 - colour)
        drawn[band.top : band.top + band.height] = to_pixels(np.asarray(colour, np.float32))
    return drawn


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255.0 for at in (1, 3, 5))
