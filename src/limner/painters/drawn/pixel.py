"""Pixel art: large squares in few colours; dark outlines survive, because each square keeps its lines."""

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, Pixels, blurred, resized, sharpened, to_lab, to_pixels, to_rgb
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Pixel

_SATURATION = 1.25
_SQUARES = (24, 200)  # along the longer side
_MAX_SAMPLES = 20_000


def pixel(study: Study, style: Pixel) -> Pixels:
    unit = study.unit
    longer = max(study.width, study.height)
    squares = float(np.clip(longer / (100.0 * unit) * style.across_face, *_SQUARES))
    columns = max(1, round(study.width * squares / longer))
    rows = max(1, round(study.height * squares / longer))
    lab = to_lab(resized(sharpened(study.colour, 2.0 * unit, 0.8), columns, rows))
    lab[..., 1:] *= _SATURATION
    flow = flow_of(study.tone, 2.0 * unit)
    lines = line_cover(
        line_strength(blurred(study.tone, 0.3 * unit), flow, width=1.0 * unit, reach=2.0 * unit),
        threshold=0.03,
        softness=0.02,
    )
    lab[..., 0] *= 1.0 - 0.5 * resized(lines, columns, rows).clip(0.0, 1.0)
    few = _few_colours(np.asarray(lab, np.float32), style.colours)
    canvas = study.canvas
    return np.asarray(
        cv2.resize(to_pixels(to_rgb(few)), (canvas.width, canvas.height), interpolation=cv2.INTER_NEAREST), np.uint8
    )


def _few_colours(lab: Field, count: int) -> Field:
    """Each pixel in the nearest of `count` colours, chosen by k-means; deterministic."""
    pixels = lab.reshape(-1, 3)
    distinct = np.unique(np.round(pixels), axis=0)
    if len(distinct) <= count:
        return lab
    sample = pixels[:: -(-len(pixels) // _MAX_SAMPLES)]
    count = min(count, len(sample))
    # Start with quantiles of lightness, so that no generator of OpenCV's, shared by all threads, is needed.
    order = np.argsort(sample[:, 0], kind="stable")
    labels = np.empty(len(sample), np.int32)
    labels[order] = np.arange(len(sample)) * count // len(sample)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 25, 0.3)
    _, _, centres = cv2.kmeans(sample, count, labels[:, None], criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    colours = np.asarray(centres, np.float32)
    distance = (colours**2).sum(axis=1) - 2.0 * pixels @ colours.T
    return colours[distance.argmin(axis=1)].reshape(lab.shape)
