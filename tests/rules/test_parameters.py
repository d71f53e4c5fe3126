"""Every parameter of every operation is bounded, so that no request makes many objects or stores megabytes."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter

from limner.operation import Operation
from limner.operations import CATALOGUE

Schema = dict[str, Any]

_LONG = frozenset({"str", "bytes", "list", "set", "frozenset", "tuple", "dict", "generator"})


def _unbounded(schema: Schema, path: str, definitions: Schema) -> Iterator[str]:
    """The places where pydantic's core schema of a type lets in a text, list or map of any length."""
    kind = schema["type"]
    if kind == "definitions":
        found = {each["ref"]: each for each in schema["definitions"]}
        yield from _unbounded(schema["schema"], path, {**definitions, **found})
        return
    if kind == "definition-ref":
        schema = definitions[schema["schema_ref"]]
        kind = schema["type"]
    if kind == "model" and schema["cls"].__name__ == "ImageRef":
        return  # a picture: its bytes have a limit of their own
    if kind == "any":
        yield f"{path}: anything"
    if kind in _LONG and "max_length" not in schema:
        yield f"{path}: {kind}"
    inner = [(key, schema[key]) for key in ("schema", "items_schema", "keys_schema", "values_schema") if key in schema]
    inner += [(name, field["schema"]) for name, field in _fields(schema)]
    choices = schema.get("choices", ())
    for name, choice in choices.items() if isinstance(choices, dict) else enumerate(choices):
        inner.append((str(name), choice[0] if isinstance(choice, tuple) else choice))
    if kind == "dict":
        inner += [(key, {"type": "any"}) for key in ("keys_schema", "values_schema") if key not in schema]
    for name, each in inner:
        for part in each if isinstance(each, list) else [each]:
            yield from _unbounded(part, f"{path}.{name}", definitions)


def _fields(schema: Schema) -> list[tuple[str, Schema]]:
    return list(schema["fields"].items()) if schema["type"] in ("model-fields", "typed-dict") else []


def _found(kind: Any) -> list[str]:
    return list(_unbounded(dict(TypeAdapter(kind).core_schema), "", {}))


@pytest.mark.parametrize("operation", CATALOGUE.values(), ids=lambda each: each.name)
def test_every_text_list_and_map_has_a_greatest_length(operation: Operation[Any, Any]) -> None:
    assert _found(operation.params) == []


Short = Annotated[str, Field(max_length=5)]


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (str, 1),
        (list[int], 1),
        (dict[str, str], 3),
        (dict[Short, Short], 1),
        (Annotated[dict[Short, str], Field(max_length=5)], 1),
        (Annotated[dict[str, Short], Field(max_length=5)], 1),
        (Annotated[list[Annotated[list[int], Field(max_length=5)]], Field(max_length=5)], 0),
        (Annotated[list[list[int] | None], Field(max_length=5)], 1),
        (Any, 1),
        (Short | None, 0),
        (int | float | bool | None, 0),
    ],
)
def test_the_rule_sees_what_has_no_bound(kind: Any, places: int) -> None:
    assert len(_found(kind)) == places
