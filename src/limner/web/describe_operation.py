"""How an operation is described in OpenAPI: what a request may be, and the job that it answers.

Generators of clients read it, so the fields that depend on a choice (of a painter, of a style) are all in one list
there. Which of them go together is told by `GET /v1/operations`.
"""

import json
from functools import cache
from typing import Any, Literal

from pydantic import create_model

from limner.domain.label import FIELD as LABEL
from limner.domain.label import MAX_LABEL
from limner.operation import Operation
from limner.web import shapes
from limner.web.read_request import BYTES, FORM, JSON, WEBHOOK

Schema = dict[str, Any]
REF = "#/components/schemas/"

_WEBHOOK: Schema = {
    "type": "string",
    "format": "uri",
    "description": "URL to which the event of the job's end is sent, signed after Standard Webhooks",
}
_LABEL: Schema = {
    "type": "string",
    "maxLength": MAX_LABEL,
    "description": "What you call the job, such as the name of the photo's file. It changes no result",
}
_BESIDE: Schema = {WEBHOOK: _WEBHOOK, LABEL: _LABEL}
FILE: Schema = {"type": "string", "format": "binary"}
_BASE64: Schema = {"type": "string", "description": "Base64 or a data URL"}
_HEADERS: list[Schema] = [
    {
        "name": "Prefer",
        "in": "header",
        "schema": {"type": "string"},
        "description": "`wait=N`: wait up to N seconds for the end of the job",
    },
    {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}},
]


def title_of(operation: Operation[Any, Any]) -> str:
    """The name as the beginning of a schema's name."""
    return operation.name.title().replace("_", "").replace("-", "")


@cache
def job_of(operation: Operation[Any, Any]) -> type[shapes.JobShape]:
    """The model of the operation's jobs, with its own result."""
    name: Any = Literal.__getitem__(operation.name)
    result: Any = operation.result | None
    return create_model(
        f"{title_of(operation)}Job",
        __base__=shapes.JobShape,
        __doc__=f"A job of `{operation.name}`.",
        operation=(name, ...),
        result=(result, ...),
    )


def request_of(operation: Operation[Any, Any]) -> Schema:
    """The request's body and headers, for `openapi_extra`. Its schemas are those of `schemas_of`."""
    name = title_of(operation)
    raw = {**FILE, "description": "The photo, also as `image/*`; the parameters are in the query"}
    return {
        "description": "Parameters may also be in the query, but none in the query and in the body.",
        "requestBody": {
            "required": True,
            "content": {
                FORM: {"schema": {"$ref": f"{REF}{name}Form"}},
                JSON: {"schema": {"$ref": f"{REF}{name}Json"}},
                BYTES: {"schema": raw},
            },
        },
        "parameters": _HEADERS,
    }


def schemas_of(operation: Operation[Any, Any]) -> Schema:
    """The schemas of the operation's requests, and those that they refer to."""
    described = operation.params.model_json_schema(ref_template=REF + "{model}")
    known = {name: _for_generators(part) for name, part in described.pop("$defs", {}).items() if name != "ImageRef"}
    form: Schema = {}
    in_json: Schema = {}
    for name, schema in _for_generators(described)["properties"].items():
        if name in operation.image_fields:
            told = {key: schema[key] for key in ("title", "description") if key in schema}
            form[name], in_json[name] = {**FILE, **told}, {**_BASE64, **told}
            in_json[f"{name}_url"] = {
                "type": "string",
                "format": "uri",
                "description": "URL from which the service fetches the picture",
            }
        else:
            form[name] = in_json[name] = schema
    name = title_of(operation)
    return {**known, f"{name}Form": _body(form, operation), f"{name}Json": _body(in_json, operation)}


def _body(fields: Schema, operation: Operation[Any, Any]) -> Schema:
    return {
        "type": "object",
        "description": f"A request for `{operation.name}`: {operation.summary}",
        "properties": {**fields, **_BESIDE},
        "additionalProperties": False,
    }


def _for_generators(schema: Schema) -> Schema:
    """The schema without the list of which properties go together, which generators cannot read, and without defaults.

    Generated clients would send each default, also those of fields that belong to another choice; so a text tells them.
    """
    if "properties" not in schema:
        return schema
    fields = {name: _without_default(field) for name, field in schema["properties"].items()}
    return {**{key: value for key, value in schema.items() if key != "oneOf"}, "properties": fields}


def _without_default(field: Schema) -> Schema:
    told = {key: value for key, value in field.items() if key != "default"}
    if field.get("default") is not None:
        default = f"Default: `{json.dumps(field['default'])}`"
        described = field.get("description", "").rstrip(". ")
        told["description"] = f"{described}. {default}" if described else default
    return told
