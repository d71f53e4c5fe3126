"""The operations that a user can request, one per file. `CATALOGUE` lists them."""

from typing import Any

from limner.operation import Operation
from limner.operations.contours import contours
from limner.operations.crop import crop
from limner.operations.detect import detect
from limner.operations.generate import generate
from limner.operations.pipeline import pipeline
from limner.operations.samples import samples

_STEPS: tuple[Operation[Any, Any], ...] = (detect, contours, crop, generate)
_LISTED = (*_STEPS, samples, pipeline(_STEPS, default=(detect, contours, generate)))

CATALOGUE = {each.name: each for each in _LISTED}
