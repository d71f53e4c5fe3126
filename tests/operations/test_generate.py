"""`generate`: seeds, sizes, the parts that are kept, and what the file tells of itself."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import limner
from limner import local
from limner.context import Context
from limner.domain import errors
from limner.domain.errors import (
    FaceNotFoundError,
    InvalidRequestError,
    JobMemoryError,
    PainterNotReadyError,
    UnsupportedMediaError,
)
from limner.local import Made
from limner.operations.generate import GenerateParams, generate
from limner.painters import PAINTERS
from limner.vision.image import Limits
from limner.vision.models import Models
from tests.conftest import MODELS, as_jpeg

Pixels = npt.NDArray[np.uint8]
Paint = Callable[..., Made]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture
def paint(models: Models, astronaut_jpeg: bytes) -> Paint:
    def paint(photo: bytes = astronaut_jpeg, **values: Any) -> Made:
        given = {"style": "pixel", "seed": 7, **values}
        return local.run(generate, given, {"image": photo}, models=models, limits=Limits())

    return paint


def opened(made: Made, number: int = 0) -> Image.Image:
    return Image.open(io.BytesIO(list(made.artifacts.values())[number]))


def pixels(made: Made) -> npt.NDArray[np.float32]:
    return np.asarray(opened(made).convert("RGB"), np.float32)


def test_each_picture_has_the_next_seed_and_can_be_had_again(paint: Paint) -> None:
    both = paint(style="pointillism", size="200", count=2, seed=2**32 - 1, format="png")
    assert [(each.name, each.seed) for each in both.result.pictures] == [  # type: ignore[attr-defined]
        ("image-1.png", 2**32 - 1),
        ("image-2.png", 0),
    ]
    assert list(both.artifacts) == ["image-1.png", "image-2.png"]
    again = paint(style="pointillism", size="200", seed=0, format="png")
    assert np.array_equal(pixels(again), np.asarray(opened(both, 1).convert("RGB"), np.float32))
    assert both.artifacts["image-1.png"] != both.artifacts["image-2.png"]


def test_without_a_seed_one_is_drawn(paint: Paint) -> None:
    seeds = {paint(seed=None, size="64").result.pictures[0].seed for _ in range(3)}  # type: ignore[attr-defined]
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("size", "expected"), [("200", (200, 100)), (200, (200, 100)), ("300x60", (120, 60)), ("60x300", (60, 30))]
)
def test_a_photo_is_fitted_into_the_size(size: str | int, expected: tuple[int, int], paint: Paint) -> None:
    photo = as_jpeg(np.full((50, 100, 3), 90, np.uint8))
    assert opened(paint(photo, size=size)).size == expected


@pytest.mark.parametrize("size", ["9", "4097", "0x50", "50x", "x50", "5000x20", "-50", "50.5", "50x50x50", " 50"])
def test_an_impossible_size_is_refused(size: str, paint: Paint) -> None:
    with pytest.raises(InvalidRequestError, match=r"^size:"):
        paint(size=size)


@pytest.mark.parametrize("area", ["faces", "background"])
def test_only_the_area_is_painted(area: str, paint: Paint, astronaut: Pixels) -> None:
    size = f"{astronaut.shape[1]}x{astronaut.shape[0]}"
    kept, painted = pixels(paint(area=area, size=size, format="png")), pixels(paint(size=size, format="png"))
    photo = np.asarray(Image.open(io.BytesIO(as_jpeg(astronaut))), np.float32)
    face, suit, flag = np.s_[110:160, 200:250], np.s_[330:400, 120:160], np.s_[60:140, 10:60]
    for part in (face, suit, flag):
        away, apart = np.abs(kept[part] - photo[part]).mean(), np.abs(painted[part] - photo[part]).mean()
        if part == (face if area == "faces" else flag):
            assert away > 0.6 * apart  # not the same: beside a photo, colours are as light as in it
        else:
            assert away < 4 < apart
    # No seam: the mask between the two pictures rises over many pixels.
    where = np.abs(painted - photo).sum(axis=2) > 60
    share = (np.abs(kept - photo).sum(axis=2) / np.maximum(np.abs(painted - photo).sum(axis=2), 1))[where]
    assert ((share > 0.2) & (share < 0.8)).sum() > 100


@pytest.mark.parametrize("style", ["oil", "pixel"])
def test_a_painted_face_is_as_light_as_the_rest_of_the_photo(style: str, paint: Paint, astronaut: Pixels) -> None:
    dark = (astronaut * 0.3).astype(np.uint8)
    face = np.s_[110:160, 200:250]

    def lighter(**values: Any) -> float:
        made = pixels(paint(as_jpeg(dark), style=style, size="512", format="png", **values))
        return float((made - dark)[face].mean())

    assert lighter(area="all") > 20
    assert abs(lighter(area="faces")) < 6


def test_faces_need_a_face_and_a_background_does_not(paint: Paint) -> None:
    photo = as_jpeg(np.full((60, 60, 3), 90, np.uint8))
    with pytest.raises(FaceNotFoundError):
        paint(photo, area="faces")
    assert np.abs(pixels(paint(photo, area="background", format="png")) - 90).mean() < 4


def test_colours_are_kept(paint: Paint, astronaut: Pixels) -> None:
    photo = cv2.cvtColor(cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)

    def away(**values: Any) -> float:
        """How far the colours of the half-tones are from those of the photo; black and white have none."""
        made = np.asarray(opened(paint(size="256", format="png", **values)).convert("RGB"))
        lab = cv2.cvtColor(made, cv2.COLOR_RGB2LAB)
        middle = (lab[:, :, 0] > 60) & (lab[:, :, 0] < 200)
        return float(np.abs(lab[:, :, 1:].astype(np.float32) - photo[:, :, 1:])[middle].mean())

    assert away(style="pop-art", keep_colour=True) < 0.4 * away(style="pop-art")


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_the_file_says_how_it_was_made(form: str, paint: Paint) -> None:
    marked = opened(paint(format=form, size="64"))
    assert (marked.format or "").lower() == form
    xmp = marked.info.get("xmp") or marked.info["XML:com.adobe.xmp"].encode()
    text = xmp.decode()
    assert re.search(r'DigitalSourceType="http://cv\.iptc\.org/newscodes/digitalsourcetype/(\w+)"', text)[1] == (  # type: ignore[index]
        "algorithmicallyEnhanced"
    )
    assert 'limner:Painter="drawn" limner:Seed="7"' in text
    assert ElementTree.fromstring(text).tag == "{adobe:ns:meta/}xmpmeta"
    bare = opened(paint(format=form, size="64", provenance=False))
    assert not bare.info.get("xmp")
    assert "XML:com.adobe.xmp" not in bare.info
    assert np.array_equal(np.asarray(bare.convert("RGB")), np.asarray(marked.convert("RGB")))


def test_flat_fields_and_an_object_are_the_same_work(astronaut_jpeg: bytes) -> None:
    def key(**values: Any) -> str:
        return generate.cache_key(generate.parse({"seed": 1, **values}, {"image": astronaut_jpeg}, Limits()), "")

    assert key(style="ink", detail=0.75) == key(painter={"name": "drawn", "style": "ink", "detail": 0.75})
    assert key(style="ink", detail="0.75") == key(painter="drawn", style="ink", detail=0.75)
    assert key(style="ink") != key(style="oil")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"style": "ink", "dot": 2}, "dot"),
        ({"style": "none"}, "style"),
        ({"painter": "none"}, "painter"),
        ({"style": "pixel", "colours": 1}, "colours"),
        ({"seed": 2**32}, "seed"),
        ({"count": 9}, "count"),
    ],
)
def test_a_wrong_field_is_named_as_it_was_sent(values: dict[str, Any], field: str, astronaut_jpeg: bytes) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        generate.parse(values, {"image": astronaut_jpeg}, Limits())
    assert [each["field"] for each in refused.value.extra["errors"]] == [field]  # type: ignore[attr-defined]


def test_the_picture_that_is_no_picture_is_named(astronaut_jpeg: bytes) -> None:
    with pytest.raises(UnsupportedMediaError, match=r"^style_image: The file is not"):
        generate.parse({}, {"image": astronaut_jpeg, "style_image": b"text"}, Limits())
    with pytest.raises(UnsupportedMediaError, match=r"^The file is not"):
        generate.parse({}, {"image": b"text"}, Limits())


def test_a_photo_may_be_left_out_only_where_the_painter_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequestError, match="needs a photo"):
        generate.parse({}, {}, Limits())
    monkeypatch.setattr(type(PAINTERS["drawn"]), "needs", lambda *_: "nothing")
    assert generate.parse({}, {}, Limits()).image is None
    with pytest.raises(InvalidRequestError, match=r"^area:"):
        generate.parse({"area": "faces"}, {}, Limits())


def test_without_a_photo_the_size_is_exact(monkeypatch: pytest.MonkeyPatch, models: Models) -> None:
    def words(_: object, canvas: Any, __: object) -> Pixels:
        assert (canvas.photo, canvas.faces, canvas.meshes) == (None, (), ())
        return np.full((canvas.size[1], canvas.size[0], 3), canvas.seed, np.uint8)

    monkeypatch.setattr(type(PAINTERS["drawn"]), "needs", lambda *_: "nothing")
    monkeypatch.setattr(type(PAINTERS["drawn"]), "paint", words)
    made = local.run(generate, {"size": "120x80", "seed": 9}, {}, models=models, limits=Limits())
    assert made.result.image is None  # type: ignore[attr-defined]
    assert (opened(made).size, opened(made).format) == ((120, 80), "PNG")


def test_a_picture_for_the_style_reaches_the_painter_that_takes_one_and_is_else_refused(
    monkeypatch: pytest.MonkeyPatch, models: Models, astronaut_jpeg: bytes
) -> None:
    pictures = {"image": astronaut_jpeg, "style_image": as_jpeg(np.full((1600, 2400, 3), 90, np.uint8))}
    with pytest.raises(InvalidRequestError, match="style_image"):
        generate.parse({}, pictures, Limits())
    sizes: list[tuple[int, ...]] = []

    def styled(_: object, canvas: Any, __: object) -> Pixels:
        sizes.append(canvas.style_photo.shape)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(PAINTERS["drawn"].params, "takes_style_photo", lambda _: True)
    monkeypatch.setattr(type(PAINTERS["drawn"]), "paint", styled)
    local.run(generate, {"count": 2}, pictures, models=models, limits=Limits())
    assert sizes == [(683, 1024, 3)] * 2


def test_a_painter_that_is_not_ready_says_why(monkeypatch: pytest.MonkeyPatch, astronaut_jpeg: bytes) -> None:
    monkeypatch.setattr(type(PAINTERS["drawn"]), "ready", lambda _: "Buy paint.")
    with pytest.raises(PainterNotReadyError, match=r"drawn: Buy paint\."):
        generate.parse({}, {"image": astronaut_jpeg}, Limits())


def test_too_little_memory_is_told_with_numbers(monkeypatch: pytest.MonkeyPatch, paint: Paint) -> None:
    monkeypatch.setattr("limner.vision.memory.free_address_space", lambda: 50_000_000)
    with pytest.raises(JobMemoryError, match=r"about \d+ MB .* 50 MB more"):
        paint()


def test_results_of_hosted_painters_answer_only_if_the_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(PAINTERS["drawn"]), "lane", lambda *_: "remote")

    def fingerprint(request: str, **values: Any) -> str:
        return generate.fingerprint(GenerateParams(**values), lambda _: "models", request)

    assert generate.lane(GenerateParams()) == "remote"
    assert fingerprint("a") != fingerprint("b")
    assert fingerprint("a", cache="exact") == fingerprint("b", cache="exact")
    monkeypatch.undo()
    assert fingerprint("a") == fingerprint("b")
    assert fingerprint("a", cache="off") != fingerprint("b", cache="off")


@pytest.mark.parametrize(
    "error", [errors.PainterBusyError(), errors.JobTimeoutError("It ran long.")], ids=["429", "time"]
)
@pytest.mark.parametrize(("lane", "cache"), [("remote", "auto"), ("remote", "exact"), ("paint", "off")])
def test_pictures_that_may_be_paid_for_are_kept_when_a_further_one_fails(
    monkeypatch: pytest.MonkeyPatch, paint: Paint, error: errors.LimnerError, lane: str, cache: str
) -> None:
    def twice(_: object, canvas: Any, __: object) -> Pixels:
        if canvas.seed == 9:
            raise error
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(type(PAINTERS["drawn"]), "lane", lambda *_: lane)
    monkeypatch.setattr(type(PAINTERS["drawn"]), "paint", twice)
    if (lane, cache) == ("remote", "auto"):
        made = paint(seed=7, count=4, cache=cache)
        assert list(made.artifacts) == ["image-1.jpg", "image-2.jpg"]
        assert made.result.notes[-1].startswith("Only 2 of 4 pictures were made. ")  # type: ignore[attr-defined]
        seed = 9
    else:
        seed = 7
    told = errors.PainterTimeoutError if lane == "remote" and isinstance(error, errors.JobTimeoutError) else type(error)
    with pytest.raises(told) as raised:
        paint(seed=seed, count=4, cache=cache)
    assert ("charged" in raised.value.detail) == (told is errors.PainterTimeoutError)


def test_a_job_stops_within_a_step(monkeypatch: pytest.MonkeyPatch, models: Models, astronaut_jpeg: bytes) -> None:
    class StopError(Exception):
        pass

    told: list[float] = []
    stop = False

    def slow(_: object, canvas: Any, __: object) -> Pixels:
        nonlocal stop
        for number in range(1, 5):
            stop = number == 3
            canvas.step(number, 4, None)
        raise AssertionError("it went on")

    def check() -> None:
        if stop:
            raise StopError

    monkeypatch.setattr(type(PAINTERS["drawn"]), "paint", slow)
    ctx = Context(
        models=models,
        limits=Limits(),
        read=lambda _: astronaut_jpeg,
        attach=lambda *_: None,
        check=check,
        tell=lambda fraction, _: told.append(fraction),
    )
    params = generate.settled(generate.parse({"count": 2}, {"image": astronaut_jpeg}, Limits()), "a request")
    with pytest.raises(StopError):
        generate.run(params, ctx)
    assert told == [1 / 8, 2 / 8]


OF_THE_OPERATOR = {"diffusion", "onnx", "openai", "stability", "comfyui"}
"""Painters without an example: what they make is up to the operator's model, server or workflow."""


def test_every_painter_has_an_example() -> None:
    folder = Path(limner.__file__).parent / "web" / "page" / "painters"
    offered = set(GenerateParams.model_json_schema()["properties"]["style"]["enum"]) - {"picture"}
    found: set[str] = set()
    for name in set(PAINTERS) - OF_THE_OPERATOR:
        assert (folder / f"{name}.jpg").exists()
        found |= {path.stem.removeprefix(f"{name}-") for path in folder.glob(f"{name}-*.jpg")}
    assert found == offered
