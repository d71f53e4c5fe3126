"""The API's reference as Markdown, from the OpenAPI document."""

import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
Row = tuple[str, ...]


def reference(openapi: Json) -> str:
    """One section for each path and method, with parameters, fields of the body and answers."""
    sections = ["# Reference", "Made from [openapi.json](openapi.json), from which clients can be generated too."]
    for path, methods in openapi["paths"].items():
        for method, entry in methods.items():
            sections += _section(openapi, f"{method.upper()} {path}", entry)
    return "\n\n".join(sections) + "\n"


def _section(openapi: Json, title: str, entry: Json) -> Iterator[str]:
    yield f"## {title}"
    yield entry.get("description") or entry.get("summary", "")
    if parameters := entry.get("parameters"):
        rows: list[Row] = [
            (f"`{each['name']}`", each["in"], _kind(openapi, each.get("schema", {})), each.get("description", ""))
            for each in (_resolved(openapi, parameter) for parameter in parameters)
        ]
        yield _table(("Parameter", "In", "Kind", "Meaning"), rows)
    for media_type, content in _resolved(openapi, entry.get("requestBody", {})).get("content", {}).items():
        rows = list(_fields(openapi, content.get("schema", {})))
        yield f"Body as `{media_type}`" + (":" if rows else "")
        if rows:
            yield _table(("Field", "Kind", "Default", "Meaning"), rows)
    rows = [
        (
            status,
            _resolved(openapi, answer).get("description", ""),
            ", ".join(f"`{kind}`" for kind in answer.get("content", {})),
        )
        for status, answer in sorted(entry["responses"].items())
    ]
    yield _table(("Status", "Meaning", "Media types"), rows)


def _fields(openapi: Json, schema: Json) -> Iterator[Row]:
    """The fields of an object; for several kinds of object, each with the kind's name before it."""
    schema = _resolved(openapi, schema)
    for part in schema.get("allOf", ()):
        yield from _fields(openapi, part)
    for part in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        name = part.get("$ref", "").rpartition("/")[2]
        for row in _fields(openapi, part):
            yield (f"{row[0]} ({name})" if name else row[0], *row[1:])
    for name, given in schema.get("properties", {}).items():
        field = _resolved(openapi, given)
        default = f"`{field['default']}`" if field.get("default") not in (None, "") else ""
        if name in schema.get("required", ()):
            default = "required"
        yield f"`{name}`", _kind(openapi, field), default, field.get("description", "")


def _kind(openapi: Json, schema: Json) -> str:
    """A value's kind in a few words: its type, choices and bounds."""
    schema = _resolved(openapi, schema)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if several := [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        kinds = dict.fromkeys(
            _kind(openapi, each) for each in several if _resolved(openapi, each).get("type") != "null"
        )
        return " or ".join(kinds)
    kind = schema.get("type", "object")
    if kind == "array":
        kind = f"list of {_kind(openapi, schema.get('items', {}))}"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None or high is not None:
        kind += f" {'' if low is None else low}–{'' if high is None else high}"
    return str(kind)


def _resolved(openapi: Json, part: Json | bool) -> Json:
    """What a reference leads to. A schema that is only true or false says nothing about the value."""
    if isinstance(part, bool):
        return {}
    if "$ref" not in part:
        return part
    target: Any = openapi
    for step in part["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return _resolved(openapi, target)


def _table(head: Row, rows: list[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(each) for each in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()
