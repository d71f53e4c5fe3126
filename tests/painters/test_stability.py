"""The painter `stability` against a local server that speaks its two interfaces."""

import base64
import json

import pytest

from limner.domain import errors
from limner.painters.stability import MAX_SENT_BYTES, Stability, StabilityParams
from limner.vision.header import Limits
from limner.vision.structure import look
from tests.painters.servers import Reply, Request, Steps, bomb, canvas, gradient, png, serving

KEY = "sk-stability-secret"
MADE = gradient(64, 64)
PHOTO = gradient(120, 200)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABILITY_API_KEY", KEY)


def success(request: Request) -> Reply:
    if request.path.startswith("/v1/"):
        told = {"artifacts": [{"base64": base64.b64encode(png(MADE)).decode(), "finishReason": "SUCCESS", "seed": 1}]}
        return Reply(json.dumps(told).encode())
    return Reply(png(MADE), headers={"finish-reason": "SUCCESS", "seed": "7", "Content-Type": "image/png"})


PATHS = {
    "structure": "/v2beta/stable-image/control/structure",
    "style": "/v2beta/stable-image/control/style",
    "sd3": "/v2beta/stable-image/generate/sd3",
    "ultra": "/v2beta/stable-image/generate/ultra",
    "core": "/v2beta/stable-image/generate/core",
    "v1": "/v1/generation/stable-diffusion-xl-1024-v1-0/image-to-image",
}
TAKEN = {
    "structure": {"strength", "style_preset"},
    "style": {"strength"},
    "sd3": {"strength", "model", "guidance", "style_preset"},
    "ultra": {"strength", "style_preset"},
    "core": {"style_preset"},
    "v1": {"strength", "guidance", "style_preset"},
}
GIVEN = {"strength": 0.7, "model": "sd3.5-medium", "guidance": 4, "style_preset": "anime"}
OWN = {
    "structure": {"control_strength": b"0.3", "style_preset": b"anime"},
    "style": {"fidelity": b"0.3", "aspect_ratio": b"16:9"},
    "sd3": {
        "mode": b"image-to-image",
        "strength": b"0.7",
        "cfg_scale": b"4",
        "model": b"sd3.5-medium",
        "style_preset": b"anime",
    },
    "ultra": {"strength": b"0.7", "style_preset": b"anime"},
    "core": {"aspect_ratio": b"16:9", "style_preset": b"anime"},
    "v1": {"image_strength": b"0.3", "cfg_scale": b"4", "text_prompts[1][text]": b"hands", "style_preset": b"anime"},
}


