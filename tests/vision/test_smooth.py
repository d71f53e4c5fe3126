"""From masks to curves: close to the mask, without self-intersections, straight where it is straight, few nodes."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.vision import smooth

UNIT = 400.0
Mask = npt.NDArray[np.uint8]


def disc(radius: int = 60, hole: int = 0) -> Mask:
    mask = np.zeros((200, 200), np.uint8)
    cv2.circle(mask, (100, 100), radius, 255, -1)
    if hole:
        cv2.circle(mask, (100, 100), hole, 0, -1)
    return mask


def slanted_box() -> Mask:
    mask = np.zeros((300, 400), np.uint8)
    cv2.fillPoly(mask, [np.array([[40, 60], [340, 100], [330, 250], [30, 200]])], 255)
    return mask


def apart(mask: Mask, rings: list[smooth.Ring]) -> float:
    """The Hausdorff distance between the mask's edge and the rings, mask pixels."""
    scale = 4
    large = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    edges, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    edge = np.concatenate([found[:, 0] for found in edges]) / scale
    line = np.concatenate([smooth.flattened(ring.beziers, 40) for ring in rings])
    pairs = np.hypot(edge[:, None, 0] - line[None, :, 0], edge[:, None, 1] - line[None, :, 1])
    return float(max(pairs.min(axis=0).max(), pairs.min(axis=1).max()))


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("mask", [disc(), slanted_box(), disc(70, 30)], ids=["disc", "box", "ring"])
def test_stays_within_a_hundredth_of_the_face(mask: Mask, strength: float) -> None:
    rings = smooth.outline(mask, strength=strength, unit=UNIT)
    assert apart(mask, rings) <= 0.01 * UNIT
    assert all(smooth.is_simple(smooth.flattened(ring.beziers, 12)) for ring in rings)


def test_straight_parts_stay_straight() -> None:
    (ring,) = smooth.outline(slanted_box(), strength=0.4, unit=UNIT)
    line = smooth.flattened(ring.beziers, 20)
    side = line[(line[:, 0] > 80) & (line[:, 0] < 300) & (line[:, 1] < 130)]
    slope, start = np.polyfit(side[:, 0], side[:, 1], 1)
    assert np.abs(side[:, 1] - slope * side[:, 0] - start).max() < 0.35  # the mask's own pixel steps are 1 px high
    assert slope == pytest.approx(40 / 300, abs=0.005)


def test_few_nodes() -> None:
    (round_one,) = smooth.outline(disc(), strength=0.4, unit=UNIT)
    assert 8 <= len(round_one.beziers) <= 24
    (box,) = smooth.outline(slanted_box(), strength=0.4, unit=UNIT)
    assert 8 <= len(box.beziers) <= 60


def test_a_disc_stays_round() -> None:
    (ring,) = smooth.outline(disc(), strength=0.4, unit=UNIT)
    line = smooth.flattened(ring.beziers, 20)
    assert np.allclose(line.mean(axis=0), 100.5, atol=0.15)  # pixel 100's middle
    radius = np.hypot(*(line - 100.5).T)
    as_large = np.sqrt(np.count_nonzero(disc()) / np.pi)
    assert radius.mean() == pytest.approx(as_large - 0.75, abs=0.5)  # the ring lies 0.75 px inside the edge
    assert np.ptp(radius) < 0.8


def test_holes_are_rings_and_specks_are_dropped() -> None:
    mask = disc(70, 30)
    mask[5:9, 5:9] = 255
    outer, hole = smooth.outline(mask, strength=0.4, unit=UNIT)
    assert (outer.is_hole, hole.is_hole) == (False, True)


def test_a_line_two_pixels_wide_has_an_outline() -> None:
    mask = np.zeros((60, 200), np.uint8)
    cv2.line(mask, (20, 20), (180, 40), 255, 2)
    rings = smooth.outline(mask, strength=0.4, unit=UNIT)
    assert len(rings) >= 1
    assert all(smooth.is_simple(ring.polygon) for ring in rings)


def test_an_empty_mask_has_no_ring() -> None:
    assert smooth.outline(np.zeros((40, 40), np.uint8), strength=0.4, unit=UNIT) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0, 1))
def test_any_blob_gives_closed_simple_rings(seed: int, blobs: int, strength: float) -> None:
    noise = np.random.default_rng(seed)
    mask = np.zeros((160, 160), np.uint8)
    for _ in range(blobs):
        x, y, radius = noise.integers(5, 155, 3)
        cv2.circle(mask, (int(x), int(y)), 2 + int(radius) // 10, 255 if noise.random() < 0.8 else 0, -1)
    for ring in smooth.outline(mask, strength=strength, unit=160.0):
        assert np.isfinite(ring.beziers).all()
        assert np.allclose(ring.beziers[:, 3], np.roll(ring.beziers[:, 0], -1, axis=0))
        assert smooth.is_simple(ring.polygon)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 30))
def test_crossings_are_found_like_by_comparing_all_pairs(seed: int, count: int) -> None:
    noise = np.random.default_rng(seed)
    angle = np.sort(noise.uniform(0, 2 * np.pi, count))
    star = np.stack([np.cos(angle), np.sin(angle)], axis=1) * noise.uniform(5, 50, (count, 1))
    if noise.random() < 0.5:
        star = star[noise.permutation(count)]
    assert smooth.is_simple(star) == _simple_by_all_pairs(star)


def _simple_by_all_pairs(polygon: npt.NDArray[np.float64]) -> bool:
    count = len(polygon)

    def side(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], r: npt.NDArray[np.float64]) -> float:
        return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    for i in range(count):
        for j in range(i + 2, count):
            if i == 0 and j == count - 1:
                continue
            a, b, c, d = polygon[i], polygon[(i + 1) % count], polygon[j], polygon[(j + 1) % count]
            if side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0:
                return False
    return True
