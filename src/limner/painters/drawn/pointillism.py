"""Pointillism: dabs of pure colour on a tinted ground, small where there is detail."""

import cv2
import numpy as np

from limner.painters.drawn.edges import edge_share
from limner.painters.drawn.fields import Field, Pixels, blurred, to_lab, to_pixels, to_rgb
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Pointillism

_LAYERS = ((3.0, 0.0), (2.1, 0.28), (1.35, 0.62))
"""Radius of the dabs in units, and the share of edges from which on a layer is drawn."""
_SATURATION = 1.5
_SHIFT = 4  # fractional bits of OpenCV's coordinates
_SUPERSAMPLED_AREA = 3.0e6  # canvases up to this size are drawn twice as large and reduced, for smooth dabs


def pointillism(study: Study, style: Pointillism) -> Pixels:
    unit, canvas, rng = study.unit * style.dot, study.canvas, study.rng()
    lab = to_lab(blurred(study.colour, 0.6 * unit))
    edges = np.maximum(edge_share(study.colour, study.unit), 0.8 * study.in_faces())
    twice = 2 if canvas.width * canvas.height <= _SUPERSAMPLED_AREA else 1
    factor = canvas.scale * twice
    ground = lab.copy()
    ground[..., 0] = 0.72 * ground[..., 0] + 20.0
    drawn = np.asarray(
        cv2.resize(to_pixels(blurred(to_rgb(ground), 4 * unit)), (canvas.width * twice, canvas.height * twice)),
        np.uint8,
    )
    for number, (radius, least) in enumerate(_LAYERS, 1):
        _dab(drawn, lab, edges, rng, radius * unit, least, factor)
        canvas.show(number / len(_LAYERS), drawn)
    if twice > 1:
        drawn = np.asarray(cv2.resize(drawn, (canvas.width, canvas.height), interpolation=cv2.INTER_AREA), np.uint8)
    return drawn


def _dab(
    drawn: Pixels, lab: Field, edges: Field, rng: np.random.Generator, radius: float, least: float, factor: float
) -> None:
    """One layer of dabs of about `radius`, worked pixels, drawn `factor` times as large."""
    height, width = lab.shape[:2]
    step = 1.3 * radius
    y, x = np.mgrid[0:height:step, 0:width:step].reshape(2, -1)
    order = rng.permutation(x.size)
    x = np.clip(x[order] + rng.uniform(-0.5, 0.5, x.size) * step, 0, width - 1)
    y = np.clip(y[order] + rng.uniform(-0.5, 0.5, x.size) * step, 0, height - 1)
    kept = edges[y.astype(np.intp), x.astype(np.intp)] >= least * rng.uniform(0.6, 1.3, x.size)
    x, y = x[kept], y[kept]
    colours = lab[y.astype(np.intp), x.astype(np.intp)]
    # Hue and lightness vary from dab to dab, hue more: neighbours mix in the eye to the photo's colour.
    colours[:, 1:] *= _SATURATION
    colours += rng.normal(0.0, 1.0, colours.shape).astype(np.float32) * np.array([3.5, 8.0, 8.0], np.float32)
    rgb = to_pixels(to_rgb(colours[None].astype(np.float32)))[0].tolist() if len(colours) else []
    scale = factor * 2**_SHIFT
    centres = np.round(((np.stack([x, y], axis=1) + 0.5) * factor - 0.5) * 2**_SHIFT).astype(int).tolist()
    radii = np.round(radius * rng.uniform(0.75, 1.1, x.size) * scale).astype(int).tolist()
    for centre, size, colour in zip(centres, radii, rgb, strict=True):
        cv2.circle(drawn, centre, size, colour, -1, cv2.LINE_8, _SHIFT)
