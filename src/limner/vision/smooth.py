"""Smooth closed outlines of a mask, as cubic Bézier curves: trace, smooth, fit. Read `outline`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Curve: TypeAlias = NDArray[np.float64]  # (N, 2), a closed ring; its last point connects to its first
Beziers: TypeAlias = NDArray[np.float64]  # (N, 4, 2): start, two control points, end; each start is the previous end

Number = TypeVar("Number", np.float64, np.complex128)

_SAMPLES = 512  # points of a ring while it is smoothed
_LEVELS = 4  # each finer level of smoothing has half the wavelength
_MIN_NODES, _MAX_NODES = 10, 96
_MAX_DEVIATION = 0.7  # share of the tolerance; where smoothing deviates more, a finer level is used
_MAX_RINGS = 48  # per mask: a head has a few, noise has thousands
_TURN_PER_NODE = 0.7  # radians that one cubic curve approximates well
_BLOCK = 8  # consecutive sides of a polygon that are tested together for crossings
_PIECES = 5  # straight pieces per Bézier curve in polygons


@dataclass(frozen=True, slots=True)
class Ring:
    """One closed outline: as Bézier curves for drawing, and as a polygon of points on them for everything else."""

    beziers: Beziers
    polygon: Curve
    is_hole: bool


def outline(
    mask: NDArray[np.uint8], *, strength: float, unit: float, grain: float = 1.0, step: float = 0.01
) -> list[Ring]:
    """The smooth outline of a mask, (H, W) uint8, nonzero = inside; rings in mask pixels, larger ones first.

    strength: 0 (only pixel steps removed) .. 1 (very smooth). unit: the face's width in mask pixels; no ring deviates
    from the mask's edge by more than 1 % of it. grain: size of the steps to remove, mask pixels; an enlarged coarse map
    has large ones. Areas and holes under 0.02 % of unit² are dropped. step: polygon corners are multiples of it, mask
    pixels, so that rounding for output does not change a checked polygon. No polygon intersects itself.
    """
    speck = max(2.0, 2e-4 * unit * unit)
    rings = []
    for traced, is_hole in trace(mask, speck):
        area = _area(traced)
        # Small shapes need a smaller tolerance: 1 % of the face's width is a third of an eye's height.
        tolerance = min(0.009 * unit, max(0.05 * math.sqrt(area), 1.5 * grain))
        wavelength = max(unit * 0.02 * 12.0**strength, 6.0 * grain * min(1.0, strength * 4.0))
        rings.append(_ring(traced, is_hole, tolerance, wavelength, unit, step))
    return sorted(rings, key=lambda ring: -_area(ring.polygon))


def trace(mask: NDArray[np.uint8], speck: float) -> list[tuple[Curve, bool]]:
    """Each ring of the mask's edge, and whether it is a hole; at most the `_MAX_RINGS` largest, none with an area under
    `speck` pixels.

    Pixel (x, y) covers the square from (x, y) to (x+1, y+1). The mask is traced at double size, so that a line one
    pixel wide has an inside. The ring lies 0.75 pixels inside the edge (0.25 where the mask is thin), so that
    smoothing hardly crosses the edge.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return []
    part = cv2.resize(mask[y : y + height, x : x + width], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    part = cv2.copyMakeBorder(part, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
    near = np.ones((3, 3), np.uint8)
    inner = cv2.erode(part, near)
    thin = cv2.subtract(part, cv2.dilate(inner, near))
    # Thin parts, such as a brow's end, are not eroded, nor is the area that connects them to the rest.
    part = cv2.bitwise_or(inner, cv2.bitwise_and(part, cv2.dilate(thin, np.ones((5, 5), np.uint8))))
    # Blocks that touch only at a corner would give a ring that crosses itself there; opening separates them. Without
    # morphologyEx, which shifts the mask by half a pixel when the kernel's side is even.
    block = np.ones((2, 2), np.uint8)
    part = cv2.dilate(cv2.erode(part, block, anchor=(0, 0)), block, anchor=(1, 1))
    found, hierarchy = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A ring is at least as long as a circle of the same area, and a step of the trace is at most √2. So most specks of
    # a noisy map are recognised by their number of points alone, which is fast.
    min_points = max(4.0, 2.0 * math.sqrt(math.pi * 4.0 * speck) / math.sqrt(2.0) - 4.0)
    rings = []
    for index, ring in enumerate(found):
        if len(ring) >= min_points and cv2.contourArea(ring) >= 4.0 * speck:
            traced = (ring[:, 0, :].astype(np.float64) + 0.5 - 2.0) / 2.0 + (x, y)
            rings.append((traced, bool(hierarchy[0][index][3] >= 0)))
    return sorted(rings, key=lambda ring: -_area(ring[0]))[:_MAX_RINGS]


def smoothed(traced: Curve, tolerance: float, wavelength: float) -> Curve:
    """A smooth ring of `_SAMPLES` points; it tries to stay within `tolerance` of the traced ring.

    The periodic smoothing spline of the traced points. For evenly spaced points the minimiser of Σ|f-p|² + λ∫|f''|² is
    the Fourier series with each harmonic k damped by 1/(1+(k/k₀)⁴) (Eilers, "A perfect smoother", 2003, applied to a
    ring). Where it deviates by more than `_MAX_DEVIATION` of the tolerance, it is blended with the spline of half the
    wavelength, and so on: straight parts stay smooth and corners are kept.
    """
    even, length = _evenly(traced, _SAMPLES)
    spectrum = np.fft.fft(even[:, 0] + 1j * even[:, 1])
    harmonic = np.abs(np.fft.fftfreq(_SAMPLES, 1.0 / _SAMPLES))
    curve = _damped(spectrum, harmonic, length / wavelength)
    exact = even[:, 0] + 1j * even[:, 1]
    for level in range(1, _LEVELS + 1):
        deviation = np.abs(curve - exact)
        if deviation.max() <= tolerance * _MAX_DEVIATION:
            break
        finer = _damped(spectrum, harmonic, length / (wavelength * 0.5**level))
        weight = _soft(deviation > tolerance * _MAX_DEVIATION, harmonic, wavelength * 0.5**level / length)
        curve = curve + (finer - curve) * weight
    return np.stack([curve.real, curve.imag], axis=1)


def as_beziers(curve: Curve, tolerance: float) -> Beziers:
    """A smooth ring of many points as few cubic Bézier curves within `tolerance` of it; more where it bends."""
    points = curve[:, 0] + 1j * curve[:, 1]
    count = len(points)
    step = np.abs(_following(points) - points)
    velocity = (_following(points) - _preceding(points)) / 2
    tangent: NDArray[np.complex128] = np.asarray(velocity / np.maximum(np.abs(velocity), 1e-9), dtype=np.complex128)
    bend = np.abs(np.angle(_following(tangent) * np.conj(tangent)))
    # A fifth of the nodes is distributed by length, the rest by curvature: long straight parts need few.
    share = 0.2 * step / max(step.sum(), 1e-9) + 0.8 * np.sqrt(bend * step) / max(np.sqrt(bend * step).sum(), 1e-9)
    cumulative = np.concatenate([[0.0], np.cumsum(share)])
    along = np.concatenate([[0.0], np.cumsum(step)])
    guess = max(_MIN_NODES, int(bend.sum() / _TURN_PER_NODE))
    places = np.searchsorted(cumulative, np.arange(guess) / guess * cumulative[-1])
    places = np.unique(np.minimum(places, count - 1))
    while True:
        ends = np.append(places[1:], places[0] + count)
        chord = (along[ends % count] - along[places] + np.where(ends >= count, along[-1], 0.0)) / 3.0
        start, end = points[places], points[ends % count]
        control = np.stack([start, start + tangent[places] * chord, end - tangent[ends % count] * chord, end], axis=1)
        split = (_deviation(control, points, tangent, places, ends) > tolerance) & (ends - places > 3)
        if not split.any() or len(places) >= _MAX_NODES:
            return np.stack([control.real, control.imag], axis=2)
        places = np.unique(np.concatenate([places, (places[split] + ends[split]) // 2 % count]))


def flattened(beziers: Beziers, pieces: int = _PIECES) -> Curve:
    """Points on the curves, `pieces` per curve: (N·pieces, 2)."""
    points = _basis(np.arange(pieces) / pieces) @ beziers  # (N, pieces, 2)
    return points.reshape(-1, 2)


def is_simple(polygon: Curve) -> bool:
    """Whether no two sides of the closed polygon cross or touch, except neighbours."""
    count = len(polygon)
    ends = _following(polygon)
    low, high = np.minimum(polygon, ends), np.maximum(polygon, ends)
    # First compare the bounding boxes of blocks of sides, then only the sides of blocks that overlap: far fewer pairs.
    first_of = np.arange(0, count, _BLOCK)
    block_low, block_high = np.minimum.reduceat(low, first_of), np.maximum.reduceat(high, first_of)
    one, other = np.nonzero(np.triu(_overlap(block_low[:, None], block_high[:, None], block_low, block_high)))
    sides = np.arange(_BLOCK)
    first = np.broadcast_to(one[:, None, None] * _BLOCK + sides[:, None], (len(one), _BLOCK, _BLOCK)).ravel()
    second = np.broadcast_to(other[:, None, None] * _BLOCK + sides, (len(one), _BLOCK, _BLOCK)).ravel()
    apart = (second < count) & (second - first > 1) & (second - first != count - 1)
    first, second = first[apart], second[apart]
    near = _overlap(low[first], high[first], low[second], high[second])
    first, second = first[near], second[near]
    return not bool(_cross(polygon[first], ends[first], polygon[second], ends[second]).any())


def _ring(traced: Curve, is_hole: bool, tolerance: float, wavelength: float, unit: float, step: float) -> Ring:
    """The ring smoothed, fitted and checked; repeated with less smoothing while it crosses itself."""
    for _ in range(4):
        beziers = as_beziers(smoothed(traced, tolerance, wavelength), max(0.0015 * unit, 0.05))
        polygon = _rounded(flattened(beziers), step)
        if len(polygon) >= 3 and is_simple(polygon):
            return Ring(beziers, polygon * step, is_hole)
        tolerance, wavelength = tolerance / 2, wavelength / 3
    # The traced ring touches itself. Use straight sides, increasingly coarse, and at last its convex hull.
    polygon = next(_coarser(traced, unit, step)) * step
    ends = _following(polygon)
    beziers = np.stack([polygon, polygon + (ends - polygon) / 3, polygon + (ends - polygon) * 2 / 3, ends], axis=1)
    return Ring(beziers, polygon, is_hole)


def _coarser(traced: Curve, unit: float, step: float) -> Iterator[Curve]:
    points = traced.astype(np.float32)
    for share in (0.002, 0.004, 0.008):
        polygon = _rounded(cv2.approxPolyDP(points, share * unit, True)[:, 0, :].astype(np.float64), step)
        if len(polygon) >= 3 and is_simple(polygon):
            yield polygon
    yield _rounded(cv2.convexHull(points)[:, 0, :].astype(np.float64), step)


def _rounded(polygon: Curve, step: float) -> Curve:
    """The polygon in units of `step`, without repeated corners: whole numbers, for which `is_simple` is exact."""
    corners = np.round(polygon / step)
    kept: Curve = corners[(corners != _preceding(corners)).any(axis=1)]
    return kept


def _evenly(ring: Curve, count: int) -> tuple[Curve, float]:
    """The ring resampled to `count` evenly spaced points, and its length."""
    closed = np.concatenate([ring, ring[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.arange(count) * (along[-1] / count)
    return np.stack([np.interp(at, along, closed[:, 0]), np.interp(at, along, closed[:, 1])], axis=1), float(along[-1])


def _damped(spectrum: NDArray[np.complex128], harmonic: NDArray[np.float64], cutoff: float) -> NDArray[np.complex128]:
    return np.fft.ifft(spectrum / (1.0 + (harmonic / max(cutoff, 1.0)) ** 4))


def _soft(where: NDArray[np.bool_], harmonic: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """1 where true, decreasing to 0 beside it over about `width` (share of the ring)."""
    reach = max(1, round(width * _SAMPLES))
    window = np.zeros(_SAMPLES)
    window[: reach + 1] = 1
    window[-reach:] = 1
    spread = np.fft.ifft(np.fft.fft(where.astype(np.float64)) * np.fft.fft(window)).real > 0.5
    blur = np.exp(-0.5 * (harmonic * width * 2.0) ** 2)
    return np.clip(np.fft.ifft(np.fft.fft(spread.astype(np.float64)) * blur).real, 0.0, 1.0)


def _deviation(
    control: NDArray[np.complex128],
    points: NDArray[np.complex128],
    tangent: NDArray[np.complex128],
    places: NDArray[np.intp],
    ends: NDArray[np.intp],
) -> NDArray[np.float64]:
    """The largest distance of each Bézier curve from the ring, normal to it, at five points of equal parameter."""
    at = np.array([0.2, 0.35, 0.5, 0.65, 0.8])
    on_bezier = control @ _basis(at).T
    on_curve = np.round(places[:, None] + (ends - places)[:, None] * at).astype(np.intp) % len(points)
    offset = (on_bezier - points[on_curve]) * np.conj(tangent[on_curve])
    distance: NDArray[np.float64] = np.abs(offset.imag).max(axis=1)
    return distance


def _basis(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Bernstein polynomials of degree 3 at each parameter: (len(at), 4)."""
    rest = 1.0 - at
    return np.stack([rest**3, 3 * rest**2 * at, 3 * rest * at**2, at**3], axis=1)


def _following(values: NDArray[Number]) -> NDArray[Number]:
    """For each point of a ring the next one. (np.roll does the same, but five times slower on short arrays.)"""
    return np.concatenate((values[1:], values[:1]))


def _preceding(values: NDArray[Number]) -> NDArray[Number]:
    return np.concatenate((values[-1:], values[:-1]))


def _area(ring: Curve) -> float:
    return abs(_signed_area(ring))


def _signed_area(ring: Curve) -> float:
    """Positive if the ring runs clockwise as seen (y points down)."""
    x, y = ring[:, 0] - ring[0, 0], ring[:, 1] - ring[0, 1]
    return float(np.dot(x, _following(y)) - np.dot(y, _following(x))) / 2


def _overlap(low: Curve, high: Curve, other_low: Curve, other_high: Curve) -> NDArray[np.bool_]:
    """Whether boxes, given by their corners in the last axis, have a common point."""
    found: NDArray[np.bool_] = (
        (low[..., 0] <= other_high[..., 0])
        & (other_low[..., 0] <= high[..., 0])
        & (low[..., 1] <= other_high[..., 1])
        & (other_low[..., 1] <= high[..., 1])
    )
    return found


def _cross(a: Curve, b: Curve, c: Curve, d: Curve) -> NDArray[np.bool_]:
    """Whether segments ab and cd, row by row, have a common point; their boxes must overlap."""

    def side(p: Curve, q: Curve, r: Curve) -> NDArray[np.float64]:
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    return (side(a, b, c) * side(a, b, d) <= 0) & (side(c, d, a) * side(c, d, b) <= 0)
