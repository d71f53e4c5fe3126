"""The size that a photo is worked on at, and the stroke unit. Strokes and dots follow the size of the main face."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from limner.vision.faces import Box

MIN_FACE, MAX_FACE = 220.0, 300.0  # the main face's width while colours are worked on, pixels
MIN_AREA, MAX_AREA = 0.5e6, 1.2e6  # of the picture that colours are worked on; pixels
MIN_UNIT, MAX_UNIT = 0.9, 3.0  # the stroke unit, pixels of that picture; finer strokes than 0.9 are only noise
_MAX_ENLARGEMENT = 4.0
_MAX_SIDE = 8192  # OpenCV's remap takes at most 32,767
_UNKNOWN_FACE = 0.27  # without a face: the width of the face that a portrait would have, share of the shorter side
_DRAFT = 1 / 3  # of these widths, for a small sample
_LARGEST_DETAIL = 2.0  # a result more than this many times the worked size holds no more detail


@dataclass(frozen=True, slots=True)
class Scale:
    """`width`, `height`: the worked size, pixels. `unit`: the stroke unit, a hundredth of the main face's width, in
    pixels of that size."""

    width: int
    height: int
    unit: float


def scale_of(width: int, height: int, faces: Sequence[Box], *, draft: bool = False) -> Scale:
    """The worked size of a photo of `width` × `height` pixels; `faces` in its pixels, none for a photo without.

    A draft is worked on at a ninth of the area, with strokes as large relative to the faces as is possible there.
    """
    share = _DRAFT if draft else 1.0
    face = main_face(faces)
    face_width = face.width if face else _UNKNOWN_FACE * min(width, height)
    face_width = max(face_width, 1.0)
    factor = min(max(1.0, share * MIN_FACE / face_width), share * MAX_FACE / face_width)
    area = width * height
    # A face that fills the picture would leave few pixels for it; then its strokes are finer instead.
    factor = max(factor, min(1.0, share * math.sqrt(MIN_AREA / area)))
    factor = min(factor, share * math.sqrt(MAX_AREA / area), _MAX_ENLARGEMENT, _MAX_SIDE / max(width, height))
    unit = min(max(face_width * factor / 100.0, MIN_UNIT), MAX_UNIT)
    return Scale(max(1, round(width * factor)), max(1, round(height * factor)), unit)


def main_face(faces: Sequence[Box]) -> Box | None:
    """The largest face."""
    return max(faces, key=lambda box: box.width * box.height, default=None)


def natural_size(width: int, height: int, faces: Sequence[Box]) -> tuple[int, int]:
    """The size of a result if none is asked for: the photo's, or larger where its main face is small, but not so large
    that no more detail appears."""
    scale = scale_of(width, height, faces)
    enlarged = max(1.0, scale.width / width)
    factor = min(enlarged, _LARGEST_DETAIL * math.sqrt(scale.width * scale.height / (width * height)))
    return max(1, round(width * factor)), max(1, round(height * factor))
