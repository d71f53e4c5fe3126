"""One suite for all operations. A new operation needs a row in `INPUTS` only if it requires more than a photo."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydantic import BaseModel

from limner import local
from limner.choices import flat_fields
from limner.context import Context
from limner.domain.errors import BadImageError, FaceNotFoundError, InvalidRequestError
from limner.image_ref import ImageRef
from limner.local import Made
from limner.operation import Operation
from limner.operations import CATALOGUE
from limner.vision.image import Limits
from limner.vision.models import Models
from tests.conftest import as_jpeg

Pixels = npt.NDArray[np.uint8]
Pictures = dict[str, bytes]

# By operation: without a face, does it fail with "no face found", succeed without pictures, or go on as always?
WITHOUT_A_FACE = {
    "contours": "fails",
    "crop": "goes on",
    "detect": "makes nothing",
    "generate": "goes on",
    "pipeline": "fails",
    "samples": "goes on",
}

# Another value of `cache` than the default.
CACHE = {"generate": "exact"}

# What makes results repeatable, and the tests quick.
PIXEL = {"seed": 7, "style": "pixel"}
FIXED: dict[str, dict[str, Any]] = {
    "generate": PIXEL,
    "samples": {"size": 64},
    "pipeline": {"steps": [{"operation": "detect"}, {"operation": "contours"}, {"operation": "generate", **PIXEL}]},
}

# For each parameter a value that is not the default, with other parameters if it needs them.
OTHER: dict[str, dict[str, dict[str, Any]]] = {
    "detect": {
        "mark": {"mark": "blur"},
        "margin": {"mark": "blur", "margin": 0.5},
        "colour": {"mark": "solid", "colour": "white"},
        "boxes": {"boxes": [{"x": 1, "y": 2, "width": 3, "height": 4}]},
        "min_score": {"min_score": 0.25},
        "precise": {"precise": True},
        "max_faces": {"max_faces": 1},
        "format": {"format": "png"},
        "landmarks": {"landmarks": "mesh"},
    },
    "contours": {
        "landmarks": {"landmarks": [{"x": 10.0 + number % 22, "y": 20.0 + number // 22} for number in range(478)]},
        "landmarks_unit": {
            "landmarks_unit": "normalised",
            "landmarks": [{"x": 0.1 + number % 22 / 100, "y": 0.2 + number // 22 / 100} for number in range(478)],
        },
        "face": {"face": "all"},
        "scheme": {"scheme": "seven"},
        "regions": {"scheme": "own", "regions": {"a": [1, 2, 3]}},
        "map_values": {"map_values": "indices"},
        "label_meanings": {"scheme": "labels", "label_meanings": {"1": "skin"}},
        "style": {"style": "light"},
        "fill": {"fill": "#123456"},
        "fills": {"fills": {"nose": "red"}},
        "opacity": {"opacity": 0.25},
        "stroke": {"stroke": "black"},
        "stroke_width": {"stroke_width": 3},
        "dash": {"dash": []},
        "labels": {"labels": "none"},
        "photo": {"photo": False},
        "clip": {"clip": True},
        "transparent": {"transparent": True},
        "padding": {"padding": 0.5},
        "smoothing": {"smoothing": 0.9},
        "size": {"size": 256},
    },
    "crop": {
        "width": {"width": 200},
        "height": {"height": 200},
        "aspect": {"aspect": "16:9"},
        "zoom": {"zoom": 0.5},
        "each": {"each": True},
        "size": {"each": True, "size": 100},
        "margin": {"each": True, "margin": 0.5},
        "max_faces": {"each": True, "max_faces": 2},
        "min_score": {"min_score": 0.25},
        "format": {"format": "png"},
    },
    "generate": {
        "painter": {"painter": "drawn", "style": "oil"},
        "style": {"style": "halftone"},
        "colours": {"colours": 8},
        "size": {"size": "200x100"},
        "seed": {"seed": 5},
        "count": {"count": 2},
        "area": {"area": "background"},
        "keep_colour": {"keep_colour": True},
        "format": {"format": "png"},
        "provenance": {"provenance": False},
    },
    "pipeline": {"steps": {"steps": [{"operation": "generate", **PIXEL}, {"operation": "detect", "mark": "blur"}]}},
    "samples": {"painter": {"painter": "styles"}, "size": {"size": 100}},
}

every_operation = pytest.mark.parametrize("operation", CATALOGUE.values(), ids=CATALOGUE)
Run = Callable[..., Made]


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    from tests.conftest import MODELS

    return Models(MODELS)


@pytest.fixture(scope="module")
def run(models: Models) -> Run:
    """Runs an operation on a photo."""

    def run(operation: Operation[Any, Any], photo: bytes, /, *, defaults: bool = False, **values: Any) -> Made:
        given = values if defaults else {**FIXED.get(operation.name, {}), **values}
        return local.run(operation, given, {"image": photo}, models=models, limits=Limits())

    return run


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def parse(operation: Operation[Any, Any], photo: bytes, /, **values: Any) -> Any:
    params = operation.parse({**FIXED.get(operation.name, {}), **values}, {"image": photo}, Limits())
    return operation.settled(params, "a request")


# --- description -----------------------------------------------------------------------------------------------------


@every_operation
def test_it_is_described(operation: Operation[Any, Any]) -> None:
    assert operation.name.isidentifier()
    assert operation.summary.endswith(".")
    assert operation.version >= 1
    assert operation.lanes
    assert operation.image_fields[0] == "image"


@every_operation
def test_it_runs_in_a_lane_that_it_names(operation: Operation[Any, Any], astronaut_jpeg: bytes) -> None:
    params = operation.parse(FIXED.get(operation.name, {}), {"image": astronaut_jpeg}, Limits())
    assert operation.lane(params) in operation.lanes


@every_operation
def test_its_parameters_make_a_form(operation: Operation[Any, Any]) -> None:
    schema = operation.params.model_json_schema()
    assert schema["additionalProperties"] is False
    optional = operation.params.model_fields["image"].annotation is not ImageRef
    assert schema.get("required", []) == ([] if optional else ["image"])
    assert set(schema["properties"]) <= {name for name, _ in flat_fields(operation.params)}
    for name, field in schema["properties"].items():
        assert field.get("title"), f"{name} has no title"
        options = [field, *field.get("anyOf", [])]
        assert any(key in option for option in options for key in ("type", "enum", "const", "$ref")), name
        needed = any(name in leaf["required"] for leaf in schema.get("oneOf", ()))  # by one of the choices alone
        assert name in operation.image_fields or needed or "default" in field, f"{name} has no default"
    for name, info in operation.params.model_fields.items():
        assert name not in schema["properties"] or info.title, f"{name} has no title of its own"


@every_operation
def test_its_result_is_described(operation: Operation[Any, Any]) -> None:
    schema = operation.result.model_json_schema()
    assert schema["properties"]
    assert schema["description"]
    for part in schema.get("$defs", {}).values():
        assert part["description"], part["title"]


# --- results ---------------------------------------------------------------------------------------------------------


@every_operation
def test_defaults_run_and_the_result_is_what_it_says(
    operation: Operation[Any, Any], run: Run, astronaut_jpeg: bytes
) -> None:
    made = run(operation, astronaut_jpeg, defaults=True)
    assert isinstance(made.result, operation.result)
    plain = made.result.model_dump(mode="json")
    assert operation.result.model_validate(plain) == made.result
    assert _finite(plain)
    assert made.artifacts
    assert all(made.artifacts.values())
    assert made.stages
    assert made.result.summary().get("faces_count", 1) == 1


@every_operation
def test_the_result_is_reproducible(operation: Operation[Any, Any], run: Run, astronaut_jpeg: bytes) -> None:
    one, two = (run(operation, astronaut_jpeg) for _ in range(2))
    assert one.result == two.result
    assert one.artifacts == two.artifacts


def _as_grey(photo: Image.Image) -> bytes:
    return saved(photo.convert("L"), "PNG")


def _with_alpha(photo: Image.Image) -> bytes:
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size).point(lambda value: max(value, 128)))
    return saved(clear, "PNG")


def _sideways_by_exif(photo: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6  # must be turned by 90° clockwise to be upright
    return saved(photo.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


_KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "grey": _as_grey,
    "alpha": _with_alpha,
    "palette": lambda photo: saved(photo.quantize(64), "GIF"),
    "CMYK": lambda photo: saved(photo.convert("CMYK"), "JPEG", quality=95),
    "WebP": lambda photo: saved(photo, "WEBP"),
    "EXIF": _sideways_by_exif,
}


@every_operation
@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_of_picture(operation: Operation[Any, Any], run: Run, astronaut: Pixels, kind: str) -> None:
    photo = Image.fromarray(astronaut[:400, 50:400])  # not square, so that a wrong orientation is noticed
    made = run(operation, _KINDS[kind](photo))
    assert made.result.summary().get("faces_count", 1) == 1
    assert made.result.image.model_dump() == {"width": 350, "height": 400}
    upright = run(operation, saved(photo, "PNG"))
    for name, where in _places(upright.result).items():
        assert np.allclose(_places(made.result)[name], where, atol=15), (name, where, _places(made.result)[name])


def _places(result: BaseModel) -> dict[str, list[float]]:
    """The position of the face in the operation's result."""
    plain = result.model_dump()
    if plain.get("faces"):
        face = plain["faces"][0]
        return {name: [at["x"], at["y"]] for name, at in face.get("landmarks", {"face": face}).items()}
    if "landmarks" not in plain:
        return {}
    return {str(number): [plain["landmarks"][number][axis] for axis in "xy"] for number in (1, 33, 263, 61, 291)}


