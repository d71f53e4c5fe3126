"""OpenTelemetry traces from the request to the worker, received by a collector over OTLP."""

import hashlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from limner import tracing
from limner.domain.errors import SettingsError
from tests.conftest import another
from tests.journeys.client import submit
from tests.journeys.conftest import BOTH, StartServer, make_server
from tests.journeys.receiver import receiving
from tests.services.otlp import Collector, Received
from tests.services.process import free_port

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that answers."""
    server = Collector()
    yield server
    server.stop()


def to(collector: Collector) -> dict[str, str]:
    """The variables that lead there."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
    }


def of(spans: list[Received], name: str) -> Received:
    """The only span of this name."""
    (found,) = [each for each in spans if each.name == name]
    return found


@pytest.mark.parametrize("parts", BOTH)
def test_a_job_is_one_trace(
    parts: str, tmp_path: Path, request: pytest.FixtureRequest, collector: Collector, astronaut_jpeg: bytes
) -> None:
    request.param = parts
    with receiving() as receiver:
        private = {"LIMNER_FETCH_PRIVATE_HOSTS": "127.0.0.1", "LIMNER_FETCH_PORTS": str(receiver.port)}
        server = make_server(tmp_path, request, **to(collector), **private)
        server.start()
        job = submit(server, astronaut_jpeg, wait=True, webhook_url=f"{receiver.url}/fine/secret-path")
        receiver.wait("/fine/secret-path")
        httpx.get(server.url + "/v1/jobs?limit=1&operation=detect").raise_for_status()
        server.stop()  # what is left is sent at the stop
    server.check_log()
    posted = of(collector.spans, "POST /v1/detect")
    spans = [each for each in collector.spans if each.trace == posted.trace]
    assert (posted.kind, posted.parent) == (SERVER, "")
    assert posted.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/detect",
        "http.response.status_code": 200,
    }
    submitted, waiting, run = of(spans, "submit detect"), of(spans, "waiting"), of(spans, "run detect")
    assert (submitted.kind, submitted.parent) == (PRODUCER, posted.id)
    assert submitted.attributes["limner.decision"] == "new"
    assert (run.kind, run.parent, waiting.parent) == (CONSUMER, submitted.id, submitted.id)
    assert run.attributes["limner.job.id"] == job["id"]
    assert (run.attributes["limner.attempt"], run.attributes["limner.status"]) == (1, "succeeded")
    assert (posted.resource["limner.part"], run.resource["limner.part"]) == ("web", "worker")
    assert {each.resource["service.name"] for each in spans} == {"limner"}
    below = {each.name: each for each in spans if each.parent == run.id}
    assert below.keys() >= {"decode", "detect", "draw", "encode", "store", "finish"}
    read = of(spans, "blobs.get")
    assert read.parent == below["decode"].id
    assert read.attributes["limner.bytes"] == len(astronaut_jpeg)
    assert of(spans, "transaction").trace == posted.trace
    assert any(each.name == "blobs.put" and each.parent == below["store"].id for each in spans)
    hook = of(spans, "webhook")
    assert (hook.kind, hook.parent, hook.attributes["http.response.status_code"]) == (CLIENT, submitted.id, 204)
    assert not any(each.failed for each in spans)
    assert waiting.seconds + run.seconds < posted.seconds + 5
    assert of(collector.spans, "GET /v1/jobs").trace != posted.trace
    for private_text in ("secret-path", "limit=1", hashlib.sha256(astronaut_jpeg).hexdigest(), "127.0.0.1"):
        assert private_text.encode() not in collector.raw


def test_each_request_has_its_own_trace(start_server: StartServer, collector: Collector, astronaut_jpeg: bytes) -> None:
    """Also when several share one commit, which one thread makes for all."""
    server = start_server(**to(collector), LIMNER_WORKERS="1")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: submit(server, another(astronaut_jpeg, number)), range(24)))
    server.stop()
    traces = {each.trace for each in collector.spans if each.name == "submit detect"}
    assert len(traces) == 24
    counts = Counter(
        each.trace for each in collector.spans if each.name == "blobs.put" and "web" in each.resource.values()
    )
    assert counts == dict.fromkeys(traces, 1)
    transactions = Counter(each.trace for each in collector.spans if each.name == "transaction")
    assert transactions.keys() == traces
    assert len(set(transactions.values())) == 1


def test_a_trace_of_a_proxy_goes_on_and_one_of_a_client_does_not(
    start_server: StartServer, collector: Collector, astronaut_jpeg: bytes
) -> None:
    believed = start_server(**to(collector))  # the loopback is a proxy by default
    headers = {"traceparent": SENT, "X-Forwarded-For": "203.0.113.7"}
    httpx.get(believed.url + "/v1/operations", headers=headers).raise_for_status()
    for wrong in ("x" * 55, "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-" + SENT[3:] + "-x"):
        httpx.get(believed.url + "/v1/jobs", headers={"traceparent": wrong}).raise_for_status()
    unsampled = httpx.post(
        believed.url + "/v1/detect",
        files={"image": astronaut_jpeg},
        headers={"traceparent": SENT[:-2] + "00", "Prefer": "wait=30"},
    )
    assert unsampled.status_code == 200
    believed.stop()
    asked = of(collector.spans, "GET /v1/operations")
    assert (asked.trace, asked.parent) == tuple(SENT.split("-")[1:3])
    assert all(each.parent == "" and each.trace != SENT.split("-")[1] for each in collector.spans if each is not asked)
    assert not {"POST /v1/detect", "run detect"} & {each.name for each in collector.spans}
    collector.spans.clear()
    other = start_server(**to(collector), LIMNER_PROXY_ADDRESSES="192.0.2.1")
    httpx.get(other.url + "/v1/operations", headers={"traceparent": SENT}).raise_for_status()
    other.stop()
    asked = of(collector.spans, "GET /v1/operations")
    assert asked.parent == ""
    assert asked.trace != SENT.split("-")[1]


def test_a_collector_that_is_away_costs_one_line(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:hidden@127.0.0.1:{free_port()}"}
    fast = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
    server = start_server(**away, **fast, LIMNER_WORKERS="1")
    for number in range(3):
        assert submit(server, another(astronaut_jpeg, number), wait=True)["status"] == "succeeded"
        time.sleep(0.4)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5
    lines = [each for each in server.log_lines() if "traces cannot be sent" in each["message"]]
    assert len(lines) == 2  # the web process and its worker
    assert not [each for each in server.log_lines() if each["logger"].startswith(("opentelemetry", "urllib3"))]
    assert "hidden" not in server.log.read_text()


def test_without_an_address_nothing_is_imported_or_kept() -> None:
    code = "import sys, limner.web.app, limner.jobs.run; print({'opentelemetry.sdk', 'limner.otel'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"
    assert not tracing.on()
    assert tracing.traceparent() is None
    with tracing.span("a") as one, tracing.step("b") as other:
        assert one is other


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "must begin with http"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "`otlp` or `none`"),
    ],
)
def test_variables_that_would_have_no_effect_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=words):
        tracing.check()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracing.check()
    assert not tracing.wanted()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
    tracing.check()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(SettingsError, match=r"pip install 'limner\[traces\]'"):
        tracing.check()
