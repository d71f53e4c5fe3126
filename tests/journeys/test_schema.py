"""The OpenAPI document is valid and complete, and the service answers as it says."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema_rs import Draft202012Validator, meta, validator_for
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks

from limner.operations import CATALOGUE
from limner.web import shapes
from tests.conftest import another
from tests.journeys.client import Json, get, submit
from tests.journeys.server import Server

EXAMPLES = 25
CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.status_code_conformance,
]


@pytest.fixture(scope="module")
def described(shared_server: Server) -> Json:
    answer = get(shared_server, "/openapi.json")
    assert answer.status_code == 200
    document: Json = answer.json()
    return document


@pytest.fixture(scope="module")
def schema(shared_server: Server, described: Json) -> Any:
    loaded = schemathesis.openapi.from_dict(described)
    loaded.config.update(base_url=shared_server.url)
    return loaded


def references(value: object) -> set[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def test_every_schema_is_one_and_every_reference_leads_somewhere(described: Json) -> None:
    for name, part in described["components"]["schemas"].items():
        assert meta.is_valid(part), name
    for reference in references(described):
        place: Any = described
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


def test_every_path_is_described_once(described: Json) -> None:
    assert set(described["paths"]) >= {
        *(f"/v1/{name}" for name in CATALOGUE),
        "/v1/operations",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/artifacts/{name}",
        "/v1/jobs/{job_id}/inputs/{name}",
        "/v1/events",
        "/healthz",
        "/readyz",
        "/metrics",
        "/image",
        "/jobs/{job_id}",
        "/jobs/{job_id}/processed-image",
        "/api/v1/images",
        "/api/v1/images/{file_id}",
        "/api/v1/images/{file_id}/meta",
        "/api/v1/images/",
        "/api/v1/images/{job_id}/",
        "/api/v1/submit",
        "/api/v1/status/{job_id}",
        "/api/v1/frontal/crop/submit",
        "/api/v1/frontal/crop/status/{job_id}",
    }
    seen = [method["operationId"] for path in described["paths"].values() for method in path.values()]
    assert len(seen) == len(set(seen))
    for path, methods in described["paths"].items():
        for method, told in methods.items():
            assert told.get("summary"), (path, method)
            assert told.get("responses"), (path, method)
            problems = [each for status, each in told["responses"].items() if status.startswith(("4", "5"))]
            for each in problems:
                assert set(each.get("content", {"application/problem+json": {}})) == {"application/problem+json"}


def test_an_operation_is_described_as_a_form_and_as_json(described: Json) -> None:
    for name, operation in CATALOGUE.items():
        content = described["paths"][f"/v1/{name}"]["post"]["requestBody"]["content"]
        form = content["multipart/form-data"]["schema"]["properties"]
        body = content["application/json"]["schema"]["properties"]
        visible = set(operation.params.model_json_schema()["properties"])
        assert set(form) == visible | {"webhook_url"}
        assert set(body) == set(form) | {f"{each}_url" for each in operation.image_fields}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_is_served(shared_server: Server, path: str) -> None:
    answer = get(shared_server, path)
    assert answer.status_code == 200
    assert "/openapi.json" in answer.text


def test_answers_are_of_their_shapes(shared_server: Server, described: Json, astronaut_jpeg: bytes) -> None:
    jobs = [
        submit(shared_server, another(astronaut_jpeg, 1), wait=True, path=f"/v1/{name}", **fields)
        for name in CATALOGUE
        for fields in ({}, {})  # once computed, once from the cache
    ]
    jobs.append(submit(shared_server, astronaut_jpeg[: len(astronaut_jpeg) // 2], wait=True))

    def check(kind: str, told: object) -> None:
        document = {"$ref": f"#/components/schemas/{kind}", "components": described["components"]}
        validator_for(document).validate(told)

    for job in jobs:
        check("JobShape", job)
        if job["status"] == "succeeded":
            check(CATALOGUE[job["operation"]].result.__name__, job["result"])
        else:
            check("ProblemShape", job["error"])
    check("JobPageShape", get(shared_server, "/v1/jobs").json())
    operations = get(shared_server, "/v1/operations").json()
    check("OperationsShape", operations)
    for each in operations["operations"]:
        for part in (each["parameters"], each["result"]):
            Draft202012Validator(part)
    seen = 0
    with httpx.stream("GET", f"{shared_server.url}/v1/events?after=0", timeout=30) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                check("EventShape", event)
                shapes.EventShape.model_validate(event)
                seen += 1
                if event["type"] == "job.failed":
                    break
    assert seen >= 3 * len(CATALOGUE)


def test_whatever_fits_the_schema_is_answered_as_the_schema_says(schema: Any) -> None:
    found: list[str] = []
    for each in schema.get_all_operations():
        operation = each.ok()
        if operation.path == "/v1/events":  # a stream without end
            continue

        @given(case=operation.as_strategy())
        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, timeout=30)

        try:
            ask()
        except (FailureGroup, Failure) as failure:
            found.append(f"{operation.label}: {failure} {getattr(failure, 'exceptions', '')}")
    assert not found, "\n\n".join(found)
