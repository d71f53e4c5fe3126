"""The client tells what the service does: the same results, jobs and events, and the same methods for asyncio."""

import inspect
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from limner.client import AsyncClient, AsyncJob, Client, Job, calls
from limner.client.jobs import Artifact, Event, EventJob, JobFields, Problem, Queue
from limner.client.pictures import PICTURES
from limner.client.results import RESULTS
from limner.operations import CATALOGUE
from limner.web import shapes

TOLD = [
    *((CATALOGUE[name].result, RESULTS[name]) for name in RESULTS if name != "pipeline"),
    (shapes.ArtifactShape, Artifact),
    (shapes.InputShape, Artifact),
    (shapes.EventShape, Event),
    (shapes.EventJobShape, EventJob),
    (shapes.QueueShape, Queue),
]


def classes(annotation: Any) -> Iterator[type[Any]]:
    """The models and dataclasses in an annotation."""
    if get_origin(annotation) in (list, dict, Union, types.UnionType):
        for each in get_args(annotation):
            yield from classes(each)
    elif inspect.isclass(annotation) and (is_dataclass(annotation) or issubclass(annotation, BaseModel)):
        yield annotation


def same(model: type[BaseModel], told: type[Any]) -> None:
    """Each field of the model is one of the dataclass, and so in the models inside; a problem has further members."""
    if told is Problem:
        return
    hints = get_type_hints(told)
    assert set(model.model_fields) == {field.name for field in fields(told)}, (model, told)
    for name, field in model.model_fields.items():
        for inner, of_client in zip(classes(field.annotation), classes(hints[name]), strict=True):
            same(inner, of_client)


@pytest.mark.parametrize(("model", "told"), TOLD, ids=lambda each: each.__name__)
def test_the_client_knows_every_field(model: type[BaseModel], told: type[Any]) -> None:
    same(model, told)


def optional(model: type[BaseModel], told: type[Any]) -> None:
    """What may be None in the model, and in those inside, need not be there: results are stored without nulls."""
    hints, of_client = get_type_hints(told), {field.name: field for field in fields(told)}
    for name, field in model.model_fields.items():
        if types.NoneType in get_args(field.annotation):
            assert not field.is_required(), (model, name)
            assert of_client[name].default is None, (told, name)
        for inner, its in zip(classes(field.annotation), classes(hints[name]), strict=True):
            optional(inner, its)


@pytest.mark.parametrize(
    ("model", "told"), [each for each in TOLD if each[1] in RESULTS.values()], ids=lambda each: each.__name__
)
def test_what_a_result_leaves_out_may_be_missing(model: type[BaseModel], told: type[Any]) -> None:
    optional(model, told)


def test_the_client_knows_every_operation_and_field_of_a_job() -> None:
    assert set(RESULTS) == set(CATALOGUE)
    assert {field.name for field in fields(JobFields)} == {*shapes.JobShape.model_fields, "json"}
    for kind in (Client, AsyncClient):
        for name in CATALOGUE:
            assert inspect.getdoc(getattr(kind, name)), name


def test_every_parameter_can_be_sent() -> None:
    own = set(inspect.signature(Client.run).parameters) | set(inspect.signature(calls.run).parameters)
    keywords = {"timeout_s", "idempotency_key"}
    assert keywords < own
    for operation in CATALOGUE.values():
        assert not keywords & set(operation.params.model_json_schema()["properties"]), operation.name
        assert set(operation.image_fields) <= set(PICTURES)


@pytest.mark.parametrize(("threads", "tasks"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_both_clients_have_the_same_methods(threads: type[Any], tasks: type[Any]) -> None:
    def methods(kind: type[Any]) -> dict[str, list[str]]:
        own = {name: each for name, each in vars(kind).items() if inspect.isfunction(each) and not name.startswith("_")}
        return {name: list(inspect.signature(each).parameters) for name, each in own.items()}

    assert methods(threads) == methods(tasks)


def test_the_client_imports_nothing_but_httpx() -> None:
    code = (
        "import httpx, sys; before = set(sys.modules); import limner.client;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names),"
        "*sorted(name for name in sys.modules if name.count('.') == 1 and name.startswith('limner.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["limner", "limner.client"]
