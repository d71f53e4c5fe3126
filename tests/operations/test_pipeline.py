"""`pipeline`: each step is the operation as it would be alone; what they share; which step an error is of."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner import local
from limner.context import Context
from limner.domain.errors import FaceNotFoundError, InvalidRequestError, PainterNotReadyError
from limner.domain.lane import CPU, GPU, LANES, PAINT, REMOTE
from limner.local import Made
from limner.operation import Operation
from limner.operations import CATALOGUE
from limner.operations.pipeline import MAX_STEPS, pipeline
from limner.painters import PAINTERS
from limner.vision.image import Limits
from limner.vision.models import Models
from tests.conftest import MODELS, as_jpeg

Pixels = npt.NDArray[np.uint8]
Run = Callable[..., Made]

PIPELINE = CATALOGUE["pipeline"]
ALL: list[dict[str, Any]] = [
    {"operation": "detect", "mark": "pixelate"},
    {"operation": "contours", "scheme": "seven"},
    {"operation": "crop", "width": 80, "height": 60},
    {"operation": "generate", "style": "pixel", "seed": 7, "area": "background", "count": 2},
]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(MODELS)


@pytest.fixture
def run(models: Models, astronaut_jpeg: bytes) -> Run:
    def run(steps: list[dict[str, Any]], photo: bytes = astronaut_jpeg, **pictures: bytes) -> Made:
        return local.run(PIPELINE, {"steps": steps}, {"image": photo, **pictures}, models=models, limits=Limits())

    return run


def parse(photo: bytes, *steps: dict[str, Any], **pictures: bytes) -> Any:
    return PIPELINE.parse({"steps": list(steps)}, {"image": photo, **pictures}, Limits())


def _half_clear(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels)
    picture.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda value: max(value, 128)))
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("make", [as_jpeg, _half_clear])
@pytest.mark.parametrize("order", [ALL, ALL[::-1]], ids=["forwards", "backwards"])
def test_a_step_makes_what_its_operation_makes_alone(
    make: Callable[[Pixels], bytes], order: list[dict[str, Any]], run: Run, models: Models, astronaut: Pixels
) -> None:
    photo = make(astronaut)
    together = run(order, photo)
    plain = together.result.model_dump()
    artifacts: dict[str, bytes] = {}
    for step in order:
        name = step["operation"]
        values = {key: value for key, value in step.items() if key != "operation"}
        alone = local.run(CATALOGUE[name], values, {"image": photo}, models=models, limits=Limits())
        own = {f"{name}.{file}": data for file, data in alone.artifacts.items()}
        assert plain["steps"][name] == {
            "operation": name,
            "artifacts": list(own),
            "result": alone.result.model_dump(),
        }
        artifacts |= own
    assert list(plain["steps"]) == [step["operation"] for step in order]
    assert together.artifacts == artifacts, "a step has changed the picture of the next"


def test_the_photo_is_read_and_decoded_once(models: Models, astronaut_jpeg: bytes) -> None:
    read: list[str] = []
    told: list[float] = []

    def reading(sha256: str) -> bytes:
        read.append(sha256)
        return astronaut_jpeg

    ctx = Context(
        models=models,
        limits=Limits(),
        read=reading,
        attach=lambda *_: None,
        tell=lambda fraction, _: told.append(fraction),
    )
    PIPELINE.run(PIPELINE.settled(parse(astronaut_jpeg, *ALL), "a request"), ctx)
    assert len(read) == 1
    assert {1 / 4, 2 / 4, 3 / 4} <= set(told)
    assert told == sorted(told)
    assert 3 / 4 < told[-1] <= 1


@pytest.mark.parametrize(
    ("steps", "after"),
    list(enumerate(["detect.marked.jpg", "contours.contours.svg", "crop.crop.jpg", "a step of generate"])),
)
def test_it_stops_between_and_within_steps(steps: int, after: str, models: Models, astronaut_jpeg: bytes) -> None:
    class StopError(Exception):
        pass

    attached: list[str] = []
    told: list[float] = []

    def check() -> None:
        if after in attached or (after == "a step of generate" and told and told[-1] > 3 / 4):
            raise StopError

    ctx = Context(
        models=models,
        limits=Limits(),
        read=lambda _: astronaut_jpeg,
        attach=lambda name, *_: attached.append(name),
        check=check,
        tell=lambda fraction, _: told.append(fraction),
    )
    with pytest.raises(StopError):
        PIPELINE.run(PIPELINE.settled(parse(astronaut_jpeg, *ALL), "a request"), ctx)
    files = ["detect.marked.jpg", "contours.contours.svg", "crop.crop.jpg", "generate.image-1.jpg"]
    assert attached == files[: steps + 1]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"operation": "enhance" * 50}, "steps.1.operation"),
        ({"mark": "blur"}, "steps.1.operation"),
        ("detect", "steps.1"),
        ({"operation": "detect", "image": "aGk="}, "steps.1.image"),
        ({"operation": "detect", "mark": "none", "other": 1}, "steps.1.other"),
        ({"operation": "contours"}, "steps.1.name"),
        ({"operation": "contours", "name": "a/b"}, "steps.1.name"),
        ({"operation": "contours", "name": "two", "cache": "similar"}, "steps.1.cache"),
        ({"operation": "contours", "name": "two", "regions": {str(n): 1 for n in range(65)}}, "steps.1.regions"),
        ({"operation": "contours", "name": "two", "segmentation_map": True}, "steps.1.segmentation_map"),
        ({"operation": "generate", "style": "ink", "dot": 2}, "steps.1.dot"),
        ({"operation": "generate", "style": "none"}, "steps.1.style"),
        ({"operation": "generate", "painter": "styles", "style": "picture"}, None),
    ],
)
def test_a_wrong_step_is_named(step: Any, field: str | None, astronaut_jpeg: bytes) -> None:
    with pytest.raises((InvalidRequestError, PainterNotReadyError)) as refused:
        parse(astronaut_jpeg, {"operation": "contours"}, step)
    problem = refused.value.problem()
    if field is None:  # a painter without its weights, or without the picture: either way the step is told
        assert problem["step"] == "generate"
        return
    assert [each["field"] for each in problem["errors"]] == [field]  # type: ignore[attr-defined]
    assert str(problem["detail"]).startswith(f"{field}: ")
    assert len(str(problem)) < 1000


@pytest.mark.parametrize("count", [0, MAX_STEPS + 1])
def test_there_are_one_to_eight_steps(count: int, astronaut_jpeg: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"^steps: "):
        parse(astronaut_jpeg, *({"operation": "detect", "name": f"a{number}"} for number in range(count)))
    most = [{"operation": "detect", "name": f"a{number}"} for number in range(MAX_STEPS)]
    assert len(parse(astronaut_jpeg, *most).steps) == MAX_STEPS


def test_further_pictures_go_to_the_steps_that_ask_for_them(
    run: Run, astronaut: Pixels, astronaut_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros(astronaut.shape[:2], np.uint8)
    labels[60:300, 150:300] = 1
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG")
    steps = [
        {"operation": "contours", "scheme": "labels", "segmentation_map": True},
        {"operation": "contours", "name": "without"},
    ]
    made = run(steps, segmentation_map=file.getvalue()).result.model_dump()["steps"]
    assert list(made["contours"]["result"]["mask_contours"]) == ["1"]
    assert len(made["without"]["result"]["mask_contours"]) > 5
    with pytest.raises(InvalidRequestError, match="segmentation_map: No step takes this picture"):
        parse(astronaut_jpeg, *ALL, segmentation_map=file.getvalue())
    with pytest.raises(InvalidRequestError, match=r"^steps\.0\.style_image: drawn takes no picture"):
        parse(astronaut_jpeg, {"operation": "generate", "style_image": True}, style_image=astronaut_jpeg)
    monkeypatch.setattr(PAINTERS["drawn"].params, "takes_style_photo", lambda _: True)
    parse(astronaut_jpeg, {"operation": "generate", "style_image": True}, style_image=astronaut_jpeg)


def test_every_further_picture_of_a_step_is_one_of_the_request() -> None:
    further = {name for each in CATALOGUE.values() for name in each.image_fields}
    assert set(PIPELINE.image_fields) == further


def test_a_step_that_fails_is_told(run: Run) -> None:
    with pytest.raises(FaceNotFoundError) as failed:
        run(ALL, as_jpeg(np.full((64, 64, 3), 90, np.uint8)))
    assert failed.value.problem() == {
        **FaceNotFoundError().problem(),
        "detail": "contours: No face was found in the photo.",
        "step": "contours",
    }


@pytest.mark.parametrize("lane", LANES)
def test_a_step_of_any_lane_decides_where_it_runs(
    lane: str, astronaut_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(PAINTERS["drawn"]), "lane", lambda *_: lane)
    assert PIPELINE.lane(parse(astronaut_jpeg, {"operation": "detect"}, {"operation": "generate"})) == lane


def test_drawing_is_a_job_of_painting(astronaut_jpeg: bytes) -> None:
    assert PIPELINE.lane(parse(astronaut_jpeg, {"operation": "detect"}, {"operation": "generate"})) == PAINT


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [((), CPU), ((CPU, CPU), CPU), ((CPU, REMOTE), REMOTE), ((REMOTE, CPU), REMOTE), ((GPU, REMOTE), GPU)],
)
def test_it_runs_where_its_most_special_step_must(
    lanes: tuple[str, ...], expected: str, astronaut_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(PAINTERS["drawn"]), "lane", lambda _, params: lanes[params.style.colours - 2])
    generated = [
        {"operation": "generate", "name": f"a{number}", "style": "pixel", "colours": number + 2}
        for number in range(len(lanes))
    ]
    assert PIPELINE.lane(parse(astronaut_jpeg, {"operation": "detect"}, *generated)) == expected


def test_a_seed_is_drawn_for_each_step(astronaut_jpeg: bytes) -> None:
    two = [{"operation": "generate"}, {"operation": "generate", "name": "other"}]
    params = parse(astronaut_jpeg, *two)

    def seeds(request: str) -> list[int]:
        return [step.seed for step in PIPELINE.settled(params, request).steps]

    assert seeds("a") == seeds("a")
    assert len({*seeds("a"), *seeds("b")}) == 4


def test_it_is_cached_as_a_whole_unless_a_step_must_be_fresh(
    astronaut_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint(request: str, **values: Any) -> str:
        params = parse(astronaut_jpeg, {"operation": "detect"}, {"operation": "generate", "seed": 1, **values})
        return PIPELINE.fingerprint(params, " ".join, request)

    def key(**values: Any) -> str:
        return PIPELINE.cache_key(parse(astronaut_jpeg, {"operation": "generate", "seed": 1, **values}), "")

    assert fingerprint("a") == fingerprint("b")
    assert fingerprint("a", cache="off") != fingerprint("b", cache="off")
    assert key(cache="exact") == key()
    assert key(style="ink") != key()
    before = fingerprint("a")
    monkeypatch.setattr(type(PAINTERS["drawn"]), "fingerprint", lambda *_: "other weights")
    assert fingerprint("a") != before
    monkeypatch.setattr(type(PAINTERS["drawn"]), "lane", lambda *_: "remote")
    assert fingerprint("a") != fingerprint("b"), "a hosted painter paints anew"


def _alone(operation: Operation[Any, Any]) -> Operation[Any, Any]:
    return pipeline([operation], default=[operation])


def test_a_new_version_of_a_step_is_other_work(astronaut_jpeg: bytes) -> None:

    newer = _alone(replace(CATALOGUE["detect"], version=99))
    steps = {"steps": [{"operation": "detect"}]}

    def fingerprint(of: Any) -> str:
        return str(of.fingerprint(of.parse(steps, {"image": astronaut_jpeg}, Limits()), lambda _: "", "request"))

    assert fingerprint(newer) != fingerprint(_alone(CATALOGUE["detect"]))


def test_the_numbers_of_a_pipeline_are_the_largest_of_its_steps(run: Run, astronaut: Pixels) -> None:
    made = run([{"operation": "detect"}, ALL[1], {**ALL[-1], "size": "64"}], as_jpeg(np.tile(astronaut, (1, 2, 1))))
    assert made.result.summary() == {"faces_count": 2, "pictures_count": 2}
