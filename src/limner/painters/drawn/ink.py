"""Ink: black brush lines on the edges, black in the darkest areas, paper elsewhere."""

import numpy as np

from limner.painters.drawn.fields import Field, Pixels, blurred, to_lab
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.paper import inked
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Ink

_PAPER = (250, 246, 237)
_INK = (22, 24, 32)


def ink(study: Study, style: Ink) -> Pixels:
    unit = study.unit
    flow = flow_of(study.tone, 2.4 * unit)
    fine = line_strength(blurred(study.tone, 0.3 * unit), flow, width=0.8 * unit, reach=2.6 * unit)
    # A broad difference makes thick strokes in hair and folds; a fine one draws eyes and lips.
    broad = line_strength(study.tone, flow, width=1.8 * unit, reach=3.0 * unit)
    # Lightened for a face before a window, white hair becomes one with the window: as colours, they are still apart.
    lightness = to_lab(study.colour)[..., 0] / np.float32(100.0)
    light = line_strength(lightness, flow, width=1.8 * unit, reach=3.0 * unit)
    strength = np.maximum(np.maximum(fine, 0.75 * broad), light)
    threshold = 0.034 * 0.25**style.detail
    # The darkest areas are black, as many as the style wants, but never skin; beside a lighter area they keep a rim.
    dark = blurred(study.tone, 1.2 * unit)
    darkest = _gap(dark, 0.36 * style.blacks, 1.04 * style.blacks)
    dark = dark - 3.0 * broad
    canvas = study.canvas
    drawn = canvas.empty()
    for band in canvas.bands(drawn):
        lines = line_cover(band.of(strength), threshold=threshold, softness=0.006 / min(canvas.scale, 4.0))
        black = line_cover(-band.of(dark), threshold=-darkest, softness=0.03 / min(canvas.scale, 4.0))
        drawn[band.top : band.top + band.height] = inked(np.maximum(lines, black), _PAPER, _INK)
    return drawn


def _gap(tone: Field, low: float, high: float) -> float:
    """The lightness from `low` to `high` that fewest pixels have, so that no even area is torn into spots."""
    counts, borders = np.histogram(tone, bins=64, range=(0.0, 1.0))
    rare = np.convolve(counts, (1, 3, 4, 3, 1), mode="same")
    middles = (borders[:-1] + borders[1:]) / 2
    inside = (middles >= low) & (middles <= high)
    if not inside.any():
        return -1.0
    # Of equally rare ones a high one: with dark skin, hair is only a little darker.
    cost = rare / max(1, rare.sum()) + 0.05 * np.abs(middles - 0.2 * low - 0.8 * high)
    return float(middles[inside][cost[inside].argmin()])
