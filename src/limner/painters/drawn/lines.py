"""Ink lines on the edges of a picture: the flow-based extended difference of Gaussians."""

import numpy as np

from limner.painters.drawn.fields import Field, blurred
from limner.painters.drawn.flow import Flow, smoothed_along

_RATIO = 1.6  # of the two Gaussians, near a Laplacian's (Marr and Hildreth)


def line_strength(lightness: Field, flow: Flow, *, width: float, reach: float) -> Field:
    """How much darker each pixel is than its surroundings, smoothed along the flow: > 0 on dark lines and on the dark
    side of edges. `lightness` 0..1; `width` of the line and `reach` of the smoothing in pixels.

    Source: Winnemöller, Kyprianidis and Olsen, "XDoG", 2012, after Kang, Lee and Chui, "Coherent line drawing", 2007.
    It is smooth, so it can be enlarged first and cut at a threshold at the output's size: lines are sharp at any size.
    """
    difference = blurred(lightness, width * _RATIO) - blurred(lightness, width)
    return smoothed_along(np.asarray(difference, np.float32), flow, reach)


def line_cover(strength: Field, *, threshold: float, softness: float) -> Field:
    """Share of ink, 0..1: 0 below `threshold` - `softness`, 1 above `threshold` + `softness`."""
    return np.asarray(np.clip((strength - threshold) / (2 * softness) + 0.5, 0.0, 1.0), np.float32)
