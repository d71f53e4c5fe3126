"""What a request comes to: the model, and the words and numbers that preset, entry and architecture add."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from limner.domain.errors import InvalidRequestError, LimnerError, PainterNotReadyError
from limner.painters import configuration
from limner.painters.diffusion import entries, weights
from limner.painters.diffusion.entries import FOLDER, PLACE, ModelEntry, Preset, SharedPreset
from limner.painters.diffusion.weights import Weights

if TYPE_CHECKING:
    from limner.painters.diffusion.painter import DiffusionParams

_STRENGTH, _IMAGE_GUIDANCE = 0.6, 1.5
_ACTIVATIONS = {2: 5_000, 4: 9_000}
"""Bytes for each pixel that is painted, by the bytes of a number: what the decoder needs at most."""
_LEAST_ACTIVATIONS = 300_000_000
_LEAST_SIDE = 64


@dataclass(frozen=True)
class Model:
    """A model that can be loaded: an entry with its weights."""

    name: str
    entry: ModelEntry
    weights: Weights

    @property
    def dtype(self) -> str:
        """The type of the weights in memory, as torch calls it."""
        if self.entry.dtype != "auto":
            return self.entry.dtype
        if self.entry.device == "cpu":
            return "float32"
        return "bfloat16" if self.weights.family.is_flux else "float16"

    @property
    def bytes_per_number(self) -> int:
        """Of that type."""
        return 4 if self.dtype == "float32" else 2

    def work_size(self, size: tuple[int, int], *, is_asked_for: bool) -> tuple[int, int]:
        """Width and height at which it paints: about `size`, within what the model can do.

        A photo that is much smaller than what the model was trained on is enlarged, unless its size was asked for.
        """
        family = self.weights.family
        most = self.entry.max_pixels or family.pixels
        area = size[0] * size[1]
        wanted = min(area, most) if is_asked_for else min(max(area, most / 2), most)
        scale = (wanted / area) ** 0.5
        multiple = family.multiple
        across, down = (max(_LEAST_SIDE // multiple, round(side * scale / multiple)) * multiple for side in size)
        longest = max(_LEAST_SIDE, int(most / min(across, down)) // multiple * multiple)
        # Of a strip, the shorter side was enlarged; else rounding alone makes it a little larger than `most`.
        return (min(across, longest), min(down, longest)) if min(across, down) == _LEAST_SIDE else (across, down)

    def activations(self, size: tuple[int, int]) -> int:
        """Bytes that painting needs at most beside the weights; `size` as from `work_size`."""
        width = 4 if self.weights.upcasts else self.bytes_per_number
        return max(_LEAST_ACTIVATIONS, size[0] * size[1] * _ACTIVATIONS[width])

    def resident(self) -> int:
        """Bytes of the weights that are on the device at the same time."""
        width = self.bytes_per_number
        total = self.weights.largest(width) if self.entry.offload else self.weights.total(width)
        return total + (self.weights.bytes_of("vae", 2) if self.weights.upcasts and width == 2 else 0)

    def presets(self) -> dict[str, Preset]:
        """The presets that it can be used with: its own, and those for all models of its kind."""
        kind = self.weights.family.kind
        return {name: each for name, each in entries.shared_presets().items() if each.kind == kind} | self.entry.presets


@dataclass(frozen=True)
class Plan:
    """What is painted, with nothing left open."""

    model: Model
    prompt: str
    negative_prompt: str | None
    strength: float
    steps: int
    guidance: float
    image_guidance: float


def plan(params: "DiffusionParams") -> Plan:
    """The plan for these parameters. InvalidRequestError, PainterNotReadyError."""
    chosen = model(params)
    entry, found = chosen.entry, chosen.weights
    preset = _preset(params, chosen)
    _refuse_unused(params, found)
    return Plan(
        model=chosen,
        prompt=_prompt(params, preset),
        negative_prompt=_negative_prompt(params, entry, preset, found),
        strength=_number("strength", params, entry, preset, _STRENGTH),
        steps=int(_number("steps", params, entry, preset, found.family.steps)),
        guidance=_number("guidance", params, entry, preset, found.family.guidance),
        image_guidance=_number("image_guidance", params, entry, preset, _IMAGE_GUIDANCE),
    )


def read(name: str) -> Model:
    """The model of this name. InvalidRequestError if there is none, PainterNotReadyError if it cannot be used."""
    entry = entries.read(name)
    return Model(name, entry, weights.look(name, entry))


def model(params: "DiffusionParams") -> Model:
    """The model that is asked for, or the first one that can be used with the preset. As `read`."""
    if params.model is not None:
        return read(params.model)
    errors: list[LimnerError] = []
    for name in entries.names():
        try:
            found = read(name)
        except PainterNotReadyError as error:
            errors.append(error)
        else:
            if params.preset is None or params.preset in found.presets():
                return found
    if errors:
        raise errors[0]
    if not entries.names():
        where = configuration.painters_dir() / FOLDER
        raise PainterNotReadyError(f"Describe a model in {where}, in a file NAME.toml.")
    raise InvalidRequestError(f"preset: No model has a preset named {params.preset!r}.", field="preset")


def _preset(params: "DiffusionParams", chosen: Model) -> Preset | None:
    if params.preset is None:
        return None
    known = chosen.presets()
    if params.preset not in known:
        raise InvalidRequestError(
            f"preset: The model {chosen.name} has no preset named {params.preset!r}; it has {', '.join(known)}.",
            field="preset",
        )
    return known[params.preset]


def _refuse_unused(params: "DiffusionParams", found: Weights) -> None:
    """InvalidRequestError for a parameter that does nothing with this architecture."""
    family = found.family
    unused = ["strength"] if family.kind == "instruction" else ["image_guidance"]
    if family.is_flux:
        unused += ["negative_prompt", *(["image_guidance"] if family.kind == "instruction" else [])]
    for field in unused:
        if getattr(params, field) not in (None, ""):
            raise InvalidRequestError(f"{field}: A model of this kind ({family.with_photo}) takes none.", field=field)


def _prompt(params: "DiffusionParams", preset: Preset | None) -> str:
    if preset is None:
        if not params.prompt.strip():
            raise InvalidRequestError("prompt: Say what to paint, or choose a preset.", field="prompt")
        return params.prompt
    worded = preset.worded(params.prompt)
    if worded is None:
        raise InvalidRequestError(f"prompt: The preset {params.preset} needs words for {PLACE}.", field="prompt")
    return worded


def _negative_prompt(params: "DiffusionParams", entry: ModelEntry, preset: Preset | None, found: Weights) -> str | None:
    if found.family.is_flux:
        return None
    for each in (params.negative_prompt, None if preset is None else preset.negative_prompt, entry.negative_prompt):
        if each is not None:
            return each
    return None


def _number(field: str, params: "DiffusionParams", entry: ModelEntry, preset: Preset | None, default: float) -> float:
    """The request's, else that of the model's own preset, the model's, a shared preset's, the architecture's."""
    shared = isinstance(preset, SharedPreset)
    for each in (params, None if shared else preset, entry, preset):
        found = None if each is None else getattr(each, field)
        if found is not None:
            return float(found)
    return default
