"""Ink: black brush lines on the edges, black in the darkest areas, paper elsewhere."""

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, Pixels, blurred
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.paper import inked
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Ink

_PAPER = (250, 246, 237)
_INK = (22, 24, 32)
_BLACKS = (0.18, 0.42)  # the lightness up to which an area may be black: skin is at 0.66


def ink(study: Study, style: Ink) -> Pixels:
    unit = study.unit
    flow = flow_of(study.tone, 2.4 * unit)
    fine = line_strength(blurred(study.tone, 0.3 * unit), flow, width=0.8 * unit, reach=2.6 * unit)
    # A broad difference makes thick strokes in hair and folds; a fine one draws eyes and lips.
    broad = line_strength(study.tone, flow, width=1.8 * unit, reach=3.0 * unit)
    strength = np.maximum(fine, 0.75 * broad)
    threshold = 0.042 * 0.25**style.detail
    # The darkest areas are black, as many as the style wants, but never skin; beside a lighter area they keep a rim.
    dark = blurred(study.tone, 1.2 * unit)
    darkest = (0.4 + 1.2 * style.blacks) * float(np.clip(_valley(dark), *_BLACKS))
    dark = dark - 3.0 * broad
    canvas = study.canvas
    drawn = canvas.empty()
    for band in canvas.bands():
        lines = line_cover(band.of(strength), threshold=threshold, softness=0.006 / min(canvas.scale, 4.0))
        black = line_cover(-band.of(dark), threshold=-darkest, softness=0.03 / min(canvas.scale, 4.0))
        drawn[band.top : band.top + band.height] = inked(np.maximum(lines, black), _PAPER, _INK)
    return drawn


def _valley(tone: Field) -> float:
    """The lightness that divides dark and light areas best (Otsu, 1979): in a gap between tones, so that no even area
    is torn into spots."""
    eight_bit = (np.clip(tone, 0.0, 1.0) * 255.0).astype(np.uint8)
    threshold, _ = cv2.threshold(eight_bit, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold) / 255.0
