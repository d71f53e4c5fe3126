"""`generate` with painters of other servers: what is refused at submission, and what is told of the seed."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limner import local
from limner.domain.errors import InvalidRequestError
from limner.local import Made
from limner.operations.generate import GenerateResult, generate
from limner.vision.header import Limits
from limner.vision.models import Models
from tests.conftest import MODELS
from tests.painters.servers import LocalServer, Reply, gradient, png, serving

PHOTO = png(gradient())
Submit = Callable[..., Any]


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Submit:
    """Checks a request as a submission does, without sending anything; the parameters."""
    monkeypatch.setenv("STABILITY_API_KEY", "k")
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("LIMNER_PAINTERS_DIR", str(tmp_path))
    (tmp_path / "comfyui").mkdir()
    (tmp_path / "comfyui" / "words.toml").write_text('workflow = "words.json"')
    (tmp_path / "comfyui" / "words.json").write_text('{"1": {"class_type": "X", "inputs": {"text": "{{prompt}}"}}}')

    def submit(*pictures: str, **values: Any) -> Any:
        given = {"painter": "stability", "prompt": "x", **values}
        return generate.parse(given, dict.fromkeys(pictures, PHOTO), Limits())

    return submit


@pytest.mark.parametrize(
    ("pictures", "values", "field"),
    [
        (["image"], {"service": "core"}, "image"),
        ([], {"service": "core", "strength": 0.1}, "strength"),
        ([], {"service": "core", "guidance": 5}, "guidance"),
        ([], {"service": "core", "model": "sd3.5-flash"}, "model"),
        (["image"], {"service": "ultra", "guidance": 5}, "guidance"),
        (["image"], {"service": "ultra", "model": "sd3.5-large"}, "model"),  # the default of another service
        (["image"], {"service": "structure", "guidance": 9}, "guidance"),
        (["image"], {"service": "style", "style_preset": "anime"}, "style_preset"),
        (["image"], {"service": "v1", "model": "sd3.5-large"}, "model"),
        (["image", "style_image"], {"service": "style"}, "image"),
        (["image", "style_image"], {"service": "sd3"}, "style_image"),
        ([], {"service": "style"}, "image"),
        ([], {"service": "ultra"}, "image"),
        (["image"], {"painter": "comfyui", "workflow": "words"}, "image"),
        ([], {"painter": "comfyui", "workflow": "words", "steps": 5}, "steps"),
        ([], {"painter": "comfyui", "workflow": "words", "seed": 5}, "seed"),
        ([], {"painter": "openai", "seed": 5}, "seed"),
        ([], {"painter": "openai", "strength": 0.5}, "strength"),
    ],
    ids=str,
)
def test_what_would_be_ignored_is_refused_at_submission(
    submit: Submit, pictures: list[str], values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"^{field}: "):
        submit(*pictures, **values)


@pytest.mark.parametrize(
    ("pictures", "values"),
    [
        ([], {"service": "core", "style_preset": "anime", "seed": 5}),
        (["image"], {"service": "core", "area": "background"}),  # the people stay
        (["image"], {"service": "core", "keep_colour": True}),
        (["image"], {"service": "structure", "strength": 0.1}),
        (["image"], {"service": "sd3", "strength": 0.1, "model": "sd3.5-flash", "guidance": 5}),
        (["image"], {"service": "style"}),
        (["style_image"], {"service": "style"}),
        (["image", "style_image"], {"service": "style", "area": "faces"}),
        (["image"], {"service": "v1", "guidance": 5}),
        ([], {"painter": "comfyui", "workflow": "words"}),
        (["image"], {"painter": "comfyui", "workflow": "words", "area": "background"}),
        (["image"], {"painter": "openai", "quality": "high"}),
    ],
    ids=str,
)
def test_what_is_used_is_accepted_also_when_it_is_stored_and_sent_again(
    submit: Submit, pictures: list[str], values: dict[str, Any]
) -> None:
    params = generate.settled(submit(*pictures, **values), "a request")
    again = generate.as_sent(params.model_dump(mode="json"))
    assert submit(*pictures, **again).painter == params.painter


@pytest.fixture
def openai(submit: Submit, tmp_path: Path) -> Callable[[LocalServer, str], Made]:
    """Paints two pictures with a server of a dialect."""
    (tmp_path / "openai").mkdir()

    def paint(server: LocalServer, dialect: str) -> Made:
        entry = f'base_url = "{server.url}/v1"\ndialect = "{dialect}"\n'
        (tmp_path / "openai" / "local.toml").write_text(entry)
        values = {"painter": "openai", "server": "local", "prompt": "x", "count": 2, "size": 64}
        return local.run(generate, values, {}, models=Models(MODELS), limits=Limits())

    return paint


@pytest.mark.parametrize(("dialect", "seeded"), [("openai", False), ("litellm", False), ("vllm", True)])
def test_a_seed_is_told_only_where_it_decides_the_picture(
    openai: Callable[[LocalServer, str], Made], dialect: str, seeded: bool
) -> None:
    answer = json.dumps({"data": [{"b64_json": base64.b64encode(PHOTO).decode()}]}).encode()
    with serving(lambda _: Reply(answer)) as server:
        made = openai(server, dialect)
    assert isinstance(made.result, GenerateResult)
    seeds = [each.seed for each in made.result.pictures]
    told = made.result.model_dump(mode="json", exclude_none=True)["pictures"]
    for number, (name, data) in enumerate(made.artifacts.items()):
        assert told[number]["name"] == name
        assert (b"limner:Seed" in data) == ("seed" in told[number]) == seeded
        assert b"limner:Painter" in data
    assert (None in seeds) != seeded
    assert made.result.in_words() == "painted by openai" + (f" (seed {seeds[0]}, {seeds[1]})" if seeded else "")
