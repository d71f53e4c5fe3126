"""deploy/compose.yaml as `make stack` starts it: photos through nginx, streams, Prometheus, and containers that die.

`TEST_IMAGE` names an image of Limner that is built already.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from websockets.sync.client import connect

from tests.conftest import another, as_jpeg
from tests.deploy.containers import ROOT, Engine, find_engine, run
from tests.journeys.client import server_sent

pytestmark = pytest.mark.slow

START_S = 300
PATIENCE_S = 180  # for a busy machine
STACK = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
TARGETS = {"nginx": "nginx", "postgres": "postgres", "redis": "redis", "prometheus": "prometheus", "grafana": ""}
"""The stand-in of each service (tests/deploy/stand_ins/Dockerfile); Debian has no Grafana."""


def _image(service: str) -> str:
    found = re.search(r":-([^}]+)\}", STACK[service]["image"])
    assert found is not None
    return found[1]


@dataclass
class Stack:
    """A running stack."""

    engine: Engine
    folder: Path
    environment: dict[str, str]
    services: list[str]
    url: str
    key: str

    def up(self, *words: str) -> str:
        """`make stack`."""
        return run([str(self.folder / "scripts/stack.sh"), "up", *words, *self.services], self.environment, START_S)

    def down(self, *words: str) -> None:
        """`make stack-stop`. The logs of the containers stay in `folder`."""
        for service in self.services:
            for name in self.containers(service):
                log = subprocess.run(
                    [self.engine.name, "logs", name], env=self.environment, capture_output=True, check=False
                )
                with self.folder.joinpath(f"{name}.log").open("ab") as file:
                    file.write(log.stdout + log.stderr)
        run([str(self.folder / "scripts/stack.sh"), "down", *words], self.environment, START_S)

    def containers(self, service: str) -> list[str]:
        """The names of the running containers of a service."""
        project = self.environment["COMPOSE_PROJECT_NAME"]
        labels = [f"com.docker.compose.project={project}", f"com.docker.compose.service={service}"]
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        return sorted(self.engine.run("ps", "--format", "{{.Names}}", *filters).split())

    def within(self, service: str, *words: str) -> str:
        """The output of a command in a container."""
        return self.engine.run("exec", self.containers(service)[0], *words)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=PATIENCE_S)

    def query(self, expression: str) -> dict[str, float]:
        """The series of Prometheus, each by its labels."""
        told = self.within("prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", expression)
        return {line.rpartition(" => ")[0]: float(line.rpartition(" => ")[2].split()[0]) for line in told.splitlines()}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with two web containers and one worker, under another name, on other ports and with its own secrets."""
    python = "3.12-slim-bookworm"
    engine = find_engine(f"docker.io/library/python:{python}")
    if engine.stands_in:
        python = "3.11-slim-bookworm"  # Debian's
        engine.provide({f"docker.io/library/python:{python}": "python"})
    missing = engine.provide({_image(service): target for service, target in TARGETS.items()})
    image = os.environ.get("TEST_IMAGE", "localhost/limner:test")
    if "TEST_IMAGE" not in os.environ:
        engine.build(image, python)

    folder = tmp_path_factory.mktemp("stack")
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns(".env", "limner.env"))
    (folder / "scripts").mkdir()
    shutil.copy2(ROOT / "scripts/stack.sh", folder / "scripts")
    folder.joinpath("deploy/limner.env").write_text("LIMNER_KEEP_DAYS=7\n")
    port = _free_port()
    environment = {
        **engine.environment,
        "COMPOSE_PROJECT_NAME": f"limner-test-{uuid.uuid4().hex[:8]}",
        "LIMNER_IMAGE": image,
        "PORT": str(port),
        "GRAFANA_PORT": str(_free_port()),
        "FLOWER_PORT": str(_free_port()),
        "WORKERS": "1",
        "WEB_PROCESSES": "2",
    }
    run([str(folder / "deploy/make_env.sh")], environment)
    secrets = dict(line.split("=") for line in (folder / "deploy/.env").read_text().splitlines() if "=" in line)
    services = ["nginx", "web", "worker", "migrate", "postgres", "redis", "prometheus", "grafana"]
    services = [service for service in services if service not in TARGETS or _image(service) not in missing]
    url = f"http://127.0.0.1:{port}"
    started = Stack(engine, folder, environment, services, url, secrets["LIMNER_ADMIN_KEY"])
    try:
        told = started.up("--scale", "web=2")
        assert url in told
        assert started.key not in told
        yield started
    finally:
        started.down("--volumes")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def _submit(http: httpx.Client, photo: bytes, **headers: str) -> dict[str, Any]:
    answer = http.post("/v1/detect", files={"image": photo}, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    job: dict[str, Any] = answer.json()
    return job


def _finished(http: httpx.Client, job: dict[str, Any]) -> bool:
    status: str = http.get(f"/v1/jobs/{job['id']}").json()["status"]
    assert status in ("queued", "running", "succeeded")
    return status == "succeeded"


def _kinds_of_events(http: httpx.Client, job: dict[str, Any]) -> list[str]:
    """The kinds of all events of a job, in order, read as a new client would."""
    kinds: list[str] = []
    parameters = {"after": "0", "job": job["id"]}
    with http.stream("GET", "/v1/events", params=parameters, headers={"Accept": "text/event-stream"}) as answer:
        for event in server_sent(answer.iter_lines()):
            kinds.append(event["type"])
            if kinds[-1] in ("job.succeeded", "job.failed", "job.cancelled"):
                return kinds
    raise AssertionError(f"the stream ended after {kinds}")


def test_a_photo_goes_through(stack: Stack, astronaut_jpeg: bytes) -> None:
    assert httpx.post(f"{stack.url}/v1/detect", files={"image": astronaut_jpeg}).status_code == 401
    bearer = {"Authorization": f"Bearer {stack.key}"}
    with (
        stack.client() as http,
        connect(f"{stack.url.replace('http', 'ws')}/v1/events", additional_headers=bearer) as socket_,
    ):
        sent = _submit(http, astronaut_jpeg, Prefer="wait=30")
        _until(lambda: _finished(http, sent), "the first job has ended")
        job = http.get(sent["url"]).json()
        assert job["status"] == "succeeded"
        assert len(job["result"]["faces"]) == 1
        told = ""
        while job["id"] not in told or "succeeded" not in told:
            told = str(socket_.recv(timeout=PATIENCE_S))
        assert json.loads(told)
        assert _kinds_of_events(http, job)[-1].endswith("succeeded")

        (artifact,) = [each for each in job["artifacts"] if each["name"] == "marked.jpg"]
        answer = http.get(artifact["url"])
        assert answer.content[:2] == b"\xff\xd8"
        assert len(answer.content) == artifact["size"]
        part = http.get(artifact["url"], headers={"Range": "bytes=0-1"})
        assert (part.status_code, part.content) == (206, b"\xff\xd8")
        assert part.headers["content-range"] == f"bytes 0-1/{artifact['size']}"
        assert _unsent(stack, artifact["url"]) == ["/_blobs/", "0"], "nginx sends it, the web process does not"
        assert http.get("/metrics").status_code == 404, "they are for Prometheus alone"
        assert httpx.get(f"{stack.url}/_blobs/").status_code == 404


def _unsent(stack: Stack, url: str) -> list[str]:
    """What a web process answers without nginx: where the file of an artifact is, and how much of it was sent."""
    script = (
        "import sys, urllib.request as u; a = u.urlopen(u.Request(sys.argv[1], headers={'X-API-Key': sys.argv[2]}));"
        "print(a.headers['X-Accel-Redirect'][:8], len(a.read()))"
    )
    path = httpx.URL(url).raw_path.decode()
    return stack.within("web", "python", "-c", script, f"http://127.0.0.1:8282{path}", stack.key).split()


def test_both_web_containers_answer(stack: Stack) -> None:
    with stack.client() as http:
        for _ in range(50):
            assert http.get("/v1/jobs").status_code == 200
    used = {each["upstream"].rpartition(":")[0] for each in _requests(stack) if each["path"] == "/v1/jobs"}
    for name in stack.containers("web"):
        networks = json.loads(stack.engine.run("inspect", name))[0]["NetworkSettings"]["Networks"]
        assert used & {each["IPAddress"] for each in networks.values()}, name


def _requests(stack: Stack) -> list[dict[str, Any]]:
    """What nginx has logged so far."""
    lines = stack.engine.run("logs", stack.containers("nginx")[0]).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_prometheus_sees_every_part(stack: Stack) -> None:
    def all_up() -> bool:
        return sorted(stack.query('sum by (job) (up{job=~"limner.*"})').values()) == [1, 2]

    _until(all_up, "two web containers and a worker answer Prometheus")
    assert list(stack.query("sum(limner_workers)").values()) == [1]
    assert list(stack.query("max(limner_database_up)").values()) == [1]
    panels = json.loads((ROOT / "deploy/grafana/limner.json").read_text())["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            stack.query(target["expr"].replace("$__rate_interval", "1m"))
    assert list(stack.query('sum(limner_jobs_finished_total{status="succeeded"})').values()) == [1]


def test_an_erased_photo_is_gone(stack: Stack, astronaut: npt.NDArray[np.uint8]) -> None:
    def files() -> set[str]:
        return set(stack.within("web", "find", "/data/blobs", "-type", "f", "-size", "+1k").split())

    before = files()
    with stack.client() as http:
        job = _submit(http, as_jpeg(astronaut[:, ::-1]), Prefer="wait=60")  # equal pictures are one file
        assert job["status"] == "succeeded"
        assert len(files() - before) >= 2
        assert http.get(job["artifacts"][0]["url"]).status_code == 200
        assert http.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert http.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert http.get(job["artifacts"][0]["url"]).status_code == 404
    assert files() == before


def test_grafana_has_the_dashboard(stack: Stack) -> None:
    if "grafana" not in stack.services:
        pytest.skip("there is no image of Grafana here, and no stand-in for it")
    secrets = dict(line.split("=") for line in (stack.folder / "deploy/.env").read_text().splitlines() if "=" in line)
    url = f"http://127.0.0.1:{stack.environment['GRAFANA_PORT']}"
    with httpx.Client(base_url=url, auth=("admin", secrets["GRAFANA_PASSWORD"]), timeout=10) as http:
        _until(lambda: http.get("/api/health").status_code == 200, "Grafana answers through nginx")
        assert http.get("/api/dashboards/uid/limner").json()["dashboard"]["title"] == "Limner"
        assert httpx.get(f"{url}/api/dashboards/uid/limner").status_code == 401


@pytest.mark.parametrize("service", ["nginx", "web", "worker", "postgres", "redis", "prometheus"])
def test_every_container_is_limited(stack: Stack, service: str) -> None:
    inspected = json.loads(stack.engine.run("inspect", stack.containers(service)[0]))[0]
    host = inspected["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert "no-new-privileges" in json.dumps(host["SecurityOpt"])
    status = stack.within(service, "cat", "/proc/self/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "no rights"
    assert re.search(r"^Uid:\s+0\b", status, re.MULTILINE) is None, "not root"
    published = {port for port, places in inspected["NetworkSettings"]["Ports"].items() if places}
    assert bool(published) is (service == "nginx")


@pytest.mark.parametrize("service", ["web", "worker", "nginx", "postgres", "redis", "prometheus"])
def test_health_checks_pass(stack: Stack, service: str) -> None:
    name = stack.containers(service)[0]
    if stack.engine.name == "podman":  # its own timer needs systemd
        _until(lambda: "unhealthy" not in _health(stack, name), f"{service} is healthy")
    else:
        _until(lambda: _health(stack, name) == "healthy", f"{service} is healthy")


def _health(stack: Stack, name: str) -> str:
    if stack.engine.name == "podman":
        command = ["podman", "healthcheck", "run", name]
        done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
        return "healthy" if done.returncode == 0 else f"unhealthy: {done.stdout}{done.stderr}"
    return stack.engine.run("inspect", "--format", "{{.State.Health.Status}}", name)


def test_a_killed_worker_loses_no_job(stack: Stack, astronaut_jpeg: bytes) -> None:
    with stack.client() as http:
        jobs = [_submit(http, another(astronaut_jpeg, number)) for number in range(200)]  # more than it does at once
        (worker,) = stack.containers("worker")
        _until(lambda: _finished(http, jobs[2]), "the worker is at work")
        stack.engine.run("kill", "--signal", "KILL", worker)
        assert not all(_finished(http, job) for job in jobs)
        _until(lambda: stack.containers("worker") == [], "it is gone")
        stack.engine.run("start", worker)
        _until(lambda: all(_finished(http, job) for job in jobs), "every job is run")
        for job in jobs:
            kinds = _kinds_of_events(http, job)
            assert kinds[0].endswith("queued"), kinds
            assert sum(kind.endswith("succeeded") for kind in kinds) == 1, kinds


def test_a_killed_web_container_is_not_missed(stack: Stack, astronaut_jpeg: bytes) -> None:
    with stack.client() as http:
        first, second = stack.containers("web")
        jobs = [_submit(http, another(astronaut_jpeg, number)) for number in range(100, 110)]
        stack.engine.run("kill", "--signal", "KILL", first)
        for _ in range(20):  # nginx asks the other one
            assert http.get("/readyz").status_code == 200
        jobs += [_submit(http, another(astronaut_jpeg, number)) for number in range(110, 115)]
        _until(lambda: all(_finished(http, job) for job in jobs), "every job is run")
        stack.engine.run("start", first)
        stack.engine.run("kill", "--signal", "KILL", second)
        _until(lambda: http.get("/readyz").status_code == 200, "the first is back")
        assert all(_kinds_of_events(http, job)[-1].endswith("succeeded") for job in jobs)
        stack.engine.run("start", second)


def test_a_killed_database_is_waited_for(stack: Stack, astronaut_jpeg: bytes) -> None:
    with stack.client() as http:
        jobs = [_submit(http, another(astronaut_jpeg, number)) for number in range(200, 205)]
        (postgres,), (redis,) = stack.containers("postgres"), stack.containers("redis")
        stack.engine.run("kill", "--signal", "KILL", postgres)
        stack.engine.run("kill", "--signal", "KILL", redis)
        refused = http.post("/v1/detect", files={"image": another(astronaut_jpeg, 299)})
        assert refused.status_code == 503
        assert refused.json()["type"].startswith("urn:limner:problem:")
        stack.engine.run("start", postgres, redis)
        _until(lambda: http.get("/readyz").status_code == 200, "the database is back")
        _until(lambda: all(_finished(http, job) for job in jobs), "every accepted job is run")


def test_no_answer_so_far_was_an_unexpected_error(stack: Stack) -> None:
    statuses = Counter(each["status"] for each in _requests(stack))
    assert statuses[200] > 100
    assert statuses[503], "the database was away"
    assert {status for status in statuses if status >= 500} <= {503, 504}


@pytest.mark.parametrize("service", ["redis", "worker", "web", "postgres", "prometheus", "nginx"])
def test_every_container_stops_when_it_is_told(stack: Stack, service: str) -> None:
    name = stack.containers(service)[0]
    stack.engine.run("stop", "--time", "120", name, timeout_s=150)
    status = stack.engine.run("inspect", "--format", "{{.State.ExitCode}}", name)
    stack.engine.run("start", name)
    assert status == "0"
    with stack.client() as http:
        _until(lambda: _answers(http), "all is back")


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_stop_and_a_start_keep_everything(stack: Stack, astronaut_jpeg: bytes) -> None:
    with stack.client() as http:
        job = _submit(http, another(astronaut_jpeg, 300), Prefer="wait=60")
        assert job["status"] == "succeeded"
        picture = http.get(job["artifacts"][0]["url"]).content
        kinds = _kinds_of_events(http, job)
    stack.down()
    for service in stack.services:
        assert stack.containers(service) == []
    stack.up()
    with stack.client() as http:
        again = http.get(f"/v1/jobs/{job['id']}").json()
        assert again["result"] == job["result"]
        assert http.get(again["artifacts"][0]["url"]).content == picture
        assert http.get(job["artifacts"][0]["url"]).content == picture, "also by its earlier address"
        part = http.get(again["artifacts"][0]["url"], headers={"Range": "bytes=0-1"})
        assert (part.status_code, part.content) == (206, picture[:2])
        assert _kinds_of_events(http, job) == kinds
        cached = _submit(http, another(astronaut_jpeg, 300), Prefer="wait=60")
        assert cached["result"] == job["result"]


def test_a_backup_brings_everything_back(stack: Stack, astronaut_jpeg: bytes, tmp_path: Path) -> None:
    script = str(stack.folder / "scripts/stack.sh")
    with stack.client() as http:
        jobs = [_submit(http, another(astronaut_jpeg, number), Prefer="wait=60") for number in range(400, 405)]
        pictures = [http.get(job["artifacts"][0]["url"]).content for job in jobs]
        run([script, "backup", str(tmp_path / "copy")], stack.environment, START_S)
        later = _submit(http, another(astronaut_jpeg, 405), Prefer="wait=60")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "copy", *(tmp_path / "copy").iterdir())} == {0}
    stack.down("--volumes")
    stack.folder.joinpath("deploy/.env").unlink()
    run([script, "restore", str(tmp_path / "copy")], stack.environment, START_S)
    for service in stack.services:
        assert stack.containers(service) == []
    stack.up()
    with stack.client() as http:  # with the key of before
        for job, picture in zip(jobs, pictures, strict=True):
            assert http.get(f"/v1/jobs/{job['id']}").json()["result"] == job["result"]
            assert http.get(job["artifacts"][0]["url"]).content == picture, "by its earlier address"
            assert _kinds_of_events(http, job)[-1].endswith("succeeded")
        assert http.get(f"/v1/jobs/{later['id']}").status_code == 404
        assert _submit(http, another(astronaut_jpeg, 406), Prefer="wait=60")["status"] == "succeeded"


def test_what_is_no_backup_changes_nothing(stack: Stack, tmp_path: Path) -> None:
    command = [str(stack.folder / "scripts/stack.sh"), "restore", str(tmp_path)]
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=START_S, check=False)
    assert (done.returncode, "is no backup: limner.dump is missing" in done.stderr) == (1, True)
    with stack.client() as http:
        assert http.get("/readyz").status_code == 200
