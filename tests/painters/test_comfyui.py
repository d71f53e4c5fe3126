"""The painter `comfyui` against a ComfyUI in small."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limner.domain import errors
from limner.painters.comfyui import Comfyui, ComfyuiParams
from limner.painters.comfyui_socket import Progress
from limner.vision import image
from limner.vision.header import Limits
from tests.painters.comfyui_server import (
    JOB,
    ComfyUI,
    comfyui,
    done,
    preview,
    preview_with_metadata,
    progress,
)
from tests.painters.servers import Steps, bomb, canvas, gradient, png

MADE = gradient(64, 64)
PHOTO = gradient(120, 200)
GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "{{photo}}"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a portrait, {{prompt}}, seed {{seed}}"}},
    "3": {
        "class_type": "KSampler",
        "inputs": {"seed": "{{seed}}", "denoise": "{{strength}}", "steps": "{{steps}}", "model": ["4", 0]},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": "{{width}}", "height": "{{height}}", "batch_size": 1}},
}
PLAY = [
    "not json",
    {"type": "status", "data": {}},
    {"type": "executing", "data": {"node": None, "prompt_id": "another"}},
    progress(1, 4),
    preview(png(MADE // 4)),
    progress(3, 4),
    preview_with_metadata(png(MADE // 2)),
    b"\0\0",
    progress("4", -1),
    done(),
]

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a workflow and its entry `mine`."""
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path))
    monkeypatch.delenv("COMFYUI_URL", raising=False)
    folder = tmp_path / "comfyui"
    folder.mkdir()

    def entry(graph: object = GRAPH, toml: str = "") -> None:
        (folder / "mine.json").write_text(graph if isinstance(graph, str) else json.dumps(graph))
        (folder / "mine.toml").write_text(f'workflow = "mine.json"\n{toml}')

    return entry


def params(**fields: Any) -> ComfyuiParams:
    return ComfyuiParams.model_validate({"workflow": "mine", **fields})


