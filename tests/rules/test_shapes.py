"""Jobs and events of every kind match the models in the OpenAPI description."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from limner.domain.errors import BadImageError
from limner.domain.event import Event, EventType, content_of
from limner.domain.job import File, Job, Role, Status
from limner.web import shapes
from limner.web.links import Links
from tests.contract.machine import new_job

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
BASE = "https://faces.example"
LINKS = Links(BASE)


def _jobs() -> list[Job]:
    job = new_job(created_at=NOW)
    artifact = File("f", job.id, Role.ARTIFACT, "marked.jpg", "0" * 64, "image/jpeg", 5, 6, None)
    done = replace(job, status=Status.SUCCEEDED, progress=1.0, started_at=NOW, finished_at=NOW, result={"faces": []})
    return [
        job,
        replace(job, status=Status.RUNNING, started_at=NOW, progress=0.5),
        replace(done, files=(*job.files, artifact), summary={"faces_count": 0}),
        replace(done, cached="exact"),
        replace(done, cached="similar"),
        replace(job, status=Status.FAILED, error=BadImageError().problem(), finished_at=NOW),
        replace(job, status=Status.CANCELLED, finished_at=NOW),
    ]


@pytest.mark.parametrize("job", _jobs(), ids=lambda job: f"{job.status}-{job.cached}")
def test_every_job_is_of_the_shape(job: Job) -> None:
    answer = shapes.job(job, LINKS)
    shape = shapes.JobShape.model_validate(answer, extra="forbid")
    assert set(answer) >= {name for name, field in shapes.JobShape.model_fields.items() if field.is_required()}
    assert answer["created_at"] == "2026-01-02T03:04:05.678901Z"
    assert shape.created_at == NOW
    assert answer["url"] == f"{BASE}/v1/jobs/{job.id}"
    assert "sha256" not in str(answer)
    for file in answer["artifacts"]:
        assert file["url"] == f"{answer['url']}/artifacts/{file['name']}"


@pytest.mark.parametrize("job", _jobs(), ids=lambda job: f"{job.status}-{job.cached}")
@pytest.mark.parametrize("erased", [False, True])
def test_every_event_is_of_the_shape(job: Job, erased: bool) -> None:
    event = Event(1, EventType.entering(job.status), NOW, job.id, "detect", None if erased else content_of(job))
    answer = shapes.event(event, LINKS)
    shapes.EventShape.model_validate(answer, extra="forbid")
    if erased:
        assert answer["job"] == {"id": job.id, "operation": "detect"}
    else:
        assert answer["job"]["artifacts"] == shapes.job(job, LINKS)["artifacts"]


def test_a_whole_second_has_its_microseconds_too() -> None:
    assert shapes.moment(NOW.replace(microsecond=0)) == "2026-01-02T03:04:05.000000Z"
    assert shapes.moment(None) is None
