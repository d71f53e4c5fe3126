"""Rotation to upright: angles, canvas sizes, and inverse transforms."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.vision import align
from limner.vision.faces import Box
from limner.vision.landmarks import eye_centres, mouth_centre
from tests.vision import synthetic

sizes = st.integers(1, 4_000)
rolls = st.floats(-180, 180)


@given(sizes, sizes, rolls, st.lists(st.tuples(st.floats(-5e3, 5e3), st.floats(-5e3, 5e3)), min_size=1, max_size=20))
def test_a_transform_maps_points_both_ways(
    width: int, height: int, roll: float, points: list[tuple[float, float]]
) -> None:
    turn, _, _ = align.upright(width, height, roll)
    matrix = align.translation(-7, -11) @ turn
    there = align.apply(matrix, np.array(points))
    assert np.allclose(align.apply(align.inverse(matrix), there), points, atol=1e-6)


@given(sizes, sizes, rolls)
def test_the_canvas_holds_every_corner_and_no_more(width: int, height: int, roll: float) -> None:
    turn, canvas_width, canvas_height = align.upright(width, height, roll)
    corners = align.apply(turn, np.array([[0.0, 0], [width, 0], [width, height], [0, height]]))
    assert corners.min() > -1e-6
    assert (corners <= np.array([canvas_width, canvas_height]) + 1e-6).all()
    assert (np.ptp(corners, axis=0) > np.array([canvas_width, canvas_height]) - 1.001).all()


@pytest.mark.parametrize("roll", [-170.0, -90.0, -22.4, 0.0, 0.3, 45.0, 90.0, 180.0])
def test_roll_is_measured_and_undone(roll: float) -> None:
    points = synthetic.landmarks_68(roll=roll)
    assert abs((align.roll_degrees(points) - roll + 180) % 360 - 180) < 0.01
    turn, _, _ = align.upright(synthetic.SIDE, synthetic.SIDE, align.roll_degrees(points))
    level = align.apply(turn, points)
    assert abs(align.roll_degrees(level)) < 1e-6
    assert mouth_centre(level)[1] > eye_centres(level)[0][1]


@pytest.mark.parametrize(("roll", "turns"), [(90.0, 1), (180.0, 2), (-90.0, 3)])
def test_quarter_turns_are_exact(roll: float, turns: int) -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    turn, width, height = align.upright(7, 5, roll)
    assert np.array_equal(align.warp_image(picture, turn, width, height, (0, 0, 0)), np.rot90(picture, turns))


def test_warped_labels_keep_their_values_and_their_place() -> None:
    labels = np.zeros((90, 120), np.uint8)
    labels[30:60, 40:80] = 9
    turn, width, height = align.upright(120, 90, 33.0)
    warped = align.warp_labels(labels, turn, width, height)
    assert set(np.unique(warped)) == {0, 9}
    assert abs(np.count_nonzero(warped) - 1200) < 25
    middle = np.argwhere(warped)[:, ::-1].mean(axis=0) + 0.5
    assert np.allclose(middle, align.apply(turn, np.array([[60.0, 45.0]]))[0], atol=0.2)


def test_outside_the_photo_is_the_border_colour() -> None:
    photo = synthetic.photo()
    assert align.border_colour(photo) == (10, 200, 30)
    turn, width, height = align.upright(600, 600, 30.0)
    assert tuple(align.warp_image(photo, turn, width, height, (10, 200, 30))[0, 0]) == (10, 200, 30)


def test_shrinking_averages() -> None:
    stripes: npt.NDArray[np.uint8] = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    small = align.warp_image(stripes, align.scaling(0.125, 0.125), 50, 50, (0, 0, 0))
    assert np.abs(small[5:-5, 5:-5].astype(int) - 128).max() <= 2


@given(
    st.floats(-500, 1500), st.floats(-500, 1500), st.floats(0.1, 3000), st.floats(0.1, 3000), st.floats(0, 2),
    st.integers(1, 1000), st.integers(1, 1000),
)  # fmt: skip
def test_a_crop_is_whole_pixels_within_the_canvas(
    x: float, y: float, width: float, height: float, padding: float, canvas_width: int, canvas_height: int
) -> None:
    box = align.crop_box(Box(x, y, width, height), padding, canvas_width, canvas_height)
    assert all(float(value).is_integer() for value in (box.x, box.y, box.width, box.height))
    assert box.x >= 0
    assert box.y >= 0
    assert box.width >= 1
    assert box.height >= 1
    assert box.x + box.width <= canvas_width
    assert box.y + box.height <= canvas_height