@pytest.mark.parametrize("service", PATHS)
def test_each_service_gets_what_it_asks_for(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    own = {name: value for name, value in GIVEN.items() if name in TAKEN[service]}
    params = StabilityParams.model_validate({"prompt": "a fox", "negative_prompt": "hands", "service": service, **own})
    with serving(success) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        made = Stability().paint(canvas(PHOTO, seed=4_294_967_295), params)
    assert (made == MADE).all()
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", PATHS[service])
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept"] == ("application/json" if service == "v1" else "image/*")
    fields = request.form()
    image = fields.pop("init_image" if service == "v1" else "image", None)
    assert (image is None) == (service == "core")
    assert fields.items() >= OWN[service].items()
    assert fields["seed"] == b"0"  # the highest seed is none of theirs
    assert fields["text_prompts[0][text]" if service == "v1" else "prompt"] == b"a fox"
    if image is not None:
        info = look(image, Limits())
        assert info.media_type == "image/jpeg"
        assert (info.width, info.height) == ((1344, 768) if service == "v1" else (200, 120))


@pytest.mark.parametrize("service", PATHS)
def test_what_a_service_does_not_take_is_refused_and_defaults_are_not(service: str) -> None:
    StabilityParams.model_validate({"prompt": "x", "negative_prompt": "y", "service": service}).refuse_unused()
    for field, value in GIVEN.items():
        params = StabilityParams.model_validate({"prompt": "x", "service": service, field: value})
        if field in TAKEN[service]:
            params.refuse_unused()
            continue
        with pytest.raises(errors.InvalidRequestError, match=f"^{field}: The service {service} does not") as refused:
            params.refuse_unused()
        assert refused.value.extra == {"field": field}
        with pytest.raises(errors.InvalidRequestError, match=f"^{field}: "):
            Stability().paint(canvas(PHOTO), params)


def test_defaults_are_those_that_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(success) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        Stability().paint(canvas(PHOTO), StabilityParams(prompt="x", service="sd3"))
    fields = server.requests[0].form()
    assert (fields["model"], fields["strength"]) == (b"sd3.5-large", b"0.6")
    schema = StabilityParams.model_json_schema()["properties"]
    assert "default: 0.6" in schema["strength"]["description"]
    assert "default: `sd3.5-large`" in schema["model"]["description"]


def test_the_style_picture_is_sent_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(success) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        params = StabilityParams(prompt="x", service="style")
        for photo in (PHOTO, None):
            Stability().paint(canvas(photo, style_photo=gradient(70, 90)), params)
    for request in server.requests:
        info = look(request.form()["image"], Limits())
        assert (info.width, info.height) == (90, 70)
    assert params.takes_photo(beside_style=False)
    assert not params.takes_photo(beside_style=True)


@pytest.mark.parametrize(("height", "width"), [(20, 30), (4000, 3000)])
def test_a_photo_is_sent_within_the_limits_of_the_service(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int
) -> None:
    with serving(success) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        Stability().paint(canvas(gradient(height, width)), StabilityParams(prompt="x"))
    image = server.requests[0].form()["image"]
    info = look(image, Limits())
    assert len(image) <= MAX_SENT_BYTES
    assert min(info.width, info.height) >= 64
    assert info.width * info.height <= 9_437_184


@pytest.mark.parametrize("service", ["structure", "v1"])
def test_a_filtered_picture_is_an_error_although_the_status_is_200(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    def filtered(request: Request) -> Reply:
        if service == "v1":
            artifact = {"base64": base64.b64encode(png(MADE)).decode(), "finishReason": "CONTENT_FILTERED"}
            return Reply(json.dumps({"artifacts": [artifact]}).encode())
        return Reply(png(MADE), headers={"finish-reason": "CONTENT_FILTERED"})

    with serving(filtered) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        with pytest.raises(errors.ContentRefusedError, match="charged"):
            Stability().paint(canvas(PHOTO), StabilityParams.model_validate({"prompt": "x", "service": service}))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(b'{"id":"1","name":"bad_request","errors":["strength: too big"]}', 400), errors.PainterRequestError),
        (Reply(b'{"id":"1","name":"invalid_prompts","message":"no"}', 400), errors.ContentRefusedError),
        (Reply(b'{"name":"unauthorized","errors":["sk-stability-secret"]}', 401), errors.PainterKeyError),
        (Reply(b'{"name":"payment_required","errors":["credits"]}', 402), errors.PainterCreditError),
        (Reply(b'{"name":"content_moderation","errors":["flagged"]}', 403), errors.ContentRefusedError),
        (Reply(b'{"name":"x","errors":["key sk-stability-secret may not"]}', 403), errors.ContentRefusedError),
        (Reply(b"", 413), errors.TooLargeError),
        (Reply(b'{"name":"rate_limit_exceeded","errors":["150"]}', 429), errors.PainterBusyError),
        (Reply(b"<html>", 502), errors.PainterServerError),
        (Reply(bomb()), errors.PainterServerError),
        (Reply(b"no picture"), errors.PainterServerError),
        (Reply(png(MADE), headers={"finish-reason": "ERROR"}), errors.PainterServerError),
        (None, errors.PainterServerError),
    ],
    ids=range(13),
)
def test_each_error_is_told_as_what_it_is_and_nothing_is_sent_twice(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reply: Reply | None,
    kind: type[errors.LimnerError],
) -> None:
    caplog.set_level("DEBUG")
    with serving(lambda _: reply) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        with pytest.raises(kind) as told:
            Stability().paint(canvas(PHOTO), StabilityParams(prompt="a private wish"))
    assert len(server.requests) == 1
    for text in (told.value.detail, caplog.text):
        assert KEY not in text
        assert "private wish" not in text


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"artifacts": []}', b'{"artifacts": [{"base64": "!"}]}'])
def test_an_answer_of_v1_that_holds_no_picture(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with serving(lambda _: Reply(body)) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        with pytest.raises(errors.PainterServerError):
            Stability().paint(canvas(PHOTO), StabilityParams(prompt="x", service="v1"))


def test_without_key_photo_or_sound_url_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = Stability()
    with serving(success) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        assert painter.ready() is None
        with pytest.raises(errors.InvalidRequestError, match="needs a photo"):
            painter.paint(canvas(), StabilityParams(prompt="x"))
        monkeypatch.delenv("STABILITY_API_KEY")
        assert "STABILITY_API_KEY" in str(painter.ready())
        with pytest.raises(errors.PainterNotReadyError, match="STABILITY_API_KEY"):
            painter.paint(canvas(PHOTO), StabilityParams(prompt="x"))
    assert server.requests == []
    monkeypatch.setenv("STABILITY_BASE_URL", "file:///etc/passwd")
    assert "STABILITY_BASE_URL" in str(painter.ready())


def test_needs_lane_and_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    painter, steps = Stability(), Steps()
    assert painter.needs(StabilityParams(prompt="x", service="core")) == "nothing"
    assert painter.needs(StabilityParams(prompt="x")) == "photo"
    assert painter.lane(StabilityParams(prompt="x")) == "remote"
    with serving(success) as server:
        monkeypatch.setenv("STABILITY_BASE_URL", server.url)
        before = painter.fingerprint(StabilityParams(prompt="x"))
        made = painter.paint(canvas(steps=steps), StabilityParams(prompt="x", service="core"))
    assert (made == MADE).all()
    assert steps.told[-1] == (1, 1)
    monkeypatch.setenv("STABILITY_BASE_URL", "https://other.example")
    assert painter.fingerprint(StabilityParams(prompt="x")) != before
