"""Dataclasses from JSON, by their annotations. What a newer service has added is left out."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


_hints = cache(get_type_hints)


def read(kind: type[T], data: Any) -> T:
    """A dataclass from a JSON object. ValueError where a field is missing or is not of its type."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__} is not an object")  # noqa: TRY004  # it is what was sent that is wrong
    hints, given = _hints(kind), {}  # type: ignore[arg-type]  # a class is hashable
    for field in fields(kind):  # type: ignore[arg-type]  # it is a dataclass
        if field.name in data:
            given[field.name] = _value(hints[field.name], data[field.name], field.name)
        elif field.default is MISSING and field.default_factory is MISSING and field.init:
            raise ValueError(f"{kind.__name__} has no {field.name}")
    return kind(**given)


def _value(kind: Any, data: Any, name: str) -> Any:  # noqa: PLR0911  # one for each kind of annotation
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar) or origin is Literal:
        return data  # a newer service may have further words
    if origin in (Union, types.UnionType):
        (plain,) = (each for each in inner if each is not types.NoneType)
        return None if data is None else _value(plain, data, name)
    if origin is list and isinstance(data, list):
        return [_value(inner[0], each, name) for each in data]
    if origin is dict and isinstance(data, dict):
        return {key: _value(inner[1], each, name) for key, each in data.items()}
    if is_dataclass(kind):
        return read(kind, data)  # type: ignore[arg-type]  # a class, not an instance
    if kind is datetime and isinstance(data, str):
        return datetime.fromisoformat(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if origin is None and isinstance(data, kind) and (kind is bool or not isinstance(data, bool)):
        return data
    raise ValueError(f"{name} is not of its type")
