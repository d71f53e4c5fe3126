"""Column types: times are microseconds since 1970 UTC, JSON objects are text, enumeration members are their values."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic_core import from_json, to_json
from sqlalchemy import BigInteger, Dialect, String, Text, TypeDecorator

E = TypeVar("E", bound=StrEnum)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """A time with a time zone."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        del dialect
        return None if value is None else (value - EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        del dialect
        return None if value is None else EPOCH + timedelta(microseconds=value)


class Json(TypeDecorator[dict[str, Any]]):
    """A JSON object."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:
        del dialect
        return None if value is None else to_json(value, inf_nan_mode="constants").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        del dialect
        return None if value is None else from_json(value)


class Word(TypeDecorator[E], Generic[E]):
    """A member of a `StrEnum`."""

    impl = String
    cache_ok = True

    def __init__(self, enumeration: type[E], length: int) -> None:
        super().__init__(length)
        self.enumeration = enumeration

    def process_bind_param(self, value: E | str | None, dialect: Dialect) -> str | None:
        del dialect
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        del dialect
        return None if value is None else self.enumeration(value)
