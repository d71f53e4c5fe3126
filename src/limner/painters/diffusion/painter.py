"""The painter `diffusion`. A model is described in `LIMNER_PAINTERS_DIR/diffusion/NAME.toml`: see `entries.py`.

The libraries are those of `limner[diffusion]`, which only workers import; a model is loaded with its first job.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from limner.domain.errors import InvalidRequestError, PainterNotReadyError
from limner.painters import configuration
from limner.painters.configuration import EntryName
from limner.painters.diffusion import devices, entries, plans
from limner.painters.diffusion.entries import FOLDER, MAX_WORDS
from limner.painters.diffusion.plans import Model
from limner.painters.painter import Canvas, Lane, PainterParams

if TYPE_CHECKING:
    from limner.painters.painter import RGB

VERSION = 1
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "pynvml")
_LIBRARY_BYTES = 800_000_000  # of address space that the libraries take, measured


def _show_models(schema: dict[str, Any]) -> None:
    """The entries that are there now, for the form."""
    names = entries.names()
    if names:
        schema["examples"] = names


def _show_presets(schema: dict[str, Any]) -> None:
    schema["examples"] = entries.preset_names()


class DiffusionParams(PainterParams):
    """Parameters of `diffusion`."""

    name: Literal["diffusion"] = "diffusion"
    model: Annotated[
        EntryName | None,
        Field(
            title="Model",
            description="Name of an entry in the operator's folder; default: the first that suits the preset",
            json_schema_extra=_show_models,
        ),
    ] = None
    preset: Annotated[
        EntryName | None,
        Field(title="Preset", description="A look with words of its own", json_schema_extra=_show_presets),
    ] = None
    prompt: Annotated[
        str,
        Field(
            max_length=MAX_WORDS,
            title="Prompt",
            description="What the picture shows, or what is to be done to the photo",
        ),
    ] = ""
    negative_prompt: Annotated[
        str | None, Field(max_length=MAX_WORDS, title="Negative prompt", description="What it must not show")
    ] = None
    strength: Annotated[
        float | None, Field(ge=0.02, le=1, title="Strength", description="How far the photo is repainted")
    ] = None
    steps: Annotated[int | None, Field(ge=1, le=150, title="Steps", description="Of denoising")] = None
    guidance: Annotated[
        float | None, Field(ge=0, le=30, title="Guidance", description="How strictly it keeps to the words")
    ] = None
    image_guidance: Annotated[
        float | None,
        Field(ge=1, le=10, title="Photo guidance", description="How strictly an instruction keeps the photo"),
    ] = None


class Diffusion:
    """The painter `diffusion`."""

    name = "diffusion"
    summary = "A diffusion model of your own on this machine, such as Stable Diffusion, SDXL, instruct-pix2pix or FLUX."
    licence = "LicenseRef-see-entry"
    source_type: Literal["trainedAlgorithmicMedia"] = "trainedAlgorithmicMedia"
    params = DiffusionParams
    lanes: tuple[Lane, ...] = ("gpu", "paint")

    def lane(self, params: DiffusionParams) -> Lane:
        """As the model's entry says: a GPU is never used beside a worker's other jobs, and never silently replaced."""
        return "gpu" if plans.model(params).entry.device == "cuda" else "paint"

    def ready(self) -> str | None:
        """None if at least one model can be used; else what is wrong with the first."""
        names = entries.names()
        if not names:
            where = configuration.painters_dir() / FOLDER
            return _missing_libraries() or f"Describe a model in {where}, in a file NAME.toml."
        return configuration.what_is_wrong(names, self.check_entry, without="")

    def check_entry(self, name: str) -> None:
        """See `WithEntries.check_entry`."""
        _check(plans.read(name))

    def fingerprint(self, params: DiffusionParams) -> str:
        """From the entry, the weights' sizes and times, the presets, and the libraries' versions."""
        plan = plans.plan(params)
        told = [
            VERSION,
            plan.model.name,
            plan.model.entry.model_dump_json(),
            plan.model.weights.mark,
            [plan.prompt, plan.negative_prompt, plan.strength, plan.steps, plan.guidance, plan.image_guidance],
            [_version(name) for name in ("torch", "diffusers", "transformers")],
        ]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def estimate(self, params: DiffusionParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`. What is loaded already is not counted again."""
        model = plans.model(params)
        needed = 0 if "diffusers" in sys.modules else _LIBRARY_BYTES
        loading = sys.modules.get("limner.painters.diffusion.loading")
        if loading is None or not loading.KEEPER.has(model):
            width = model.bytes_per_number
            needed += model.weights.total(width) + model.weights.largest(width)  # a file is mapped while it is copied
        if model.entry.device == "cpu":
            needed += model.activations(model.work_size(size, is_asked_for=False))
        return needed + size[0] * size[1] * 3

    def needs(self, params: DiffusionParams) -> Literal["photo", "nothing"]:
        """See `Painter.needs`."""
        return "photo" if plans.model(params).weights.photo_only else "nothing"

    def paint(self, canvas: Canvas, params: DiffusionParams) -> "RGB":
        """See `Painter.paint`. Loads the model if it is not in memory."""
        plan = plans.plan(params)
        if canvas.photo is None and plan.model.weights.photo_only:
            raise InvalidRequestError("image: This model needs a photo.", field="image")
        if canvas.photo is None and params.strength is not None:
            raise InvalidRequestError("strength: Without a photo there is nothing to repaint.", field="strength")
        missing = _missing_libraries()
        if missing is not None:
            raise PainterNotReadyError(missing)
        canvas.step(0, plan.steps, None)
        from limner.painters.diffusion import loading

        loading.prepare_libraries()
        asked = canvas.size or (1024, 1024)
        if canvas.size is None and canvas.photo is not None:
            asked = canvas.photo.shape[1], canvas.photo.shape[0]
        size = plan.model.work_size(asked, is_asked_for=canvas.size is not None)

        def wait() -> None:
            canvas.step(0, plan.steps, None)

        with loading.KEEPER.use(plan.model, size, with_photo=canvas.photo is not None, wait=wait) as loaded:
            from limner.painters.diffusion import painting

            return painting.paint(loaded, canvas, plan, size)


def _check(model: Model) -> None:
    """PainterNotReadyError if the model cannot be used here."""
    if not configuration.works_here():
        return  # workers of other machines have the libraries and the GPU, or say what they lack
    missing = _missing_libraries()
    if missing is not None:
        raise PainterNotReadyError(missing)
    needed = model.resident()
    if model.entry.device == "cuda":
        there, place = devices.gpu_memory(), "the GPU"
    else:
        there, place = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine"
    if needed > there:
        raise PainterNotReadyError(
            f"{FOLDER}/{model.name}.toml: it needs {needed / 1e6:,.0f} MB, and {place} has {there / 1e6:,.0f} MB."
        )


def _missing_libraries() -> str | None:
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"The libraries are not installed ({', '.join(missing)}); run `pip install 'limner[diffusion]'`."


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # workers on other machines have it
        return "none"
