"""A picture in the parameters of an operation: a record of what is stored."""

import hashlib

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from limner.domain.errors import LimnerError
from limner.vision.header import Limits
from limner.vision.structure import look


class ImageRef(BaseModel):
    """An uploaded picture that is stored. Width and height are those of the upright picture, pixels."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    media_type: str
    size: int
    width: int
    height: int
    frames: int = Field(1, exclude=True)
    """Only known when the request arrives: operations may refuse animations, and the stored job needs it no more."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # A client sends the picture itself, not this record.
        del core_schema, handler
        return {
            "type": "string",
            "format": "binary",
            "description": "The picture: a file part of a form, or base64 or a data URL in JSON.",
        }


def reference(data: bytes, limits: Limits) -> ImageRef:
    """The record of a picture; reads only its structure. TooLargeError, UnsupportedMediaError, BadImageError."""
    info = look(data, limits)
    return ImageRef(
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=info.media_type,
        size=len(data),
        width=info.width,
        height=info.height,
        frames=info.frames,
    )


def of_field(name: str, data: bytes, limits: Limits) -> ImageRef:
    """The same for the picture of a field, which the error names where it is not the photo."""
    try:
        return reference(data, limits)
    except LimnerError as error:
        if name != "image":
            error.detail = f"{name}: {error.detail}"
            error.args = (error.detail,)
        raise