def test_a_workflow_is_filled_followed_and_fetched(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(toml='key_variable = "PROXY_KEY"\nsteps = 12\n')
    monkeypatch.setenv("PROXY_KEY", "k-secret")
    steps = Steps()
    with comfyui(png(MADE), PLAY) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        assert Comfyui().ready() is None
        injected = 'x", "class_type": "Evil {{photo}}'
        made = Comfyui().paint(canvas(PHOTO, steps=steps), params(prompt=injected, strength=0.25))
    assert (made == MADE).all()
    assert [each.tolist() for each in steps.previews] == [(MADE // 4).tolist(), (MADE // 2).tolist()]
    assert steps.told[-1] == (5, 5)
    shares = [done / most for done, most in steps.told]
    assert shares == sorted(shares)

    ((name, data),) = server.uploaded.items()
    assert (image.decode(data, Limits()) == PHOTO).all()
    assert server.headers[0]["authorization"] == "Bearer k-secret"
    sent = dict(server.calls)["/prompt"]
    assert sent["client_id"] == server.clients[0]
    graph = sent["prompt"]
    assert graph["1"]["inputs"]["image"] == f"{name} [temp]"
    assert graph["2"] == {"class_type": "CLIPTextEncode", "inputs": {"text": f"a portrait, {injected}, seed 7"}}
    assert graph["3"]["inputs"] == {"seed": 7, "denoise": 0.25, "steps": 12, "model": ["4", 0]}
    assert graph["5"]["inputs"] == {"width": 200, "height": 120, "batch_size": 1}
    assert dict(server.calls)["/view"] == {"filename": "made_1.png", "subfolder": "sub", "type": "output"}
    assert ("/history", {"delete": [JOB]}) in server.calls  # the words do not stay there
    assert "/interrupt" not in server.names()


def test_a_lost_socket_is_no_lost_picture(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    with comfyui(png(MADE), [progress(1, 4), None]) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        assert (Comfyui().paint(canvas(PHOTO), params()) == MADE).all()


class StoppedError(Exception):
    """Stands for a cancelled job."""


@pytest.mark.parametrize("running", [True, False])
def test_a_cancelled_job_is_cancelled_there_and_no_other(
    write: Write, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    write()
    with comfyui(png(MADE), [progress(1, 4), 30], running=running, finished=False) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        steps = Steps()
        steps.stop = lambda: StoppedError() if steps.told[-1][0] >= 1 else None
        start = time.monotonic()
        with pytest.raises(StoppedError):
            Comfyui().paint(canvas(PHOTO, steps=steps), params())
        assert time.monotonic() - start < 20
        assert ("/queue", {"delete": [JOB]}) in server.calls
        assert (("/interrupt", {"prompt_id": JOB}) in server.calls) == running


def failing(**data: Any) -> dict[str, Any]:
    return {"type": "execution_error", "data": {"prompt_id": JOB, **data}}


@pytest.mark.parametrize(
    ("play", "options", "kind", "told"),
    [
        (
            [failing(node_type="KSampler", exception_message="no memory\nfor a private wish")],
            {},
            errors.PainterServerError,
            "failed in KSampler: no memory for …",
        ),
        ([{"type": "execution_interrupted", "data": {"prompt_id": JOB}}], {}, errors.PainterServerError, "interrupted"),
        ([None], {"status": "error"}, errors.PainterServerError, "failed"),
        ([done()], {"outputs": {}}, errors.PainterServerError, "no picture"),
        ([done()], {"outputs": {"1": {"images": [5, {"filename": 3}]}}}, errors.PainterServerError, "no picture"),
        ([done()], {"finished": False}, errors.PainterServerError, "forgotten"),
        ([done()], {"made": b"no picture"}, errors.PainterServerError, "cannot be used"),
        ([done()], {"made": bomb}, errors.PainterServerError, "cannot be used"),
        ([], {"prompt_status": 400}, errors.PainterRequestError, "Cannot execute: …"),
        ([], {"prompt_status": 500}, errors.PainterServerError, "500"),
    ],
    ids=range(10),
)
def test_each_error_is_told(
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    play: list[Any],
    options: dict[str, Any],
    kind: type[errors.LimnerError],
    told: str,
) -> None:
    caplog.set_level("INFO")
    write()
    made = options.pop("made", png(MADE))
    with comfyui(made() if callable(made) else made, play, **options) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        with pytest.raises(kind) as error:
            Comfyui().paint(canvas(PHOTO), params(prompt="a private wish"))
    assert told in error.value.detail
    assert "private wish" not in error.value.detail + caplog.text


@pytest.mark.parametrize("status", [400, 403])
def test_the_key_of_a_proxy_is_not_told(
    write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level("INFO")
    write(toml='key_variable = "PROXY_KEY"\n')
    monkeypatch.setenv("PROXY_KEY", "k-secret")
    with comfyui(png(MADE), [], prompt_status=status) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        with pytest.raises(errors.LimnerError, match="Cannot execute: … …") as error:
            Comfyui().paint(canvas(PHOTO), params(prompt="a private wish"))
    assert "k-secret" not in error.value.detail + caplog.text


def test_a_server_that_never_ends_is_left_after_the_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(toml="timeout_s = 1.5\n")
    with comfyui(png(MADE), [30], finished=False) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        with pytest.raises(errors.PainterTimeoutError):
            Comfyui().paint(canvas(PHOTO), params())
        assert ("/interrupt", {"prompt_id": JOB}) in server.calls


def test_a_server_that_is_not_there(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"1": {"class_type": "X", "inputs": {"text": "{{prompt}}"}}})
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    with pytest.raises(errors.PainterServerError, match="could not be reached"):
        Comfyui().paint(canvas(), params(prompt="x"))


def test_the_chosen_node_and_a_workflow_without_photo(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"1": {"class_type": "X", "inputs": {"text": "{{prompt}}"}}}, 'output = "3"\n')
    assert Comfyui().needs(params()) == "nothing"
    with comfyui(png(MADE), [done()]) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        Comfyui().paint(canvas(), params(prompt="x"))
    assert dict(server.calls)["/view"]["filename"] == "t.png"
    assert server.uploaded == {}


@pytest.mark.parametrize("field", ["negative_prompt", "strength"])
def test_what_the_workflow_has_no_place_for_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    write({"1": {"class_type": "X", "inputs": {"text": "{{prompt}}"}}})
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    given = params(**{field: 0.5 if field == "strength" else "x"})
    with pytest.raises(errors.InvalidRequestError, match=field):
        given.refuse_unused()
    with pytest.raises(errors.InvalidRequestError, match=field):
        Comfyui().paint(canvas(), given)
    params(prompt="x").refuse_unused()
    assert (given.takes_photo(beside_style=False), given.takes_seed()) == (False, False)
    write()
    assert (given.takes_photo(beside_style=True), given.takes_seed()) == (True, True)


def test_a_workflow_that_needs_pictures(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"1": {"class_type": "X", "inputs": {"a": "{{photo}}", "b": "{{style_photo}}"}}})
    assert Comfyui().needs(params()) == "photo"
    with comfyui(png(MADE), [done()]) as server:
        monkeypatch.setenv("COMFYUI_URL", server.url)
        for on, name in ((canvas(), "image"), (canvas(PHOTO), "style_image")):
            with pytest.raises(errors.InvalidRequestError, match=name):
                Comfyui().paint(on, params())
        Comfyui().paint(canvas(PHOTO, style_photo=MADE), params())
    assert len(server.uploaded) == 2


@pytest.mark.parametrize(
    ("graph", "toml", "told"),
    [
        ("{", "", "not valid JSON"),
        ("[]", "", "API format"),
        ("{}", "", "API format"),
        ({"nodes": [], "links": []}, "", "API format"),
        ({"1": {"class_type": "X", "inputs": {"a": "{{colour}}"}}}, "", "{{colour}} is not one of"),
        (GRAPH, "steps = 0\n", "steps"),
        (GRAPH, 'base_url = "ftp://x"\n', "base_url"),
        (GRAPH, 'key_variable = "NO_SUCH_KEY"\n', "NO_SUCH_KEY"),
        ("[" * 100_000, "", "JSON"),
    ],
    ids=range(9),
)
def test_what_is_wrong_is_told(
    write: Write, monkeypatch: pytest.MonkeyPatch, graph: object, toml: str, told: str
) -> None:
    write(graph, toml)
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    assert told in str(Comfyui().ready())


def test_without_address_or_workflow(write: Write, tmp_path: Path) -> None:
    assert "NAME.toml" in str(Comfyui().ready())
    write()
    assert "COMFYUI_URL" in str(Comfyui().ready())
    (tmp_path / "comfyui" / "mine.json").unlink()
    assert "mine.json" in str(Comfyui().ready())
    write(toml='base_url = "http://comfy.example"\n')
    first = Comfyui().fingerprint(params())
    write({"1": {"class_type": "X"}}, 'base_url = "http://comfy.example"\n')
    assert Comfyui().fingerprint(params()) != first
    assert Comfyui().lane(params()) == "remote"


def test_progress_never_goes_back() -> None:
    progress, seen = Progress(), []
    for value, most in ((1, 4), (4, 4), (1, 20), (20, 20), (5, 0), ("x", 3), (7, 5)):
        progress.set(value, most)
        seen.append(progress.done / progress.steps)
    assert seen == pytest.approx(sorted(seen), abs=0.06)
    assert progress.done < progress.steps


def test_the_server_stands_for_a_comfyui() -> None:
    """The small server is started and stopped without a workflow, too."""
    with comfyui(b"", []) as server:
        assert isinstance(server, ComfyUI)
        assert server.url.startswith("http://127.0.0.1:")
