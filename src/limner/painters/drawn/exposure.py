"""Exposure before drawing, so that lines and few colours show a face in any light and of any skin.

Tones for lines become as light as lines need. Colours go only a part of the way, so that nobody's skin is repainted.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from limner.painters.drawn.fields import Field, blurred, smoothstep, to_lab, to_rgb
from limner.vision.faces import Box

FACE_LIGHTNESS = 0.66  # the median lightness of the faces that suits lines best
_COLOUR_SHARE = 0.45  # how much of the correction (in the logarithm of the lightness) colours get
_PICTURE_LIGHTNESS = 0.60  # of a picture without faces
_GAMMAS = (0.45, 1.35)
_TOE = 0.75  # of the median: what is darker is lightened less
_LOCAL = 0.35  # share of the local contrast (CLAHE); all of it makes backgrounds noisy
_MIN_LOCAL_SIDE = 16  # pixels; a smaller picture has no local contrast
_INNER = 0.18  # this much of a box is left out at each side, where hair and background are


def exposed(colour: Field, faces: Sequence[Box]) -> tuple[Field, Field]:
    """RGB 0..1 → RGB for drawing in colour, and lightness 0..1, (H, W), for drawing in lines; `faces` in its pixels."""
    lab = to_lab(colour)
    lightness = lab[..., 0] / np.float32(100.0)
    median, target = _median(lightness, faces)
    gamma = float(np.clip(np.log(target) / np.log(median), *_GAMMAS))
    tone = _corrected(lightness, median, gamma)
    after = _corrected(lightness, median, gamma**_COLOUR_SHARE)
    lab[..., 1:] *= _colour_gain(lightness, after)
    lab[..., 0] = after * 100.0
    return to_rgb(lab), np.clip(tone, 0.0, 1.0)


def lightened_faces(colour: Field, faces: Sequence[Box]) -> Field:
    """RGB 0..1 with dark faces, in its pixels, made as light as suits lines, and the rest as it is.

    Networks of styles judge light and dark by the whole picture: without this, a face before a window, or of dark skin
    among white shirts, becomes a dark spot.
    """
    lab = to_lab(colour)
    lightness = lab[..., 0] / np.float32(100.0)
    after = lightness.copy()
    for box in faces:
        median, target = _median(lightness, [box])
        if median >= target:
            continue
        gamma = max(float(np.log(target) / np.log(median)), _GAMMAS[0])
        left, top = max(0, int(box.x - 0.5 * box.width)), max(0, int(box.y - 0.5 * box.height))
        around = np.s_[top : int(box.y + 1.5 * box.height) + 1, left : int(box.x + 1.5 * box.width) + 1]
        part = lightness[around]
        if not part.size:
            continue
        head = np.zeros(part.shape, np.float32)
        centre = (box.x + 0.5 * box.width - left, box.y + 0.48 * box.height - top)
        cv2.ellipse(head, (centre, (1.25 * box.width, 1.3 * box.height), 0.0), 1.0, -1)
        head = blurred(head, 0.12 * box.width)
        lighter = np.maximum(_with_gamma(part, median, gamma), after[around])
        after[around] += head * (lighter - after[around])
    lab[..., 1:] *= _colour_gain(lightness, after)
    lab[..., 0] = after * 100.0
    return to_rgb(lab)


def _corrected(lightness: Field, median: float, gamma: float) -> Field:
    lighter = _with_gamma(lightness, median, gamma)
    if min(lightness.shape) < _MIN_LOCAL_SIDE:
        return lighter
    # 16 bits: 8 would leave steps in smooth skin, which the line filters find.
    clahe = cv2.createCLAHE(clipLimit=1.6, tileGridSize=(4, 4))
    local = clahe.apply((np.clip(lighter, 0.0, 1.0) * 65535.0).astype(np.uint16)).astype(np.float32) / 65535.0
    return np.asarray(lighter + _LOCAL * (local - lighter), np.float32)


def _with_gamma(lightness: Field, median: float, gamma: float) -> Field:
    lighter = np.power(np.maximum(lightness, 1e-4), gamma)
    if gamma < 1.0:
        # Hair and pupils, much darker than the skin, stay dark: otherwise a lightened photo has no black left.
        lighter *= 1.0 - (1.0 - gamma) * (1.0 - smoothstep(lightness, 0.0, _TOE * median))
    return np.asarray(lighter, np.float32)


def _colour_gain(before: Field, after: Field) -> Field:
    """(H, W, 1): colour follows the lightness, so that lightened skin does not turn grey."""
    return np.asarray(np.clip(np.sqrt(after / np.maximum(before, 1e-3)), 0.8, 1.35)[..., None], np.float32)


def _median(lightness: Field, faces: Sequence[Box]) -> tuple[float, float]:
    """The median lightness of the faces, or of the picture if there is none, and what it should be; 0.03..0.97."""
    parts = []
    for box in faces:
        left, right = int(box.x + _INNER * box.width), int(box.x + (1 - _INNER) * box.width)
        top, bottom = int(box.y + _INNER * box.height), int(box.y + (1 - _INNER) * box.height)
        part = lightness[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        if part.size:
            parts.append(float(np.median(part)))
    # Every face counts the same, however large it is.
    median = float(np.clip(np.median(parts) if parts else np.median(lightness), 0.03, 0.97))
    return median, FACE_LIGHTNESS if parts else 0.5 * (median + _PICTURE_LIGHTNESS)
