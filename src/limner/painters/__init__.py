"""The painters of the operation `generate`, one file or folder each. Read `painter.py` first. `PAINTERS` lists them."""

from limner.painters.comfyui import Comfyui
from limner.painters.diffusion.painter import Diffusion
from limner.painters.drawn.painter import Drawn
from limner.painters.onnx import Onnx
from limner.painters.openai import Openai
from limner.painters.painter import Painter
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
