"""A marked picture, a crop, an embedded photo and what a painter leaves look as the input does, in Chromium."""

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page

from limner import local
from limner.operation import Operation
from limner.operations import CATALOGUE
from limner.vision import align
from limner.vision.header import Limits
from limner.vision.models import Models
from limner.vision.structure import media_type_of
from tests.conftest import MODELS
from tests.hostile.pictures import case
from tests.services.browser import chromium
from tests.vision import coloured

Pixels = npt.NDArray[np.uint8]
FILES: dict[str, Callable[[], bytes]] = {
    **{name: lambda name=name: case(name) for name in coloured.CASES},  # type: ignore[misc]
    **coloured.MADE,
}
MAX_ERROR = 2.5
_SHOWN = """async () => {
    await Promise.all([...document.images].map(each => each.decode()));
    await new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)));
}"""


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 2400, "height": 1400})
        page.set_default_timeout(60_000)
        yield page


def shown(page: Page, *files: bytes) -> list[Pixels]:
    """Screenshots of pictures that one page shows, of sRGB."""
    sources = [
        f"data:{'image/svg+xml' if data[:1] == b'<' else media_type_of(data)};base64,{base64.b64encode(data).decode()}"
        for data in files
    ]
    images = "".join(f'<img style="vertical-align: top" src="{source}">' for source in sources)
    page.set_content(f'<body style="margin: 0; background: white">{images}</body>')
    page.evaluate(_SHOWN)
    shots = [page.locator("img").nth(number).screenshot() for number in range(len(files))]
    return [np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")) for shot in shots]


def error(found: Pixels, wanted: Pixels) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found.astype(int) - wanted).mean())


@pytest.mark.parametrize("what", FILES)
def test_a_marked_picture_and_a_crop_look_as_the_input(what: str, models: Models, page: Page) -> None:
    photo = FILES[what]()
    limits = Limits()
    marked = local.run(
        CATALOGUE["detect"], {"mark": "box", "boxes": []}, {"image": photo}, models=models, limits=limits
    )
    crop = local.run(CATALOGUE["crop"], {"zoom": 0, "format": "png"}, {"image": photo}, models=models, limits=limits)
    source, out, part = shown(page, photo, next(iter(marked.artifacts.values())), crop.artifacts["crop.png"])
    matrix = np.array(crop.result.crops[0].transform)  # type: ignore[attr-defined]
    wanted = align.warp_image(source, matrix, part.shape[1], part.shape[0], None)
    print(f"| {what} | {error(out, source):.2f} | {error(part, wanted):.2f} |")
    assert error(out, source) <= MAX_ERROR
    assert error(part, wanted) <= MAX_ERROR


COSTLY = [
    "colour_jpeg_P3_icc.jpg",
    "colour_avif_nclx_PQ.avif",
    "colour_grey_jpeg_gamma1.8.jpg",
    "JPEG with Adobe RGB",
    "JPEG with ProPhoto",
    "CMYK JPEG with a profile",
]


@pytest.mark.parametrize("what", COSTLY)
def test_the_photo_in_a_drawing_looks_as_the_input(what: str, models: Models, page: Page) -> None:
    photo = FILES[what]()
    values: dict[str, Any] = {"opacity": 0, "stroke_width": 0, "labels": "none", "size": 300}
    made = local.run(CATALOGUE["contours"], values, {"image": photo}, models=models, limits=Limits())
    source, drawing = shown(page, photo, made.artifacts["contours.svg"])
    crop = made.result.crop  # type: ignore[attr-defined]
    scale = align.scaling(drawing.shape[1] / crop.width, drawing.shape[0] / crop.height)
    matrix = scale @ np.array(made.result.transform)  # type: ignore[attr-defined]
    cubic = matrix[0, 0] ** 2 + matrix[0, 1] ** 2 > 1
    wanted = align.warp_image(
        source, matrix, drawing.shape[1], drawing.shape[0], align.border_colour(source), cubic=cubic
    )
    print(f"| {what} | {error(drawing, wanted):.2f} |")
    assert error(drawing, wanted) <= MAX_ERROR


@pytest.mark.parametrize("what", COSTLY)
def test_what_a_painter_leaves_looks_as_the_input(what: str, models: Models, page: Page) -> None:
    photo = FILES[what]()
    generate: Operation[Any, Any] = CATALOGUE["generate"]
    values = {"painter": "drawn", "style": "cartoon", "area": "faces", "format": "png", "provenance": False}
    made = local.run(generate, values, {"image": photo}, models=models, limits=Limits())
    source, painted = shown(page, photo, next(iter(made.artifacts.values())))
    height, width = painted.shape[:2]
    wanted = np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    corner = slice(0, height // 4), slice(0, width // 6)  # far from the face
    print(f"| {what} | {error(painted[corner], wanted[corner]):.2f} |")
    assert error(painted[corner], wanted[corner]) <= MAX_ERROR


def test_a_picture_without_its_end_is_shown_to_its_end(models: Models, page: Page) -> None:
    """Chromium leaves out the last row of blocks, so the file with the end marker is compared."""
    photo = case("colour_jpeg_missing_EOI.jpg")
    made = local.run(CATALOGUE["detect"], {"boxes": []}, {"image": photo}, models=models, limits=Limits())
    source, out = shown(page, photo + b"\xff\xd9", made.artifacts["marked.jpg"])
    assert error(out, source) <= MAX_ERROR
