"""The painters of the operation `generate`, one file or folder each. Read `painter.py` first. `PAINTERS` lists them."""

from limner.painters.painter import Painter

_LISTED: tuple[Painter, ...] = ()

PAINTERS = {each.name: each for each in _LISTED}
