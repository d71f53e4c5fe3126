"""Completes the OpenAPI document that FastAPI makes of the routes, so that clients can be generated from it.

Each schema has one name, and a job has the result of its operation.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from limner.operation import Operation
from limner.web import shapes
from limner.web.admission import need_of
from limner.web.describe_operation import FILE, REF, Schema, job_of, schemas_of
from limner.web.operation_routes import problem_response
from limner.web.services import Services

_JOB = "Job"


def complete(app: FastAPI, services: Services, routes: list[APIRoute]) -> None:
    """Make `app.openapi` return the complete document."""
    make = app.openapi

    def openapi() -> Schema:
        if app.openapi_schema is None:
            schema = make()
            operations = list(services.catalogue.values())
            known = schema.setdefault("components", {}).setdefault("schemas", {})
            _add_shapes(known)
            for operation in operations:
                _add(known, schemas_of(operation))
            _tell_results(schema, operations)
            _correct_validation_errors(schema)
            if services.admission.required:
                _describe_keys(schema, routes)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def _add(known: Schema, schemas: Schema) -> None:
    for name, schema in schemas.items():
        assert known.setdefault(name, schema) == schema, f"two schemas are named {name}"


def _add_shapes(known: Schema) -> None:
    """Add the models that no route declares as its response."""
    wanted: list[Any] = [(shapes.ProblemShape, "serialization"), (shapes.EventShape, "serialization")]
    _, described = models_json_schema(wanted, ref_template=REF + "{model}")
    _add(known, described["$defs"])


def _tell_results(schema: Schema, operations: list[Operation[Any, Any]]) -> None:
    """Where the answer is a job of whichever operation, it is one of the operations' own jobs. Pictures are files."""
    names = {operation.name: job_of(operation).__name__ for operation in operations}
    schema["components"]["schemas"][_JOB] = {
        "description": "A job; `operation` tells which.",
        "oneOf": [{"$ref": REF + name} for name in names.values()],
        "discriminator": {
            "propertyName": "operation",
            "mapping": {operation: REF + name for operation, name in names.items()},
        },
    }
    for methods in schema["paths"].values():
        for entry in methods.values():
            for answer in entry["responses"].values():
                for kind, content in answer.get("content", {}).items():
                    if kind.startswith("image/"):
                        content["schema"] = FILE
                    if content.get("schema") == {"$ref": f"{REF}{shapes.JobShape.__name__}"}:
                        content["schema"] = {"$ref": REF + _JOB}


def _correct_validation_errors(schema: Schema) -> None:
    """Describe 422 as a problem, instead of FastAPI's own format."""
    own = schema["components"]["schemas"].pop("HTTPValidationError", None)
    schema["components"]["schemas"].pop("ValidationError", None)
    for methods in schema["paths"].values() if own else ():
        for entry in methods.values():
            if "HTTPValidationError" in str(entry["responses"].get("422")):
                entry["responses"]["422"] = problem_response("Invalid parameters")


def _describe_keys(schema: Schema, routes: list[APIRoute]) -> None:
    """Add how keys are sent, and which routes need one."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `limner keys create` makes one"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "signature": {"type": "apiKey", "in": "query", "name": "signature", "description": "In URLs of pictures"},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "From `POST /v1/tickets`"},
    }
    for route in routes:
        need = need_of(route.endpoint)
        if need.open or not route.include_in_schema:
            continue
        ways = ["bearer", "header", *(["signature"] if need.signed else []), *(["ticket"] if need.ticket else [])]
        for method in route.methods or ():
            entry = schema["paths"][route.path][method.lower()]
            entry["security"] = [{way: []} for way in ways]
            scope = "any key" if need.scope is None else f"the scope `{need.scope}`"
            for status, why in (
                ("401", "The key is missing or not valid"),
                ("403", f"The key lacks {scope}" + (", or the signature is wrong" if need.signed else "")),
                ("429", "A limit is reached; see `Retry-After`"),
            ):
                entry["responses"].setdefault(status, problem_response(why))
