"""The operations that a user can request, one per file. `CATALOGUE` lists them."""

from typing import Any

from limner.operation import Operation
from limner.operations.contours import contours
from limner.operations.crop import crop
from limner.operations.detect import detect
from limner.operations.generate import generate

_LISTED: tuple[Operation[Any, Any], ...] = (detect, contours, crop, generate)

CATALOGUE = {each.name: each for each in _LISTED}
