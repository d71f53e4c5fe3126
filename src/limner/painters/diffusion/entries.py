"""A model of the painter `diffusion` as its TOML file describes it, and presets: looks with words and numbers.

Read `ModelEntry`, which is what a file may say. `presets.toml` has the presets that all models of a kind share.
"""

import contextlib
import functools
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from limner.domain.errors import LimnerError
from limner.painters import configuration
from limner.painters.configuration import Entry, EntryName
from limner.painters.diffusion.families import Kind

FOLDER = "diffusion"
MAX_WORDS = 2000
PLACE = "{prompt}"
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)

Words = Annotated[str, Field(max_length=MAX_WORDS)]
Strength = Annotated[float, Field(ge=0.02, le=1)]
Steps = Annotated[int, Field(ge=1, le=150)]
Guidance = Annotated[float, Field(ge=0, le=30)]
ImageGuidance = Annotated[float, Field(ge=1, le=10)]


class Preset(Entry):
    """A look. What it leaves open, the model's entry or the architecture decides."""

    summary: Annotated[str, Field(max_length=300)] = ""
    prompt: Words
    """`{prompt}` in it is replaced by the request's words, or by `words`."""
    words: Words | None = None
    """Stands for the request's words; without it, and with `{prompt}`, a request needs words."""
    negative_prompt: Words | None = None
    strength: Strength | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    image_guidance: ImageGuidance | None = None

    def worded(self, words: str) -> str | None:
        """The prompt for these words; None if it needs some and there are none."""
        chosen = words.strip() or self.words
        if PLACE not in self.prompt:
            return f"{self.prompt}, {chosen}" if chosen else self.prompt
        return self.prompt.replace(PLACE, chosen) if chosen else None


class SharedPreset(Preset):
    """A preset of `presets.toml`, for all models of its kind."""

    kind: Kind


class Lora(Entry):
    """A LoRA: changes to a model's weights."""

    file: Annotated[str, Field(min_length=1, max_length=500, pattern=r"\.safetensors$")]
    """Relative to the entry's folder, or absolute."""
    scale: Annotated[float, Field(ge=-4, le=4)] = 1


class ModelEntry(Entry):
    """What the TOML file says."""

    model: Annotated[str, Field(min_length=1, max_length=500)]
    """A folder in the layout of diffusers, relative to the entry's folder or absolute; or with `revision`, a name on
    the hub."""
    revision: Annotated[str | None, Field(pattern=r"^[0-9a-f]{40}$")] = None
    """The commit on the hub; `limner models fetch` fetches it."""
    summary: Annotated[str, Field(max_length=300)] = ""
    licence: Annotated[str, Field(max_length=100)] = "LicenseRef-unknown"
    device: Literal["cuda", "cpu"] = "cuda"
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """`auto`: float32 on the CPU; on a GPU bfloat16 for FLUX and else float16."""
    variant: Annotated[str | None, Field(pattern=r"^[a-z0-9_]{1,20}$")] = None
    """Part of the weights' file names, such as `fp16`."""
    offload: bool = False
    """Keep in the GPU's memory only the network that works just now: slower, and needs less."""
    threads: Annotated[int | None, Field(ge=1, le=256)] = None
    """On the CPU; default: half of the cores."""
    unload_after_s: Annotated[float, Field(ge=1, le=86_400)] = 600
    """A model that nobody asks for is unloaded after this time."""
    max_pixels: Annotated[int | None, Field(ge=4096, le=4_200_000)] = None
    """Of what is painted; default: what the architecture was trained on."""
    loras: Annotated[tuple[Lora, ...], Field(max_length=8)] = ()
    negative_prompt: Words | None = None
    strength: Strength | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    image_guidance: ImageGuidance | None = None
    presets: Annotated[dict[EntryName, Preset], Field(max_length=50)] = {}  # noqa: RUF012  # pydantic copies it

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelEntry":
        if self.device == "cpu" and (self.offload or self.dtype == "float16"):
            raise ValueError("offload and float16 are for a GPU")
        if self.revision is not None and not _HUB_NAME.fullmatch(self.model):
            raise ValueError("with a revision, model is a name on the hub, such as owner/name")
        return self

    @property
    def folder(self) -> Path:
        """Where its files are."""
        if self.revision is None:
            return configuration.beside(FOLDER, self.model)
        return configuration.models_dir() / FOLDER / self.model.replace("/", "--") / self.revision

    def lora_file(self, lora: Lora) -> Path:
        """The file of one of its LoRAs."""
        return configuration.beside(FOLDER, lora.file)


def names() -> list[str]:
    """The names of all entries."""
    return configuration.entry_names(FOLDER)


def read(name: str) -> ModelEntry:
    """The entry. InvalidRequestError if there is none, PainterNotReadyError if the file is not valid."""
    return configuration.read_entry(FOLDER, name, ModelEntry)


def preset_names() -> list[str]:
    """The presets that a request can name: the shared ones, and those of the entries that are valid."""
    found = dict.fromkeys(shared_presets())
    for name in names():
        with contextlib.suppress(LimnerError):  # `ready` tells what is wrong with the entry
            found.update(dict.fromkeys(read(name).presets))
    return list(found)


@functools.cache
def shared_presets() -> dict[str, SharedPreset]:
    """The presets that come with Limner, by name."""
    told = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
    return {name: SharedPreset.model_validate(each) for name, each in told.items()}
