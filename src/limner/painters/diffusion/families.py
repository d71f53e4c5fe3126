"""The kinds of diffusion models that can be used, by the class that a model's `model_index.json` names.

Only these classes are loaded, and only components of the classes listed here: no code comes with a model.
"""

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["picture", "instruction"]
"""What the words are: what the picture shows, or what is to be done to the photo."""


@dataclass(frozen=True)
class Family:
    """What models of one architecture share."""

    kind: Kind
    with_photo: str
    """The class of diffusers that paints from a photo."""
    without_photo: str | None
    """The class that paints from words alone; None if it always needs a photo."""
    pixels: int
    """What it was trained on: larger pictures repeat themselves, much smaller ones dissolve."""
    steps: int
    guidance: float
    multiple: int = 8
    """Both sides are multiples of this, pixels."""
    tokenizer: str = "tokenizer"
    """The component that decides how many words are read."""
    max_tokens: int = 77
    is_flux: bool = False
    """FLUX: latents are sequences of 2×2 patches, it overflows in float16, and it takes no negative prompt."""


SD = Family("picture", "StableDiffusionImg2ImgPipeline", "StableDiffusionPipeline", 512 * 512, 30, 7.5)
SDXL = Family("picture", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLPipeline", 1024 * 1024, 30, 6)
PIX2PIX = Family("instruction", "StableDiffusionInstructPix2PixPipeline", None, 512 * 512, 30, 7.5)
FLUX = Family("picture", "FluxImg2ImgPipeline", "FluxPipeline", 1024 * 1024, 28, 3.5, 16, "tokenizer_2", 512, True)
KONTEXT = Family("instruction", "FluxKontextPipeline", None, 1024 * 1024, 28, 2.5, 16, "tokenizer_2", 512, True)

FAMILIES = {name: each for each in (SD, SDXL, PIX2PIX, FLUX, KONTEXT) for name in (each.with_photo, each.without_photo)}
"""By the name of the class in `model_index.json`."""

_COMPONENTS = {
    "diffusers": {"AutoencoderKL", "AutoencoderTiny", "FluxTransformer2DModel", "UNet2DConditionModel"},
    "transformers": {
        "CLIPFeatureExtractor",
        "CLIPImageProcessor",
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "CLIPVisionModelWithProjection",
        "T5EncoderModel",
        "T5Tokenizer",
        "T5TokenizerFast",
    },
    "stable_diffusion": {"StableDiffusionSafetyChecker"},
}
_WITHOUT_WEIGHTS = re.compile(r"\w*(Scheduler|Tokenizer|TokenizerFast|Processor|FeatureExtractor)", re.ASCII)


def is_known_component(library: object, name: object) -> bool:
    """Whether a component of `model_index.json` may be loaded."""
    if library == "diffusers" and isinstance(name, str) and re.fullmatch(r"\w{1,60}Scheduler", name, re.ASCII):
        return True
    return isinstance(library, str) and name in _COMPONENTS.get(library, ())


def has_weights(name: str) -> bool:
    """Whether a component of that class is a network."""
    return _WITHOUT_WEIGHTS.fullmatch(name) is None
