"""The mask of people: a portrait, a small person in a large photo, borders, pictures of all shapes."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from limner.vision.detector import Detector
from limner.vision.faces import Box
from limner.vision.person import PersonMask

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def person(models_dir: Path) -> PersonMask:
    return PersonMask(models_dir)


def faces_of(photo: Pixels, models_dir: Path) -> list[Box]:
    return [face.box for face in Detector(models_dir).detect(photo)]


def test_a_portrait_is_told_from_what_is_behind(person: PersonMask, models_dir: Path, astronaut: Pixels) -> None:
    mask = person.find(astronaut, faces_of(astronaut, models_dir))
    assert mask.shape == astronaut.shape[:2]
    assert 0 <= mask.min() <= mask.max() <= 1
    for inside in (np.s_[60:200, 180:260], np.s_[330:460, 120:220]):  # face and hair; suit
        assert mask[inside].mean() > 0.95
    for outside in (np.s_[:140, :100], np.s_[40:160, 320:400]):  # flag; sky
        assert mask[outside].mean() < 0.05


def test_a_small_person_is_found_by_the_face(person: PersonMask, models_dir: Path, astronaut: Pixels) -> None:
    """Someone far away, in a large photo with much else in it."""
    scene = np.random.default_rng(1).integers(0, 255, (12, 18, 3), np.uint8)
    large = np.asarray(cv2.resize(scene, (3600, 2400), interpolation=cv2.INTER_LINEAR), np.uint8)
    small = cv2.resize(astronaut, (400, 400), interpolation=cv2.INTER_AREA)
    large[1400:1800, 2000:2400] = small
    faces = faces_of(large, models_dir)
    assert len(faces) == 1
    found = person.find(large, faces)
    assert found.shape == (683, 1024)
    factor = 1024 / 3600
    face = np.s_[int(1450 * factor) : int(1550 * factor), int(2140 * factor) : int(2200 * factor)]
    assert found[face].mean() > 0.9
    assert found[face].mean() > person.find(large, [])[face].mean() + 0.3


def test_its_border_is_where_the_photo_has_one(person: PersonMask, models_dir: Path, astronaut: Pixels) -> None:
    """From the hair to the sky, in a photo four times as large as what the network sees."""
    large = np.asarray(cv2.resize(astronaut, (1024, 1024), interpolation=cv2.INTER_CUBIC), np.uint8)
    row = person.find(large, faces_of(large, models_dir))[160, 500:640]
    photo = large[160, 500:640].astype(np.float32).mean(axis=1)
    border = int(np.argmax(photo > 140))  # brown hair ends here
    turned = int(np.argmax(row < 0.5))
    assert border > 0
    assert abs(turned - border) < 10
    assert np.argmax(row < 0.2) - np.argmax(row < 0.8) < 16


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (3000, 2), (300, 200)])
def test_any_shape(shape: tuple[int, int], person: PersonMask) -> None:
    mask = person.find(np.full((*shape, 3), 90, np.uint8), [Box(-50, -20, 90, 90), Box(500, 500, 4, 4)])
    assert max(mask.shape) == min(1024, max(shape))
    assert np.isfinite(mask).all()
