"""Fields of a fixed format are refused in words: a pattern is for programs."""

from typing import Any, LiteralString

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


def must_be(message: LiteralString) -> WrapValidator:
    """In `Annotated`, behind the rest: a value that the rest refuses is answered with this sentence.

    The JSON schema is that of the rest.
    """

    def check(value: Any, rest: ValidatorFunctionWrapHandler) -> Any:
        try:
            return rest(value)
        except ValidationError:
            raise PydanticCustomError("format", message) from None

    return WrapValidator(check)
