"""Points, boxes and sizes as they appear in requests and results of several operations."""

from pydantic import BaseModel, ConfigDict


class PointShape(BaseModel):
    """A position in the picture, pixels."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    x: float
    y: float


class BoxShape(PointShape):
    """A rectangle; (x, y) is its top left corner."""

    width: float
    height: float


class SizeShape(BaseModel):
    """The size of the upright picture, pixels."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
