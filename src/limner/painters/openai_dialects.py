"""What each kind of server is sent through OpenAI's images interface; they differ in seeds, sizes and steps.

A dialect makes the path and the fields of a request. It refuses what its server cannot do, so that nothing is ignored.
"""

import base64
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from limner.domain.errors import InvalidRequestError
from limner.painters.configuration import Entry
from limner.painters.remote import BaseUrl, as_png, fitted

if TYPE_CHECKING:
    from limner.painters.painter import RGB

_OPENAI_SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
_MAX_OPENAI_SIDE = 1536
_MULTIPLE = 16  # of sides, for all models of today
_TAG = "sd_cpp_extra_args"

Plain: TypeAlias = str | int | float | bool


class Server(Entry):
    """What the TOML file of a server says."""

    base_url: BaseUrl
    """Up to and with `/v1`."""
    key_variable: Annotated[str | None, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=100)] = None
    """The environment variable that holds the key; None: no key is sent."""
    dialect: Literal["openai", "litellm", "vllm", "sglang", "sd-server", "localai"] = "openai"
    model: Annotated[str, Field(max_length=200)] = ""
    summary: Annotated[str, Field(max_length=300)] = ""
    stream: bool = False
    """Whether previews are asked for; only for `openai` and `litellm`."""
    partial_images: Annotated[int, Field(ge=0, le=3)] = 2
    timeout_s: Annotated[float | None, Field(gt=0, le=3600)] = None
    """For one picture; None: see `configuration.picture_timeout_s`, which tells whether a job can hold it."""
    max_pixels: Annotated[int, Field(ge=65_536, le=16_777_216)] = 1_600_000
    """Of a picture that is asked for, where the server takes any size."""
    extra: dict[str, Plain] = Field(default_factory=dict, max_length=30)
    """Further fields that are sent as they are."""

    @field_validator("extra")
    @classmethod
    def _are_names(cls, value: dict[str, Plain]) -> dict[str, Plain]:
        if not all(name.replace("_", "").isalnum() and name.isascii() for name in value):
            raise ValueError("names are of letters, digits and _")
        return value


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, in no server's terms."""

    prompt: str
    negative_prompt: str
    quality: str
    strength: float | None
    steps: int | None
    guidance: float | None
    seed: int
    size: tuple[int, int] | None
    photo: "RGB | None"

    def refuse(self, dialect: str, *names: str) -> None:
        """InvalidRequestError if one of these is asked for, which the server cannot do."""
        for name in names:
            if getattr(self, name) not in (None, "", "auto"):
                raise InvalidRequestError(f"{name}: A server of the kind {dialect} does not take this.", field=name)

    def shape(self) -> tuple[int, int]:
        """Width and height that are wanted, before any limit."""
        if self.size is not None:
            return self.size
        return (1024, 1024) if self.photo is None else (self.photo.shape[1], self.photo.shape[0])


Dialect: TypeAlias = Callable[[Server, Wish], tuple[str, dict[str, Any]]]


def _path(wish: Wish) -> str:
    return "/images/generations" if wish.photo is None else "/images/edits"


def _common(server: Server, prompt: str, size: tuple[int, int]) -> dict[str, Any]:
    named = {"model": server.model} if server.model else {}
    return {**named, "prompt": prompt, "n": 1, "size": f"{size[0]}x{size[1]}"}


