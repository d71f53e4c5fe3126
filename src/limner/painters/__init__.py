"""The painters of the operation `generate`, one file or folder each. Read `painter.py` first. `PAINTERS` lists them."""

from limner.domain.errors import LimnerError
from limner.painters import configuration
from limner.painters.comfyui import Comfyui
from limner.painters.diffusion.painter import Diffusion
from limner.painters.drawn.painter import Drawn
from limner.painters.onnx import Onnx
from limner.painters.openai import Openai
from limner.painters.painter import Painter, WithEntries
from limner.painters.stability import Stability
from limner.painters.styles import Styles

_LISTED: tuple[Painter, ...] = (
    Drawn(),  # the first is the default
    Styles(),
    Onnx(),
    Diffusion(),
    Openai(),
    Stability(),
    Comfyui(),
)

PAINTERS = {each.name: each for each in _LISTED}


def wrong_entries() -> list[str]:
    """Why entries of the operator's cannot be used now, one sentence each. A painter with another one is ready."""
    wrong = []
    for painter in _LISTED:
        if not isinstance(painter, WithEntries):
            continue
        for name in configuration.entry_names(painter.name):
            try:
                painter.check_entry(name)
            except LimnerError as error:
                wrong.append(f"{painter.name}/{name}: {error.detail.removeprefix(f'{painter.name}/{name}.toml: ')}")
    return wrong
