"""`detect`: what its marks do to the picture, and which requests are refused."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner import local
from limner.domain.errors import InvalidRequestError, UnsupportedMediaError
from limner.local import Made
from limner.operations.detect import detect
from limner.vision.header import Limits
from limner.vision.models import Models
from tests.conftest import MODELS

Pixels = npt.NDArray[np.uint8]
Detect = Callable[..., Made]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture
def run(models: Models, astronaut: Pixels) -> Detect:
    def run(photo: bytes = saved(astronaut, "PNG"), **values: Any) -> Made:
        return local.run(detect, values, {"image": photo}, models=models, limits=Limits())

    return run


def saved(pixels: Pixels, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def marked(made: Made) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(made.artifacts["marked.png"])))


def test_solid_covers_with_the_colour_that_is_asked_for(run: Detect, astronaut: Pixels) -> None:
    made = run(mark="solid", colour="teal")
    box = made.result.faces[0].box  # type: ignore[attr-defined]
    picture = marked(made)
    rows, columns = slice(int(box.y), int(box.y + box.height)), slice(int(box.x), int(box.x + box.width))
    assert (picture[rows, columns] == (0, 128, 128)).all()
    assert np.array_equal(picture[300:], astronaut[300:])
    assert (marked(run(mark="solid"))[int(box.y) + 20, int(box.x) + 20] == 0).all()


def test_boxes_are_marked_instead_of_what_is_found(run: Detect, astronaut: Pixels) -> None:
    made = run(mark="solid", boxes=[{"x": 300, "y": 300, "width": 50, "height": 40}])
    assert len(made.result.faces) == 1  # type: ignore[attr-defined]
    expected = astronaut.copy()
    expected[300:340, 300:350] = 0
    assert np.array_equal(marked(made), expected)


def test_boxes_are_marked_where_no_face_is_found(run: Detect) -> None:
    made = run(
        saved(np.full((100, 100, 3), 90, np.uint8), "PNG"),
        mark="box",
        boxes=[{"x": 20, "y": 20, "width": 50, "height": 40}],
    )
    assert made.result.faces == []  # type: ignore[attr-defined]
    assert (marked(made)[18:22, 40] != 90).any()


def test_no_box_at_all_is_a_choice_too(run: Detect, astronaut: Pixels) -> None:
    assert np.array_equal(marked(run(mark="blur", boxes=[])), astronaut)


@pytest.mark.parametrize("mark", ["blur", "pixelate", "solid"])
def test_no_face_hides_under_transparent_pixels(run: Detect, astronaut: Pixels, mark: str) -> None:
    both = np.concatenate([astronaut, astronaut], axis=1)
    alpha = np.full(both.shape[:2], 255, np.uint8)
    alpha[:, 512:] = 0
    made = run(saved(np.dstack([both, alpha]), "PNG"), mark=mark)
    picture = marked(made)
    assert (picture[:, 512:, :3][picture[:, 512:, 3] == 0] == 0).all()
    assert np.array_equal(picture[300:, :512, :3], astronaut[300:])


@pytest.mark.parametrize("mark", ["blur", "pixelate", "solid"])
def test_no_face_hides_behind_a_half_transparency(run: Detect, astronaut: Pixels, mark: str) -> None:
    both = np.concatenate([astronaut, astronaut], axis=1)
    alpha = np.full(both.shape[:2], 255, np.uint8)
    alpha[:, 512:] = 3
    picture = marked(run(saved(np.dstack([both, alpha]), "PNG"), mark=mark))
    for x in (223, 512 + 223):
        face = np.s_[90:150, x - 30 : x + 30]
        assert np.abs(picture[face][..., :3].astype(int) - both[face]).mean() > 15
    assert (picture[:, 512:, 3] == 3).mean() > 0.7
    one = run(saved(np.dstack([both, alpha]), "PNG"), mark=mark, max_faces=1)
    assert len(one.result.faces) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("mark", ["blur", "pixelate", "solid"])
@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_refused_rather_than_made_a_still(run: Detect, astronaut: Pixels, form: str, mark: str) -> None:
    frames = [Image.fromarray(np.roll(astronaut, 40 * number, axis=1)) for number in range(3)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:], duration=80)
    with pytest.raises(UnsupportedMediaError, match="one by one"):
        run(out.getvalue(), mark=mark)
    assert run(out.getvalue(), mark="box").result.faces  # type: ignore[attr-defined]


@pytest.mark.parametrize("mark", ["blur", "pixelate", "solid"])
def test_a_face_beside_that_lies_on_its_side_is_covered_too(run: Detect, astronaut: Pixels, mark: str) -> None:
    both = np.concatenate([astronaut, np.rot90(astronaut)], axis=1)
    photo = saved(np.ascontiguousarray(both), "PNG")
    found = [face.box for face in run(photo, mark=mark).result.faces]  # type: ignore[attr-defined]
    for x, y in ((223, 120), (512 + 120, 512 - 223)):
        assert any(box.x < x < box.x + box.width and box.y < y < box.y + box.height for box in found)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("margin", {"margin": 0.5}),
        ("margin", {"mark": "blur", "margin": 0.5, "boxes": []}),
        ("margin", {"mark": "blur", "margin": 2.1}),
        ("colour", {"mark": "blur", "colour": "red"}),
        ("colour", {"mark": "solid", "colour": "nocolour"}),
        ("boxes", {"mark": "none", "boxes": []}),
        ("boxes.0.width", {"boxes": [{"x": 1, "y": 1, "width": 0, "height": 3}]}),
        ("boxes.0.x", {"boxes": [{"x": 1e300, "y": 1, "width": 1, "height": 3}]}),
        ("boxes", {"boxes": [{"x": 1, "y": 1, "width": 1, "height": 3}] * 1001}),
    ],
)
def test_what_would_be_ignored_or_makes_no_sense_is_refused(run: Detect, field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}: "):
        run(**values)
