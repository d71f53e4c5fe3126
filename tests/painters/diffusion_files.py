"""Folders that look like diffusion models, with no numbers in them: for what needs no libraries."""

import json
from pathlib import Path
from typing import Any

SD_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": [None, None],
    "requires_safety_checker": False,
}


def index_of(pipeline: str, **components: Any) -> dict[str, Any]:
    """The content of `model_index.json` of another pipeline."""
    return {**SD_INDEX, "_class_name": pipeline, **components}


def write_safetensors(file: Path, **tensors: tuple[str, list[int]]) -> None:
    """A file with the header of these tensors (type, shape) and no numbers."""
    header = {name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]} for name, (kind, shape) in tensors.items()}
    told = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    file.write_bytes(len(told).to_bytes(8, "little") + told)


def write_model(
    folder: Path, index: dict[str, Any] = SD_INDEX, *, side: int = 1000, suffix: str = "", upcasts: bool = False
) -> None:
    """A model whose networks each have `side`² numbers in float16."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, told in index.items():
        if isinstance(told, list) and told[1] in {"UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel"}:
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps({"force_upcast": upcasts}))
            write_safetensors(
                folder / name / f"model{suffix}.safetensors", weight=("F16", [side, side]), n=("I64", [1])
            )
