"""Cartoon: flat colours in steps of lightness, with dark outlines."""

import cv2
import numpy as np

from limner.painters.drawn.fields import Pixels, blurred, stepped, to_lab, to_pixels, to_rgb
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.kuwahara import painted
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Cartoon

_INK = np.array([0.07, 0.06, 0.10], np.float32)
_SATURATION = 1.25


def cartoon(study: Study, style: Cartoon) -> Pixels:
    unit = study.unit
    flow = flow_of(study.colour, 2.0 * unit)
    flat = np.asarray(cv2.bilateralFilter(study.colour, 0, 0.10, 1.2 * unit), np.float32)
    lab = to_lab(painted(flat, 3.0 * unit, flow))
    strength = line_strength(blurred(study.tone, 0.35 * unit), flow, width=0.9 * unit, reach=2.4 * unit)
    canvas = study.canvas
    drawn = canvas.empty()
    for band in canvas.bands(drawn):
        part = band.of(lab)
        part[..., 0] = stepped(part[..., 0], style.tones, 4.0 * min(canvas.scale + 1.0, 4.0))
        part[..., 1:] *= _SATURATION
        colour = to_rgb(part)
        if style.outlines > 0:
            cover = line_cover(
                band.of(strength), threshold=0.022 / style.outlines, softness=0.010 / min(canvas.scale, 3.0)
            )[..., None]
            colour += cover * (_INK - colour)
        drawn[band.top : band.top + band.height] = to_pixels(colour)
    return drawn
