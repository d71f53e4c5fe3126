"""What is painted and where, and that `blur` and `pixelate` leave no detail of a face."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.vision import draw
from limner.vision.faces import Box, Face, Landmarks, Point

Pixels = npt.NDArray[np.uint8]
MARKS = [draw.boxes, draw.blur, draw.pixelate]
HIDING = [draw.blur, draw.pixelate]


def face(x: float, y: float, width: float, height: float, quarters: int = 0) -> Face:
    """A face with level eyes, rotated clockwise by `quarters` quarter turns."""
    cx, cy = x + width / 2, y + height / 2
    reach = min(width, height) / 5
    along = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    eyes = (Point(cx - along[0] * reach, cy - along[1] * reach), Point(cx + along[0] * reach, cy + along[1] * reach))
    return Face(Box(x, y, width, height), 0.93, Landmarks(*eyes, Point(cx, cy), *eyes))


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


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


@pytest.mark.parametrize("hide", HIDING)
def test_nothing_fine_is_left_of_a_head(hide: draw.Mark) -> None:
    """Two heads with equal local averages but different details give the same result."""
    results = []
    for seed in (1, 2):
        picture = np.full((400, 400, 3), 128, np.uint8)
        detail = noise(100, 130, seed)
        picture[130:260, 150:250] = np.where(detail > 127, 136, 120)
        hide(picture, [face(150, 130, 100, 130)])
        results.append(picture[100:270, 130:270].astype(int))
    assert np.abs(results[0] - results[1]).max() <= 16
    assert results[0].std() < 4


@pytest.mark.parametrize("hide", HIDING)
def test_a_head_has_few_colours_left(hide: draw.Mark, astronaut: Pixels) -> None:
    picture = astronaut.copy()
    hide(picture, [face(178, 63, 90, 114)])
    head = picture[40:180, 170:276].astype(int)
    steps = np.abs(np.diff(head, axis=1)).max(axis=2)
    if hide is draw.pixelate:
        assert len(np.unique(head.reshape(-1, 3), axis=0)) <= 64
    else:
        assert steps.max() < 16
    assert np.array_equal(picture[300:], astronaut[300:])


@pytest.mark.parametrize("hide", HIDING)
def test_small_faces_are_hidden_too(hide: draw.Mark) -> None:
    picture = noise(60, 60)
    before = picture[20:36, 20:34].astype(int)
    hide(picture, [face(20, 20, 14, 16)])
    after = picture[20:36, 20:34].astype(int)
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize(("quarters", "side"), [(0, "top"), (1, "right"), (2, "bottom"), (3, "left")])
def test_hair_is_covered_on_its_side_of_a_rotated_face(quarters: int, side: str) -> None:
    picture = noise(400, 400)
    before = picture.copy()
    draw.pixelate(picture, [face(150, 150, 100, 100, quarters)])
    y, x = np.nonzero((picture != before).any(axis=2))
    reaches = {"left": 150 - x.min(), "top": 150 - y.min(), "right": x.max() - 249, "bottom": y.max() - 249}
    assert max(reaches, key=lambda at: reaches[at]) == side


@pytest.mark.parametrize("mark", MARKS)
@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    places=st.lists(
        st.tuples(st.floats(-60, 100), st.floats(-60, 100), st.floats(0.1, 150), st.floats(0.1, 150)), max_size=4
    ),
    quarters=st.integers(0, 3),
)
def test_any_box_can_be_marked(
    mark: draw.Mark, size: tuple[int, int], places: list[tuple[float, float, float, float]], quarters: int
) -> None:
    picture = noise(*size)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    mark(picture, [face(*place, quarters) for place in places], alpha)
    assert picture.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("mark", MARKS)
def test_marks_on_transparent_pixels_become_opaque(mark: draw.Mark) -> None:
    picture, alpha = noise(300, 300), np.zeros((300, 300), np.uint8)
    before = picture.copy()
    mark(picture, [face(100, 100, 90, 110)], alpha)
    changed = (picture != before).any(axis=2)
    assert (alpha[changed] > 0).mean() > 0.99
    assert alpha[0, 0] == 0


@pytest.mark.parametrize("mark", MARKS)
def test_without_faces_nothing_changes(mark: draw.Mark) -> None:
    picture = noise(20, 20)
    before = picture.copy()
    mark(picture, [])
    assert np.array_equal(picture, before)
