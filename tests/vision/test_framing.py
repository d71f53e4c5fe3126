"""Where a window about faces is placed, and what it is about without faces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.vision.faces import Box
from limner.vision.framing import window
from tests.vision.synthetic import Pixels

ASPECTS = st.sampled_from([1.0, 16 / 9, 9 / 16, 3.0, 0.2])


def plain(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    heads=st.lists(
        st.builds(Box, st.floats(-50, 350), st.floats(-50, 350), st.floats(1, 200), st.floats(1, 200)), max_size=5
    ),
    aspect=ASPECTS,
    zoom=st.floats(0, 1),
)
def test_a_window_has_its_shape_and_lies_within_the_photo(
    size: tuple[int, int], heads: list[Box], aspect: float, zoom: float
) -> None:
    found = window(plain(*size), heads, aspect, zoom)
    assert found.width / found.height == pytest.approx(aspect)
    assert found.x >= -1e-6
    assert found.y >= -1e-6
    assert found.x + found.width <= size[0] + 1e-6
    assert found.y + found.height <= size[1] + 1e-6


@settings(max_examples=200, deadline=None)
@given(
    place=st.tuples(st.floats(0, 500), st.floats(0, 300), st.floats(0, 500), st.floats(0, 300)),
    side=st.floats(20, 90),
    aspect=ASPECTS,
    zoom=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_all_heads_are_shown_whole_if_they_fit(
    place: tuple[float, float, float, float], side: float, aspect: float, zoom: float
) -> None:
    heads = [Box(*place[:2], side, side), Box(*place[2:], side, side)]
    found = window(plain(600, 400), heads, aspect, zoom)
    extent_x = abs(place[0] - place[2]) + side
    extent_y = abs(place[1] - place[3]) + side
    if extent_x <= found.width and extent_y <= found.height:
        for each in heads:
            assert found.x - 1e-6 <= each.x
            assert each.x + side <= found.x + found.width + 1e-6
            assert found.y - 1e-6 <= each.y
            assert each.y + side <= found.y + found.height + 1e-6


def test_a_head_is_not_cut_because_its_headroom_does_not_fit() -> None:
    found = window(plain(1000, 1000), [Box(400, 200, 300, 480)], 2.0)
    assert (found.y, found.height) == (pytest.approx(200, abs=20), 500)
    assert found.y + found.height >= 680


@settings(max_examples=200, deadline=None)
@given(
    size=st.tuples(st.integers(200, 1500), st.integers(200, 1500)),
    place=st.tuples(st.floats(-0.3, 1), st.floats(-0.3, 1)),
    share=st.floats(0.1, 1),
    shape=st.floats(1, 1.4),
    aspect=ASPECTS,
    zoom=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_what_the_photo_has_of_a_single_head_is_shown_if_it_fits(
    size: tuple[int, int], place: tuple[float, float], share: float, shape: float, aspect: float, zoom: float
) -> None:
    side = share * min(size)
    head = Box(place[0] * (size[0] - side), place[1] * (size[1] - side), side, side * shape)
    found = window(plain(*size), [head], aspect, zoom)
    left, right = max(head.x, 0), min(head.x + head.width, size[0])
    top, bottom = max(head.y, 0), min(head.y + head.height, size[1])
    if right - left <= found.width:
        assert found.x - 1e-5 <= left
        assert right <= found.x + found.width + 1e-5
    if bottom - top <= found.height:
        assert found.y - 1e-5 <= top
        assert bottom <= found.y + found.height + 1e-5


def test_the_largest_of_several_heads_is_whole_where_it_just_fits() -> None:
    heads = [Box(831.83, 20, 314, 300), Box(100, 20, 60, 70)]
    found = window(plain(1148, 471), heads, 2 / 3)
    assert found.x == pytest.approx(831.83)


def test_the_largest_head_is_shown_whole_where_not_all_fit() -> None:
    heads = [Box(10, 100, 60, 60), Box(300, 80, 120, 120), Box(520, 100, 60, 60)]
    found = window(plain(600, 400), heads, 0.4)
    assert found.x <= 300
    assert found.x + found.width >= 420


def test_eyes_are_a_third_from_the_top_where_the_photo_allows_it() -> None:
    found = window(plain(400, 1200), [Box(150, 500, 100, 100)], 1.0)
    assert (545 - found.y) / found.height == pytest.approx(1 / 3)
    assert window(plain(400, 1200), [Box(150, 10, 100, 100)], 1.0).y == 0


def test_zoom_comes_closer_to_the_heads() -> None:
    sizes = [window(plain(800, 800), [Box(300, 300, 100, 100)], 1.0, zoom).width for zoom in (0.0, 0.5, 1.0)]
    assert sizes == [800, pytest.approx(475), pytest.approx(150)]


@pytest.mark.parametrize("at", [20, 280, 510])
def test_without_faces_the_window_shows_most_detail(at: int) -> None:
    photo = plain(600, 100)
    photo[20:80, at : at + 60] = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    found = window(photo, [], 1.0)
    assert found.x - 3 <= at
    assert at + 60 <= found.x + found.width + 3


def test_a_plain_photo_is_cut_in_its_middle() -> None:
    assert window(plain(600, 100), [], 1.0) == Box(250, 0, 100, 100)
