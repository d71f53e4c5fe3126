"""Points, boxes and sizes as they appear in requests and results of several operations."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from limner.vision.faces import Box


class PointShape(BaseModel):
    """A position in the picture, pixels."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    x: float
    y: float


class BoxShape(PointShape):
    """A rectangle; (x, y) is its top left corner."""

    width: float
    height: float

    @classmethod
    def of(cls, box: Box) -> "BoxShape":
        """The box in hundredths of a pixel."""
        return cls(x=round(box.x, 2), y=round(box.y, 2), width=round(box.width, 2), height=round(box.height, 2))


class AreaShape(BaseModel):
    """A rectangle that a request draws; (x, y) is its top left corner. It may reach beyond the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    x: Annotated[float, Field(ge=-100_000, le=100_000)]
    y: Annotated[float, Field(ge=-100_000, le=100_000)]
    width: Annotated[float, Field(gt=0, le=100_000)]
    height: Annotated[float, Field(gt=0, le=100_000)]


class SizeShape(BaseModel):
    """The size of the upright picture, pixels."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
