"""Paints with a loaded model: one call of its pipeline, with progress, previews and a stop after each step."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from limner.domain.errors import ContentRefusedError, InvalidRequestError, JobMemoryError, LimnerError
from limner.painters.diffusion.loading import Loaded
from limner.painters.diffusion.plans import Plan
from limner.vision.memory import is_out_of_memory

if TYPE_CHECKING:
    from limner.painters.painter import RGB, Canvas

PREVIEW_EVERY_S = 0.25  # taking one waits for the GPU


def paint(loaded: Loaded, canvas: "Canvas", plan: Plan, size: tuple[int, int]) -> "RGB":
    """The picture of this size. What `canvas.step` raises leaves the model usable.

    InvalidRequestError if the words are too many, ContentRefusedError if the model's own filter says so.
    """
    pipeline = loaded.pipeline(with_photo=canvas.photo is not None)
    _check_words(pipeline, plan)
    steps = _Steps(loaded, canvas, plan, size)
    try:
        made = pipeline(
            prompt=plan.prompt,
            num_inference_steps=plan.steps,
            guidance_scale=plan.guidance,
            # On the CPU, so that a seed gives the same noise on each device.
            generator=torch.Generator("cpu").manual_seed(canvas.seed),
            output_type="pt",
            callback_on_step_end=steps,
            callback_on_step_end_tensor_inputs=["latents"],
            **_more(canvas, plan, size),
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        told = str(error).partition("\n")[0][:300]
        raise JobMemoryError(f"The model {plan.model.name} at {size[0]}×{size[1]} pixels: {told}") from None
    if any(getattr(made, "nsfw_content_detected", None) or ()):
        raise ContentRefusedError("The model's own filter refused the picture that it made.")
    picture = made.images[0].detach().to("cpu", torch.float32).permute(1, 2, 0).numpy()
    if not np.isfinite(picture).all():
        raise LimnerError(
            f'The model {plan.model.name} overflowed in {plan.model.dtype}; write dtype = "bfloat16" or "float32".'
        )
    canvas.step(steps.of, steps.of, None)
    return np.asarray(picture.clip(0, 1) * 255 + 0.5, np.uint8)


def _more(canvas: "Canvas", plan: Plan, size: tuple[int, int]) -> dict[str, Any]:
    """The arguments that not all pipelines take."""
    from PIL import Image

    family = plan.model.weights.family
    given: dict[str, Any] = {} if family.is_flux else {"negative_prompt": plan.negative_prompt}
    if canvas.photo is not None:
        given["image"] = Image.fromarray(_resized(canvas.photo, size))
    if family.kind == "instruction":
        if not family.is_flux:
            given["image_guidance_scale"] = plan.image_guidance
    elif canvas.photo is not None:
        given["strength"] = max(plan.strength, 1 / plan.steps)  # at least one step
    if canvas.photo is None or family.is_flux:
        given |= {"width": size[0], "height": size[1]}
    if family.is_flux and family.kind == "instruction":
        given |= {"max_area": size[0] * size[1], "_auto_resize": False}
    return given


class _Steps:
    """Called by the pipeline after each step."""

    def __init__(self, loaded: Loaded, canvas: "Canvas", plan: Plan, size: tuple[int, int]) -> None:
        self.of = plan.steps
        self._loaded = loaded
        self._canvas = canvas
        self._packed = plan.model.weights.family.is_flux
        self._size = size
        self._shown = float("-inf")

    def __call__(self, pipeline: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.of = max(int(pipeline.num_timesteps), step + 1)
        preview = None
        now = time.monotonic()
        if now - self._shown >= PREVIEW_EVERY_S:
            self._shown = now
            scale = pipeline.vae_scale_factor
            cells = self._size[1] // scale, self._size[0] // scale
            preview = self._loaded.preview.of(tensors["latents"], cells, is_packed=self._packed)
            preview = _resized(preview, self._size)
        self._canvas.step(step + 1, self.of, preview)
        return tensors


def _check_words(pipeline: Any, plan: Plan) -> None:
    """InvalidRequestError for words that the model would not read: it cuts them off without a word."""
    family = plan.model.weights.family
    tokenizer = getattr(pipeline, family.tokenizer)
    for field, words in (("prompt", plan.prompt), ("negative_prompt", plan.negative_prompt or "")):
        count = len(tokenizer(words, truncation=False).input_ids)
        if count > family.max_tokens:
            raise InvalidRequestError(
                f"{field}: This model reads {family.max_tokens} tokens; with the preset these are {count}.", field=field
            )


def _resized(pixels: "RGB", size: tuple[int, int]) -> "RGB":
    import cv2

    if pixels.shape[1::-1] == size:
        return pixels
    smaller = size[0] < pixels.shape[1]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8)
