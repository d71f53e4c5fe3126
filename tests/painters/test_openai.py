"""The painter `openai` against local servers that speak the interface in its dialects."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.domain import errors
from limner.painters.openai import Openai, OpenaiParams
from limner.vision import image
from limner.vision.header import Limits
from tests.painters.servers import Reply, Request, Steps, bomb, canvas, gradient, png, serving

KEY = "sk-openai-secret"
MADE = gradient(64, 64)
PHOTO = gradient(120, 200)

Entry = Callable[[str], None]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def success(_: Request) -> Reply:
    return Reply(json.dumps({"created": 1, "data": [{"b64_json": b64(png(MADE))}]}).encode())


def streaming(request: Request) -> Reply:
    """Two partial pictures and the whole one, in awkward pieces."""
    kind = "image_edit" if request.path.endswith("edits") else "image_generation"

    def event(name: str, number: int, pixels: np.ndarray[Any, Any]) -> bytes:
        told = {"type": f"{kind}.{name}", "partial_image_index": number, "b64_json": b64(png(pixels))}
        return f"event: {kind}.{name}\r\ndata: {json.dumps(told)}\r\n\r\n".encode()

    whole = event("partial_image", 0, MADE // 4) + event("partial_image", 1, MADE // 2) + event("completed", 0, MADE)
    pieces: Iterator[bytes] = iter([whole[:7], whole[7:900], whole[900:-1], whole[-1:]])
    return Reply(pieces, headers={"Content-Type": "text/event-stream; charset=utf-8"})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for variable in ("OPENAI_BASE_URL", "OPENAI_IMAGE_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "openai").mkdir()
    return tmp_path / "openai"


@pytest.fixture
def entry(folder: Path) -> Entry:
    """Writes the entry `local`."""
    return lambda toml: (folder / "local.toml").write_text(toml) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("photo", [PHOTO, None], ids=["edit", "generation"])
def test_openai_itself_with_previews(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray[Any, Any] | None) -> None:
    steps = Steps()
    with serving(streaming) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1/")
        made = Openai().paint(canvas(photo, steps=steps), OpenaiParams(prompt="a fox", quality="low"))
    assert (made == MADE).all()
    assert [preview.tolist() for preview in steps.previews] == [(MADE // 4).tolist(), (MADE // 2).tolist()]
    assert steps.told[-1] == (3, 3)
    assert steps.told == sorted(steps.told)
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    if photo is None:
        assert request.path == "/v1/images/generations"
        sent = json.loads(request.body)
        assert sent == {
            "model": "gpt-image-1",
            "prompt": "a fox",
            "n": 1,
            "size": "1024x1024",
            "quality": "low",
            "output_format": "png",
            "stream": True,
            "partial_images": 2,
        }
    else:
        assert request.path == "/v1/images/edits"
        form = request.form()
        assert (image.decode(form.pop("image"), Limits()) == PHOTO).all()
        assert (form["stream"], form["partial_images"], form["size"]) == (b"true", b"2", b"1536x1024")


def test_a_stream_that_was_asked_for_may_be_a_plain_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(success) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert (Openai().paint(canvas(), OpenaiParams(prompt="x")) == MADE).all()


def test_broken_previews_do_not_matter_and_a_broken_stream_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def events(*told: object) -> Reply:
        lines = (f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n".encode() for each in told)
        return Reply(iter(list(lines)), headers={"Content-Type": "text/event-stream"})

    partial = {"type": "image_edit.partial_image", "b64_json": b64(bomb())}
    steps = Steps()
    with serving(lambda _: events(partial, {"type": "image_edit.completed", "b64_json": b64(png(MADE))})) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert (Openai().paint(canvas(PHOTO, steps=steps), OpenaiParams(prompt="x")) == MADE).all()
        assert steps.previews == []
        for told, kind in (
            (["[DONE]"], errors.PainterServerError),
            (["{"], errors.PainterServerError),
            ([partial], errors.PainterServerError),
            ([{"type": "image_edit.completed"}], errors.PainterServerError),
            ([{"type": "image_edit.completed", "b64_json": b64(bomb())}], errors.PainterServerError),
            ([{"type": "error", "error": {"code": "moderation_blocked"}}], errors.ContentRefusedError),
            ([{"type": "error", "error": {"message": "boom"}}], errors.PainterServerError),
        ):
            server.answer = lambda _, told=told: events(*told)  # type: ignore[misc]
            with pytest.raises(kind):
                Openai().paint(canvas(PHOTO), OpenaiParams(prompt="x"))


def test_vllm_gets_seed_steps_and_any_size(entry: Entry) -> None:
    with serving(success) as server:
        entry(
            f'base_url = "{server.url}/v1"\ndialect = "vllm"\nmodel = "m"\nmax_pixels = 65536\n[extra]\nlora = "x"\n'
            "flag = true\n"
        )
        params = OpenaiParams(prompt="x", server="local", negative_prompt="hands", steps=9, guidance=4.5, strength=0.25)
        Openai().paint(canvas(gradient(512, 1024), seed=4_294_967_295), params)
        Openai().paint(canvas(size=(300, 200)), OpenaiParams(prompt="x", server="local"))
    edit, generation = server.requests
    assert "authorization" not in edit.headers
    form = edit.form()
    sent = image.decode(form.pop("image"), Limits())
    assert sent.shape == (176, 352, 3)
    assert {name: value.decode() for name, value in form.items()} == {
        "model": "m",
        "prompt": "x",
        "n": "1",
        "size": "352x176",
        "seed": "4294967295",
        "response_format": "b64_json",
        "negative_prompt": "hands",
        "num_inference_steps": "9",
        "guidance_scale": "4.5",
        "strength": "0.25",
        "lora": "x",
        "flag": "true",
    }
    assert json.loads(generation.body).items() >= {"size": "288x192", "seed": 7, "flag": True}.items()


def test_sd_server_gets_its_parameters_within_the_words(entry: Entry) -> None:
    with serving(success) as server:
        entry(f'base_url = "{server.url}/v1"\ndialect = "sd-server"\n[extra]\nclip_skip = 2\n')
        params = OpenaiParams(prompt="a fox", server="local", steps=9, guidance=4, strength=0.5, negative_prompt="n")
        Openai().paint(canvas(PHOTO), params)
        injected = OpenaiParams(prompt="a <sd_cpp_extra_args>{}</sd_cpp_extra_args>", server="local")
        with pytest.raises(errors.InvalidRequestError, match="sd_cpp_extra_args"):
            Openai().paint(canvas(PHOTO), injected)
    (request,) = server.requests
    found = re.fullmatch(r"a fox <sd_cpp_extra_args>(.*)</sd_cpp_extra_args>", request.form()["prompt"].decode())
    assert found is not None
    assert json.loads(found[1]) == {
        "seed": 7,
        "negative_prompt": "n",
        "strength": 0.5,
        "sample_params": {"sample_steps": 9, "guidance": {"txt_cfg": 4.0}},
        "clip_skip": 2,
    }


def test_localai_gets_the_photo_within_json(entry: Entry) -> None:
    with serving(success) as server:
        entry(f'base_url = "{server.url}/v1"\ndialect = "localai"\nmodel = "m"\n')
        params = OpenaiParams(prompt="a|b", server="local", negative_prompt="c", steps=5)
        Openai().paint(canvas(gradient(128, 256)), params)
    (request,) = server.requests
    assert request.path == "/v1/images/generations"
    sent = json.loads(request.body)
    assert image.decode(base64.b64decode(sent.pop("file")), Limits()).shape == (128, 256, 3)
    assert sent.items() >= {"prompt": "a b|c", "step": 5, "size": "256x128", "response_format": "b64_json"}.items()


@pytest.mark.parametrize(
    ("dialect", "field", "value"),
    [
        ("openai", "negative_prompt", "x"),
        ("openai", "steps", 5),
        ("litellm", "strength", 0.5),
        ("vllm", "quality", "high"),
        ("sd-server", "quality", "low"),
        ("localai", "guidance", 5),
    ],
)
def test_what_a_server_cannot_do_is_refused_not_ignored(entry: Entry, dialect: str, field: str, value: object) -> None:
    with serving(success) as server:
        entry(f'base_url = "{server.url}/v1"\ndialect = "{dialect}"\n')
        params = OpenaiParams.model_validate({"prompt": "x", "server": "local", field: value})
        with pytest.raises(errors.InvalidRequestError, match=field):
            params.refuse_unused()
        with pytest.raises(errors.InvalidRequestError, match=field):
            Openai().paint(canvas(PHOTO), params)
        OpenaiParams(prompt="x", server="local").refuse_unused()
    assert server.requests == []


@pytest.mark.parametrize(
    ("dialect", "extra", "takes"),
    [
        ("openai", "", False),
        ("litellm", "", False),
        ("vllm", "", True),
        ("sglang", "", True),
        ("sd-server", "", True),
        ("localai", "", True),
        ("vllm", "extra = { seed = 5 }\n", False),  # the operator's goes before the request's
    ],
)
def test_which_servers_are_sent_a_seed(entry: Entry, dialect: str, extra: str, takes: bool) -> None:
    with serving(success) as server:
        entry(f'base_url = "{server.url}/v1"\ndialect = "{dialect}"\n{extra}')
        params = OpenaiParams(prompt="x", server="local")
        assert params.takes_seed() == takes
        Openai().paint(canvas(seed=1234567), params)
    assert (b"1234567" in server.requests[0].body) == takes


def test_dall_e_is_asked_for_base64(entry: Entry) -> None:
    with serving(success) as server:
        entry(f'base_url = "{server.url}/v1"\nmodel = "dall-e-2"\nstream = true\n')
        Openai().paint(canvas(), OpenaiParams(prompt="x", server="local"))
    sent = json.loads(server.requests[0].body)
    assert sent["response_format"] == "b64_json"
    assert not {"output_format", "stream"} & set(sent)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(b'{"error": {"message": "bad size", "code": "invalid"}}', 400), errors.PainterRequestError),
        (Reply(b'{"error": {"message": "no", "code": "moderation_blocked"}}', 400), errors.ContentRefusedError),
        (Reply(b'{"error": {"message": "no", "code": "content_policy_violation"}}', 400), errors.ContentRefusedError),
        (Reply(b'{"error": {"message": "x", "code": "billing_hard_limit_reached"}}', 400), errors.PainterCreditError),
        (Reply(b'{"error": {"message": "Incorrect API key: sk-openai-secret"}}', 401), errors.PainterKeyError),
        (Reply(b'{"error": {"message": "key sk-openai-secret is too long"}}', 400), errors.PainterRequestError),
        (Reply(b'{"error": {"message": "verify your organisation"}}', 403), errors.PainterKeyError),
        (Reply(b"", 413), errors.TooLargeError),
        (Reply(b'{"error": {"type": "insufficient_quota"}}', 429), errors.PainterCreditError),
        (Reply(b'{"error": {"type": "tokens"}}', 429), errors.PainterBusyError),
        (Reply(b"<html>", 500), errors.PainterServerError),
        (Reply(b"{"), errors.PainterServerError),
        (Reply(b'{"data": []}'), errors.PainterServerError),
        (Reply(b'{"data": [{"url": "http://169.254.169.254/"}]}'), errors.PainterServerError),
        (Reply(json.dumps({"data": [{"b64_json": b64(b"no picture")}]}).encode()), errors.PainterServerError),
        (None, errors.PainterServerError),
    ],
    ids=range(16),
)
def test_each_error_is_told_as_what_it_is_and_nothing_is_sent_twice(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reply: Reply | None,
    kind: type[errors.LimnerError],
) -> None:
    caplog.set_level("DEBUG")
    with serving(lambda _: reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(kind) as told:
            Openai().paint(canvas(PHOTO), OpenaiParams(prompt="a private wish"))
    assert len(server.requests) == 1
    for text in (told.value.detail, caplog.text):
        assert KEY not in text
        assert "private wish" not in text


def test_keys_and_entries_that_are_missing_or_wrong(monkeypatch: pytest.MonkeyPatch, entry: Entry) -> None:
    painter = Openai()
    assert painter.ready() is None
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "OPENAI_API_KEY" in str(painter.ready())
    with pytest.raises(errors.PainterNotReadyError, match="OPENAI_API_KEY"):
        painter.paint(canvas(), OpenaiParams(prompt="x"))
    with pytest.raises(errors.InvalidRequestError, match="no entry"):
        painter.fingerprint(OpenaiParams(prompt="x", server="other"))
    for toml in ('base_url = "ftp://x"', 'base_url = "http://u:pw@x"', 'base_url = "http://x"\nkey_variable = "a b"'):
        entry(toml)
        assert "openai/local.toml" in str(painter.ready())
        assert "pw" not in str(painter.ready())
    entry('base_url = "http://x"\nkey_variable = "MY_KEY"')
    assert "MY_KEY" in str(painter.ready())
    monkeypatch.setenv("MY_KEY", "k")
    assert painter.ready() is None
    first = painter.fingerprint(OpenaiParams(prompt="x", server="local"))
    entry('base_url = "http://y"\nkey_variable = "MY_KEY"')
    assert painter.fingerprint(OpenaiParams(prompt="x", server="local")) != first
    assert painter.needs(OpenaiParams(prompt="x")) == "nothing"
    assert painter.lane(OpenaiParams(prompt="x")) == "remote"
