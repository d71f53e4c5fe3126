"""`samples`: the sheet's parts, other painters, and that a draft looks like what it is a sample of."""

import io
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from limner import local
from limner.domain.errors import PainterNotReadyError
from limner.operations import CATALOGUE
from limner.operations.samples import STYLES
from limner.painters.drawn.styles import DRAWN_STYLES
from limner.painters.styles import NUMBERS
from limner.vision.image import Limits
from limner.vision.models import Models
from tests.conftest import MODELS
from tests.painters.test_styles import small as small  # noqa: PLC0414  # the fixture: networks of our own

SAMPLES = CATALOGUE["samples"]
Pixels = np.typing.NDArray[np.uint8]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


def run(models: Models, photo: bytes, operation: str = "samples", **values: Any) -> local.Made:
    return local.run(CATALOGUE[operation], values, {"image": photo}, models=models, limits=Limits())


def opened(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def parts(made: local.Made) -> dict[str, Pixels]:
    """The samples by style, cut out of the sheet."""
    (sheet,) = made.artifacts.values()
    pixels = opened(sheet)
    found = {}
    for each in made.result.samples:  # type: ignore[attr-defined]
        x, y = int(each.x), int(each.y)
        found[each.style] = pixels[y : y + int(each.height), x : x + int(each.width)]
    assert sum(part.size for part in found.values()) == pixels.size
    return found


def test_there_is_a_sample_of_each_style(models: Models, astronaut: Pixels) -> None:
    file = io.BytesIO()
    Image.fromarray(astronaut[:, :384]).save(file, "PNG")
    made = run(models, file.getvalue(), size=128)
    found = parts(made)
    assert list(found) == list(DRAWN_STYLES)
    assert {part.shape for part in found.values()} == {(128, 96, 3)}
    assert b"algorithmicallyEnhanced" in made.artifacts["samples.jpg"]
    for one, other in pairwise(found):
        assert np.abs(found[one].astype(int) - found[other]).mean() > 4, (one, other)


@pytest.fixture(scope="module")
def drawn(models: Models, astronaut_jpeg: bytes) -> dict[str, Pixels]:
    return parts(run(models, astronaut_jpeg, size=128))


@pytest.mark.parametrize("style", ["cartoon", "ink", "pop-art", "oil"])
def test_a_sample_looks_like_the_picture(
    models: Models, astronaut_jpeg: bytes, drawn: dict[str, Pixels], style: str
) -> None:
    sample = drawn[style]
    whole = opened(run(models, astronaut_jpeg, "generate", style=style, seed=0).artifacts["image-1.jpg"])
    expected = cv2.resize(whole, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(sample.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.usefixtures("small")
def test_network_styles_have_samples_too(models: Models, astronaut_jpeg: bytes) -> None:
    made = run(models, astronaut_jpeg, painter="styles", size=64)
    found = parts(made)
    assert list(found) == list(STYLES["styles"]) == list(NUMBERS)
    assert b"compositeWithTrainedAlgorithmicMedia" in made.artifacts["samples.jpg"]
    brightness = [part.mean() for part in found.values()]
    assert brightness == sorted(brightness), "the small network darkens by its number"
    drawn, networks = (
        SAMPLES.parse({"painter": painter}, {"image": astronaut_jpeg}, Limits()) for painter in ("drawn", "styles")
    )
    assert SAMPLES.cache_key(drawn, "models") != SAMPLES.cache_key(networks, "models")
    assert SAMPLES.fingerprint(drawn, str, "") != SAMPLES.fingerprint(networks, str, "")


def test_a_painter_without_its_weights_is_refused(
    astronaut_jpeg: bytes, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path))
    with pytest.raises(PainterNotReadyError, match="limner models fetch styles"):
        SAMPLES.parse({"painter": "styles"}, {"image": astronaut_jpeg}, Limits())