@every_operation
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (64, 64)])
def test_no_face(operation: Operation[Any, Any], run: Run, size: tuple[int, int]) -> None:
    photo = saved(Image.new("RGB", size, (90, 120, 60)), "PNG")
    how = WITHOUT_A_FACE[operation.name]
    if how == "fails":
        with pytest.raises(FaceNotFoundError):
            run(operation, photo)
    else:
        made = run(operation, photo)
        assert made.result.summary().get("faces_count", 0) == 0
        assert bool(made.artifacts) == (how == "goes on")


@every_operation
def test_a_truncated_photo_is_a_bad_image(operation: Operation[Any, Any], run: Run, astronaut_jpeg: bytes) -> None:
    with pytest.raises(BadImageError):
        run(operation, astronaut_jpeg[: len(astronaut_jpeg) // 2])


@every_operation
def test_a_cancelled_operation_stops(operation: Operation[Any, Any], models: Models, astronaut_jpeg: bytes) -> None:
    class NotWantedError(Exception):
        pass

    def check() -> None:
        raise NotWantedError

    attached: list[str] = []
    ctx = Context(
        models=models,
        limits=Limits(),
        read=lambda _: astronaut_jpeg,
        attach=lambda name, *_: attached.append(name),
        check=check,
    )
    with pytest.raises(NotWantedError):
        operation.run(parse(operation, astronaut_jpeg), ctx)
    assert attached == []


# --- invalid input ---------------------------------------------------------------------------------------------------


@every_operation
def test_the_table_of_other_values_is_complete(operation: Operation[Any, Any]) -> None:
    beside = getattr(operation.params, "not_in_cache_key", frozenset())
    fields = set(operation.params.model_fields) - set(operation.image_fields) - beside
    assert set(OTHER[operation.name]) >= fields
    assert set(OTHER[operation.name]) <= {name for name, _ in flat_fields(operation.params)}


# Another painter of `samples` needs weights, `map_values` a map: test_samples.py and test_contours.py have them.
WITH_MORE = {("samples", "painter"), ("contours", "map_values")}
EVERY_PARAMETER = [
    (name, field) for name, fields in OTHER.items() for field in fields if (name, field) not in WITH_MORE
]


@pytest.mark.parametrize(("name", "field"), EVERY_PARAMETER)
def test_every_parameter_is_part_of_the_cache_key(name: str, field: str, astronaut_jpeg: bytes) -> None:
    operation = CATALOGUE[name]
    default = operation.cache_key(parse(operation, astronaut_jpeg), "models")
    changed = parse(operation, astronaut_jpeg, **OTHER[name][field])
    assert operation.cache_key(changed, "models") != default


# Points that are not those of a face are refused; test_contours.py uses real ones.
@pytest.mark.parametrize(
    ("name", "field"),
    [each for each in EVERY_PARAMETER if each not in {("contours", "landmarks"), ("contours", "landmarks_unit")}],
)
def test_every_parameter_runs(name: str, field: str, run: Run, astronaut_jpeg: bytes) -> None:
    made = run(CATALOGUE[name], astronaut_jpeg, **OTHER[name][field])
    assert made.result.summary().get("faces_count", 1) == 1


@every_operation
def test_the_cache_key_depends_only_on_the_work(
    operation: Operation[Any, Any], astronaut: Pixels, astronaut_jpeg: bytes
) -> None:
    params = parse(operation, astronaut_jpeg)
    key = operation.cache_key(params, "models")
    assert operation.cache_key(parse(operation, astronaut_jpeg), "models") == key
    assert operation.cache_key(params, "other models") != key
    assert replace(operation, version=operation.version + 1).cache_key(params, "models") != key
    assert replace(operation, name="other").cache_key(params, "models") != key
    assert operation.cache_key(parse(operation, as_jpeg(astronaut, 89)), "models") != key
    for field in operation.params.not_in_cache_key:
        value = {"cache": CACHE.get(operation.name, "similar"), "answer_after_s": 5}[field]
        assert operation.cache_key(parse(operation, astronaut_jpeg, **{field: value}), "models") == key


@every_operation
@pytest.mark.parametrize("values", [{"no_such_field": 1}, {"image": "not a picture"}, {"image": None}])
def test_wrong_parameters_are_named(
    operation: Operation[Any, Any], astronaut_jpeg: bytes, values: dict[str, Any]
) -> None:
    name = next(iter(values))
    pictures = {"image": astronaut_jpeg} if name != "image" else {}
    with pytest.raises(InvalidRequestError, match=name) as refused:
        operation.parse(values, pictures, Limits())
    assert isinstance(refused.value.extra["errors"], list)
    with pytest.raises(InvalidRequestError, match="image"):
        operation.parse({}, {}, Limits())


@every_operation
def test_stored_parameters_come_back_as_they_were(operation: Operation[Any, Any], astronaut_jpeg: bytes) -> None:
    for values in ({}, *(OTHER[operation.name][field] for name, field in EVERY_PARAMETER if name == operation.name)):
        params = parse(operation, astronaut_jpeg, **values)
        assert operation.params.model_validate(params.model_dump(mode="json")) == params
        assert isinstance(params.image, ImageRef)


def _finite(value: object) -> bool:
    """No NaN or infinity anywhere: JSON has none."""
    if isinstance(value, dict):
        return all(_finite(each) for each in value.values())
    if isinstance(value, list):
        return all(_finite(each) for each in value)
    return not isinstance(value, float) or bool(np.isfinite(value))
