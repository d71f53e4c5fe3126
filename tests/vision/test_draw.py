"""Where frames and scores are painted."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.vision import draw
from limner.vision.faces import Box
from tests.vision.synthetic import face, noise


def test_boxes_frame_the_face_and_leave_it_alone() -> None:
    picture = noise(400, 300)
    before = picture.copy()
    draw.boxes(picture, [face(100, 80, 100, 130)])
    changed = (picture != before).any(axis=2)
    assert not changed[95:195, 112:188].any()
    assert changed[145, 96:106].any()
    assert changed[145, 196:206].any()
    assert changed[206:216, 150].any()
    assert changed[55:78, 100:130].any(), "the score is above the box"
    assert not changed[:40].any()
    assert not changed[:, 230:].any()


def test_a_frame_is_visible_on_any_background() -> None:
    for shade in (0, 94, 160, 255):
        picture = np.full((200, 200, 3), shade, np.uint8)
        draw.boxes(picture, [face(50, 50, 90, 90)])
        across = picture[95, 44:56].astype(int)
        assert np.abs(across - shade).max() > 90


def test_small_faces_get_thin_frames_and_no_label() -> None:
    picture = noise(100, 100)
    before = picture.copy()
    draw.boxes(picture, [face(40, 40, 14, 16)])
    changed = (picture != before).any(axis=2)
    assert changed.any()
    assert not changed[44:52, 44:50].any()
    assert not changed[:36].any()
    assert not changed[61:].any()


def test_a_label_stays_in_the_picture() -> None:
    for at in ((0, 0), (200, 0), (0, 170), (200, 170)):
        picture = np.full((300, 300, 3), 200, np.uint8)
        draw.boxes(picture, [face(*at, 100, 130)])
        assert (picture != 200).any()


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    places=st.lists(
        st.tuples(st.floats(-60, 100), st.floats(-60, 100), st.floats(0.1, 150), st.floats(0.1, 150)), max_size=4
    ),
    turn=st.floats(-180, 180),
)
def test_any_box_can_be_framed(
    size: tuple[int, int], places: list[tuple[float, float, float, float]], turn: float
) -> None:
    picture = noise(*size)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    draw.boxes(picture, [face(*place, turn) for place in places], alpha)
    draw.boxes(picture, [Box(*place) for place in places], alpha)
    assert picture.shape == (size[1], size[0], 3)


def test_frames_on_transparent_pixels_become_opaque() -> None:
    picture, alpha = noise(300, 300), np.zeros((300, 300), np.uint8)
    before = picture.copy()
    draw.boxes(picture, [face(100, 100, 90, 110)], alpha)
    changed = (picture != before).any(axis=2)
    assert (alpha[changed] > 0).mean() > 0.99
    assert alpha[0, 0] == 0


def test_a_box_of_a_request_has_no_score() -> None:
    picture = np.full((300, 300, 3), 200, np.uint8)
    draw.boxes(picture, [Box(100, 100, 100, 130)])
    assert (picture[:90] == 200).all()
    assert (picture[100:230, 90:110] != 200).any()


def test_without_faces_nothing_changes() -> None:
    picture = noise(20, 20)
    before = picture.copy()
    draw.boxes(picture, [])
    assert np.array_equal(picture, before)
