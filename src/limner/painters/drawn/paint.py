"""Draws a photo in one of the drawn styles. `paint` is the only function that others need."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from limner.painters.drawn import styles
from limner.painters.drawn.cartoon import cartoon
from limner.painters.drawn.engraving import engraving
from limner.painters.drawn.fields import Field, Pixels
from limner.painters.drawn.halftone import halftone
from limner.painters.drawn.ink import ink
from limner.painters.drawn.low_poly import low_poly
from limner.painters.drawn.oil import oil
from limner.painters.drawn.pencil import pencil
from limner.painters.drawn.pixel import pixel
from limner.painters.drawn.pointillism import pointillism
from limner.painters.drawn.pop_art import pop_art
from limner.painters.drawn.scale import natural_size
from limner.painters.drawn.study import Show, Study
from limner.painters.drawn.watercolour import watercolour
from limner.vision.faces import Box

_EFFECTS: dict[type, Callable[[Study, Any], Pixels]] = {
    styles.Cartoon: cartoon,
    styles.Ink: ink,
    styles.Pencil: pencil,
    styles.Engraving: engraving,
    styles.PopArt: pop_art,
    styles.Oil: oil,
    styles.Watercolour: watercolour,
    styles.Halftone: halftone,
    styles.Pointillism: pointillism,
    styles.Pixel: pixel,
    styles.LowPoly: low_poly,
}


def paint(
    photo: Pixels,
    style: styles.AnyStyle,
    *,
    faces: Sequence[Box] = (),
    meshes: Sequence[Field] = (),
    seed: int = 0,
    size: tuple[int, int] | None = None,
    expose: bool = True,
    draft: bool = False,
    show: Show = lambda _part, _picture: None,
) -> Pixels:
    """The photo, drawn: RGB uint8 of `size` (width, height), or of `natural_size`.

    photo: upright RGB (H, W, 3) uint8 of at least one pixel. faces, and meshes (points of `vision.mesh`, (N, 2 or
    more)), in its pixels: strokes follow the largest face, low-poly uses the meshes. A `size` of another shape than the
    photo's stretches it. Without `expose`, colours are as light as in the photo. The same arguments give the same
    pixels. A `draft` is a quick one for a small sample. `show` is called with what there is so far, a few times and
    after each 400,000 pixels.
    """
    size = size or natural_size(photo.shape[1], photo.shape[0], faces)
    study = Study(photo, faces, meshes, seed, size, expose=expose, draft=draft, show=show)
    drawn = _EFFECTS[type(style)](study, style)
    if (drawn.shape[1], drawn.shape[0]) != size:
        drawn = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)
    return drawn
