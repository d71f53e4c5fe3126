"""Exposure before drawing: the faces get a lightness that lines and few colours can show, whatever skin and light."""

from collections.abc import Sequence

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, to_lab, to_rgb
from limner.vision.faces import Box

FACE_LIGHTNESS = 0.66  # the median lightness of the faces afterwards
_PICTURE_LIGHTNESS = 0.60  # of a picture without faces
_GAMMAS = (0.45, 1.35)
_LOCAL = 0.35  # share of the local contrast (CLAHE); all of it makes backgrounds noisy
_INNER = 0.18  # this much of a box is left out at each side, where hair and background are


def exposed(colour: Field, faces: Sequence[Box]) -> Field:
    """RGB 0..1 with gamma and mild local contrast on the lightness; `faces` in its pixels."""
    lab = to_lab(colour)
    lightness = lab[..., 0] / 100.0
    median, target = _median(lightness, faces)
    gamma = float(np.clip(np.log(target) / np.log(np.clip(median, 0.03, 0.97)), *_GAMMAS))
    lighter = np.power(np.maximum(lightness, 1e-4), gamma)
    # 16 bits: 8 would leave steps in smooth skin, which the line filters find.
    clahe = cv2.createCLAHE(clipLimit=1.6, tileGridSize=(4, 4))
    if min(lightness.shape) >= 16:
        local = clahe.apply((np.clip(lighter, 0.0, 1.0) * 65535.0).astype(np.uint16)).astype(np.float32) / 65535.0
        after = lighter + _LOCAL * (local - lighter)
    else:
        after = lighter
    # Colour follows the lightness, so that lightened skin does not turn grey.
    chroma = np.clip(np.sqrt(after / np.maximum(lightness, 1e-3)), 0.8, 1.35)
    lab[..., 0] = after * 100.0
    lab[..., 1:] *= chroma[..., None]
    return to_rgb(lab)


def _median(lightness: Field, faces: Sequence[Box]) -> tuple[float, float]:
    """The median lightness of the faces, or of the picture if there is none, and what it should be."""
    parts = []
    for box in faces:
        left, right = int(box.x + _INNER * box.width), int(box.x + (1 - _INNER) * box.width)
        top, bottom = int(box.y + _INNER * box.height), int(box.y + (1 - _INNER) * box.height)
        part = lightness[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if part.size:
            parts.append(float(np.median(part)))
    if parts:
        # The darkest face decides as much as the lightest, however large each is.
        return float(np.median(parts)), FACE_LIGHTNESS
    median = float(np.median(lightness))
    return median, 0.5 * (median + _PICTURE_LIGHTNESS)