def _free_size(server: Server, wish: Wish) -> tuple[int, int]:
    """A size that the server can paint: within its limit, sides multiples of 16."""
    width, height = wish.shape()
    scale = min(1.0, math.sqrt(server.max_pixels / (width * height)))
    across, down = (max(64, int(side * scale) // _MULTIPLE * _MULTIPLE) for side in (width, height))
    return across, down


def _photo(wish: Wish, size: tuple[int, int]) -> dict[str, Any]:
    """The photo, of exactly the size that is asked for."""
    if wish.photo is None:
        return {}
    import cv2
    import numpy as np

    return {"image": as_png(np.asarray(cv2.resize(wish.photo, size, interpolation=cv2.INTER_AREA), np.uint8))}


def _of_openai(server: Server, wish: Wish) -> tuple[str, dict[str, Any]]:
    wish.refuse(server.dialect, "negative_prompt", "strength", "steps", "guidance")
    width, height = wish.shape()
    size = min(_OPENAI_SIZES, key=lambda each: abs(math.log(each[0] / each[1] * height / width)))
    fields = _common(server, wish.prompt, size)
    if server.model.startswith("dall-e"):
        fields["response_format"] = "b64_json"
    else:
        fields["output_format"] = "png"
        if server.stream:
            fields |= {"stream": True, "partial_images": server.partial_images}
    if wish.quality != "auto":
        fields["quality"] = wish.quality
    if wish.photo is not None:
        photo = fitted(wish.photo, max_pixels=_MAX_OPENAI_SIDE**2, max_side=_MAX_OPENAI_SIDE)
        fields["image"] = as_png(photo)
    return _path(wish), {**fields, **server.extra}


def _of_vllm(server: Server, wish: Wish) -> tuple[str, dict[str, Any]]:
    """vLLM-Omni and SGLang: OpenAI's fields, and those of diffusion pipelines."""
    wish.refuse(server.dialect, "quality")
    size = _free_size(server, wish)
    own = {
        "seed": wish.seed,
        "response_format": "b64_json",
        "negative_prompt": wish.negative_prompt or None,
        "num_inference_steps": wish.steps,
        "guidance_scale": wish.guidance,
        "strength": wish.strength,
    }
    fields = {**_common(server, wish.prompt, size), **_given(own), **_photo(wish, size)}
    return _path(wish), {**fields, **server.extra}


def _of_sd_server(server: Server, wish: Wish) -> tuple[str, dict[str, Any]]:
    """stable-diffusion.cpp takes its own parameters as JSON in a tag within the words."""
    wish.refuse(server.dialect, "quality")
    for field in ("prompt", "negative_prompt"):
        if _TAG in getattr(wish, field):  # a client must not set what the operator did not offer
            raise InvalidRequestError(f"{field}: The words must not hold {_TAG}.", field=field)
    size = _free_size(server, wish)
    sampling = _given({"sample_steps": wish.steps, "guidance": _given({"txt_cfg": wish.guidance}) or None})
    own = {
        "seed": wish.seed,
        "negative_prompt": wish.negative_prompt or None,
        "strength": wish.strength,
        "sample_params": sampling or None,
    }
    told = json.dumps({**_given(own), **server.extra})
    fields = _common(server, f"{wish.prompt} <{_TAG}>{told}</{_TAG}>", size)
    return _path(wish), {**fields, "output_format": "png", **_photo(wish, size)}


def _of_localai(server: Server, wish: Wish) -> tuple[str, dict[str, Any]]:
    """LocalAI: a photo is base64 in `file` of `images/generations`, and words to avoid follow a bar."""
    wish.refuse(server.dialect, "quality", "guidance", "strength")
    size = _free_size(server, wish)
    prompt = wish.prompt.replace("|", " ")
    if wish.negative_prompt:
        prompt += "|" + wish.negative_prompt.replace("|", " ")
    own = {"seed": wish.seed % 2**31, "step": wish.steps, "response_format": "b64_json"}
    fields = {**_common(server, prompt, size), **_given(own)}
    if wish.photo is not None:
        fields["file"] = base64.b64encode(_photo(wish, size)["image"].data).decode()
    return "/images/generations", {**fields, **server.extra}


def takes_seed(server: Server) -> bool:
    """Whether the server is sent the seed of the request."""
    return server.dialect not in ("openai", "litellm") and "seed" not in server.extra


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


DIALECTS: dict[str, Dialect] = {
    "openai": _of_openai,
    "litellm": _of_openai,
    "vllm": _of_vllm,
    "sglang": _of_vllm,
    "sd-server": _of_sd_server,
    "localai": _of_localai,
}
