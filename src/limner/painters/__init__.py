"""The painters of the operation `generate`, one file or folder each. Read `painter.py` first. `PAINTERS` lists them."""

from limner.painters.drawn.painter import Drawn
from limner.painters.painter import Painter

_LISTED: tuple[Painter, ...] = (
    Drawn(),  # the first is the default
)

PAINTERS = {each.name: each for each in _LISTED}
