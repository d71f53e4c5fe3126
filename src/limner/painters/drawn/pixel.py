"""Pixel art: large squares in few colours; dark outlines survive, because each square keeps its lines."""

import cv2
import numpy as np
from numpy.typing import NDArray

from limner.painters.drawn.fields import Field, Pixels, blurred, resized, sharpened, to_lab, to_pixels, to_rgb
from limner.painters.drawn.flow import flow_of
from limner.painters.drawn.kuwahara import painted
from limner.painters.drawn.lines import line_cover, line_strength
from limner.painters.drawn.study import Study
from limner.painters.drawn.styles import Pixel

_SATURATION = 1.25
_SQUARES = (24, 200)  # along the longer side
_MAX_SAMPLES = 20_000
_HUE_WEIGHT = np.array([0.8, 1.3, 1.3], np.float32)  # of L, a, b: highlights on skin become light skin, not grey
_FACE_SHARE = 0.6  # of what decides the colours: a face has few tones, and loses its features without them
_MOST_REPEATS = 60


def pixel(study: Study, style: Pixel) -> Pixels:
    unit = study.unit
    flow = flow_of(study.tone, 2.0 * unit)
    longer = max(study.width, study.height)
    squares = float(np.clip(longer / (100.0 * unit) * style.across_face, *_SQUARES))
    columns = max(1, round(study.width * squares / longer))
    rows = max(1, round(study.height * squares / longer))
    smooth = painted(study.colour, 1.8 * unit, flow)
    lab = to_lab(resized(sharpened(smooth, 2.0 * unit, 0.5), columns, rows))
    lab[..., 1:] *= _SATURATION
    lines = line_cover(
        line_strength(blurred(study.tone, 0.3 * unit), flow, width=1.0 * unit, reach=2.0 * unit),
        threshold=0.03,
        softness=0.02,
    )
    lab[..., 0] *= 1.0 - 0.5 * resized(lines, columns, rows).clip(0.0, 1.0)
    few = _few_colours(np.asarray(lab, np.float32), _in_faces(study, columns, rows), style.colours)
    canvas = study.canvas
    return np.asarray(
        cv2.resize(to_pixels(to_rgb(few)), (canvas.width, canvas.height), interpolation=cv2.INTER_NEAREST), np.uint8
    )


def _in_faces(study: Study, columns: int, rows: int) -> NDArray[np.bool_]:
    """(rows * columns,): whether a square lies in a face."""
    inside = np.zeros((rows, columns), bool)
    for box in study.faces:
        left, top = max(0, int(box.x * columns / study.width)), max(0, int(box.y * rows / study.height))
        right, bottom = (box.x + box.width) * columns / study.width, (box.y + box.height) * rows / study.height
        inside[top : max(0, int(bottom)), left : max(0, int(right))] = True
    return inside.ravel()


def _few_colours(lab: Field, important: NDArray[np.bool_], count: int) -> Field:
    """Each pixel in the nearest of `count` colours, chosen by k-means; deterministic. Important pixels count more."""
    pixels = lab.reshape(-1, 3) * _HUE_WEIGHT
    distinct = np.unique(np.round(pixels), axis=0)
    if len(distinct) <= count:
        return lab
    others, faces = int((~important).sum()), max(1, int(important.sum()))
    repeats = min(_MOST_REPEATS, max(0, round(_FACE_SHARE / (1 - _FACE_SHARE) * others / faces) - 1))
    sample = np.concatenate([pixels, *([pixels[important]] * repeats)])
    sample = np.ascontiguousarray(sample[:: -(-len(sample) // _MAX_SAMPLES)])
    count = min(count, len(sample))
    # Start with quantiles of lightness, so that no generator of OpenCV's, shared by all threads, is needed.
    order = np.argsort(sample[:, 0], kind="stable")
    labels = np.empty(len(sample), np.int32)
    labels[order] = np.arange(len(sample)) * count // len(sample)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 25, 0.3)
    _, _, centres = cv2.kmeans(sample, count, labels[:, None], criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    colours = np.asarray(centres, np.float32)
    distance = (colours**2).sum(axis=1) - 2.0 * pixels @ colours.T
    return np.asarray(colours[distance.argmin(axis=1)] / _HUE_WEIGHT, np.float32).reshape(lab.shape)
