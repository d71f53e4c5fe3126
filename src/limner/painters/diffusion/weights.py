"""Looks at the files of a diffusion model without loading them: what it is, how large it is, and that nothing but
safetensors would be opened. No library of pixels or networks is needed.
"""

import functools
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.domain.errors import PainterNotReadyError
from limner.painters import configuration
from limner.painters.diffusion import families
from limner.painters.diffusion.entries import FOLDER, ModelEntry
from limner.painters.diffusion.families import Family

_MAX_HEADER_BYTES = 20_000_000
_MAX_FILES = 500
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Weights:
    """What the files of a model are."""

    family: Family
    photo_only: bool
    """Whether it was made for photos alone, although its architecture can do without."""
    components: dict[str, tuple[int, int]]
    """The networks by name: how many numbers in floating point they have, and how many bytes of others."""
    upcasts: bool
    """Whether its decoder works in float32 although the rest is in float16."""
    mark: str
    """Changes when a file does: from sizes and times, because reading gigabytes would take too long."""

    def bytes_of(self, name: str, width: int) -> int:
        """Bytes of memory of a network whose numbers have `width` bytes each."""
        floats, others = self.components[name]
        return floats * width + others

    def total(self, width: int) -> int:
        """The same for all of them."""
        return sum(self.bytes_of(name, width) for name in self.components)

    def largest(self, width: int) -> int:
        """The same for the largest of them."""
        return max(self.bytes_of(name, width) for name in self.components)


def look(name: str, entry: ModelEntry) -> Weights:
    """What the files of an entry are. PainterNotReadyError says what is missing or not allowed."""
    folder = entry.folder
    if not folder.is_dir():
        told = f"the folder {entry.model} is not there"
        if entry.revision is not None:
            told = f"the model is not fetched; run `limner models fetch {FOLDER}/{name}`"
        raise PainterNotReadyError(f"{FOLDER}/{name}.toml: {told}.")
    try:
        return _look(folder, entry)
    except (OSError, ValueError, RecursionError) as error:
        told = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)[:300]
        raise PainterNotReadyError(f"{FOLDER}/{name}.toml: {entry.model}: {told}.") from None


def _look(folder: Path, entry: ModelEntry) -> Weights:
    index = _json(folder / "model_index.json")
    chosen = index.get("_class_name")
    family = families.FAMILIES.get(chosen) if isinstance(chosen, str) else None
    if family is None:
        known = ", ".join(name for name in families.FAMILIES if name)
        raise ValueError(f"the pipeline {chosen!r} is not supported; supported are {known}")
    components: dict[str, tuple[int, int]] = {}
    files = [folder / "model_index.json"]
    for component, told in index.items():
        if component.startswith("_") or not isinstance(told, list) or told == [None, None]:
            continue
        if len(told) != 2 or not families.is_known_component(*told):
            raise ValueError(f"the component {component} is of the class {told}, which is not loaded")
        if families.has_weights(told[1]):
            found = _files(folder / component, entry.variant)
            files += [*found, folder / component / "config.json"]
            sizes = [_numbers(file, file.stat().st_size, file.stat().st_mtime_ns) for file in found]
            components[component] = (sum(floats for floats, _ in sizes), sum(others for _, others in sizes))
    if not components:
        raise ValueError("model_index.json names no network")
    for lora in entry.loras:
        file = entry.lora_file(lora)
        _numbers(file, file.stat().st_size, file.stat().st_mtime_ns)
        files.append(file)
    return Weights(
        family=family,
        photo_only=family.without_photo is None or index.get("requires_aesthetics_score") is True,
        components=components,
        upcasts=_json(folder / "vae" / "config.json").get("force_upcast") is True,
        mark=hashlib.sha256(
            " ".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files).encode()
        ).hexdigest(),
    )


def _json(file: Path) -> dict[str, Any]:
    told = json.loads(configuration.read_small(file))
    if not isinstance(told, dict):
        raise ValueError(f"{file.name} is no JSON object")  # noqa: TRY004  # the caller tells both alike
    return told


def _files(folder: Path, variant: str | None) -> list[Path]:
    """The safetensors files of a network. ValueError if there are none."""
    found = sorted(folder.glob("*.safetensors"))[:_MAX_FILES]
    chosen = [file for file in found if variant_of(file) == variant]
    if not chosen:
        others = sorted({variant_of(file) or "none" for file in found})
        hint = f" of the variant {variant}" if variant else f"; there are those of variant = {others}" if others else ""
        raise ValueError(f"{folder.name} has no .safetensors file{hint}; files in other formats are not opened")
    return chosen


def variant_of(file: Path) -> str | None:
    """`fp16` of `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`."""
    _, _, found = file.name.removesuffix(".safetensors").partition(".")
    return found.partition("-")[0] or None


@functools.lru_cache(_MAX_FILES)
def _numbers(file: Path, size: int, changed_ns: int) -> tuple[int, int]:
    """(numbers in floating point, bytes of others) of a safetensors file, from its header. ValueError."""
    del changed_ns  # a key of the cache
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
            raise ValueError(f"{file.name} is no safetensors file")
        header = json.loads(opened.read(length))
    floats = others = 0
    try:
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            count = math.prod(tensor["shape"])
            if tensor["dtype"] in _FLOATS:
                floats += count
            else:
                others += count * _BYTES.get(tensor["dtype"], 1)
    except (AttributeError, TypeError, KeyError):
        raise ValueError(f"{file.name} is no safetensors file") from None
    return floats, others
