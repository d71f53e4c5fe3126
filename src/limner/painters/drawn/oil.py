"""Oil: broad and then fine brush strokes that follow the forms, and the relief of the bristles."""

import cv2
import numpy as np

from limner.painters.drawn.fields import Pixels, sharpened, to_lab, to_pixels, to_rgb
from limner.painters.drawn.flow import flow_of, smoothed_along
from limner.painters.drawn.kuwahara import painted
from limner.painters.drawn.noise import soft_noise
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Oil

_SATURATION = 1.18
_RELIEF = 2.0  # lightness, 0..100, that the relief adds or takes at most about


def oil(study: Study, style: Oil) -> Pixels:
    brush = study.unit * style.brush
    flow = flow_of(study.colour, 2.2 * brush)
    colour = painted(study.colour, 3.0 * brush, flow)
    study.show(0.2, colour)
    flow = flow_of(colour, 2.5 * brush)
    colour = painted(smoothed_along(colour, flow, 1.2 * brush), 1.8 * brush, flow)
    study.show(0.4, colour)
    strokes = flow_of(colour, 6.0 * brush)
    bristles = smoothed_along(soft_noise(study.rng(), study.height, study.width, 1.1 * brush, 1), strokes, 5.0 * brush)
    # Light from the upper left on the bristles' marks.
    slope = np.asarray(cv2.Sobel(bristles, cv2.CV_32F, 1, 0, ksize=3) + cv2.Sobel(bristles, cv2.CV_32F, 0, 1, ksize=3))
    slope *= _RELIEF / max(2.0 * float(slope.std()), 1e-6)
    lab = to_lab(sharpened(colour, study.unit, 0.5))
    lab[..., 0] = np.clip(lab[..., 0] + np.clip(slope, -2 * _RELIEF, 2 * _RELIEF), 0.0, 100.0)
    lab[..., 1:] *= _SATURATION
    colour = to_rgb(lab)
    drawn = study.canvas.empty()
    for band in study.canvas.bands(drawn):
        drawn[band.top : band.top + band.height] = to_pixels(band.of(colour))
    return drawn
