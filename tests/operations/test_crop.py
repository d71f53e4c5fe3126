"""`crop`: sizes, shapes, each face upright, and which requests are refused."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner import local
from limner.domain.errors import InvalidRequestError
from limner.local import Made
from limner.operations.crop import CropResult, crop
from limner.vision.header import Limits
from limner.vision.models import Models
from tests.conftest import MODELS

Pixels = npt.NDArray[np.uint8]
Crop = Callable[..., tuple[CropResult, list[Image.Image]]]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture
def run(models: Models, astronaut: Pixels) -> Crop:
    def run(photo: Pixels = astronaut, **values: Any) -> tuple[CropResult, list[Image.Image]]:
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "PNG")
        made: Made = local.run(crop, values, {"image": file.getvalue()}, models=models, limits=Limits())
        assert isinstance(made.result, CropResult)
        pictures = [Image.open(io.BytesIO(data)) for data in made.artifacts.values()]
        assert [(each.name, each.width, each.height) for each in made.result.crops] == [
            (name, *picture.size) for name, picture in zip(made.artifacts, pictures, strict=True)
        ]
        return made.result, pictures

    return run


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, (512, 512)),
        ({"width": 200, "height": 100}, (200, 100)),
        ({"width": 1000, "height": 100}, (1000, 100)),
        ({"aspect": "16:9"}, (512, 288)),
        ({"aspect": "2:1", "width": 100}, (100, 50)),
        ({"aspect": "1:2", "height": 100}, (50, 100)),
        ({"width": 64}, (64, 64)),
    ],
)
def test_the_size_is_what_was_asked_for(run: Crop, values: dict[str, Any], size: tuple[int, int]) -> None:
    result, (picture,) = run(**values)
    assert picture.size == size
    assert result.about == "faces"


def test_the_pixels_are_those_of_the_photo(run: Crop, astronaut: Pixels) -> None:
    result, (picture,) = run(aspect="16:9")
    top = -result.crops[0].transform[1][2]
    assert top == round(top, 6) >= 0
    rows = np.asarray(picture)
    nearest = astronaut[round(top) : round(top) + 288]
    assert np.abs(rows.astype(int) - nearest).mean() < 6
    face = result.faces[0]
    assert top <= face.y
    assert face.y + face.height <= top + 288


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
def test_each_face_is_upright_and_in_the_middle(run: Crop, astronaut: Pixels, degrees: float) -> None:
    turn = cv2.getRotationMatrix2D((223.0, 120.0), -degrees, 1.0)
    turned = np.asarray(cv2.warpAffine(astronaut, turn, (512, 512)), np.uint8)
    result, (picture,) = run(turned, each=True, size=200)
    (shape,) = result.crops
    eyes = [(198.0, 111.0), (244.0, 110.0)]  # of the portrait, by eye
    matrix = np.array(shape.transform)
    left, right = (matrix @ (*(turn @ (*eye, 1)), 1) for eye in eyes)
    assert abs(np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))) < 8
    assert left[0] < right[0]
    assert 70 < (left[0] + right[0]) / 2 < 130
    assert 60 < (left[1] + right[1]) / 2 < 130
    assert picture.size == (200, 200)


def test_without_a_face_there_is_a_window_but_no_face_to_cut_out(run: Crop) -> None:
    plain = np.full((100, 300, 3), 90, np.uint8)
    result, pictures = run(plain, aspect="1:1")
    assert (result.about, result.faces, pictures[0].size) == ("detail", [], (100, 100))
    result, pictures = run(plain, each=True)
    assert (result.faces, result.crops, pictures) == ([], [], [])


def test_transparency_is_kept(run: Crop, astronaut: Pixels) -> None:
    alpha = np.full((512, 512, 1), 255, np.uint8)
    alpha[:, :100] = 0
    _, (picture,) = run(np.concatenate([astronaut, alpha], axis=2), width=256, height=256)
    assert picture.mode == "RGBA"
    assert np.asarray(picture)[10, 10, 3] == 0
    assert np.asarray(picture)[10, 200, 3] == 255


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("aspect", {"width": 10, "height": 10, "aspect": "1:1"}),
        ("aspect", {"aspect": "1000:1", "height": 100}),
        ("aspect", {"aspect": "0:1"}),
        ("width", {"each": True, "width": 10}),
        ("zoom", {"each": True, "zoom": 0.0}),
        ("size", {"size": 100}),
        ("margin", {"margin": 0.2}),
        ("max_faces", {"max_faces": 3}),
        ("width", {"width": 5000}),
        ("width", {"width": 0}),
    ],
)
def test_what_would_be_ignored_or_makes_no_sense_is_refused(run: Crop, field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}: "):
        run(**values)
