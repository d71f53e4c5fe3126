"""What a picture does not keep of the photo's frames and transparency is told by each operation that makes one."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner import local
from limner.operations import CATALOGUE
from limner.vision.header import Limits
from limner.vision.models import Models
from tests.conftest import MODELS

Pixels = npt.NDArray[np.uint8]
MADE: list[tuple[str, dict[str, Any]]] = [
    ("detect", {"mark": "box"}),
    ("crop", {"width": 64}),
    ("crop", {"each": True, "size": 64}),
    ("generate", {"style": "pixel", "seed": 1, "size": "64"}),
    ("contours", {"photo": False}),
]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture(scope="module")
def face(astronaut: Pixels) -> Pixels:
    return np.ascontiguousarray(astronaut[40:200, 140:300])


def saved(frames: list[Pixels], form: str) -> bytes:
    out = io.BytesIO()
    first, *more = [Image.fromarray(each) for each in frames]
    first.save(out, form, **({"save_all": True, "append_images": more} if more else {}))
    return out.getvalue()


def notes(models: Models, name: str, values: dict[str, Any], photo: bytes) -> list[str]:
    made = local.run(CATALOGUE[name], values, {"image": photo}, models=models, limits=Limits())
    assert made.artifacts
    told = made.result.model_dump()
    found: list[str] = told["assumptions" if name == "contours" else "notes"]
    return [note for note in found if "frames" in note or "transparent" in note]


@pytest.mark.parametrize(("name", "values"), MADE)
@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_still_of_an_animation_is_told(
    models: Models, face: Pixels, name: str, values: dict[str, Any], form: str
) -> None:
    photo = saved([face, face[:, ::-1], face[::-1]], form)
    assert notes(models, name, values, photo) == ["The photo has 3 frames or pages; only the first is used."]
    assert notes(models, name, values, saved([face], form)) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *MADE,
        *((name, {**values, "format": form}) for name, values in MADE[:-1] for form in ("jpeg", "png", "webp")),
    ],
)
def test_transparency_that_is_lost_is_told(models: Models, face: Pixels, name: str, values: dict[str, Any]) -> None:
    alpha = np.full(face.shape[:2], 255, np.uint8)
    alpha[:, :10] = 0
    photo = saved([np.dstack([face, alpha])], "PNG")
    kept = name in {"detect", "crop"} and values.get("format") != "jpeg"
    wanted = [] if kept else ["What is transparent in the photo is white in the picture."]
    assert notes(models, name, values, photo) == wanted
